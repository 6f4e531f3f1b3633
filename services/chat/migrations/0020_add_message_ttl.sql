-- How long after it was sent a text of the chat disappears, in seconds; 0 for never. Which one holds for a text is said by the chat's log.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS message_ttl_seconds INTEGER NOT NULL DEFAULT 0
    CHECK (message_ttl_seconds = 0 OR message_ttl_seconds BETWEEN 60 AND 31536000);
