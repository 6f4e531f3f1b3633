-- Scheduled messages are sent as fast as their user may send, and so that others find room. Slow mode holds also for a user who leaves and
-- comes back.

-- When a scheduled message of a user was sent in a chat last; for the longest slow mode. It stays when the membership goes.
-- members.scheduled_sent_at is read by versions of before.
CREATE TABLE IF NOT EXISTS scheduled_turns (
    chat_id UUID NOT NULL,
    user_id UUID NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (chat_id, user_id)
);

-- Those that are old enough to forget.
CREATE INDEX IF NOT EXISTS scheduled_turns_by_time ON scheduled_turns (sent_at);

INSERT INTO scheduled_turns (chat_id, user_id, sent_at)
SELECT chat_id, user_id, scheduled_sent_at FROM members WHERE scheduled_sent_at > now() - INTERVAL '1 hour'
ON CONFLICT (chat_id, user_id) DO NOTHING;

-- What was taken of the rates of entries and bytes: when each is whole again. A row whose times are past says as much as none.
CREATE TABLE IF NOT EXISTS scheduled_spent (
    payer TEXT NOT NULL CHECK (payer IN ('user', 'chat', 'tenant')),
    -- The user or the chat; of the tenant the nil id.
    payer_id UUID NOT NULL,
    sends_until TIMESTAMPTZ NOT NULL,
    bytes_until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (payer, payer_id)
);

-- Those that say nothing any more.
CREATE INDEX IF NOT EXISTS scheduled_spent_by_time ON scheduled_spent ((greatest(sends_until, bytes_until)));
