-- Where the cell has a message broker, jobs that are due are handed to its queues, from which any process takes them. A message there has a number, and how
-- often the job was begun before; the row stays what is sent, and says which message stands for it. A process of a release before this one counts what it
-- begins, so that the message of before stands for nothing.

-- Numbers of messages: none is used twice.
CREATE SEQUENCE job_tickets;

-- The message that stands for the job. NULL while none does.
ALTER TABLE jobs ADD COLUMN ticket BIGINT;
-- The message was taken: what comes with the same number again stands for nothing.
ALTER TABLE jobs ADD COLUMN is_begun BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX jobs_by_ticket ON jobs (channel) WHERE ticket IS NOT NULL AND dead_at IS NULL;
