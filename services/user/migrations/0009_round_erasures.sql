-- The times of an erasure that is finished are those of its day: to the microsecond they were those of the deletion in `users`, and named
-- the user whose id had left the row.

UPDATE erasures SET began_at = date_trunc('day', began_at, 'UTC'),
                    account_at = date_trunc('day', account_at, 'UTC'),
                    chats_at = date_trunc('day', chats_at, 'UTC')
WHERE user_id IS NULL;
