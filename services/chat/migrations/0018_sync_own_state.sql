-- When a member last changed how they have a chat, by which a sync finds it, and what they have written there and not sent. It goes with the
-- membership.

ALTER TABLE members ADD COLUMN IF NOT EXISTS own_changed_at TIMESTAMPTZ;
ALTER TABLE members ADD COLUMN IF NOT EXISTS draft_body TEXT CHECK (draft_body <> '' AND octet_length(draft_body) <= 4096);
ALTER TABLE members ADD COLUMN IF NOT EXISTS draft_reply_to BIGINT
    CHECK (draft_reply_to > 0 AND (draft_reply_to IS NULL OR draft_body IS NOT NULL));

-- How many drafts a user has.
CREATE INDEX IF NOT EXISTS members_with_draft ON members (user_id) WHERE draft_body IS NOT NULL;
