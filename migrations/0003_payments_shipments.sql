-- Payments with their history and refunds; shipments.

CREATE TABLE payment (
    id                    uuid NOT NULL,
    order_id              uuid NOT NULL,
    method                text NOT NULL,
    provider              text NOT NULL,
    provider_reference    text,
    payment_token         text NOT NULL,
    status                text NOT NULL,
    currency              text NOT NULL,
    amount                bigint NOT NULL,
    amount_captured       bigint NOT NULL DEFAULT 0,
    amount_refunded       bigint NOT NULL DEFAULT 0,
    capture_method        text NOT NULL,
    decline_code          text,
    outcome_unknown_since timestamptz,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payment_pkey PRIMARY KEY (id),
    CONSTRAINT payment_order_fkey FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT payment_provider_reference_key UNIQUE (provider, provider_reference),
    CONSTRAINT payment_method CHECK (method IN ('card', 'wallet', 'bank')),
    CONSTRAINT payment_status CHECK (status IN ('processing', 'requires_action', 'authorized', 'captured',
        'partially_refunded', 'refunded', 'voided', 'failed')),
    CONSTRAINT payment_capture_method CHECK (capture_method IN ('automatic', 'manual')),
    CONSTRAINT payment_amount CHECK (amount BETWEEN 1 AND 1000000000000),
    CONSTRAINT payment_money_bounds
        CHECK (0 <= amount_refunded AND amount_refunded <= amount_captured AND amount_captured <= amount),
    CONSTRAINT payment_captured_status CHECK ((amount_captured > 0)
        = (status IN ('captured', 'partially_refunded', 'refunded')))
);
-- G3: at most one payment of an order that moved money or still may.
CREATE UNIQUE INDEX payment_one_live_key ON payment (order_id)
    WHERE status IN ('processing', 'requires_action', 'authorized', 'captured', 'partially_refunded', 'refunded');
CREATE INDEX payment_order_idx ON payment (order_id);

COMMENT ON TABLE payment IS 'Attempts to pay an order';
COMMENT ON COLUMN payment.id IS 'UUIDv7; the idempotency key towards the provider';
COMMENT ON COLUMN payment.order_id IS 'The order';
COMMENT ON COLUMN payment.method IS 'How the customer pays';
COMMENT ON COLUMN payment.provider IS 'Who moves the money';
COMMENT ON COLUMN payment.provider_reference IS 'The provider''s own id of it, once known';
COMMENT ON COLUMN payment.payment_token IS 'The provider''s token for the card or wallet; never a card number';
COMMENT ON COLUMN payment.status IS 'See domain::payment::PaymentStatus';
COMMENT ON COLUMN payment.currency IS 'ISO 4217 code, the order''s';
COMMENT ON COLUMN payment.amount IS 'What is to be paid, minor units: the order''s total';
COMMENT ON COLUMN payment.amount_captured IS 'What was captured, as the provider says';
COMMENT ON COLUMN payment.amount_refunded IS 'What went back, as the provider says';
COMMENT ON COLUMN payment.capture_method IS 'Whether the money is captured at once or on request';
COMMENT ON COLUMN payment.decline_code IS 'Why the provider refused';
COMMENT ON COLUMN payment.outcome_unknown_since IS 'Since when the provider owes an answer to a request that may have taken effect';
COMMENT ON COLUMN payment.created_at IS 'When it was asked for';
COMMENT ON COLUMN payment.updated_at IS 'When the row last changed';

CREATE TABLE payment_event (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    payment_id uuid NOT NULL,
    status     text NOT NULL,
    amount_captured bigint NOT NULL,
    amount_refunded bigint NOT NULL,
    note       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT payment_event_pkey PRIMARY KEY (id),
    CONSTRAINT payment_event_payment_fkey FOREIGN KEY (payment_id) REFERENCES payment (id)
);
CREATE INDEX payment_event_payment_idx ON payment_event (payment_id, id);
COMMENT ON TABLE payment_event IS 'Append-only history of every payment';
COMMENT ON COLUMN payment_event.id IS 'Order of the history';
COMMENT ON COLUMN payment_event.payment_id IS 'The payment';
COMMENT ON COLUMN payment_event.status IS 'Its status from then on';
COMMENT ON COLUMN payment_event.amount_captured IS 'Captured by then, minor units';
COMMENT ON COLUMN payment_event.amount_refunded IS 'Refunded by then, minor units';
COMMENT ON COLUMN payment_event.note IS 'What led to it';
COMMENT ON COLUMN payment_event.created_at IS 'When';

