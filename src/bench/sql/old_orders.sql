-- Old orders of one line each, $1 to $2 of $3, evenly over the last year, with all that Holdfast writes for an order whose
-- time has run out before it was paid. The ids are UUIDv7 of their time, so that the indexes grow as they do in life.
WITH old AS MATERIALIZED (
    SELECT n, at, (1000001 + n * 7919 % 1000)::text AS sku, md5(n::text) AS random,
           lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') AS id
    FROM (SELECT n, date_trunc('milliseconds', now() - interval '365 days' * (1 - n::double precision / $3)) AS at
          FROM generate_series($1::bigint + 1, $2::bigint) AS n) AS moment),
placed AS MATERIALIZED (
    SELECT n, at, sku, random, (id || '8' || substr(random, 1, 15))::uuid AS order_id,
           (id || '9' || substr(random, 2, 15))::uuid AS line_id, (id || 'a' || substr(random, 3, 15))::uuid AS reservation_id,
           (id || 'b' || substr(random, 4, 15))::uuid AS event_id
    FROM old),
documents AS MATERIALIZED (
    SELECT *, json_build_object(
        'id', 'ord_' || replace(order_id::text, '-', ''), 'client_reference', NULL, 'customer_id', NULL,
        'status', 'pending_payment', 'version', 1, 'currency', 'USD', 'total_amount', 499,
        'capture_method', 'automatic', 'metadata', '{}'::json, 'expires_at', at + interval '15 minutes',
        'canceled_at', NULL, 'cancel_reason', NULL, 'created_at', at, 'updated_at', at, 'lines',
        json_build_array(json_build_object(
            'id', 'line_' || replace(line_id::text, '-', ''), 'sku', sku, 'location_id', $4::text, 'quantity', 1,
            'unit_amount', 499, 'quantity_canceled', 0, 'quantity_fulfilled', 0))) AS document
    FROM placed),
lines AS (
    INSERT INTO order_line (id, order_id, sku, location_id, quantity, unit_amount)
    SELECT line_id, order_id, sku, $4, 1, 499 FROM documents ORDER BY n),
reservations AS (
    INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, created_at, updated_at)
    SELECT reservation_id, order_id, line_id, sku, $4, 1, 'expired', at, at + interval '15 minutes'
    FROM documents ORDER BY n),
sent AS (
    INSERT INTO outbox_sent (id, event_id, shard, aggregate_id, sequence, type, subject, correlation_id, data, created_at,
                             sent_at, position)
    SELECT n, event_id, n % 16, order_id, 1, 'order.created.v1', 'order/ord_' || replace(order_id::text, '-', ''), random,
           document, at, at, n
    FROM documents ORDER BY n),
feed AS (
    UPDATE event_feed SET position = (SELECT max(n) FROM documents)),
keys AS (
    INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body, created_at)
    SELECT substr(encode(sha256(convert_to($5::uuid::text || E'\nPOST /v1/orders\n' || random, 'UTF8')), 'hex'), 1, 32)::uuid,
           $5, 'POST /v1/orders', random, decode(random || random, 'hex'), 201, document::text, at
    FROM documents ORDER BY n)
INSERT INTO orders (id, status, version, currency, total_amount, capture_method, expires_at, created_at, updated_at)
SELECT order_id, 'expired', 1, 'USD', 499, 'automatic', at + interval '15 minutes', at, at + interval '15 minutes'
FROM documents ORDER BY n
