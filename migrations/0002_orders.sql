-- Orders, their lines, the stock reserved for them, and the keys that make a request count once.

CREATE TABLE api_key (
    id         uuid NOT NULL,
    name       text NOT NULL,
    hash       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT api_key_pkey PRIMARY KEY (id),
    CONSTRAINT api_key_hash_key UNIQUE (hash),
    CONSTRAINT api_key_hash_length CHECK (octet_length(hash) = 32),
    CONSTRAINT api_key_name_length CHECK (char_length(name) BETWEEN 1 AND 255)
);
COMMENT ON TABLE api_key IS 'Keys that may call the API; the secret itself is never stored';
COMMENT ON COLUMN api_key.id IS 'Public id of the key';
COMMENT ON COLUMN api_key.name IS 'What the operator calls it';
COMMENT ON COLUMN api_key.hash IS 'SHA-256 of the secret, which is 256 random bits';
COMMENT ON COLUMN api_key.created_at IS 'When it was made';
COMMENT ON COLUMN api_key.revoked_at IS 'Since when it is refused';

CREATE TABLE orders (
    id               uuid NOT NULL,
    client_reference text,
    customer_id      text,
    status           text NOT NULL,
    version          bigint NOT NULL,
    currency         text NOT NULL,
    total_amount     bigint NOT NULL,
    capture_method   text NOT NULL,
    metadata         jsonb NOT NULL DEFAULT '{}',
    expires_at       timestamptz NOT NULL,
    canceled_at      timestamptz,
    cancel_reason    text,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (id),
    CONSTRAINT orders_client_reference_key UNIQUE (client_reference),
    CONSTRAINT orders_status CHECK (status IN
        ('pending_payment', 'confirmed', 'partially_fulfilled', 'fulfilled', 'expired', 'canceled')),
    CONSTRAINT orders_version CHECK (version >= 1),
    CONSTRAINT orders_currency CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT orders_total_amount CHECK (total_amount BETWEEN 1 AND 1000000000000),
    CONSTRAINT orders_capture_method CHECK (capture_method IN ('automatic', 'manual')),
    CONSTRAINT orders_canceled_at CHECK ((status = 'canceled') = (canceled_at IS NOT NULL))
) WITH (fillfactor = 85);
CREATE INDEX orders_expiring_idx ON orders (expires_at) WHERE status = 'pending_payment';
CREATE INDEX orders_customer_idx ON orders (customer_id, id);

COMMENT ON TABLE orders IS 'Orders';
COMMENT ON COLUMN orders.id IS 'UUIDv7, made before the transaction';
COMMENT ON COLUMN orders.client_reference IS 'The merchant''s own name for the order, unique for ever';
COMMENT ON COLUMN orders.customer_id IS 'The merchant''s name for the customer';
COMMENT ON COLUMN orders.status IS 'See domain::order::OrderStatus';
COMMENT ON COLUMN orders.version IS 'Sequence of the newest event of the order; grows by one with each event';
COMMENT ON COLUMN orders.currency IS 'ISO 4217 code of every amount of the order';
COMMENT ON COLUMN orders.total_amount IS 'Sum of quantity times unit_amount over the lines, minor units';
COMMENT ON COLUMN orders.capture_method IS 'Whether the money is captured at once or on request';
COMMENT ON COLUMN orders.metadata IS 'The merchant''s own data';
COMMENT ON COLUMN orders.expires_at IS 'When the stock stops being held for payment';
COMMENT ON COLUMN orders.canceled_at IS 'When it was canceled';
COMMENT ON COLUMN orders.cancel_reason IS 'Why it was canceled, in the merchant''s words';
COMMENT ON COLUMN orders.created_at IS 'When it was placed';
COMMENT ON COLUMN orders.updated_at IS 'When the row last changed';

