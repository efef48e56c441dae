-- Dead letters can be listed, replayed and dropped; what may have killed its process is handled alone.

ALTER TABLE dead_letter
    ADD COLUMN reason_code         text,
    ADD COLUMN sequence            bigint,
    ADD COLUMN event_time          timestamptz,
    ADD COLUMN correlation_id      text,
    ADD COLUMN causation_id        uuid,
    ADD COLUMN blocked_by          bigint,
    ADD COLUMN last_at             timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN replays             integer NOT NULL DEFAULT 0,
    ADD COLUMN replay_requested_at timestamptz,
    ADD COLUMN replay_requested_by text,
    ADD COLUMN replay_claimed_at   timestamptz,
    ADD COLUMN replay_sent_at      timestamptz,
    ADD COLUMN dropped_at          timestamptz,
    ADD COLUMN dropped_by          text,
    ADD COLUMN dropped_because     text;

UPDATE dead_letter d SET
    last_at = created_at,
    reason_code = CASE WHEN event_id IS NULL THEN 'not_an_event'
                       WHEN reason = 'too_old' THEN 'too_old'
                       WHEN reason LIKE 'schema\_violation%' THEN 'schema_violation'
                       WHEN reason LIKE 'given up by the broker%' THEN 'delivery_limit'
                       ELSE 'refused' END;
-- What an older version did not keep is in the history of events, where that goes back so far.
UPDATE dead_letter d SET
    sequence = s.sequence, event_time = s.created_at, correlation_id = s.correlation_id, causation_id = s.causation_id
FROM outbox_sent s WHERE s.event_id = d.event_id;

ALTER TABLE dead_letter
    ALTER COLUMN reason_code SET NOT NULL,
    ADD CONSTRAINT dead_letter_reason_code CHECK (reason_code IN
        ('not_an_event', 'schema_violation', 'too_old', 'refused', 'panicked', 'delivery_limit', 'order_blocked')),
    ADD CONSTRAINT dead_letter_envelope CHECK ((sequence IS NULL) = (event_time IS NULL)),
    ADD CONSTRAINT dead_letter_replay CHECK ((replay_requested_at IS NULL) = (replay_requested_by IS NULL)
        AND (replay_claimed_at IS NULL OR replay_requested_at IS NOT NULL)
        AND (replay_sent_at IS NULL OR replay_claimed_at IS NOT NULL)),
    ADD CONSTRAINT dead_letter_dropped CHECK ((dropped_at IS NULL) = (dropped_by IS NULL)
        AND (dropped_at IS NULL) = (dropped_because IS NULL)
        AND (dropped_at IS NULL OR replay_requested_at IS NULL));

-- By order: what blocks later events, and what is replayed before what.
CREATE INDEX dead_letter_subject_idx ON dead_letter (consumer, subject, sequence) WHERE dropped_at IS NULL;
CREATE INDEX dead_letter_replay_idx ON dead_letter (id) WHERE replay_requested_at IS NOT NULL;

COMMENT ON COLUMN dead_letter.reason_code IS 'Why it could not be handled, of a closed set';
COMMENT ON COLUMN dead_letter.reason IS 'The same for people, with what exactly was wrong';
COMMENT ON COLUMN dead_letter.attempts IS 'How often it was tried, over all its replays';
COMMENT ON COLUMN dead_letter.created_at IS 'When it was given up for the first time';
COMMENT ON COLUMN dead_letter.sequence IS 'Its place in the history of its subject; null where it cannot be made a message again';
COMMENT ON COLUMN dead_letter.event_time IS 'When the change was made that it tells of';
COMMENT ON COLUMN dead_letter.correlation_id IS 'The request that began the chain';
COMMENT ON COLUMN dead_letter.causation_id IS 'The event that it follows from';
COMMENT ON COLUMN dead_letter.blocked_by IS 'The dead letter of the same order and consumer that it builds on, where it was not tried for that';
COMMENT ON COLUMN dead_letter.last_at IS 'When it was given up for the last time';
COMMENT ON COLUMN dead_letter.replays IS 'How often it was sent to its consumer again';
COMMENT ON COLUMN dead_letter.replay_requested_at IS 'Since when it is to be sent to its consumer again; null: it is not';
COMMENT ON COLUMN dead_letter.replay_requested_by IS 'Who asked for that';
COMMENT ON COLUMN dead_letter.replay_claimed_at IS 'When a process last began to send it; one that died meanwhile is followed by another';
COMMENT ON COLUMN dead_letter.replay_sent_at IS 'Since when the broker has it; the row goes once its effect is committed';
COMMENT ON COLUMN dead_letter.dropped_at IS 'When an operator gave it up; null: it waits';
COMMENT ON COLUMN dead_letter.dropped_by IS 'Who gave it up';
COMMENT ON COLUMN dead_letter.dropped_because IS 'Why';

CREATE TABLE quarantine (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    begun    integer NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT quarantine_pkey PRIMARY KEY (consumer, event_id),
    CONSTRAINT quarantine_begun CHECK (begun >= 1)
);
COMMENT ON TABLE quarantine IS 'Events that are handled alone, because they were there when a process died';
COMMENT ON COLUMN quarantine.consumer IS 'Who handles it';
COMMENT ON COLUMN quarantine.event_id IS 'The event';
COMMENT ON COLUMN quarantine.begun IS 'How often handling it alone was begun; it goes when that ends, however it ends';
COMMENT ON COLUMN quarantine.first_at IS 'When it was begun for the first time';
