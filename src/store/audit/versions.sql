-- Each order that may have changed in the time, with the sequences of all of its events that are kept. Which changes it had before
-- the last one its row does not say: so it is each that was there by then and has changed since.
SELECT CASE WHEN is_whole THEN 'orders' ELSE 'broken' END,
    CASE WHEN NOT is_whole THEN format('order %s at version %s: %s events, sequences %s to %s', id, version, events, first, last) END
FROM (
    SELECT o.id, o.version, count(e.*) AS events, min(e.sequence) AS first, max(e.sequence) AS last,
        count(e.*) = count(DISTINCT e.sequence) AND max(e.sequence) = o.version
            -- Of an order that is older than the events that are kept, as far as those go: without a gap.
            AND CASE WHEN o.created_at >= f.kept_since + interval '1 hour' THEN count(e.*) = o.version AND min(e.sequence) = 1
                     ELSE count(e.*) = max(e.sequence) - min(e.sequence) + 1 END IS TRUE AS is_whole
    FROM event_feed f CROSS JOIN orders o LEFT JOIN (
        SELECT aggregate_id, sequence FROM outbox
        UNION ALL
        SELECT aggregate_id, sequence FROM outbox_sent
        -- None of them is older than the oldest of these orders. An hour, because the clocks of processes differ.
        WHERE event_id >= event_id_from((SELECT coalesce(min(created_at), now()) FROM orders
                                         WHERE updated_at >= $1 AND created_at < $2) - interval '1 hour')) e
      ON e.aggregate_id = o.id
    -- Of one that has not changed since what is kept, no event is kept.
    WHERE o.updated_at >= greatest($1, f.kept_since + interval '1 hour') AND o.created_at < $2
    GROUP BY o.id, f.kept_since) changed
