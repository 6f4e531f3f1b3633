-- Who sees when a user is online, whether others learn what they have read, and what they are doing at present.

ALTER TABLE users ADD COLUMN IF NOT EXISTS presence_visible_to TEXT NOT NULL DEFAULT 'everyone'
    CHECK (presence_visible_to IN ('everyone', 'shared_chats', 'contacts', 'nobody'));
ALTER TABLE users ADD COLUMN IF NOT EXISTS read_receipts BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE users ADD COLUMN IF NOT EXISTS status_text TEXT CHECK (char_length(status_text) BETWEEN 1 AND 100);
ALTER TABLE users ADD COLUMN IF NOT EXISTS status_emoji TEXT CHECK (char_length(status_emoji) BETWEEN 1 AND 16);
-- One that has expired is not shown, and stays until it is changed.
ALTER TABLE users ADD COLUMN IF NOT EXISTS status_expires_at TIMESTAMPTZ;
