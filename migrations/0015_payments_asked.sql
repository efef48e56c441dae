-- What the provider was asked for, and what it has taken on: what was never asked for is not taken for what has no answer,
-- and a refund that is on its way is not taken for one that nobody knows of.

ALTER TABLE payment ADD COLUMN asked_at timestamptz;
ALTER TABLE refund
    ADD COLUMN asked_at timestamptz,
    ADD COLUMN accepted_at timestamptz,
    ADD CONSTRAINT refund_accepted_was_asked CHECK (accepted_at IS NULL OR asked_at IS NOT NULL);
-- Of what is under way nobody wrote down whether it was asked for, so it counts as asked for.
UPDATE payment SET asked_at = created_at WHERE status IN ('processing', 'requires_action');
UPDATE refund SET asked_at = created_at WHERE status = 'pending';
COMMENT ON COLUMN payment.asked_at IS 'When the provider was first asked to authorize it; written before it is asked';
COMMENT ON COLUMN refund.asked_at IS 'When the provider was first asked for it; written before it is asked';
COMMENT ON COLUMN refund.accepted_at IS 'When the provider had taken it on and said that it was not carried out yet';
