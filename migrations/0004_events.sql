-- Events: the outbox, its history, the inbox of the consumers, the relay's leases, dead letters.

CREATE TABLE outbox (
    id                bigint GENERATED ALWAYS AS IDENTITY,
    event_id          uuid NOT NULL,
    shard             smallint NOT NULL,
    aggregate_id      uuid NOT NULL,
    sequence          bigint NOT NULL,
    type              text NOT NULL,
    subject           text NOT NULL,
    correlation_id    text,
    causation_id      uuid,
    data              jsonb NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    attempts          integer NOT NULL DEFAULT 0,
    retry_at          timestamptz,
    CONSTRAINT outbox_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_shard CHECK (shard BETWEEN 0 AND 15),
    CONSTRAINT outbox_sequence CHECK (sequence >= 1),
    CONSTRAINT outbox_sequence_key UNIQUE (aggregate_id, sequence)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbox_shard_idx ON outbox (shard, id);

COMMENT ON TABLE outbox IS 'Events that are committed and not yet confirmed by the broker';
COMMENT ON COLUMN outbox.id IS 'Order of publishing within one aggregate; not the order of commits';
COMMENT ON COLUMN outbox.event_id IS 'UUIDv7; every copy of the event carries it';
COMMENT ON COLUMN outbox.shard IS 'Which lease of the relay publishes it: a hash of aggregate_id';
COMMENT ON COLUMN outbox.aggregate_id IS 'Whose history it belongs to: an order, or a level';
COMMENT ON COLUMN outbox.sequence IS 'Its place in that history; of an order from 1 without gaps, of a level growing';
COMMENT ON COLUMN outbox.type IS 'What happened, with version: the routing key';
COMMENT ON COLUMN outbox.subject IS 'The aggregate as text';
COMMENT ON COLUMN outbox.correlation_id IS 'The request that began the chain';
COMMENT ON COLUMN outbox.causation_id IS 'The event that this one follows from';
COMMENT ON COLUMN outbox.data IS 'What there is to know, by type';
COMMENT ON COLUMN outbox.created_at IS 'When the change was made';
COMMENT ON COLUMN outbox.attempts IS 'How often publishing it failed';
COMMENT ON COLUMN outbox.retry_at IS 'Not to be published before this time';

CREATE TABLE outbox_sent (
    id             bigint NOT NULL,
    event_id       uuid NOT NULL,
    shard          smallint NOT NULL,
    aggregate_id   uuid NOT NULL,
    sequence       bigint NOT NULL,
    type           text NOT NULL,
    subject        text NOT NULL,
    correlation_id text,
    causation_id   uuid,
    data           jsonb NOT NULL,
    created_at     timestamptz NOT NULL,
    sent_at        timestamptz NOT NULL,
    CONSTRAINT outbox_sent_pkey PRIMARY KEY (event_id)
) PARTITION BY RANGE (event_id);
-- A UUIDv7 begins with its time, so daily partitions of this table are ranges of the key.
CREATE TABLE outbox_sent_default PARTITION OF outbox_sent DEFAULT;
CREATE INDEX outbox_sent_aggregate_idx ON outbox_sent (aggregate_id, sequence);

COMMENT ON TABLE outbox_sent IS 'Events that the broker confirmed';
COMMENT ON COLUMN outbox_sent.id IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.event_id IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.shard IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.aggregate_id IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.sequence IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.type IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.subject IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.correlation_id IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.causation_id IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.data IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.created_at IS 'As in outbox';
COMMENT ON COLUMN outbox_sent.sent_at IS 'When the broker''s confirm was recorded';

CREATE TABLE inbox (
    consumer    text NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT inbox_pkey PRIMARY KEY (consumer, event_id)
) PARTITION BY RANGE (event_id);
CREATE TABLE inbox_default PARTITION OF inbox DEFAULT;
COMMENT ON TABLE inbox IS 'Events whose effect is committed, by consumer: each takes effect once';
COMMENT ON COLUMN inbox.consumer IS 'Name of the consumer';
COMMENT ON COLUMN inbox.event_id IS 'The event';
COMMENT ON COLUMN inbox.received_at IS 'When its effect was committed';

CREATE TABLE relay_lease (
    shard      smallint NOT NULL,
    owner      text,
    epoch      bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT relay_lease_pkey PRIMARY KEY (shard),
    CONSTRAINT relay_lease_shard CHECK (shard BETWEEN 0 AND 15)
);
INSERT INTO relay_lease (shard) SELECT generate_series(0, 15);
COMMENT ON TABLE relay_lease IS 'Which relay publishes which shard of the outbox';
COMMENT ON COLUMN relay_lease.shard IS 'The shard';
COMMENT ON COLUMN relay_lease.owner IS 'The process that leases it';
COMMENT ON COLUMN relay_lease.epoch IS 'Grows with every change of owner; fences what a former owner still tries';
COMMENT ON COLUMN relay_lease.expires_at IS 'Until when the lease holds';

CREATE TABLE dead_letter (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    consumer   text NOT NULL,
    event_id   uuid,
    type       text,
    subject    text,
    body       bytea NOT NULL,
    reason     text NOT NULL,
    attempts   integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letter_pkey PRIMARY KEY (id),
    CONSTRAINT dead_letter_event_key UNIQUE (consumer, event_id)
);
COMMENT ON TABLE dead_letter IS 'Deliveries that a consumer could not handle, kept for an operator';
COMMENT ON COLUMN dead_letter.id IS 'Order of arrival';
COMMENT ON COLUMN dead_letter.consumer IS 'Who could not handle it';
COMMENT ON COLUMN dead_letter.event_id IS 'The event; null where the body does not decode';
COMMENT ON COLUMN dead_letter.type IS 'Its type, where known';
COMMENT ON COLUMN dead_letter.subject IS 'Its subject, where known';
COMMENT ON COLUMN dead_letter.body IS 'The message as it came';
COMMENT ON COLUMN dead_letter.reason IS 'Why it could not be handled';
COMMENT ON COLUMN dead_letter.attempts IS 'How often it was tried';
COMMENT ON COLUMN dead_letter.created_at IS 'When it was given up';
