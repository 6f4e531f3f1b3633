-- Posts that the classifier is asked about, and what it answered: a log that is read again asks no second time.
CREATE TABLE questions (
    chat_id UUID NOT NULL,
    entry_seq BIGINT NOT NULL,
    sender_id UUID NOT NULL,
    written_at_ms BIGINT NOT NULL,
    -- Until when a process has it.
    claimed_until_ms BIGINT NOT NULL DEFAULT 0,
    -- The post. NULL once it is answered or given up.
    post JSONB,
    -- The score of each label in thousandths. NULL before it is answered, and for good when it was given up.
    scores JSONB,
    PRIMARY KEY (chat_id, entry_seq)
);

CREATE INDEX questions_waiting ON questions (written_at_ms) WHERE post IS NOT NULL;
CREATE INDEX questions_answered ON questions (written_at_ms) WHERE post IS NULL;
CREATE INDEX questions_of_senders ON questions (sender_id) WHERE post IS NOT NULL;

-- What rules with a classifier say comes later, beside what the other rules of the set have said.
ALTER TABLE verdicts ADD COLUMN by_classifier BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE verdicts DROP CONSTRAINT verdicts_pkey;
ALTER TABLE verdicts ADD PRIMARY KEY (rule_set_id, chat_id, entry_seq, by_classifier);
