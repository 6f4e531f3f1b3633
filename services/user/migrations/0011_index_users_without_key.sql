-- The users whose words are to be written; nearly always empty. In a transaction of its own, in which the table is read meanwhile.

-- Every user has no key before the first is written, and an index of a large table takes longer than a request may.
SET LOCAL statement_timeout = 0;

CREATE INDEX IF NOT EXISTS users_without_key ON users (user_id) WHERE username_key IS NULL AND deleted_at IS NULL;
