-- What the event log has yet to be told, written in the transaction that makes it true and deleted after Kafka's ack.
-- Ids are taken under the lock of the chat's row: within one chat their order is the order of the changes.

CREATE TABLE IF NOT EXISTS outbox (
    outbox_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Without the tenant's prefix.
    topic TEXT NOT NULL,
    record_key TEXT NOT NULL,
    -- NULL is a tombstone.
    payload TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
