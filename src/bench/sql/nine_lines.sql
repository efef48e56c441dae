-- One order of nine lines in one transaction, every row that Holdfast writes, each table in one statement: nine round
-- trips, prepared. The baskets of the sample have twelve lines on average, so this is the easier work. One SKU out of
-- each ninth of them: nine different ones, in order.
\set s1 :first_sku + random(0, 110)
\set s2 :first_sku + random(111, 221)
\set s3 :first_sku + random(222, 332)
\set s4 :first_sku + random(333, 443)
\set s5 :first_sku + random(444, 554)
\set s6 :first_sku + random(555, 665)
\set s7 :first_sku + random(666, 776)
\set s8 :first_sku + random(777, 887)
\set s9 :first_sku + random(888, 998)
BEGIN;
SELECT min(free) AS free, gen_random_uuid() AS order_id, gen_random_uuid() AS event_id, gen_random_uuid() AS key,
       gen_random_uuid() AS l1, gen_random_uuid() AS l2, gen_random_uuid() AS l3, gen_random_uuid() AS l4,
       gen_random_uuid() AS l5, gen_random_uuid() AS l6, gen_random_uuid() AS l7, gen_random_uuid() AS l8, gen_random_uuid() AS l9
    FROM (SELECT on_hand - reserved - committed AS free FROM inventory_level
          WHERE sku IN (:s1, :s2, :s3, :s4, :s5, :s6, :s7, :s8, :s9) AND location_id = :location
          ORDER BY sku FOR UPDATE) AS level \gset
UPDATE inventory_level SET reserved = reserved + 1, version = version + 1, updated_at = now()
    WHERE sku IN (:s1, :s2, :s3, :s4, :s5, :s6, :s7, :s8, :s9) AND location_id = :location;
INSERT INTO orders (id, status, version, currency, total_amount, capture_method, expires_at, created_at, updated_at)
    VALUES (:order_id, 'pending_payment', 1, 'USD', 4491, 'automatic', now() + interval '15 minutes', now(), now());
INSERT INTO order_line (id, order_id, sku, location_id, quantity, unit_amount)
    VALUES (:l1, :order_id, :s1, :location, 1, 499),
           (:l2, :order_id, :s2, :location, 1, 499),
           (:l3, :order_id, :s3, :location, 1, 499),
           (:l4, :order_id, :s4, :location, 1, 499),
           (:l5, :order_id, :s5, :location, 1, 499),
           (:l6, :order_id, :s6, :location, 1, 499),
           (:l7, :order_id, :s7, :location, 1, 499),
           (:l8, :order_id, :s8, :location, 1, 499),
           (:l9, :order_id, :s9, :location, 1, 499);
INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, expires_at, created_at,
                         updated_at)
    VALUES (gen_random_uuid(), :order_id, :l1, :s1, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l2, :s2, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l3, :s3, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l4, :s4, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l5, :s5, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l6, :s6, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l7, :s7, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l8, :s8, :location, 1, 'held', now() + interval '15 minutes', now(), now()),
           (gen_random_uuid(), :order_id, :l9, :s9, :location, 1, 'held', now() + interval '15 minutes', now(), now());
INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, correlation_id, data)
    VALUES (:event_id, 7, :order_id, 1, 'order.created.v1', :order_id, :event_id, :document);
INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body)
    VALUES (:key, :api_key, 'POST /v1/orders', :key, :fingerprint, 201, :document);
COMMIT;
