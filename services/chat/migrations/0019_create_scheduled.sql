-- Messages that members send at a time. They go with the membership: what a removed member has scheduled is never sent.

CREATE TABLE IF NOT EXISTS scheduled (
    chat_id UUID NOT NULL,
    user_id UUID NOT NULL,
    -- The idempotency key of the message.
    message_key UUID NOT NULL,
    body TEXT NOT NULL CHECK (octet_length(body) BETWEEN 1 AND 16384),
    reply_to BIGINT CHECK (reply_to > 0),
    mentions UUID[] NOT NULL,
    mentions_all BOOLEAN NOT NULL,
    send_at TIMESTAMPTZ NOT NULL,
    -- The code of the refusal at its time. Such a message waits for the member.
    refused TEXT,
    PRIMARY KEY (chat_id, user_id, message_key),
    FOREIGN KEY (chat_id, user_id) REFERENCES members (chat_id, user_id) ON DELETE CASCADE
);

-- Which is next.
CREATE INDEX IF NOT EXISTS scheduled_by_time ON scheduled (send_at) WHERE refused IS NULL;
-- How many a user has.
CREATE INDEX IF NOT EXISTS scheduled_by_user ON scheduled (user_id);

-- Kept in the transaction that changes them, so that a list of chats counts nothing.
ALTER TABLE members ADD COLUMN IF NOT EXISTS scheduled_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN IF NOT EXISTS scheduled_refused_count INTEGER NOT NULL DEFAULT 0;
-- When a scheduled message of the member was sent last: in slow mode the next one waits.
ALTER TABLE members ADD COLUMN IF NOT EXISTS scheduled_sent_at TIMESTAMPTZ;
