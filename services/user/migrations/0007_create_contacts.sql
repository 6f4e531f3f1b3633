-- Whom users have in their contacts, with their own name for them. The contacts of a deleted account go with it; where it is a
-- contact of others it stays, and its profile says that it is deleted.

CREATE TABLE IF NOT EXISTS contacts (
    user_id UUID NOT NULL REFERENCES users (user_id),
    contact_id UUID NOT NULL REFERENCES users (user_id) CHECK (contact_id <> user_id),
    contact_name TEXT CHECK (char_length(contact_name) BETWEEN 1 AND 64),
    added_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, contact_id)
);
