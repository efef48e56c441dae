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

-- The orders whose time has run out are few, and found by orders_expiring_idx; their reservations by the order.
DROP INDEX reservation_expiring_idx;

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

-- A regular expression for each change of a counter cost a tenth of an order: names are looked at when they are written.
ALTER TABLE inventory_level
    DROP CONSTRAINT inventory_level_sku_shape,
    DROP CONSTRAINT inventory_level_location_shape;
CREATE FUNCTION refuse_level_shape() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% at % must be 1 to 64 visible ASCII characters each', NEW.sku, NEW.location_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'inventory_level_shape';
END $$;
CREATE TRIGGER inventory_level_shape BEFORE INSERT OR UPDATE OF sku, location_id ON inventory_level
    FOR EACH ROW WHEN (NEW.sku !~ '^[!-~]{1,64}$' OR NEW.location_id !~ '^[!-~]{1,64}$')
    EXECUTE FUNCTION refuse_level_shape();

CREATE FUNCTION refuse_placement(reason text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'placement refused: %', reason USING ERRCODE = 'check_violation', CONSTRAINT = reason;
END $$;
COMMENT ON FUNCTION refuse_placement IS
    'Ends the statement that places orders: placement_levels, a level is short, unknown or under a newer fencing token; placement_time, its idea of the time is not the database''s';
