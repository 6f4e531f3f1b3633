-- Devices that are bound to no session are counted every minute: they are few, and become fewer.
CREATE INDEX subscriptions_unbound ON subscriptions (session_seen_at) WHERE session IS NULL AND channel IN ('web_push', 'fcm');
