-- The words of names, by whose beginnings users are found. Those of a deleted account go with it.
--
-- Users who are there already get theirs in the service, some at a time: no statement here reads the table.

-- The username as it is searched: what `kit::text::search_key` makes of it. NULL until a build writes it that knows the column.
ALTER TABLE users ADD COLUMN IF NOT EXISTS username_key TEXT COLLATE "C";

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
    SELECT user_id, word FROM added, LATERAL words_of(coalesce(username_key, username) || ' ' || display_name_key) AS word
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
        SELECT NEW.user_id, word
        FROM words_of(coalesce(NEW.username_key, NEW.username) || ' ' || NEW.display_name_key) AS word;
    END IF;
    RETURN NULL;
END
$$;

-- A key is of one username.
CREATE OR REPLACE FUNCTION drop_username_key() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.username_key := NULL;
    RETURN NEW;
END
$$;

DROP TRIGGER IF EXISTS add_name_words ON users;
CREATE TRIGGER add_name_words AFTER INSERT ON users
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_name_words();

DROP TRIGGER IF EXISTS replace_name_words ON users;
CREATE TRIGGER replace_name_words AFTER UPDATE OF username, username_key, display_name_key, deleted_at ON users
    FOR EACH ROW EXECUTE FUNCTION replace_name_words();

-- A build of before replaces the username alone.
DROP TRIGGER IF EXISTS drop_username_key ON users;
CREATE TRIGGER drop_username_key BEFORE UPDATE OF username ON users
    FOR EACH ROW WHEN (NEW.username <> OLD.username AND NEW.username_key IS NOT DISTINCT FROM OLD.username_key)
    EXECUTE FUNCTION drop_username_key();
