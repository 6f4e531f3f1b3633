-- What the clients of a user share between their devices. No row: version 0, and nothing in it.

CREATE TABLE IF NOT EXISTS settings (
    user_id UUID PRIMARY KEY REFERENCES users (user_id),
    version BIGINT NOT NULL CHECK (version > 0),
    -- A JSON object. JSONB has other limits for its numbers, and nothing is looked up in it.
    settings TEXT NOT NULL CHECK (octet_length(settings) <= 65536)
);
