-- Each event that was sent, for each consumer that has to handle it. What it asks for may not be decided yet: then it comes
-- to the consumer again and again, and waits in a retry queue between, also once it is decided by another way ($3: how long).
-- Whatever waits so is looked up as well: where nobody does that, nobody handles its event either. What is done with the rows
-- that are sorted here follows where this is included.
WITH required AS (
    SELECT w.consumer, s.*, i.received_at, d.created_at AS died_at,
           CASE WHEN s.data ->> 'id' ~ '^[a-z]+_[0-9a-f]{32}$' THEN right(s.data ->> 'id', 32)::uuid END AS thing_id
    FROM outbox_sent s JOIN UNNEST($4, $5) AS w (consumer, type) ON w.type = s.type
    LEFT JOIN inbox i ON i.consumer = w.consumer AND i.event_id = s.event_id
        AND i.event_id >= event_id_from($1) AND i.event_id < event_id_from($2)
    LEFT JOIN dead_letter d ON d.consumer = w.consumer AND d.event_id = s.event_id
    WHERE s.event_id >= event_id_from($1) AND s.event_id < event_id_from($2)),
settled AS (
    SELECT *, CASE
        WHEN received_at IS NOT NULL THEN 'handled'
        WHEN died_at IS NOT NULL THEN 'dead letters'
        WHEN EXISTS (
            SELECT FROM payment p JOIN orders o ON o.id = p.order_id WHERE p.id = thing_id AND type LIKE 'payment.%'
              AND (p.updated_at > now() - make_interval(secs => $3)
                   OR (p.next_lookup_at > now() - interval '15 minutes' AND CASE type
                       WHEN 'payment.created.v1' THEN p.status IN ('processing', 'requires_action')
                       -- Where nobody has asked for the capture yet there is nothing to wait for.
                       WHEN 'payment.authorized.v1' THEN p.status = 'authorized'
                           AND (p.capture_method = 'automatic' OR p.capture_requested_amount IS NOT NULL
                                OR o.status IN ('canceled', 'expired'))
                       WHEN 'payment.capture_requested.v1' THEN p.status = 'authorized'
                       WHEN 'payment.void_requested.v1' THEN p.status IN ('requires_action', 'authorized')
                       ELSE false END)))
            THEN 'in flight: waiting for the provider'
        -- Whose money is given free, which the provider may not answer.
        WHEN type IN ('order.canceled.v1', 'order.expired.v1') AND EXISTS (
            SELECT FROM payment p WHERE p.order_id = aggregate_id
              AND (p.updated_at > now() - make_interval(secs => $3)
                   OR (p.next_lookup_at > now() - interval '15 minutes' AND p.status IN ('requires_action', 'authorized'))))
            THEN 'in flight: waiting for the provider'
        -- One that the provider has taken on is handled.
        WHEN type = 'refund.created.v1' AND EXISTS (
            SELECT FROM refund r JOIN payment p ON p.id = r.payment_id WHERE r.id = thing_id
              AND (greatest(r.updated_at, r.accepted_at) > now() - make_interval(secs => $3)
                   OR (p.next_lookup_at > now() - interval '15 minutes' AND r.status = 'pending' AND r.accepted_at IS NULL)))
            THEN 'in flight: waiting for the provider'
        WHEN sent_at > now() - make_interval(secs => $3) THEN 'in flight: just sent'
        ELSE 'broken' END AS state
    FROM required)
