-- What was published of memberships lately, in its order. Gateways read it now and then: a record that the event log lost is the last one of its
-- chat at times, and nothing that comes later shows that it is missing.

CREATE TABLE IF NOT EXISTS published (
    -- Given by the one process that publishes, so that no smaller one becomes visible later.
    published_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record_key TEXT NOT NULL,
    payload TEXT NOT NULL,
    published_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Those that are old enough to forget, and where a gateway begins.
CREATE INDEX IF NOT EXISTS published_by_time ON published (published_at);
