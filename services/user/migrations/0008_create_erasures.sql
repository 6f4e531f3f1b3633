-- What a user who has deleted their account is shown of it. The row holds no personal data: its key is the hash of what the user
-- was given, and the id of the account leaves it with the last step.

CREATE TABLE IF NOT EXISTS erasures (
    -- SHA-256 of the receipt.
    receipt BYTEA PRIMARY KEY CHECK (octet_length(receipt) = 32),
    -- NULL once everything is erased.
    user_id UUID,
    began_at TIMESTAMPTZ NOT NULL,
    -- When the realm had no such account any more.
    account_at TIMESTAMPTZ,
    -- When the account was in no chat any more.
    chats_at TIMESTAMPTZ,
    chats_left BIGINT NOT NULL DEFAULT 0,
    blocks_lifted BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS erasures_by_user ON erasures (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS erasures_by_age ON erasures (began_at);
