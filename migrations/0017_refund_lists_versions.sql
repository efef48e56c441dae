-- Refunds are listed by status; locations and purchase limits have a version, which a write may be meant for.

-- Most refunds have succeeded, and a list of those finds its page at once.
CREATE INDEX refund_status_idx ON refund (status, id) WHERE status <> 'succeeded';

ALTER TABLE location
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD CONSTRAINT location_version CHECK (version >= 1);
COMMENT ON COLUMN location.version IS 'Grows by one whenever it is set';

-- A limit is deleted and made again: a version of one that is gone must not come back with the next.
CREATE SEQUENCE purchase_limit_version_seq;
COMMENT ON SEQUENCE purchase_limit_version_seq IS 'The versions of all purchase limits, each given once';
ALTER TABLE purchase_limit
    ADD COLUMN version bigint NOT NULL DEFAULT nextval('purchase_limit_version_seq'),
    ADD CONSTRAINT purchase_limit_version CHECK (version >= 1);
COMMENT ON COLUMN purchase_limit.version IS 'Grows whenever it is set, and is never that of another limit';
