-- By whose hand a member is in a chat, and how many memberships there are: of the tenant, and by each hand. Unknown for members of
-- before, who count for the tenant alone.

ALTER TABLE members ADD COLUMN IF NOT EXISTS added_by_user_id UUID;

-- Kept in the transaction of the change. Each count is spread over 16 rows, by the chat, so that changes of different chats seldom
-- wait for one another.
CREATE TABLE IF NOT EXISTS membership_counts (
    -- All zeros: every membership of the tenant.
    added_by_user_id UUID NOT NULL,
    shard SMALLINT NOT NULL,
    memberships BIGINT NOT NULL,
    PRIMARY KEY (added_by_user_id, shard)
) WITH (fillfactor = 50);

-- Transactions lock the tenant's row of a shard before any other row of it: none waits for another in a circle.
CREATE OR REPLACE FUNCTION count_memberships() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO membership_counts AS counts (added_by_user_id, shard, memberships)
    SELECT hand, get_byte(uuid_send(chat_id), 15) & 15, count(*) * CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END
    FROM changed, LATERAL (VALUES ('00000000-0000-0000-0000-000000000000'::UUID), (added_by_user_id)) AS hands (hand)
    WHERE hand IS NOT NULL
    GROUP BY 1, 2
    ORDER BY 1, 2
    ON CONFLICT (added_by_user_id, shard) DO UPDATE SET memberships = counts.memberships + EXCLUDED.memberships;
    RETURN NULL;
END
$$;

-- Makes no change of members begin between the count and the triggers.
LOCK TABLE members IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO membership_counts (added_by_user_id, shard, memberships)
SELECT '00000000-0000-0000-0000-000000000000', get_byte(uuid_send(chat_id), 15) & 15, count(*)
FROM members
GROUP BY 2
ON CONFLICT DO NOTHING;

CREATE TRIGGER count_added AFTER INSERT ON members
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_memberships();
CREATE TRIGGER count_removed AFTER DELETE ON members
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_memberships();
