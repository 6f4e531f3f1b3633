-- Who is out of which chat since when, and by whose hand: the user's own when they left. Rows that are older than a day do not
-- count, and go with the next departure from the chat.

CREATE TABLE IF NOT EXISTS departures (
    chat_id UUID NOT NULL REFERENCES chats (chat_id),
    user_id UUID NOT NULL,
    by_user_id UUID NOT NULL,
    departed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (chat_id, user_id, by_user_id)
);
