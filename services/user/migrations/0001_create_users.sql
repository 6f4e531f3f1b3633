-- People as others see them. The realm owns who they are; this table owns what they say about themselves.

CREATE TABLE IF NOT EXISTS users (
    -- The `sub` of the realm.
    user_id UUID PRIMARY KEY,
    -- The realm keeps it unique. Not so here: a name may be taken again after its first holder is gone from the realm.
    -- "C" compares bytes, so that a prefix is a range of the index in every database locale.
    username TEXT COLLATE "C" NOT NULL CHECK (char_length(username) BETWEEN 1 AND 255),
    display_name TEXT NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 64),
    -- The display name as it is searched: lower case by Unicode's rules, which lower() of a "C" database has not.
    display_name_key TEXT COLLATE "C" NOT NULL,
    about TEXT NOT NULL DEFAULT '' CHECK (char_length(about) <= 500),
    created_at TIMESTAMPTZ NOT NULL
);

-- Both prefixes of a search, and the order of its pages.
CREATE INDEX IF NOT EXISTS users_by_username ON users (username, user_id);
CREATE INDEX IF NOT EXISTS users_by_display_name ON users (display_name_key);
