-- What only grows is kept for a time: the history of events by the day, other rows by their age.

-- A UUIDv7 begins with its time, so a day of events is a range of ids.
CREATE FUNCTION event_id_from(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
COMMENT ON FUNCTION event_id_from IS 'The least UUIDv7 that can be made from this time on';

ALTER TABLE event_feed
    ADD COLUMN oldest     bigint NOT NULL DEFAULT 1,
    ADD COLUMN kept_since timestamptz NOT NULL DEFAULT 'epoch',
    ADD CONSTRAINT event_feed_oldest CHECK (oldest BETWEEN 1 AND position + 1);
COMMENT ON COLUMN event_feed.oldest IS 'From this place on every event is kept';
COMMENT ON COLUMN event_feed.kept_since IS 'Events made since then are kept, and so is which of them took effect; older days were dropped';

-- What is there becomes the partition of today, however far it goes back: nothing is copied.
DO $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['outbox_sent', 'inbox'] LOOP
        EXECUTE format('ALTER TABLE %1$I DETACH PARTITION %1$s_default', parent);
        EXECUTE format('ALTER TABLE %1$s_default RENAME TO %1$s_%2$s', parent, to_char(today, 'YYYYMMDD'));
        EXECUTE format('ALTER INDEX %1$s_default_pkey RENAME TO %1$s_%2$s_pkey', parent, to_char(today, 'YYYYMMDD'));
        EXECUTE format('ALTER TABLE %1$I ATTACH PARTITION %1$s_%2$s FOR VALUES FROM (MINVALUE) TO (%3$L)', parent,
                       to_char(today, 'YYYYMMDD'), event_id_from((today + 1)::timestamp AT TIME ZONE 'UTC'));
        EXECUTE format('CREATE TABLE %1$s_default PARTITION OF %1$I DEFAULT', parent);
    END LOOP;
END $$;

CREATE VIEW event_day AS
SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'outbox_sent'::regclass AND c.relname ~ '^outbox_sent_[0-9]{8}$';
COMMENT ON VIEW event_day IS 'The days, in UTC, that outbox_sent and inbox have a partition for';

CREATE FUNCTION make_event_day(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first_id uuid := event_id_from(day::timestamp AT TIME ZONE 'UTC');
    next_id uuid := event_id_from((day + 1)::timestamp AT TIME ZONE 'UTC');
    parent text;
    part text;
BEGIN
    -- One at a time, whoever asks.
    PERFORM pg_advisory_xact_lock(hashtext('event_day'));
    IF EXISTS (SELECT FROM event_day d WHERE d.day = make_event_day.day) THEN
        RETURN;
    END IF;
    FOREACH parent IN ARRAY ARRAY['outbox_sent', 'inbox'] LOOP
        part := parent || '_' || to_char(day, 'YYYYMMDD');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
        -- Until the partition stands, rows of its day go here.
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
        EXECUTE format('WITH moved AS (DELETE FROM %I WHERE event_id >= %L AND event_id < %L RETURNING *)
                        INSERT INTO %I SELECT * FROM moved', parent || '_default', first_id, next_id, part);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, first_id, next_id);
    END LOOP;
END $$;
COMMENT ON FUNCTION make_event_day IS
    'Makes the partitions of a day, and moves what is there of it already. Ahead of the day that is next to nothing';

CREATE FUNCTION drop_event_day(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kept timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    suffix text := '_' || to_char(day, 'YYYYMMDD');
    last_position bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('event_day'));
    IF NOT EXISTS (SELECT FROM event_day d WHERE d.day = drop_event_day.day) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM event_day d WHERE d.day < drop_event_day.day) THEN
        RAISE EXCEPTION 'days are dropped from the oldest on, and % is not it', day USING ERRCODE = 'check_violation',
            CONSTRAINT = 'event_day_order';
    END IF;
    EXECUTE format('ALTER TABLE outbox_sent DETACH PARTITION %I', 'outbox_sent' || suffix);
    EXECUTE format('ALTER TABLE inbox DETACH PARTITION %I', 'inbox' || suffix);
    -- From now on no consumer can note that such an event takes effect: it could have before.
    ALTER TABLE inbox_default DROP CONSTRAINT IF EXISTS inbox_kept;
    EXECUTE format('ALTER TABLE inbox_default ADD CONSTRAINT inbox_kept CHECK (event_id >= %L) NOT VALID', event_id_from(kept));
    -- Sent so late that their day was gone.
    WITH late AS (DELETE FROM outbox_sent_default WHERE event_id < event_id_from(kept) RETURNING position)
    SELECT max(position) INTO last_position FROM late;
    EXECUTE format('SELECT greatest(max(position), %L) FROM %I', last_position, 'outbox_sent' || suffix) INTO last_position;
    EXECUTE format('DROP TABLE %I, %I', 'outbox_sent' || suffix, 'inbox' || suffix);
    UPDATE event_feed SET kept_since = kept, oldest = greatest(oldest, last_position + 1);
END $$;
COMMENT ON FUNCTION drop_event_day IS
    'Drops the oldest day of events, and notes from when and from which place on they are kept. event_day_order: an older one is there';

DO $$
BEGIN
    FOR ahead IN 1..2 LOOP
        PERFORM make_event_day((now() AT TIME ZONE 'UTC')::date + ahead);
    END LOOP;
END $$;
