-- Whether the records about a chat are published: a change of its members is answered once they are.
CREATE INDEX IF NOT EXISTS outbox_by_chat ON outbox (left(record_key, 36), outbox_id);

-- Whether the last term of the publisher ended with nothing under way. If so, the next one need not wait.
CREATE TABLE IF NOT EXISTS outbox_term (
    is_only BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    has_ended BOOLEAN NOT NULL
);
