-- One order of one line in one transaction, every row that Holdfast writes: nine round trips, prepared. The ids come with
-- the row lock, because pgbench has no UUIDs; so they cost no round trip of their own.
\set sku random(:first_sku, :last_sku)
BEGIN;
SELECT on_hand - reserved - committed AS free, gen_random_uuid() AS order_id, gen_random_uuid() AS line_id,
       gen_random_uuid() AS reservation_id, gen_random_uuid() AS event_id, gen_random_uuid() AS key
    FROM inventory_level WHERE sku = :sku AND location_id = :location FOR UPDATE \gset
UPDATE inventory_level SET reserved = reserved + 1, version = version + 1, updated_at = now()
    WHERE sku = :sku AND location_id = :location;
INSERT INTO orders (id, status, version, currency, total_amount, capture_method, expires_at, created_at, updated_at)
    VALUES (:order_id, 'pending_payment', 1, 'USD', 499, 'automatic', now() + interval '15 minutes', now(), now());
INSERT INTO order_line (id, order_id, sku, location_id, quantity, unit_amount)
    VALUES (:line_id, :order_id, :sku, :location, 1, 499);
INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, expires_at, created_at,
                         updated_at)
    VALUES (:reservation_id, :order_id, :line_id, :sku, :location, 1, 'held', now() + interval '15 minutes', now(), now());
INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, correlation_id, data)
    VALUES (:event_id, 7, :order_id, 1, 'order.created.v1', :order_id, :event_id, :document);
INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body)
    VALUES (:key, :api_key, 'POST /v1/orders', :key, :fingerprint, 201, :document);
COMMIT;
