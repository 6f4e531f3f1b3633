-- Until when moderators let users write nothing: in a chat, or in all of them, which is the nil UUID. The checks of every send read it. Those that
-- ended a day ago go with the next that is set.
CREATE TABLE restrictions (
    user_id UUID NOT NULL,
    chat_id UUID NOT NULL,
    restricted_until TIMESTAMPTZ NOT NULL,
    -- In all chats only: the user is banned, and is not notified of anything.
    is_ban BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (user_id, chat_id)
);

CREATE INDEX restrictions_by_end ON restrictions (restricted_until);
