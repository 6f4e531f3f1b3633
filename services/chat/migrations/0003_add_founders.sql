-- Who created a chat, for the limit on creations, and the key by which a group is created once. Unknown for older chats.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS founder_id UUID;
ALTER TABLE chats ADD COLUMN IF NOT EXISTS idempotency_key TEXT;
-- SHA-256 of what the group was created from: the same key with another content is refused.
ALTER TABLE chats ADD COLUMN IF NOT EXISTS founding_digest BYTEA;

-- A key is one group of its founder. Also counts the chats of a founder.
CREATE UNIQUE INDEX IF NOT EXISTS chats_by_founder ON chats (founder_id, idempotency_key);
