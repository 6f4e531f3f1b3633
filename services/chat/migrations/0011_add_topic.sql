-- What a group is for.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS topic TEXT CHECK (topic IS NULL OR (kind <> 'direct' AND topic <> ''));
