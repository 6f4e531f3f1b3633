-- Departures that do not count any more go with any later one, of whichever chat: most chats have no other.

CREATE INDEX IF NOT EXISTS departures_by_time ON departures (departed_at);