CREATE TABLE order_line (
    id                 uuid NOT NULL,
    order_id           uuid NOT NULL,
    position           integer NOT NULL,
    sku                text COLLATE "C" NOT NULL,
    location_id        text COLLATE "C" NOT NULL,
    quantity           bigint NOT NULL,
    unit_amount        bigint NOT NULL,
    quantity_canceled  bigint NOT NULL DEFAULT 0,
    quantity_fulfilled bigint NOT NULL DEFAULT 0,
    CONSTRAINT order_line_pkey PRIMARY KEY (id),
    CONSTRAINT order_line_order_fkey FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT order_line_position_key UNIQUE (order_id, position),
    CONSTRAINT order_line_quantity CHECK (quantity BETWEEN 1 AND 1000000000),
    CONSTRAINT order_line_unit_amount CHECK (unit_amount BETWEEN 0 AND 1000000000000),
    CONSTRAINT order_line_progress CHECK (quantity_canceled >= 0 AND quantity_fulfilled >= 0
        AND quantity_canceled + quantity_fulfilled <= quantity)
);
COMMENT ON TABLE order_line IS 'What an order buys';
COMMENT ON COLUMN order_line.id IS 'UUIDv7';
COMMENT ON COLUMN order_line.order_id IS 'The order';
COMMENT ON COLUMN order_line.position IS 'Place in the order as it was sent, from 0';
COMMENT ON COLUMN order_line.sku IS 'What is bought';
COMMENT ON COLUMN order_line.location_id IS 'Where it is taken from';
COMMENT ON COLUMN order_line.quantity IS 'How many were ordered';
COMMENT ON COLUMN order_line.unit_amount IS 'Price of one, minor units, as the merchant gave it';
COMMENT ON COLUMN order_line.quantity_canceled IS 'How many of them were canceled';
COMMENT ON COLUMN order_line.quantity_fulfilled IS 'How many of them have shipped';

CREATE TABLE reservation (
    id            uuid NOT NULL,
    order_id      uuid NOT NULL,
    order_line_id uuid NOT NULL,
    sku           text COLLATE "C" NOT NULL,
    location_id   text COLLATE "C" NOT NULL,
    quantity      bigint NOT NULL,
    status        text NOT NULL,
    expires_at    timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CONSTRAINT reservation_pkey PRIMARY KEY (id),
    CONSTRAINT reservation_order_fkey FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT reservation_line_fkey FOREIGN KEY (order_line_id) REFERENCES order_line (id),
    CONSTRAINT reservation_level_fkey FOREIGN KEY (sku, location_id) REFERENCES inventory_level (sku, location_id),
    CONSTRAINT reservation_line_location_key UNIQUE (order_line_id, location_id),
    CONSTRAINT reservation_quantity CHECK (quantity BETWEEN 1 AND 1000000000),
    CONSTRAINT reservation_status CHECK (status IN ('held', 'committed', 'fulfilled', 'released', 'expired')),
    CONSTRAINT reservation_expires_while_held CHECK ((status = 'held') = (expires_at IS NOT NULL))
) WITH (fillfactor = 85);
CREATE INDEX reservation_order_idx ON reservation (order_id);
CREATE INDEX reservation_expiring_idx ON reservation (sku, location_id, expires_at) WHERE status = 'held';

COMMENT ON TABLE reservation IS 'Stock of one level that is held for, sold to, or was shipped for one order line';
COMMENT ON COLUMN reservation.id IS 'UUIDv7';
COMMENT ON COLUMN reservation.order_id IS 'The order';
COMMENT ON COLUMN reservation.order_line_id IS 'The order line';
COMMENT ON COLUMN reservation.sku IS 'Which SKU';
COMMENT ON COLUMN reservation.location_id IS 'At which location';
COMMENT ON COLUMN reservation.quantity IS 'How many units';
COMMENT ON COLUMN reservation.status IS 'See domain::reservation::ReservationStatus';
COMMENT ON COLUMN reservation.expires_at IS 'Until when it is held; null once it is not held any more';
COMMENT ON COLUMN reservation.created_at IS 'When it was made';
COMMENT ON COLUMN reservation.updated_at IS 'When its status last changed';

CREATE TABLE idempotency_key (
    api_key_id    uuid NOT NULL,
    route         text NOT NULL,
    key           text NOT NULL,
    fingerprint   bytea NOT NULL,
    status_code   smallint NOT NULL,
    response_body text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_key_pkey PRIMARY KEY (api_key_id, route, key),
    CONSTRAINT idempotency_key_api_key_fkey FOREIGN KEY (api_key_id) REFERENCES api_key (id),
    CONSTRAINT idempotency_key_length CHECK (char_length(key) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_key_fingerprint CHECK (octet_length(fingerprint) = 32)
);
COMMENT ON TABLE idempotency_key IS 'Requests that took effect, with their answers; written in the transaction of the effect';
COMMENT ON COLUMN idempotency_key.api_key_id IS 'Whose key it is: two merchants'' keys never meet';
COMMENT ON COLUMN idempotency_key.route IS 'Method and path template';
COMMENT ON COLUMN idempotency_key.key IS 'The Idempotency-Key header';
COMMENT ON COLUMN idempotency_key.fingerprint IS 'SHA-256 of path and body: another request under the same key is refused';
COMMENT ON COLUMN idempotency_key.status_code IS 'Status of the answer';
COMMENT ON COLUMN idempotency_key.response_body IS 'Body of the answer, byte for byte';
COMMENT ON COLUMN idempotency_key.created_at IS 'When the request took effect';
