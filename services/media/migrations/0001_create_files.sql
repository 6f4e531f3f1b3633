-- Files, what refers to them, and what they take. A file is free while nothing refers to it, and is removed some time after.
CREATE TABLE files (
    file_id UUID PRIMARY KEY,
    owner_id UUID NOT NULL,
    -- chat, chat_picture or avatar; the chat of the first two.
    purpose TEXT NOT NULL,
    chat_id UUID,
    name TEXT NOT NULL,
    declared_type TEXT NOT NULL,
    declared_bytes BIGINT NOT NULL,
    sha256 BYTEA,
    -- The idempotency key of the request, and the digest of what was requested.
    request_key TEXT,
    request_digest BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    -- The id of an upload in parts at the object store.
    multipart_id TEXT,
    -- pending, processing, ready, refused, quarantined or removing.
    state TEXT NOT NULL DEFAULT 'pending',
    refusal TEXT,
    -- What is kept of it, in bytes, as the quotas count it.
    kept_bytes BIGINT NOT NULL,
    -- Of a file that is being checked: until when a process has it.
    claimed_until TIMESTAMPTZ,
    -- How often its check was begun.
    attempts INT NOT NULL DEFAULT 0,
    -- Until when the requests of its upload are good. NULL once what they may have written is removed.
    upload_until TIMESTAMPTZ,
    -- Of a file that is being removed: whether its objects were, for the first time.
    is_emptied BOOLEAN NOT NULL DEFAULT FALSE,
    -- Since when nothing refers to it. NULL while something does.
    free_since TIMESTAMPTZ,
    -- When its owner gave it up. It goes as soon as the log says that no message has it.
    discarded_at TIMESTAMPTZ,
    -- Facts of a file that is ready.
    media_type TEXT,
    bytes BIGINT,
    width INT,
    height INT,
    duration_ms BIGINT,
    blur TEXT,
    thumbnail_type TEXT,
    thumbnail_bytes BIGINT
);

CREATE UNIQUE INDEX files_by_request_key ON files (owner_id, request_key) WHERE request_key IS NOT NULL;
CREATE INDEX files_free ON files (free_since) WHERE free_since IS NOT NULL;
CREATE INDEX files_discarded ON files (discarded_at) WHERE discarded_at IS NOT NULL;
CREATE INDEX files_by_owner ON files (owner_id) WHERE free_since IS NOT NULL OR purpose = 'avatar';
CREATE INDEX files_in_processing ON files (claimed_until) WHERE state = 'processing';
CREATE INDEX files_in_removal ON files (file_id) WHERE state = 'removing';
CREATE INDEX files_uploaded ON files (upload_until) WHERE upload_until IS NOT NULL;
CREATE INDEX files_of_chats ON files (chat_id) WHERE purpose = 'chat_picture';

-- Which messages have which files.
CREATE TABLE attachments (
    chat_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    file_id UUID NOT NULL REFERENCES files ON DELETE CASCADE,
    sender_id UUID NOT NULL,
    expires_at TIMESTAMPTZ,
    PRIMARY KEY (chat_id, seq, file_id)
);

CREATE INDEX attachments_by_file ON attachments (file_id, chat_id);
CREATE INDEX attachments_by_expiry ON attachments (expires_at) WHERE expires_at IS NOT NULL;

-- Files that a gateway is about to send to a chat: its members may fetch them before this service has read the record.
CREATE TABLE offers (
    file_id UUID NOT NULL REFERENCES files ON DELETE CASCADE,
    chat_id UUID NOT NULL,
    offered_until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (file_id, chat_id)
);

CREATE INDEX offers_by_end ON offers (offered_until);

-- What the files of a user take, and of all users: the row of the nil UUID.
CREATE TABLE usage (
    user_id UUID PRIMARY KEY,
    bytes BIGINT NOT NULL
);

-- How far message.delivered is read.
CREATE TABLE positions (
    partition INT PRIMARY KEY,
    next_offset BIGINT,
    -- When everything was read that was there.
    caught_up_at TIMESTAMPTZ
);

-- Up to where deletions of accounts are carried out.
CREATE TABLE deletions_position (
    is_only BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    position TEXT NOT NULL
);
