-- What was handled, beside what it was to lead to. A row that has changed since is as it is for another reason.
WITH handled AS MATERIALIZED (
    SELECT i.consumer, i.received_at, s.event_id, s.type, s.aggregate_id AS order_id,
           CASE WHEN s.data ->> 'id' ~ '^[a-z]+_[0-9a-f]{32}$' THEN right(s.data ->> 'id', 32)::uuid END AS thing_id
    FROM inbox i JOIN outbox_sent s ON s.event_id = i.event_id
    WHERE i.event_id >= event_id_from($1) AND i.event_id < event_id_from($2)
      AND s.event_id >= event_id_from($1) AND s.event_id < event_id_from($2)),
missing AS (
    SELECT h.event_id, h.type, h.received_at, format('payment %s is %s', p.id, p.status) AS instead
    FROM handled h JOIN payment p ON p.id = h.thing_id
    WHERE h.consumer = 'payment' AND CASE h.type
        WHEN 'payment.created.v1' THEN p.status IN ('processing', 'requires_action')
        WHEN 'payment.authorized.v1'
            THEN p.status = 'authorized' AND p.capture_method = 'automatic' AND p.void_requested_at IS NULL
        WHEN 'payment.capture_requested.v1'
            THEN p.status = 'authorized' AND p.void_requested_at IS NULL AND p.updated_at <= h.received_at
        WHEN 'payment.void_requested.v1'
            THEN p.status IN ('requires_action', 'authorized') AND p.updated_at <= h.received_at
        ELSE false END
    UNION ALL
    SELECT h.event_id, h.type, h.received_at, format('refund %s is %s', r.id, r.status)
    FROM handled h JOIN refund r ON r.id = h.thing_id
    WHERE h.consumer = 'payment' AND h.type = 'refund.created.v1' AND r.status = 'pending' AND r.accepted_at IS NULL
    UNION ALL
    SELECT h.event_id, h.type, h.received_at, format('payment %s is %s, captured %s, claimed by refunds %s', p.id, p.status,
               p.amount_captured, p.amount_refund_claimed)
    FROM handled h JOIN orders o ON o.id = h.order_id JOIN payment p ON p.order_id = o.id
    WHERE h.consumer = 'payment' AND h.type IN ('order.canceled.v1', 'order.expired.v1')
      AND p.updated_at <= h.received_at
      AND (p.status IN ('requires_action', 'authorized')
           OR (p.amount_captured > p.amount_refund_claimed AND NOT o.keeps_money))
    UNION ALL
    SELECT h.event_id, h.type, h.received_at, format('order %s is %s without a shipment', o.id, o.status)
    FROM handled h JOIN orders o ON o.id = h.order_id
    WHERE h.consumer = 'fulfilment' AND h.type = 'order.confirmed.v1'
      AND o.status IN ('confirmed', 'partially_fulfilled', 'fulfilled')
      AND NOT EXISTS (SELECT FROM shipment s WHERE s.order_id = o.id)
    UNION ALL
    -- What was sold beyond the shelf waits in its shipment.
    SELECT h.event_id, h.type, h.received_at, format('shipment %s of order %s is %s', s.id, s.order_id, s.status)
    FROM handled h JOIN shipment s ON s.order_id = h.order_id
    WHERE $6 AND h.consumer = 'fulfilment' AND h.type = 'payment.captured.v1' AND s.status IN ('pending', 'packed')
      AND s.created_at <= h.received_at AND NOT EXISTS (
          SELECT FROM shipment_line l JOIN reservation r ON r.order_id = s.order_id AND r.id = l.reservation_id
          JOIN inventory_level i ON i.sku = r.sku AND i.location_id = r.location_id
          WHERE l.shipment_id = s.id AND i.backorder_limit > 0))
SELECT 'broken', format('event %s (%s) was handled at %s, and %s', event_id, type, received_at, instead) FROM missing
UNION ALL
SELECT 'handled', NULL FROM handled
