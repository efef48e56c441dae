-- What payment providers tell us of, and when payments are looked up there.

CREATE TABLE provider_event (
    provider           text NOT NULL,
    event_id           text NOT NULL,
    type               text NOT NULL,
    payment_id         uuid,
    provider_reference text NOT NULL,
    created_at         timestamptz NOT NULL,
    received_at        timestamptz NOT NULL DEFAULT now(),
    processed_at       timestamptz,
    CONSTRAINT provider_event_pkey PRIMARY KEY (provider, event_id),
    CONSTRAINT provider_event_payment_fkey FOREIGN KEY (payment_id) REFERENCES payment (id),
    -- What is of no payment of ours has nothing to wait for.
    CONSTRAINT provider_event_processed CHECK (payment_id IS NOT NULL OR processed_at IS NOT NULL)
);
CREATE INDEX provider_event_unprocessed_idx ON provider_event (payment_id) WHERE processed_at IS NULL;

COMMENT ON TABLE provider_event IS 'Inbox of the payment providers'' webhooks: each event takes effect once, and the effect is a look-up';
COMMENT ON COLUMN provider_event.provider IS 'Who sent it';
COMMENT ON COLUMN provider_event.event_id IS 'The provider''s id of it, the same each time it is sent';
COMMENT ON COLUMN provider_event.type IS 'What happened, in the provider''s words';
COMMENT ON COLUMN provider_event.payment_id IS 'The payment that it is about; null where none of ours is';
COMMENT ON COLUMN provider_event.provider_reference IS 'The provider''s own id of that payment';
COMMENT ON COLUMN provider_event.created_at IS 'When it happened, as the provider says';
COMMENT ON COLUMN provider_event.received_at IS 'When it came first';
COMMENT ON COLUMN provider_event.processed_at IS 'When a look-up that began later was recorded; null while one is owed';

-- The default gives the events a minute to settle a new payment. Rows that were there before get a minute too.
ALTER TABLE payment
    ADD COLUMN next_lookup_at  timestamptz DEFAULT now() + interval '1 minute',
    ADD COLUMN lookup_attempts integer NOT NULL DEFAULT 0;
UPDATE payment SET next_lookup_at = NULL
WHERE outcome_unknown_since IS NULL AND status NOT IN ('processing', 'requires_action', 'authorized')
  AND NOT EXISTS (SELECT 1 FROM refund r WHERE r.payment_id = payment.id AND r.status = 'pending');
ALTER TABLE payment
    ADD CONSTRAINT payment_lookup_attempts CHECK (lookup_attempts >= 0),
    -- No payment can be left undecided with nobody to ask for it.
    ADD CONSTRAINT payment_undecided_is_looked_up CHECK (next_lookup_at IS NOT NULL
        OR (outcome_unknown_since IS NULL AND status NOT IN ('processing', 'requires_action')));
CREATE INDEX payment_next_lookup_idx ON payment (next_lookup_at) WHERE next_lookup_at IS NOT NULL;

COMMENT ON COLUMN payment.next_lookup_at IS 'When it is looked up at the provider, unless events settle it before; null where nothing is owed';
COMMENT ON COLUMN payment.lookup_attempts IS 'Look-ups since it last changed: the wait grows with them';
