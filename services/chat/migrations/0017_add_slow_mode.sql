-- How long a plain member of a group waits between two messages, in seconds, and which picture the group has: the id of it, which nothing
-- here reads.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS slow_mode_seconds INTEGER NOT NULL DEFAULT 0
    CHECK (slow_mode_seconds BETWEEN 0 AND 3600 AND (slow_mode_seconds = 0 OR kind <> 'direct'));
ALTER TABLE chats ADD COLUMN IF NOT EXISTS avatar TEXT CHECK (avatar IS NULL OR (kind <> 'direct' AND avatar <> ''));
