-- Webhooks of the merchant: where events are posted to, and what became of each.

ALTER TABLE api_key
    DROP CONSTRAINT api_key_scopes,
    ADD CONSTRAINT api_key_scopes CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY
        ['orders:read', 'orders:write', 'payments:write', 'inventory:write', 'webhooks:write', 'admin']);

CREATE TABLE webhook_endpoint (
    id              uuid NOT NULL,
    url             text NOT NULL,
    description     text,
    event_types     text[],
    status          text NOT NULL DEFAULT 'enabled',
    disabled_reason text,
    disabled_at     timestamptz,
    starts_after    bigint NOT NULL,
    failures        integer NOT NULL DEFAULT 0,
    failing_since   timestamptz,
    paused_until    timestamptz,
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_endpoint_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_endpoint_status CHECK (status IN ('enabled', 'disabled')),
    CONSTRAINT webhook_endpoint_disabled CHECK ((status = 'disabled') = (disabled_reason IS NOT NULL)),
    CONSTRAINT webhook_endpoint_disabled_reason CHECK (disabled_reason IN ('requested', 'gone', 'failing')),
    CONSTRAINT webhook_endpoint_disabled_at CHECK (status = 'enabled' OR disabled_at IS NOT NULL),
    CONSTRAINT webhook_endpoint_event_types CHECK (cardinality(event_types) >= 1),
    CONSTRAINT webhook_endpoint_failures CHECK ((failures > 0) = (failing_since IS NOT NULL)),
    CONSTRAINT webhook_endpoint_version CHECK (version >= 1)
);
COMMENT ON TABLE webhook_endpoint IS 'Where the merchant wants events posted to';
COMMENT ON COLUMN webhook_endpoint.id IS 'whe_… outside; UUIDv7';
COMMENT ON COLUMN webhook_endpoint.url IS 'The URL; the address behind it is checked at each connection';
COMMENT ON COLUMN webhook_endpoint.description IS 'What people call it';
COMMENT ON COLUMN webhook_endpoint.event_types IS 'Which types of events; null is all of them';
COMMENT ON COLUMN webhook_endpoint.status IS 'See domain::webhook::EndpointStatus';
COMMENT ON COLUMN webhook_endpoint.disabled_reason IS 'Why it is disabled: by request, it answered 410, or nothing has succeeded for days';
COMMENT ON COLUMN webhook_endpoint.disabled_at IS 'When it was disabled last: what was queued by then is canceled, also once it is enabled again';
COMMENT ON COLUMN webhook_endpoint.starts_after IS 'It gets events that come after this place in the feed';
COMMENT ON COLUMN webhook_endpoint.failures IS 'Attempts that have failed since the last one that succeeded';
COMMENT ON COLUMN webhook_endpoint.failing_since IS 'When the first of them failed';
COMMENT ON COLUMN webhook_endpoint.paused_until IS 'Until when nothing is sent to it: it fails, or asked for time';
COMMENT ON COLUMN webhook_endpoint.version IS 'Grows with each change that is told of, for If-Match';
COMMENT ON COLUMN webhook_endpoint.created_at IS 'When it was made';
COMMENT ON COLUMN webhook_endpoint.updated_at IS 'When it was last changed, or enabled or disabled';

-- A digest would not do: each message is signed with the secret itself.
CREATE TABLE webhook_secret (
    id          uuid NOT NULL,
    endpoint_id uuid NOT NULL,
    secret      bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    CONSTRAINT webhook_secret_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_secret_endpoint_fkey FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoint (id) ON DELETE CASCADE,
    CONSTRAINT webhook_secret_length CHECK (octet_length(secret) BETWEEN 24 AND 64)
);
CREATE INDEX webhook_secret_endpoint_idx ON webhook_secret (endpoint_id);
-- One is the newest, and does not end before it is rotated.
CREATE UNIQUE INDEX webhook_secret_current_key ON webhook_secret (endpoint_id) WHERE expires_at IS NULL;
COMMENT ON TABLE webhook_secret IS 'What messages to an endpoint are signed with, by each that has not ended';
COMMENT ON COLUMN webhook_secret.id IS 'UUIDv7';
COMMENT ON COLUMN webhook_secret.endpoint_id IS 'Whose it is';
COMMENT ON COLUMN webhook_secret.secret IS 'The key itself, 24 to 64 bytes; whsec_ and base64 outside';
COMMENT ON COLUMN webhook_secret.created_at IS 'When it was made';
COMMENT ON COLUMN webhook_secret.expires_at IS 'From when on nothing is signed with it; null is the current one';

CREATE TABLE webhook_cursor (
    is_only  boolean NOT NULL DEFAULT true,
    position bigint NOT NULL DEFAULT 0,
    CONSTRAINT webhook_cursor_pkey PRIMARY KEY (is_only),
    CONSTRAINT webhook_cursor_is_only CHECK (is_only)
);
INSERT INTO webhook_cursor DEFAULT VALUES;
COMMENT ON TABLE webhook_cursor IS 'One row: up to where the feed has become deliveries. Whoever makes deliveries locks it, so each event becomes them once';
COMMENT ON COLUMN webhook_cursor.is_only IS 'Always true: there is one row';
COMMENT ON COLUMN webhook_cursor.position IS 'The place in the feed; left behind while no endpoint is enabled';

