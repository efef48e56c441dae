-- See webhook_deliveries::claim. $1 most, $2 most of an endpoint, $3 failures after which it gets one at a time,
-- $4 the lease in seconds, $5 how many due deliveries of an endpoint are looked at, $6 the endpoints, which are locked: so
-- what is under way at them is seen. Whoever has the least under way comes first: one that is slow fills its room, and leaves the
-- turns that come free to the others, however old what waits for it is.
WITH endpoint AS MATERIALIZED (
    SELECT e.id, e.url, COALESCE(e.disabled_at, '-infinity') AS canceled_until,
           CASE WHEN e.failures >= $3 THEN 1 ELSE $2::bigint END AS room,
           (SELECT count(*) FROM webhook_delivery c
            WHERE c.endpoint_id = e.id AND c.claimed_until > clock_timestamp()) AS under_way
    FROM webhook_endpoint e WHERE e.id = ANY($6) AND e.status = 'enabled'),
due AS (
    SELECT e.id AS endpoint_id, e.url, e.room, d.id, d.claimed_at, d.attempts,
           e.under_way + row_number() OVER (PARTITION BY e.id ORDER BY d.next_attempt_at, d.id) AS place
    FROM endpoint e CROSS JOIN LATERAL (
        SELECT d.id, d.subject, d.next_attempt_at, d.claimed_at, d.attempts FROM webhook_delivery d
        WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.next_attempt_at <= now()
          AND d.queued_at > e.canceled_until
        ORDER BY d.next_attempt_at, d.id LIMIT $5) d
    WHERE NOT EXISTS (
        SELECT FROM webhook_delivery b
        WHERE b.endpoint_id = e.id AND b.subject = d.subject AND b.id < d.id AND b.status = 'pending'
          AND b.queued_at > e.canceled_until
          AND (b.tries = 0 OR b.claimed_until > clock_timestamp()))),
chosen AS MATERIALIZED (
    SELECT * FROM due WHERE place <= room ORDER BY place, id LIMIT $1),
lost AS (
    INSERT INTO webhook_attempt (delivery_id, number, started_at, error_code, error_detail)
    SELECT id, attempts, claimed_at, 'outcome_unknown', 'the process ended during the attempt'
    FROM chosen WHERE claimed_at IS NOT NULL
    ON CONFLICT ON CONSTRAINT webhook_attempt_pkey DO NOTHING)
UPDATE webhook_delivery d
SET attempts = d.attempts + 1, tries = d.tries + 1, claimed_at = clock_timestamp(),
    claimed_until = clock_timestamp() + make_interval(secs => $4),
    next_attempt_at = clock_timestamp() + make_interval(secs => $4)
FROM chosen c
WHERE d.id = c.id AND d.status = 'pending' AND d.next_attempt_at <= now()
RETURNING d.id, d.endpoint_id, c.url, d.event_id, d.event_type, d.body, d.attempts, d.tries,
          d.claimed_at AS "claimed_at!", d.claimed_until AS "claimed_until!"
