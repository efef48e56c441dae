-- What an API key may do, whose it is, when it ends, and when it was last used.

ALTER TABLE api_key
    ADD COLUMN client_id uuid,
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{admin}',
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN expires_at timestamptz;
UPDATE api_key SET client_id = id;
ALTER TABLE api_key
    ALTER COLUMN client_id SET NOT NULL,
    ALTER COLUMN scopes DROP DEFAULT,
    ADD CONSTRAINT api_key_scopes CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY
        ['orders:read', 'orders:write', 'payments:write', 'inventory:write', 'admin']);
COMMENT ON COLUMN api_key.client_id IS 'Whose key it is: a key and those that it was rotated to are of one client';
COMMENT ON COLUMN api_key.scopes IS 'What it may do; see domain::access::Scope';
COMMENT ON COLUMN api_key.last_used_at IS 'When it was last used, to within a minute';
COMMENT ON COLUMN api_key.expires_at IS 'From when on it is refused: the end of the grace time of a key that was rotated';
-- The live keys of a client are counted whenever it gets one.
CREATE INDEX api_key_client_idx ON api_key (client_id, id);

-- A client that changes its key in the middle of a request must not lose what protects it from doing it twice.
ALTER TABLE idempotency_key RENAME COLUMN api_key_id TO client_id;
COMMENT ON COLUMN idempotency_key.client_id IS 'Whose request it was: the keys of two clients never meet';
COMMENT ON COLUMN idempotency_key.digest IS 'First 16 bytes of the SHA-256 of client_id, route and key, with a line feed between them';

-- Stock that is held and not paid cannot be sold: how many such orders a customer or a client may have is bounded. The rows
-- are locked after the levels of an order, in the order of the key.
CREATE TABLE open_order_count (
    kind text COLLATE "C" NOT NULL,
    id   text COLLATE "C" NOT NULL,
    open bigint NOT NULL,
    CONSTRAINT open_order_count_pkey PRIMARY KEY (kind, id),
    CONSTRAINT open_order_count_kind CHECK (kind IN ('client', 'customer')),
    CONSTRAINT open_order_count_not_negative CHECK (open >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE open_order_count IS 'How many orders wait for their payment, by whose they are; changed in the transaction of the order';
COMMENT ON COLUMN open_order_count.kind IS 'customer or client';
COMMENT ON COLUMN open_order_count.id IS 'orders.customer_id, or orders.client_id';
COMMENT ON COLUMN open_order_count.open IS 'Orders in pending_payment';

ALTER TABLE orders ADD COLUMN client_id uuid;
COMMENT ON COLUMN orders.client_id IS 'The client among whose open orders it counts; null where clients had no cap when it was placed';

INSERT INTO open_order_count (kind, id, open)
SELECT 'customer', customer_id, count(*) FROM orders
WHERE status = 'pending_payment' AND customer_id IS NOT NULL GROUP BY customer_id;

-- A function, so that a batch in which nobody is counted does not even open the table.
CREATE FUNCTION count_open_orders(kinds text[], ids text[], added bigint[], caps bigint[])
    RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    is_passed boolean;
BEGIN
    WITH counted AS (
        INSERT INTO open_order_count AS c (kind, id, open)
        SELECT n.kind, n.id, n.added
        FROM UNNEST(kinds, ids, added) WITH ORDINALITY AS n (kind, id, added, place) ORDER BY n.place
        ON CONFLICT ON CONSTRAINT open_order_count_pkey DO UPDATE SET open = c.open + EXCLUDED.open
        RETURNING c.kind, c.id, c.open)
    SELECT bool_or(c.open > n.cap) INTO is_passed
    FROM counted c JOIN UNNEST(kinds, ids, caps) AS n (kind, id, cap) ON n.kind = c.kind AND n.id = c.id;
    RETURN CASE WHEN is_passed THEN refuse_placement('placement_open_orders') ELSE true END;
END $$;
COMMENT ON FUNCTION count_open_orders IS
    'Adds to the counts of open orders, in the order of the arrays; refuses the placement where one would pass its cap';
