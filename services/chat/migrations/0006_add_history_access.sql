-- What members who are added to a group read of its history, and from which entry on each member does. Members of before
-- read all of it, and so do founding members.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS history TEXT NOT NULL DEFAULT 'from_entry' CHECK (history IN ('from_entry', 'all'));
-- The sender and the key of the entry that added the member: its seq is known to the message service.
ALTER TABLE members ADD COLUMN IF NOT EXISTS entry_sender_id UUID;
ALTER TABLE members ADD COLUMN IF NOT EXISTS entry_key UUID CHECK ((entry_key IS NULL) = (entry_sender_id IS NULL));
