-- Who has used an invite link: a user who leaves and comes again takes no other use of it. And which links are revoked: they are kept for a
-- while, so that a request with the key of one makes no other one. The code of a revoked link is replaced, and leads nowhere.

CREATE TABLE IF NOT EXISTS invite_uses (
    invite_id UUID NOT NULL REFERENCES invites (invite_id) ON DELETE CASCADE,
    user_id UUID NOT NULL,
    PRIMARY KEY (invite_id, user_id)
);

-- Those of an account that is deleted.
CREATE INDEX IF NOT EXISTS invite_uses_by_user ON invite_uses (user_id);

ALTER TABLE invites ADD COLUMN IF NOT EXISTS revoked_at TIMESTAMPTZ;
