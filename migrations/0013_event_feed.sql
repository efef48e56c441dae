-- All events in one order, for those who read them over HTTP: a place is given when the broker's confirm is recorded. Who
-- gives places holds the one row until its commit, so places become visible in their order and a reader misses none.

CREATE TABLE event_feed (
    is_only  boolean NOT NULL DEFAULT true,
    position bigint NOT NULL DEFAULT 0,
    CONSTRAINT event_feed_pkey PRIMARY KEY (is_only),
    CONSTRAINT event_feed_is_only CHECK (is_only)
);
COMMENT ON TABLE event_feed IS 'One row: how far the feed of all events has come';
COMMENT ON COLUMN event_feed.is_only IS 'Always true: there is one row';
COMMENT ON COLUMN event_feed.position IS 'The last place that was given';

ALTER TABLE outbox_sent ADD COLUMN position bigint;
UPDATE outbox_sent s SET position = n.position
FROM (SELECT event_id, row_number() OVER (ORDER BY sent_at, id) AS position FROM outbox_sent) n
WHERE n.event_id = s.event_id;
INSERT INTO event_feed (position) SELECT count(*) FROM outbox_sent;
ALTER TABLE outbox_sent ALTER COLUMN position SET NOT NULL;
CREATE INDEX outbox_sent_position_idx ON outbox_sent (position);
COMMENT ON COLUMN outbox_sent.position IS 'Its place in the feed of all events, from 1 without gaps';
