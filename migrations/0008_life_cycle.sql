-- The whole life of an order: canceled, shipped, returned and refunded in parts; captured, voided and extended on request.

ALTER TABLE orders
    ADD COLUMN amount_canceled bigint NOT NULL DEFAULT 0,
    ADD COLUMN keeps_money boolean NOT NULL DEFAULT false,
    ADD COLUMN extensions smallint NOT NULL DEFAULT 0;
UPDATE orders o SET amount_canceled = l.amount
FROM (SELECT order_id, sum(quantity_canceled * unit_amount) AS amount FROM order_line GROUP BY 1) l
WHERE l.order_id = o.id AND l.amount > 0;
ALTER TABLE orders
    ADD CONSTRAINT orders_canceled_money
        CHECK (amount_canceled BETWEEN 0 AND total_amount AND (NOT keeps_money OR status = 'canceled'));
-- Nothing is written to it when an order is placed.
CREATE INDEX orders_status_idx ON orders (status, id) WHERE status <> 'pending_payment';
COMMENT ON COLUMN orders.amount_canceled IS 'What the canceled units would have cost, minor units; total_amount less this is due';
COMMENT ON COLUMN orders.keeps_money IS 'It was canceled with the wish to keep the money that was captured';
COMMENT ON COLUMN orders.extensions IS 'How often its time to pay was extended';

ALTER TABLE order_line
    ADD COLUMN quantity_returned bigint NOT NULL DEFAULT 0,
    ADD COLUMN quantity_refunded bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT order_line_progress,
    ADD CONSTRAINT order_line_progress CHECK (quantity_canceled >= 0 AND quantity_fulfilled >= 0
        AND quantity_canceled + quantity_fulfilled <= quantity
        AND quantity_returned >= 0 AND quantity_returned <= quantity_fulfilled
        AND quantity_refunded >= 0 AND quantity_refunded <= quantity);
COMMENT ON COLUMN order_line.quantity_returned IS 'How many of those that have shipped came back';
COMMENT ON COLUMN order_line.quantity_refunded IS 'How many were refunded by a refund that names the line';

-- A reservation may be split: the part that is canceled, or goes into one parcel of several, becomes a row of its own. Sums
-- over an order's line are what counts (I4). The key is shorter than the one before.
ALTER TABLE reservation DROP CONSTRAINT reservation_pkey, ADD CONSTRAINT reservation_pkey PRIMARY KEY (order_id, id);

ALTER TABLE payment
    ADD COLUMN amount_refund_claimed bigint NOT NULL DEFAULT 0,
    ADD COLUMN capture_requested_amount bigint,
    ADD COLUMN amount_capturing bigint,
    ADD COLUMN void_requested_at timestamptz,
    ADD COLUMN void_reason text;
UPDATE payment p SET amount_refund_claimed = amount_refunded
    + (SELECT COALESCE(sum(r.amount), 0) FROM refund r WHERE r.payment_id = p.id AND r.status = 'pending');
ALTER TABLE payment
    DROP CONSTRAINT payment_money_bounds,
    ADD CONSTRAINT payment_money_bounds CHECK (0 <= amount_refunded AND amount_refunded <= amount_refund_claimed
        AND amount_refund_claimed <= amount_captured AND amount_captured <= amount),
    ADD CONSTRAINT payment_capture_amounts
        CHECK (capture_requested_amount BETWEEN 1 AND amount AND amount_capturing BETWEEN 1 AND amount);
-- Most payments are captured, and any page of those is found by the primary key.
CREATE INDEX payment_status_idx ON payment (status, id) WHERE status <> 'captured';
COMMENT ON COLUMN payment.amount_refund_claimed IS 'What went back or is on its way back: no two refunds claim the same money';
COMMENT ON COLUMN payment.capture_requested_amount IS 'What the merchant asked to capture';
COMMENT ON COLUMN payment.amount_capturing IS 'What the provider is asked to capture; fixed before it is asked, so that every repetition asks for the same';
COMMENT ON COLUMN payment.void_requested_at IS 'When the merchant asked to void it';
COMMENT ON COLUMN payment.void_reason IS 'Why, in the merchant''s words';

ALTER TABLE refund
    ALTER COLUMN reason DROP NOT NULL,
    ADD COLUMN failure_code text,
    ADD COLUMN outcome_unknown_since timestamptz,
    DROP CONSTRAINT refund_status,
    ADD CONSTRAINT refund_status CHECK (status IN ('pending', 'succeeded', 'failed')),
    ADD CONSTRAINT refund_failure_code CHECK ((status = 'failed') = (failure_code IS NOT NULL));
DROP INDEX refund_one_pending_key;
CREATE INDEX refund_payment_idx ON refund (payment_id, id);
COMMENT ON COLUMN refund.status IS 'See domain::refund::RefundStatus';
COMMENT ON COLUMN refund.failure_code IS 'Why the provider refused it';
COMMENT ON COLUMN refund.outcome_unknown_since IS 'Since when the provider owes an answer to a request that may have taken effect';

CREATE TABLE refund_line (
    refund_id     uuid NOT NULL,
    order_line_id uuid NOT NULL,
    quantity      bigint NOT NULL,
    CONSTRAINT refund_line_pkey PRIMARY KEY (refund_id, order_line_id),
    CONSTRAINT refund_line_refund_fkey FOREIGN KEY (refund_id) REFERENCES refund (id),
    CONSTRAINT refund_line_quantity CHECK (quantity > 0)
);
COMMENT ON TABLE refund_line IS 'Which units a refund is for, where it names them';
COMMENT ON COLUMN refund_line.refund_id IS 'The refund';
COMMENT ON COLUMN refund_line.order_line_id IS 'The order line';
COMMENT ON COLUMN refund_line.quantity IS 'How many units';

ALTER TABLE shipment
    ADD COLUMN tracking_carrier text,
    ADD COLUMN tracking_number text,
    ADD COLUMN tracking_url text,
    ADD CONSTRAINT shipment_tracking CHECK ((tracking_carrier IS NULL) = (tracking_number IS NULL)
        AND (tracking_url IS NULL OR tracking_number IS NOT NULL));
CREATE INDEX shipment_status_idx ON shipment (status, id);
CREATE INDEX shipment_location_idx ON shipment (location_id, id);
COMMENT ON COLUMN shipment.tracking_carrier IS 'Who carries it';
COMMENT ON COLUMN shipment.tracking_number IS 'The carrier''s number of it';
COMMENT ON COLUMN shipment.tracking_url IS 'Where the customer can follow it';

ALTER TABLE shipment_line
    ADD COLUMN quantity_returned bigint NOT NULL DEFAULT 0,
    ADD COLUMN is_covering boolean NOT NULL DEFAULT true,
    ADD CONSTRAINT shipment_line_returned CHECK (quantity_returned BETWEEN 0 AND quantity);
UPDATE shipment_line l SET is_covering = false FROM shipment s WHERE s.id = l.shipment_id AND s.status = 'canceled';
-- No unit is in two parcels.
CREATE UNIQUE INDEX shipment_line_covered_once_key ON shipment_line (reservation_id) WHERE is_covering;
COMMENT ON COLUMN shipment_line.quantity_returned IS 'How many of them came back';
COMMENT ON COLUMN shipment_line.is_covering IS 'Whether the units are in the shipment: not any more once it, or they, were canceled';