-- No foreign key: an endpoint is deleted at once, and its deliveries go with their age.
CREATE TABLE webhook_delivery (
    id               uuid NOT NULL,
    endpoint_id      uuid NOT NULL,
    event_id         uuid NOT NULL,
    event_type       text NOT NULL,
    subject          text NOT NULL,
    sequence         bigint NOT NULL,
    body             text,
    status           text NOT NULL DEFAULT 'pending',
    attempts         integer NOT NULL DEFAULT 0,
    tries            integer NOT NULL DEFAULT 0,
    queued_at        timestamptz NOT NULL DEFAULT now(),
    next_attempt_at  timestamptz DEFAULT now(),
    claimed_at       timestamptz,
    claimed_until    timestamptz,
    last_attempt_at  timestamptz,
    last_status_code integer,
    last_error_code  text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    completed_at     timestamptz,
    CONSTRAINT webhook_delivery_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_delivery_event_key UNIQUE (endpoint_id, event_id),
    CONSTRAINT webhook_delivery_status CHECK (status IN ('pending', 'delivered', 'failed', 'canceled')),
    CONSTRAINT webhook_delivery_next CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT webhook_delivery_completed CHECK ((status = 'pending') = (completed_at IS NULL)),
    CONSTRAINT webhook_delivery_claim CHECK ((claimed_at IS NULL) = (claimed_until IS NULL)
        AND (claimed_at IS NULL OR status = 'pending')),
    CONSTRAINT webhook_delivery_attempts CHECK (tries BETWEEN 0 AND attempts)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
-- What is due at an endpoint, and what of the same subject goes before it.
CREATE INDEX webhook_delivery_due_idx ON webhook_delivery (endpoint_id, next_attempt_at, id) WHERE status = 'pending';
CREATE INDEX webhook_delivery_subject_idx ON webhook_delivery (endpoint_id, subject, id) WHERE status = 'pending';
CREATE INDEX webhook_delivery_claimed_idx ON webhook_delivery (endpoint_id) WHERE claimed_until IS NOT NULL;
CREATE INDEX webhook_delivery_endpoint_idx ON webhook_delivery (endpoint_id, id);
CREATE INDEX webhook_delivery_undelivered_idx ON webhook_delivery (endpoint_id, id) WHERE status <> 'delivered';
COMMENT ON TABLE webhook_delivery IS 'An event for an endpoint, and what became of it';
COMMENT ON COLUMN webhook_delivery.id IS 'whd_… outside; UUIDv7, in the order of the feed';
COMMENT ON COLUMN webhook_delivery.endpoint_id IS 'For which endpoint';
COMMENT ON COLUMN webhook_delivery.event_id IS 'Which event: webhook-id, the same in each attempt';
COMMENT ON COLUMN webhook_delivery.event_type IS 'Its type, or webhook.test.v1';
COMMENT ON COLUMN webhook_delivery.subject IS 'Whose history it belongs to';
COMMENT ON COLUMN webhook_delivery.sequence IS 'Its place in that history';
COMMENT ON COLUMN webhook_delivery.body IS 'What is sent, of a test; of an event null: the feed has it';
COMMENT ON COLUMN webhook_delivery.status IS 'See domain::webhook::DeliveryStatus';
COMMENT ON COLUMN webhook_delivery.attempts IS 'Attempts that were begun, all of them';
COMMENT ON COLUMN webhook_delivery.tries IS 'Those since it was queued: the wait grows with them';
COMMENT ON COLUMN webhook_delivery.queued_at IS 'When it was made, or was to be delivered again';
COMMENT ON COLUMN webhook_delivery.next_attempt_at IS 'When it is tried next; during an attempt, when that is taken for lost; null once it is over';
COMMENT ON COLUMN webhook_delivery.claimed_at IS 'When the attempt that is under way began';
COMMENT ON COLUMN webhook_delivery.claimed_until IS 'When it is taken for lost; names the claim';
COMMENT ON COLUMN webhook_delivery.last_attempt_at IS 'When the last attempt that is recorded began';
COMMENT ON COLUMN webhook_delivery.last_status_code IS 'What it was answered with; null without an answer';
COMMENT ON COLUMN webhook_delivery.last_error_code IS 'Why it has no answer';
COMMENT ON COLUMN webhook_delivery.created_at IS 'When it was made of its event';
COMMENT ON COLUMN webhook_delivery.completed_at IS 'When it was delivered, given up or canceled';

CREATE TABLE webhook_attempt (
    delivery_id  uuid NOT NULL,
    number       integer NOT NULL,
    started_at   timestamptz NOT NULL,
    duration_ms  integer,
    status_code  integer,
    error_code   text,
    error_detail text,
    response     text,
    CONSTRAINT webhook_attempt_pkey PRIMARY KEY (delivery_id, number),
    CONSTRAINT webhook_attempt_outcome CHECK ((status_code IS NULL) <> (error_code IS NULL)),
    CONSTRAINT webhook_attempt_response CHECK (octet_length(response) <= 4096),
    CONSTRAINT webhook_attempt_error_detail CHECK (octet_length(error_detail) <= 1024)
);
COMMENT ON TABLE webhook_attempt IS 'The log of deliveries: one row for each attempt that has ended, or was lost';
COMMENT ON COLUMN webhook_attempt.delivery_id IS 'Of which delivery';
COMMENT ON COLUMN webhook_attempt.number IS 'Which of its attempts, from 1';
COMMENT ON COLUMN webhook_attempt.started_at IS 'When it began';
COMMENT ON COLUMN webhook_attempt.duration_ms IS 'How long it took; null of one that was lost';
COMMENT ON COLUMN webhook_attempt.status_code IS 'The status that the endpoint answered with';
COMMENT ON COLUMN webhook_attempt.error_code IS 'Why there is none; see domain::webhook::AttemptError';
COMMENT ON COLUMN webhook_attempt.error_detail IS 'The same in words';
COMMENT ON COLUMN webhook_attempt.response IS 'The first 1024 bytes of the answer''s body, as text: at most three bytes for each that is none';
