-- What the rows of the orders that may have changed in the time (as in `versions.sql`) say has happened (true), or has not
-- (false), beside what was told. Null: the row does not say; it is told once at most.
WITH changed AS MATERIALIZED (
    SELECT o.id, o.status FROM orders o, event_feed f
    -- Of older ones not all that was told is kept.
    WHERE o.updated_at >= $1 AND o.created_at < $2 AND o.created_at >= f.kept_since + interval '1 hour'),
facts (order_id, thing_id, type, has_happened) AS (
    SELECT o.id, o.id, t.type, t.has_happened FROM changed o, LATERAL (VALUES
        ('order.created.v1', true),
        ('order.confirmed.v1', CASE WHEN o.status IN ('confirmed', 'partially_fulfilled', 'fulfilled') THEN true
                                    WHEN o.status IN ('pending_payment', 'expired') THEN false END),
        ('order.fulfilled.v1', o.status = 'fulfilled'),
        ('order.expired.v1', o.status = 'expired'),
        ('order.canceled.v1', o.status = 'canceled')) AS t (type, has_happened)
    UNION ALL
    SELECT o.id, p.id, t.type, t.has_happened FROM changed o JOIN payment p ON p.order_id = o.id, LATERAL (VALUES
        ('payment.created.v1', true),
        ('payment.authorized.v1', CASE WHEN p.status = 'authorized' THEN true
                                       WHEN p.status IN ('processing', 'requires_action') THEN false END),
        ('payment.captured.v1', p.amount_captured > 0),
        ('payment.voided.v1', p.status = 'voided'),
        ('payment.failed.v1', p.status = 'failed')) AS t (type, has_happened)
    UNION ALL
    SELECT o.id, r.id, 'refund.created.v1', true
    FROM changed o JOIN payment p ON p.order_id = o.id JOIN refund r ON r.payment_id = p.id
    UNION ALL
    SELECT o.id, s.id, t.type, t.has_happened FROM changed o JOIN shipment s ON s.order_id = o.id, LATERAL (VALUES
        ('shipment.created.v1', true),
        ('shipment.shipped.v1', s.shipped_at IS NOT NULL),
        ('shipment.canceled.v1', s.status = 'canceled')) AS t (type, has_happened)),
told AS (
    SELECT e.aggregate_id AS order_id, e.type,
           coalesce(right(coalesce(e.data ->> 'id', e.data ->> 'shipment_id', e.data ->> 'order_id'), 32)::uuid, e.aggregate_id) AS thing_id,
           count(*) AS times
    FROM (SELECT aggregate_id, type, data FROM outbox
          UNION ALL
          SELECT aggregate_id, type, data FROM outbox_sent
          WHERE event_id >= event_id_from((SELECT coalesce(min(created_at), now()) FROM orders
                                           WHERE updated_at >= $1 AND created_at < $2) - interval '1 hour')) e
    JOIN changed o ON o.id = e.aggregate_id
    WHERE e.type IN ('order.created.v1', 'order.confirmed.v1', 'order.fulfilled.v1', 'order.expired.v1', 'order.canceled.v1',
                     'payment.created.v1', 'payment.authorized.v1', 'payment.captured.v1', 'payment.voided.v1', 'payment.failed.v1',
                     'refund.created.v1', 'shipment.created.v1', 'shipment.shipped.v1', 'shipment.canceled.v1')
    GROUP BY 1, 2, 3),
compared AS (
    SELECT order_id, thing_id, type, has_happened, coalesce(times, 0) AS times,
           CASE WHEN has_happened THEN coalesce(times, 0) = 1
                WHEN NOT has_happened THEN coalesce(times, 0) = 0
                -- There is no such payment, refund or shipment at all, or the row does not say.
                ELSE coalesce(times, 0) <= 1 AND facts.thing_id IS NOT NULL END AS is_so
    FROM facts FULL JOIN told USING (order_id, thing_id, type))
SELECT CASE WHEN is_so THEN 'facts' ELSE 'broken' END,
    CASE WHEN NOT is_so THEN format('%s of %s, order %s: told %s times, %s', type, thing_id, order_id, times,
        CASE WHEN has_happened THEN 'has happened' WHEN NOT has_happened THEN 'has not happened' ELSE 'may have happened once' END) END
FROM compared
