-- Which change of a profile is the newest: what processes keep of it in the cache has the version that it was made from.
--
-- A trigger counts, so that a build of before, which does not know the column, counts too.

ALTER TABLE users ADD COLUMN IF NOT EXISTS version BIGINT NOT NULL DEFAULT 1;

CREATE OR REPLACE FUNCTION count_version() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

DROP TRIGGER IF EXISTS count_version ON users;
CREATE TRIGGER count_version BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION count_version();
