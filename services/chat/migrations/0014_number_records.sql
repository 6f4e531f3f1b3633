-- How many records of its memberships a chat has in the event log: each has the next number, so that whoever follows the chat sees
-- that one is missing. Those of before are not numbered.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS version BIGINT NOT NULL DEFAULT 0;
