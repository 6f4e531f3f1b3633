-- Chats and who is in them. A membership is found by chat (rights, audience) and by person (the list of one's chats).

CREATE TABLE IF NOT EXISTS chats (
    chat_id UUID PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('direct', 'group')),
    -- Groups only.
    title TEXT CHECK ((kind = 'group') = (title IS NOT NULL)),
    -- The two people of a direct chat in ascending order: the same pair is the same chat, whoever asks.
    low_user_id UUID CHECK ((kind = 'direct') = (low_user_id IS NOT NULL)),
    high_user_id UUID CHECK ((kind = 'direct') = (high_user_id IS NOT NULL)),
    -- Kept in the transaction that changes members, so that a list of chats counts nothing.
    member_count INTEGER NOT NULL CHECK (member_count BETWEEN 0 AND 1000),
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (low_user_id, high_user_id),
    CHECK (low_user_id < high_user_id)
);

CREATE TABLE IF NOT EXISTS members (
    chat_id UUID NOT NULL REFERENCES chats (chat_id),
    user_id UUID NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    joined_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (chat_id, user_id)
);

-- One's chats, newest first: chat ids are time-ordered.
CREATE INDEX IF NOT EXISTS members_by_user ON members (user_id, chat_id DESC);

-- A chat never has two owners, whatever the code believes.
CREATE UNIQUE INDEX IF NOT EXISTS members_one_owner ON members (chat_id) WHERE role = 'owner';
