-- Who may add the user to a group, or open a direct chat with them.

ALTER TABLE users ADD COLUMN IF NOT EXISTS contactable_by TEXT NOT NULL DEFAULT 'everyone'
    CHECK (contactable_by IN ('everyone', 'shared_chats', 'nobody'));
