-- The words of names, by whose beginnings users are found. Those of a deleted account go with it.

CREATE TABLE IF NOT EXISTS name_words (
    user_id UUID NOT NULL,
    -- "C", as the names have it: a beginning is a range of the index.
    word TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, word)
);

CREATE INDEX IF NOT EXISTS name_words_by_word ON name_words (word, user_id);

-- Spaces and the marks of ASCII divide words, and nothing else, as `kit::text::name_words` has it. No class of characters is named: what is a letter
-- depends on the locale of the database.
CREATE OR REPLACE FUNCTION words_of(name TEXT) RETURNS SETOF TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT DISTINCT left(word, 64)
    FROM regexp_split_to_table(name, '[][ !"#$%&''()*+,./:;<=>?@\\^_`{|}~-]+') AS word
    WHERE word <> ''
$$;

-- At once for all users of a statement.
CREATE OR REPLACE FUNCTION add_name_words() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO name_words (user_id, word)
    SELECT user_id, word FROM added, LATERAL words_of(username || ' ' || display_name_key) AS word
    WHERE deleted_at IS NULL;
    RETURN NULL;
END
$$;

-- In the transaction of the change, under the lock of the user's row.
CREATE OR REPLACE FUNCTION replace_name_words() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM name_words WHERE user_id = NEW.user_id;
    IF NEW.deleted_at IS NULL THEN
        INSERT INTO name_words (user_id, word)
        SELECT NEW.user_id, word FROM words_of(NEW.username || ' ' || NEW.display_name_key) AS word;
    END IF;
    RETURN NULL;
END
$$;

-- Lets no name change between what is read and the triggers.
LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO name_words (user_id, word)
SELECT user_id, word FROM users, LATERAL words_of(username || ' ' || display_name_key) AS word
WHERE deleted_at IS NULL
ON CONFLICT DO NOTHING;

DROP TRIGGER IF EXISTS add_name_words ON users;
CREATE TRIGGER add_name_words AFTER INSERT ON users
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_name_words();

DROP TRIGGER IF EXISTS replace_name_words ON users;
CREATE TRIGGER replace_name_words AFTER UPDATE OF username, display_name_key, deleted_at ON users
    FOR EACH ROW EXECUTE FUNCTION replace_name_words();
