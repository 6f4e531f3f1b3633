-- Users who are notified of something, or said how they want to be.
CREATE TABLE users (
    user_id UUID PRIMARY KEY,
    -- When all chats of the user were listed, or as if they had been when they could not be; NULL before the first time.
    listed_at TIMESTAMPTZ,
    -- all, mentions or none.
    level TEXT NOT NULL DEFAULT 'all',
    shows_text BOOLEAN NOT NULL DEFAULT TRUE,
    -- Minutes of the day, and a time zone. All of them or none.
    quiet_from INT,
    quiet_to INT,
    time_zone TEXT
);

CREATE INDEX users_by_list ON users (listed_at NULLS FIRST);

-- Where users are notified.
CREATE TABLE subscriptions (
    subscription_id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users ON DELETE CASCADE,
    -- web_push, webhook, email, fcm or sms.
    channel TEXT NOT NULL,
    -- A URL, an address, what Firebase calls an app, or a phone number.
    endpoint TEXT NOT NULL,
    -- Of an endpoint that its user named.
    host TEXT,
    -- Of a browser.
    public_key BYTEA,
    auth BYTEA,
    -- The tenant's key that its push service takes pushes from.
    sender_key TEXT,
    -- Of a webhook.
    secret TEXT,
    -- Nothing is sent before.
    is_confirmed BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    -- Nothing is sent before: a digest follows another one after a while.
    next_at TIMESTAMPTZ
);

CREATE INDEX subscriptions_by_user ON subscriptions (user_id);
CREATE UNIQUE INDEX subscriptions_by_endpoint ON subscriptions (user_id, channel, endpoint);
-- A browser or an app is one user's at a time: the one who signed in last.
CREATE UNIQUE INDEX subscriptions_by_device ON subscriptions (channel, endpoint) WHERE channel IN ('web_push', 'fcm');
-- So is a phone: the one who confirmed its number last.
CREATE UNIQUE INDEX subscriptions_by_number ON subscriptions (endpoint) WHERE channel = 'sms' AND is_confirmed;

-- Codes that were sent to phones, by which their users confirm them. Each counts for a day against its user and its number, also where its
-- subscription or its user are gone. Digests stand for what would be secret or personal.
CREATE TABLE codes (
    code_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- It may be gone.
    subscription_id UUID NOT NULL,
    user_id UUID REFERENCES users ON DELETE SET NULL,
    number BYTEA NOT NULL,
    code BYTEA NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    -- Attempts at it.
    tries INT NOT NULL DEFAULT 0
);

CREATE INDEX codes_by_subscription ON codes (subscription_id, code_id);
CREATE INDEX codes_by_user ON codes (user_id);
CREATE INDEX codes_by_number ON codes (number, sent_at);
CREATE INDEX codes_by_time ON codes (sent_at);

-- The chats of those users, as chat.events and lists of the chat service say, and how far each has one, as message.delivered says.
CREATE TABLE seats (
    chat_id UUID NOT NULL,
    user_id UUID NOT NULL REFERENCES users ON DELETE CASCADE,
    is_member BOOLEAN NOT NULL,
    -- Of the chat, as the last record of the seat has it.
    version BIGINT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    -- The last entry that a device of the user took, or that the user sent.
    taken_seq BIGINT NOT NULL DEFAULT 0,
    -- The last entry that jobs were made for.
    told_seq BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (chat_id, user_id)
);

CREATE INDEX seats_by_user ON seats (user_id);

-- Chats with texts that were announced, until it is time to see who did not take them. What comes while some wait is kept apart: no user is notified of a
-- text that was just said because an older one is due.
CREATE TABLE news (
    chat_id UUID PRIMARY KEY,
    -- The last text.
    seq BIGINT NOT NULL,
    -- Whom they call.
    called UUID[] NOT NULL,
    calls_all BOOLEAN NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    -- The last user who was told, of all in their order: a room is told in slices.
    told_to UUID NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- The same of texts that came since. They are due when the last of them is. NULL while there are none.
    next_seq BIGINT,
    next_called UUID[] NOT NULL DEFAULT '{}',
    next_calls_all BOOLEAN NOT NULL DEFAULT FALSE,
    next_due_at TIMESTAMPTZ
);

CREATE INDEX news_by_time ON news (due_at);

-- Versions of jobs: none is used twice.
CREATE SEQUENCE job_versions;

-- What is to be sent: at most one job for a subscription and a chat, and one for all chats where a subscription gets digests (the nil UUID).
CREATE TABLE jobs (
    subscription_id UUID NOT NULL REFERENCES subscriptions ON DELETE CASCADE,
    chat_id UUID NOT NULL,
    channel TEXT NOT NULL,
    seq BIGINT NOT NULL,
    is_called BOOLEAN NOT NULL,
    -- Another one when there is more to say: a job that was sent meanwhile is done only as far as it was known. The receiver of a digest
    -- knows it again by this number.
    version BIGINT NOT NULL DEFAULT nextval('job_versions'),
    -- Of a job that a process has: when another one may take it.
    due_at TIMESTAMPTZ NOT NULL,
    attempts INT NOT NULL DEFAULT 0,
    -- When it was given up, and why.
    dead_at TIMESTAMPTZ,
    death TEXT,
    PRIMARY KEY (subscription_id, chat_id)
);

CREATE INDEX jobs_by_time ON jobs (channel, due_at) WHERE dead_at IS NULL;
CREATE INDEX jobs_by_death ON jobs (dead_at, channel) WHERE dead_at IS NOT NULL;

-- How far topics are read.
CREATE TABLE positions (
    topic TEXT NOT NULL,
    partition INT NOT NULL,
    next_offset BIGINT,
    PRIMARY KEY (topic, partition)
);

-- Up to where deletions of accounts are carried out.
CREATE TABLE deletions_position (
    is_only BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    position TEXT NOT NULL
);
