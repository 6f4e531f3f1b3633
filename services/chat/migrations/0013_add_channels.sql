-- A channel is as a group is, but for who writes there.

ALTER TABLE chats DROP CONSTRAINT IF EXISTS chats_kind_check;
ALTER TABLE chats ADD CONSTRAINT chats_kind_check CHECK (kind IN ('direct', 'group', 'channel'));
-- The first check of 0001 that names two columns: that groups alone have a title.
ALTER TABLE chats DROP CONSTRAINT IF EXISTS chats_check;
ALTER TABLE chats DROP CONSTRAINT IF EXISTS chats_title_check;
ALTER TABLE chats ADD CONSTRAINT chats_title_check CHECK ((kind <> 'direct') = (title IS NOT NULL));
