-- How users join a chat by themselves: public chats, invite links, and requests that an owner or admin decides on.

ALTER TABLE chats ADD COLUMN IF NOT EXISTS visibility TEXT NOT NULL DEFAULT 'private'
    CHECK (visibility IN ('private', 'public') AND (visibility = 'private' OR kind <> 'direct'));
-- What searches compare: the title and the topic, without case and marks. Of public chats only.
ALTER TABLE chats ADD COLUMN IF NOT EXISTS search_key TEXT;

-- Public chats, the newest first. A search reads their keys.
CREATE INDEX IF NOT EXISTS chats_public ON chats (chat_id DESC)
    WHERE visibility = 'public' AND member_count > 0 AND deleted_by_user_id IS NULL;

CREATE TABLE IF NOT EXISTS invites (
    invite_id UUID PRIMARY KEY,
    chat_id UUID NOT NULL REFERENCES chats (chat_id),
    made_by_user_id UUID NOT NULL,
    -- SHA-256. The code itself is not kept.
    code_hash BYTEA NOT NULL UNIQUE CHECK (octet_length(code_hash) = 32),
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    max_uses INTEGER CHECK (max_uses > 0),
    -- Changed under the lock of the chat's row.
    uses INTEGER NOT NULL DEFAULT 0 CHECK (uses >= 0 AND (max_uses IS NULL OR uses <= max_uses)),
    needs_approval BOOLEAN NOT NULL,
    -- By which the same link is made once.
    idempotency_key TEXT,
    UNIQUE (chat_id, made_by_user_id, idempotency_key)
);

CREATE TABLE IF NOT EXISTS join_requests (
    chat_id UUID NOT NULL REFERENCES chats (chat_id),
    user_id UUID NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (chat_id, user_id)
);

-- Those of an account that is deleted.
CREATE INDEX IF NOT EXISTS join_requests_by_user ON join_requests (user_id);
