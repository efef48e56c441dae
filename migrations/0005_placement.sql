-- Placing orders at speed: fewer indexes and no foreign keys on the tables that every order writes, and the function by
-- which the one statement that writes a batch of orders refuses itself.
--
-- An order, its lines and its reservations are written by one statement and never deleted one without the other, so a
-- foreign key between them finds nothing; checking it took a third of PostgreSQL's time. `holdfast verify` looks for
-- orphans instead (I15).

ALTER TABLE order_line DROP CONSTRAINT order_line_order_fkey;
ALTER TABLE reservation
    DROP CONSTRAINT reservation_order_fkey,
    DROP CONSTRAINT reservation_line_fkey,
    DROP CONSTRAINT reservation_level_fkey;
ALTER TABLE idempotency_key DROP CONSTRAINT idempotency_key_api_key_fkey;

-- Lines are read by their order only, and a UUIDv7 grows from line to line: the id says the position too.
ALTER TABLE shipment_line DROP CONSTRAINT shipment_line_order_line_fkey;
ALTER TABLE order_line DROP CONSTRAINT order_line_position_key, DROP COLUMN position, DROP CONSTRAINT order_line_pkey;
ALTER TABLE order_line ADD CONSTRAINT order_line_pkey PRIMARY KEY (order_id, id);
COMMENT ON COLUMN order_line.id IS 'UUIDv7; grows in the order in which the lines were sent';

-- One index finds the reservations of an order, and keeps a line from being reserved twice at one location.
ALTER TABLE shipment_line DROP CONSTRAINT shipment_line_reservation_fkey;
DROP INDEX reservation_order_idx;
ALTER TABLE reservation DROP CONSTRAINT reservation_line_location_key, DROP CONSTRAINT reservation_pkey;
ALTER TABLE reservation ADD CONSTRAINT reservation_pkey PRIMARY KEY (order_id, order_line_id, location_id);

-- Most orders have neither; an index entry for a null finds nothing.
ALTER TABLE orders DROP CONSTRAINT orders_client_reference_key;
CREATE UNIQUE INDEX orders_client_reference_key ON orders (client_reference) WHERE client_reference IS NOT NULL;
DROP INDEX orders_customer_idx;
CREATE INDEX orders_customer_idx ON orders (customer_id, id) WHERE customer_id IS NOT NULL;

-- The relay reads the oldest rows of its shards, which are a good part of all: it follows the primary key.
DROP INDEX outbox_shard_idx;

-- The data is passed on as it is; nothing searches in it.
ALTER TABLE outbox ALTER COLUMN data TYPE json;
ALTER TABLE outbox_sent ALTER COLUMN data TYPE json;

CREATE FUNCTION refuse_placement(reason text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'placement refused: %', reason USING ERRCODE = 'check_violation', CONSTRAINT = reason;
END $$;
COMMENT ON FUNCTION refuse_placement IS
    'Ends the statement that places orders: placement_levels, a level is short, unknown or under a newer fencing token; placement_time, its idea of the time is not the database''s';