CREATE TABLE refund (
    id         uuid NOT NULL,
    payment_id uuid NOT NULL,
    amount     bigint NOT NULL,
    status     text NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT refund_pkey PRIMARY KEY (id),
    CONSTRAINT refund_payment_fkey FOREIGN KEY (payment_id) REFERENCES payment (id),
    CONSTRAINT refund_amount CHECK (amount > 0),
    CONSTRAINT refund_status CHECK (status IN ('pending', 'succeeded'))
);
CREATE UNIQUE INDEX refund_one_pending_key ON refund (payment_id) WHERE status = 'pending';
COMMENT ON TABLE refund IS 'Money on its way back';
COMMENT ON COLUMN refund.id IS 'UUIDv7; the idempotency key towards the provider';
COMMENT ON COLUMN refund.payment_id IS 'The payment';
COMMENT ON COLUMN refund.amount IS 'How much, minor units';
COMMENT ON COLUMN refund.status IS 'pending until the provider has said yes';
COMMENT ON COLUMN refund.reason IS 'Why';
COMMENT ON COLUMN refund.created_at IS 'When it was decided';
COMMENT ON COLUMN refund.updated_at IS 'When its status last changed';

CREATE TABLE shipment (
    id          uuid NOT NULL,
    order_id    uuid NOT NULL,
    location_id text COLLATE "C" NOT NULL,
    status      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    shipped_at  timestamptz,
    CONSTRAINT shipment_pkey PRIMARY KEY (id),
    CONSTRAINT shipment_order_fkey FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT shipment_status
        CHECK (status IN ('pending', 'packed', 'shipped', 'delivered', 'returned', 'canceled')),
    CONSTRAINT shipment_shipped_at CHECK ((status IN ('shipped', 'delivered', 'returned')) = (shipped_at IS NOT NULL))
);
CREATE INDEX shipment_order_idx ON shipment (order_id);
COMMENT ON TABLE shipment IS 'Parcels of one order from one location';
COMMENT ON COLUMN shipment.id IS 'UUIDv7';
COMMENT ON COLUMN shipment.order_id IS 'The order';
COMMENT ON COLUMN shipment.location_id IS 'Where it leaves from';
COMMENT ON COLUMN shipment.status IS 'See domain::shipment::ShipmentStatus';
COMMENT ON COLUMN shipment.created_at IS 'When it was made';
COMMENT ON COLUMN shipment.updated_at IS 'When its status last changed';
COMMENT ON COLUMN shipment.shipped_at IS 'When it left';

CREATE TABLE shipment_line (
    shipment_id    uuid NOT NULL,
    reservation_id uuid NOT NULL,
    order_line_id  uuid NOT NULL,
    quantity       bigint NOT NULL,
    CONSTRAINT shipment_line_pkey PRIMARY KEY (shipment_id, reservation_id),
    CONSTRAINT shipment_line_shipment_fkey FOREIGN KEY (shipment_id) REFERENCES shipment (id),
    CONSTRAINT shipment_line_reservation_fkey FOREIGN KEY (reservation_id) REFERENCES reservation (id),
    CONSTRAINT shipment_line_order_line_fkey FOREIGN KEY (order_line_id) REFERENCES order_line (id),
    CONSTRAINT shipment_line_quantity CHECK (quantity > 0)
);
COMMENT ON TABLE shipment_line IS 'What a shipment holds';
COMMENT ON COLUMN shipment_line.shipment_id IS 'The shipment';
COMMENT ON COLUMN shipment_line.reservation_id IS 'The committed stock it takes';
COMMENT ON COLUMN shipment_line.order_line_id IS 'The order line it serves';
COMMENT ON COLUMN shipment_line.quantity IS 'How many units';
