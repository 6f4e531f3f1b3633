-- Accounts that are deleted: the username stays, so that it is not given out again, and nothing else of the profile.

ALTER TABLE users ADD COLUMN IF NOT EXISTS deleted_at TIMESTAMPTZ;
-- Whether the realm has no such account any more, and its sessions have ended.
ALTER TABLE users ADD COLUMN IF NOT EXISTS is_deletion_finished BOOLEAN NOT NULL DEFAULT FALSE;

-- The order of deletions, as the chat service follows it.
CREATE INDEX IF NOT EXISTS users_deleted ON users (deleted_at, user_id) WHERE deleted_at IS NOT NULL;
-- Nearly always empty.
CREATE INDEX IF NOT EXISTS users_being_deleted ON users (deleted_at, user_id)
WHERE deleted_at IS NOT NULL AND NOT is_deletion_finished;
