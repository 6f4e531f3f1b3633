-- Up to where the list of deleted accounts is carried out, in the form of the user service.

CREATE TABLE IF NOT EXISTS deletions_position (
    is_only BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    position TEXT NOT NULL
);
