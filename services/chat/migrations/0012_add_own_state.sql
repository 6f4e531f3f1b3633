-- How a member has a chat on all their devices. It goes with the membership.

ALTER TABLE members ADD COLUMN IF NOT EXISTS own_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN IF NOT EXISTS muted_until TIMESTAMPTZ;
ALTER TABLE members ADD COLUMN IF NOT EXISTS is_archived BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE members ADD COLUMN IF NOT EXISTS is_favourite BOOLEAN NOT NULL DEFAULT FALSE;
