-- A batch of orders, with everything that belongs to them. Parameters are columns: one array element for each level
-- ($1 to $5, $43), order ($6 to $14, $44: its row; $25 to $35, $45, $46: its event and answer), order line ($15 to $22) or owner of
-- orders ($38 to $41). See mod.rs.
WITH wanted AS MATERIALIZED (
    SELECT l.sku, l.location_id, n.quantity, n.epoch, n.fence, n.place,
           l.available >= n.quantity
               AND (l.fence_epoch, l.fence) <= (COALESCE(n.epoch, l.fence_epoch), COALESCE(n.fence, l.fence))
               -- An event tells of a level that runs out or low, and another level may come before a backorder at this one:
               -- whoever has seen to both says so by $42.
               AND ($42 OR l.available > n.quantity AND (l.low_stock_threshold >= l.available
                                                         OR l.low_stock_threshold < l.available - n.quantity) IS NOT FALSE
                        AND (NOT n.from_shelf OR l.available - l.backorder_limit >= n.quantity
                             -- Looked for only where the shelf is short. Whoever waits for the level may miss what came meanwhile.
                             OR NOT EXISTS (SELECT FROM inventory_level o JOIN location p ON p.id = o.location_id AND p.is_active
                                            WHERE o.sku = n.sku AND o.location_id <> n.location_id
                                              AND o.on_hand + o.backorder_limit - o.reserved - o.committed - o.safety_stock > 0)))
               AS fits,
           l.available - n.quantity AS available
    FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[], $43::boolean[]) WITH ORDINALITY
         AS n (sku, location_id, quantity, epoch, fence, from_shelf, place)
    -- A row at a time, in this order: transactions that want the same levels cannot deadlock.
    CROSS JOIN LATERAL (
        SELECT i.sku, i.location_id, i.fence_epoch, i.fence, i.low_stock_threshold, i.backorder_limit,
               i.on_hand + i.backorder_limit - i.reserved - i.committed - i.safety_stock AS available
        FROM inventory_level i WHERE i.sku = n.sku AND i.location_id = n.location_id FOR UPDATE) l),
reserved AS (
    UPDATE inventory_level i
    SET reserved = i.reserved + w.quantity, version = i.version + 1,
        fence_epoch = COALESCE(w.epoch, i.fence_epoch), fence = COALESCE(w.fence, i.fence), updated_at = now()
    FROM wanted w
    WHERE i.sku = w.sku AND i.location_id = w.location_id AND w.fits
      AND (i.fence_epoch, i.fence) <= (COALESCE(w.epoch, i.fence_epoch), COALESCE(w.fence, i.fence))
    RETURNING 1),
new_orders AS (
    INSERT INTO orders (id, client_reference, customer_id, status, version, currency, total_amount, capture_method,
                        metadata, expires_at, created_at, updated_at, client_id)
    SELECT id, client_reference, customer_id, 'pending_payment', 1, currency, total_amount, capture_method, metadata,
           expires_at, created_at, created_at, CASE WHEN $37 THEN client_id END
    FROM UNNEST($7::uuid[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::jsonb[],
                $14::timestamptz[], $6::timestamptz[], $44::uuid[])
         AS n (id, client_reference, customer_id, currency, total_amount, capture_method, metadata, expires_at,
               created_at, client_id)),
new_lines AS (
    INSERT INTO order_line (id, order_id, sku, location_id, quantity, unit_amount)
    SELECT * FROM UNNEST($15::uuid[], $16::uuid[], $17::text[], $18::text[], $19::bigint[], $20::bigint[])),
new_reservations AS (
    INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, expires_at, created_at,
                             updated_at)
    SELECT id, order_id, order_line_id, sku, location_id, quantity, 'held', expires_at, created_at, created_at
    FROM UNNEST($21::uuid[], $16::uuid[], $15::uuid[], $17::text[], $18::text[], $19::bigint[], $22::timestamptz[],
                $23::timestamptz[])
         AS n (id, order_id, order_line_id, sku, location_id, quantity, expires_at, created_at)),
new_events AS (
    INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, correlation_id, data, trace_parent)
    SELECT event_id, shard, aggregate_id, 1, $24, subject, correlation_id, data::json, trace_parent
    FROM UNNEST($25::uuid[], $26::smallint[], $45::uuid[], $27::text[], $28::text[], $29::text[], $46::text[])
         AS n (event_id, shard, aggregate_id, subject, correlation_id, data, trace_parent)),
new_answers AS (
    INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body)
    SELECT * FROM UNNEST($30::uuid[], $31::uuid[], $32::text[], $33::text[], $34::bytea[], $35::smallint[], $29::text[]))
SELECT CASE WHEN (SELECT count(*) FROM reserved) <> $36 THEN refuse_placement('placement_levels')
            WHEN cardinality($38::text[]) = 0 THEN true
            -- Their counts are locked after the levels, as everywhere: it is called only once all levels were written.
            ELSE count_open_orders($38, $39, $40, $41) END
           AS "levels!",
       CASE WHEN $42 OR NOT EXISTS (SELECT 1 FROM purchase_limit WHERE sku = ANY($1)) THEN true
            ELSE refuse_placement('placement_purchase_limits') END
           AS "purchase_limits!",
       CASE WHEN (SELECT bool_and(t BETWEEN clock_timestamp() - interval '1 s' AND clock_timestamp() + interval '1 s')
                  FROM UNNEST($6::timestamptz[]) t) IS FALSE
            THEN refuse_placement('placement_time') ELSE true END
           AS "time!",
       clock_timestamp() AS "now!",
       COALESCE((SELECT array_agg(available ORDER BY place) FROM wanted), '{}') AS "available!"
