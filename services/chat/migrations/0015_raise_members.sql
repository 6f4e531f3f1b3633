-- A chat has up to 10,000 members, and no request reads or writes all of them.

ALTER TABLE chats DROP CONSTRAINT IF EXISTS chats_member_count_check;
ALTER TABLE chats ADD CONSTRAINT chats_member_count_check CHECK (member_count BETWEEN 0 AND 10000);

-- Who becomes the owner when the owner leaves: the first of the admins, or else of the members.
CREATE INDEX IF NOT EXISTS members_by_seniority ON members (chat_id, role, joined_at, user_id);

-- Who has begun to delete a group. Its members are removed in steps, by whichever process.
ALTER TABLE chats ADD COLUMN IF NOT EXISTS deleted_by_user_id UUID;
CREATE INDEX IF NOT EXISTS chats_being_deleted ON chats (chat_id) WHERE deleted_by_user_id IS NOT NULL AND member_count > 0;
