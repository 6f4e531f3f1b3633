-- A browser or an app is sent to for as long as the session goes on that subscribed it. A process of a release before this one writes neither column: what
-- it subscribes is bound when its page opens next.

-- The session of a device, as its tokens name it. NULL for what is no device, and for a device of before.
ALTER TABLE subscriptions ADD COLUMN session TEXT;
-- When the session was known to go on last: by a token, or because the realm had it. NULL for what is no device.
ALTER TABLE subscriptions ADD COLUMN session_seen_at TIMESTAMPTZ;

-- Devices of before have 30 days to open a page, which binds them: the day between two looks, and 29.
UPDATE subscriptions SET session_seen_at = now() + INTERVAL '29 days' WHERE channel IN ('web_push', 'fcm');

CREATE INDEX subscriptions_by_session ON subscriptions (user_id, session) WHERE session IS NOT NULL;
CREATE INDEX subscriptions_by_sight ON subscriptions (session_seen_at) WHERE session_seen_at IS NOT NULL;

-- Sessions that have ended, for as long as their access tokens may be good: nothing is subscribed with one of these. Most are of users who are notified
-- of nothing.
CREATE TABLE ended_sessions (
    user_id UUID NOT NULL,
    session TEXT NOT NULL,
    -- When it was read.
    ended_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, session)
);

CREATE INDEX ended_sessions_by_time ON ended_sessions (ended_at);

-- Of session.events, which is kept for hours: up to when all was read that was there.
ALTER TABLE positions ADD COLUMN read_at TIMESTAMPTZ;
