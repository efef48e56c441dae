-- The places from the first to the last event of the time; to the end of the feed where the time goes on until now. Events of
-- other times stand between them: all are kept that have a place from `oldest` on.
WITH bounds AS MATERIALIZED (
    SELECT greatest(coalesce(min(s.position), f.position + 1), f.oldest) AS first,
           CASE WHEN $2 >= now() THEN f.position ELSE max(s.position) END AS last
    FROM event_feed f LEFT JOIN outbox_sent s ON s.event_id >= event_id_from($1) AND s.event_id < event_id_from($2)
    GROUP BY f.oldest, f.position),
places AS (
    SELECT s.position, lead(s.position, 1, b.last + 1) OVER (ORDER BY s.position) AS next
    FROM bounds b JOIN outbox_sent s ON s.position BETWEEN b.first AND b.last)
SELECT CASE WHEN next = position + 1 THEN 'places' ELSE 'broken' END,
    CASE WHEN next <> position + 1 THEN format('after place %s of the feed comes place %s', position, next) END
FROM places
UNION ALL
SELECT 'broken', format('event %s (%s) of %s was sent at %s, and waits', o.event_id, o.type, o.subject, s.sent_at)
FROM outbox o JOIN outbox_sent s ON s.event_id = o.event_id
WHERE o.event_id >= event_id_from($1) AND o.event_id < event_id_from($2)
