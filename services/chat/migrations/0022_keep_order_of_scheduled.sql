-- Scheduled messages call roles and who is here, and are silent. When one is tried is another time than the one for which it was scheduled: in
-- slow mode, and after a failure. So those of a member stay in their order, and one that fails holds up no other member's.

ALTER TABLE scheduled ADD COLUMN IF NOT EXISTS mention_roles TEXT[] NOT NULL DEFAULT '{}';
ALTER TABLE scheduled ADD COLUMN IF NOT EXISTS mentions_here BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE scheduled ADD COLUMN IF NOT EXISTS silent BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE scheduled ADD COLUMN IF NOT EXISTS not_before TIMESTAMPTZ;
-- Failures in a row.
ALTER TABLE scheduled ADD COLUMN IF NOT EXISTS attempts INTEGER NOT NULL DEFAULT 0;

-- Which is next.
CREATE INDEX IF NOT EXISTS scheduled_by_due ON scheduled ((greatest(send_at, not_before))) WHERE refused IS NULL;
DROP INDEX IF EXISTS scheduled_by_time;

-- What was sent lately: a request that is repeated is answered as before.
CREATE TABLE IF NOT EXISTS scheduled_sent (
    chat_id UUID NOT NULL,
    user_id UUID NOT NULL,
    message_key UUID NOT NULL,
    -- SHA-256 of the message and its time.
    digest BYTEA NOT NULL CHECK (octet_length(digest) = 32),
    sent_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (chat_id, user_id, message_key),
    FOREIGN KEY (chat_id, user_id) REFERENCES members (chat_id, user_id) ON DELETE CASCADE
);

-- Those that are old enough to forget.
CREATE INDEX IF NOT EXISTS scheduled_sent_by_time ON scheduled_sent (sent_at);
