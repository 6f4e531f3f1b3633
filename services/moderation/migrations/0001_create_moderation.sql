-- Rule sets, what they caught, what users reported, and what was decided. What a row is searched by has a column of its own, and the rest is one
-- document: it is read and shown as a whole.
CREATE TABLE rule_sets (
    rule_set_id UUID PRIMARY KEY,
    -- draft, enforced or retired.
    state TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    -- What was sent from then on is not judged by it; NULL before it is retired.
    retired_from_ms BIGINT,
    body JSONB NOT NULL
);

-- The last shadow run of each set.
CREATE TABLE shadow_runs (
    rule_set_id UUID PRIMARY KEY REFERENCES rule_sets ON DELETE CASCADE,
    body JSONB NOT NULL
);

-- How far message.delivered is judged.
CREATE TABLE positions (
    partition INT PRIMARY KEY,
    next_offset BIGINT
);

-- What a sender wrote lately in a chat, up to the last entry that was judged: written with the position.
CREATE TABLE windows (
    chat_id UUID NOT NULL,
    sender_id UUID NOT NULL,
    last_seq BIGINT NOT NULL,
    times_ms BIGINT[] NOT NULL,
    written_at_ms BIGINT NOT NULL,
    PRIMARY KEY (chat_id, sender_id)
);

CREATE INDEX windows_by_time ON windows (written_at_ms);
CREATE INDEX windows_by_sender ON windows (sender_id);

CREATE TABLE verdicts (
    rule_set_id UUID NOT NULL,
    chat_id UUID NOT NULL,
    entry_seq BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sender_id UUID NOT NULL,
    rules TEXT[] NOT NULL,
    is_deletion BOOLEAN NOT NULL,
    is_report BOOLEAN NOT NULL,
    is_sanction BOOLEAN NOT NULL,
    sent_at_ms BIGINT NOT NULL,
    PRIMARY KEY (rule_set_id, chat_id, entry_seq)
);

CREATE INDEX verdicts_by_time ON verdicts (sent_at_ms);

CREATE TABLE reports (
    report_id UUID PRIMARY KEY,
    -- Its place in the queue.
    place BIGINT GENERATED ALWAYS AS IDENTITY,
    chat_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    -- NULL for a rule.
    by_id UUID,
    -- open, upheld or dismissed.
    state TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    body JSONB NOT NULL,
    sender_id UUID NOT NULL,
    -- The names of the rules; NULL for a user.
    rules TEXT
);

-- What rules catch of one sender in one chat is one report until it is decided about.
CREATE UNIQUE INDEX reports_by_rules ON reports (chat_id, sender_id, md5(rules))
    WHERE by_id IS NULL AND state = 'open';

CREATE UNIQUE INDEX reports_by_user ON reports (by_id, chat_id, seq) WHERE by_id IS NOT NULL;
CREATE INDEX reports_by_state ON reports (state, place);
CREATE UNIQUE INDEX reports_by_place ON reports (place);

CREATE TABLE sanctions (
    sanction_id UUID PRIMARY KEY,
    place BIGINT GENERATED ALWAYS AS IDENTITY,
    user_id UUID NOT NULL,
    -- The nil UUID: everywhere.
    chat_id UUID NOT NULL,
    -- warning, mute or ban.
    kind TEXT NOT NULL,
    -- When it ends; of one without an end, the largest time there is.
    until_ms BIGINT NOT NULL,
    is_lifted BOOLEAN NOT NULL DEFAULT FALSE,
    body JSONB NOT NULL
);

CREATE INDEX sanctions_by_user ON sanctions (user_id, place);
-- What holds for a user in a chat, or everywhere: of many sanctions that are over or that forbid nothing, none is read.
CREATE INDEX sanctions_in_force ON sanctions (user_id, chat_id, until_ms) WHERE NOT is_lifted AND kind <> 'warning';
CREATE UNIQUE INDEX sanctions_by_place ON sanctions (place);

-- What the other services know of the sanctions of a user in a chat, or everywhere. A row whose version is not done is to be carried out.
CREATE TABLE standings (
    user_id UUID NOT NULL,
    chat_id UUID NOT NULL,
    version BIGINT NOT NULL,
    done_version BIGINT NOT NULL DEFAULT 0,
    -- Whether moderators have closed the account, or begun to.
    has_closed BOOLEAN NOT NULL DEFAULT FALSE,
    -- When it is to be carried out again, because a ban ends.
    due_at_ms BIGINT,
    -- Until when a process has it.
    claimed_until_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, chat_id)
);

CREATE INDEX standings_to_do ON standings (claimed_until_ms) WHERE done_version < version;
CREATE INDEX standings_due ON standings (due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE TABLE appeals (
    appeal_id UUID PRIMARY KEY,
    place BIGINT GENERATED ALWAYS AS IDENTITY,
    sanction_id UUID NOT NULL UNIQUE REFERENCES sanctions,
    user_id UUID NOT NULL,
    -- open, accepted or refused.
    state TEXT NOT NULL,
    body JSONB NOT NULL
);

CREATE INDEX appeals_by_state ON appeals (state, place);
CREATE UNIQUE INDEX appeals_by_place ON appeals (place);
CREATE INDEX appeals_by_user ON appeals (user_id);

-- Messages that are to be deleted by an entry of their chats' logs.
CREATE TABLE deletions (
    chat_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    claimed_until_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (chat_id, seq)
);

CREATE INDEX deletions_by_claim ON deletions (claimed_until_ms);

-- Who did what. Rows are added and never changed.
CREATE TABLE audit (
    audit_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    by_id UUID,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id UUID
);

-- Up to where deletions of accounts are carried out.
CREATE TABLE deletions_position (
    is_only BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    position TEXT NOT NULL
);
