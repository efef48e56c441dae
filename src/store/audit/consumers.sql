-- Each event that was sent, for each consumer that has to handle it. What it asks for may not be decided yet: then it comes
-- to the consumer again and again, and waits in a retry queue between, also once it is decided by another way ($3: how long).
WITH required AS (
    SELECT w.consumer, s.event_id, s.type, s.subject, s.aggregate_id, s.sent_at,
           CASE WHEN s.data ->> 'id' ~ '^[a-z]+_[0-9a-f]{32}$' THEN right(s.data ->> 'id', 32)::uuid END AS thing_id,
           i.received_at, d.created_at AS died_at
    FROM outbox_sent s JOIN UNNEST($4, $5) AS w (consumer, type) ON w.type = s.type
    LEFT JOIN inbox i ON i.consumer = w.consumer AND i.event_id = s.event_id
    LEFT JOIN dead_letter d ON d.consumer = w.consumer AND d.event_id = s.event_id
    WHERE s.event_id >= event_id_from($1) AND s.event_id < event_id_from($2)),
settled AS (
    SELECT *, CASE
        WHEN received_at IS NOT NULL THEN 'handled'
        WHEN died_at IS NOT NULL THEN 'dead letters'
        WHEN EXISTS (
            SELECT FROM payment p WHERE p.id = thing_id AND type LIKE 'payment.%'
              AND (p.updated_at > now() - make_interval(secs => $3) OR p.status = ANY (CASE type
                WHEN 'payment.created.v1' THEN '{processing,requires_action}'::text[]
                WHEN 'payment.authorized.v1' THEN '{authorized}'
                WHEN 'payment.capture_requested.v1' THEN '{authorized}'
                WHEN 'payment.void_requested.v1' THEN '{processing,requires_action,authorized}'
                ELSE '{}' END)))
            THEN 'in flight: waiting for the provider'
        -- Whose money is given free, which the provider may not answer.
        WHEN type IN ('order.canceled.v1', 'order.expired.v1') AND EXISTS (
            SELECT FROM payment p WHERE p.order_id = aggregate_id
              AND (p.updated_at > now() - make_interval(secs => $3) OR p.status IN ('requires_action', 'authorized')))
            THEN 'in flight: waiting for the provider'
        WHEN type = 'refund.created.v1' AND EXISTS (
            SELECT FROM refund r WHERE r.id = thing_id
              AND (r.status = 'pending' OR r.updated_at > now() - make_interval(secs => $3)))
            THEN 'in flight: waiting for the provider'
        WHEN sent_at > now() - make_interval(secs => $3) THEN 'in flight: just sent'
        ELSE 'broken' END AS state
    FROM required)
SELECT state, CASE WHEN state IN ('handled', 'dead letters') THEN NULL
                   ELSE format('event %s (%s) of %s, sent at %s: not handled by %s', event_id, type, subject, sent_at, consumer) END
FROM settled
