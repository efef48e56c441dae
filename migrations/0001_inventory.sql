-- Inventory: the level of each SKU at each location, and the ledger that explains every change of on_hand.
--
-- SKU and location compare bytewise (COLLATE "C"), as they do in Rust: levels are locked in this order everywhere.

CREATE TABLE inventory_level (
    sku             text COLLATE "C" NOT NULL,
    location_id     text COLLATE "C" NOT NULL,
    on_hand         bigint NOT NULL DEFAULT 0,
    reserved        bigint NOT NULL DEFAULT 0,
    committed       bigint NOT NULL DEFAULT 0,
    safety_stock    bigint NOT NULL DEFAULT 0,
    backorder_limit bigint NOT NULL DEFAULT 0,
    version         bigint NOT NULL DEFAULT 0,
    fence_epoch     integer NOT NULL DEFAULT 0,
    fence           bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT inventory_level_pkey PRIMARY KEY (sku, location_id),
    CONSTRAINT inventory_level_sku_shape CHECK (sku ~ '^[!-~]{1,64}$'),
    CONSTRAINT inventory_level_location_shape CHECK (location_id ~ '^[!-~]{1,64}$'),
    CONSTRAINT inventory_level_not_negative
        CHECK (on_hand >= 0 AND reserved >= 0 AND committed >= 0 AND safety_stock >= 0 AND backorder_limit >= 0),
    CONSTRAINT inventory_level_bounded
        CHECK (on_hand <= 1000000000 AND safety_stock <= 1000000000 AND backorder_limit <= 1000000000),
    CONSTRAINT inventory_level_no_oversell CHECK (reserved + committed <= on_hand + backorder_limit)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
-- fillfactor: these rows change with every order; room on their page keeps the updates off the indexes (HOT).

COMMENT ON TABLE inventory_level IS 'The counters of one SKU at one location';
COMMENT ON COLUMN inventory_level.sku IS 'Stock-keeping unit, case-sensitive';
COMMENT ON COLUMN inventory_level.location_id IS 'Where the stock lies';
COMMENT ON COLUMN inventory_level.on_hand IS 'Units in the building, sold ones that have not shipped included';
COMMENT ON COLUMN inventory_level.reserved IS 'Units held for orders that are not paid yet: the sum of held reservations';
COMMENT ON COLUMN inventory_level.committed IS 'Units sold and not shipped yet: the sum of committed reservations';
COMMENT ON COLUMN inventory_level.safety_stock IS 'Units that are never sold';
COMMENT ON COLUMN inventory_level.backorder_limit IS 'Units that may be sold beyond on_hand';
COMMENT ON COLUMN inventory_level.version IS 'Grows by one with every change of the row';
COMMENT ON COLUMN inventory_level.fence_epoch IS 'Epoch of the newest fencing token that wrote the row';
COMMENT ON COLUMN inventory_level.fence IS 'Sequence of the newest fencing token that wrote the row';
COMMENT ON COLUMN inventory_level.created_at IS 'When the level was first known';
COMMENT ON COLUMN inventory_level.updated_at IS 'When the row last changed';

-- A fencing token that goes backwards means that a writer skipped the check: refuse the write, whoever it is.
CREATE FUNCTION refuse_fence_regression() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'fencing token of % at % would go back from (%, %) to (%, %)',
        OLD.sku, OLD.location_id, OLD.fence_epoch, OLD.fence, NEW.fence_epoch, NEW.fence
        USING ERRCODE = 'check_violation', CONSTRAINT = 'inventory_level_fence_grows';
END $$;

CREATE TRIGGER inventory_level_fence_grows BEFORE UPDATE ON inventory_level
    FOR EACH ROW WHEN ((NEW.fence_epoch, NEW.fence) < (OLD.fence_epoch, OLD.fence))
    EXECUTE FUNCTION refuse_fence_regression();

CREATE TABLE stock_movement (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    sku            text COLLATE "C" NOT NULL,
    location_id    text COLLATE "C" NOT NULL,
    type           text NOT NULL,
    delta_on_hand  bigint NOT NULL,
    on_hand_after  bigint NOT NULL,
    actor          text NOT NULL,
    reason         text,
    reference      text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stock_movement_pkey PRIMARY KEY (id),
    CONSTRAINT stock_movement_level_fkey FOREIGN KEY (sku, location_id) REFERENCES inventory_level (sku, location_id),
    CONSTRAINT stock_movement_type
        CHECK (type IN ('receive', 'adjust', 'count', 'ship', 'return', 'transfer')),
    CONSTRAINT stock_movement_after CHECK (on_hand_after >= 0)
);
CREATE INDEX stock_movement_level_idx ON stock_movement (sku, location_id, id);

COMMENT ON TABLE stock_movement IS 'Append-only ledger: every change of on_hand, who made it and why';
COMMENT ON COLUMN stock_movement.id IS 'Order in which the movements of one level were made';
COMMENT ON COLUMN stock_movement.sku IS 'Stock-keeping unit';
COMMENT ON COLUMN stock_movement.location_id IS 'Where the stock lies';
COMMENT ON COLUMN stock_movement.type IS 'Kind of movement';
COMMENT ON COLUMN stock_movement.delta_on_hand IS 'By how much on_hand changed';
COMMENT ON COLUMN stock_movement.on_hand_after IS 'on_hand after the movement';
COMMENT ON COLUMN stock_movement.actor IS 'Who made it: an API key, a worker, or the command line';
COMMENT ON COLUMN stock_movement.reason IS 'Why, in the words of who made it';
COMMENT ON COLUMN stock_movement.reference IS 'What it belongs to: a shipment, an import file, a document of the merchant';
COMMENT ON COLUMN stock_movement.created_at IS 'When it was made';
