-- An event that the broker confirmed and lost afterwards is a dead letter too, so that it can be sent to its consumer again.

ALTER TABLE dead_letter
    DROP CONSTRAINT dead_letter_reason_code,
    ADD CONSTRAINT dead_letter_reason_code CHECK (reason_code IN
        ('not_an_event', 'schema_violation', 'too_old', 'refused', 'panicked', 'delivery_limit', 'order_blocked', 'lost'));

COMMENT ON TABLE dead_letter IS 'Deliveries that a consumer could not handle, or never got, kept for an operator';
