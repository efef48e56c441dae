-- Locations by priority; levels with a threshold for low stock; a ledger that can be searched; imports of stock as jobs.

CREATE TABLE location (
    id         text COLLATE "C" NOT NULL,
    name       text,
    priority   integer NOT NULL,
    is_active  boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT location_pkey PRIMARY KEY (id),
    CONSTRAINT location_id_shape CHECK (id ~ '^[!-~]{1,64}$'),
    CONSTRAINT location_name_length CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT location_priority CHECK (priority BETWEEN 0 AND 1000)
);
COMMENT ON TABLE location IS 'Where stock lies: every location that a level names is here';
COMMENT ON COLUMN location.id IS 'Its name in the API, case-sensitive';
COMMENT ON COLUMN location.name IS 'What people call it';
COMMENT ON COLUMN location.priority IS 'Which location is taken from first: lower before higher, then by id';
COMMENT ON COLUMN location.is_active IS 'Whether new orders are taken from it without naming it';
COMMENT ON COLUMN location.created_at IS 'When it was first known';
COMMENT ON COLUMN location.updated_at IS 'When it was last set';

INSERT INTO location (id, priority) VALUES ('main', 100);
INSERT INTO location (id, priority) SELECT DISTINCT location_id, 1000 FROM inventory_level ON CONFLICT DO NOTHING;

-- A location that was only ever named by a level is made with it, and comes after those that somebody set. Levels are
-- made rarely and counted all the time: a foreign key would have the counting pay.
CREATE FUNCTION insert_missing_locations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO location (id, priority) SELECT DISTINCT location_id, 1000 FROM made ORDER BY 1 ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER inventory_level_location AFTER INSERT ON inventory_level REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION insert_missing_locations();

ALTER TABLE inventory_level
    ADD COLUMN low_stock_threshold bigint,
    ADD CONSTRAINT inventory_level_low_stock_threshold CHECK (low_stock_threshold BETWEEN 0 AND 1000000000);
COMMENT ON COLUMN inventory_level.low_stock_threshold IS 'At or below which what is available is low stock; null: never';
COMMENT ON COLUMN inventory_level.version IS 'Grows with every change of the row, by one for each event that tells of it and at least by one';
COMMENT ON FUNCTION refuse_placement IS
    'Ends the statement that places orders: placement_levels, a level is short, unknown, under a newer fencing token, or would cross a threshold that an event tells of; placement_time, its idea of the time is not the database''s';

-- The ledger is searched by what a movement belongs to, who made it and when; by SKU and location it was already. A type
-- is searched for among those that people make: most movements are shipments.
CREATE INDEX stock_movement_reference_idx ON stock_movement (reference, id) WHERE reference IS NOT NULL;
CREATE INDEX stock_movement_actor_idx ON stock_movement (actor, id);
CREATE INDEX stock_movement_created_idx ON stock_movement (created_at);
CREATE INDEX stock_movement_type_idx ON stock_movement (type, id) WHERE type <> 'ship';

CREATE TABLE stock_import (
    id             uuid NOT NULL,
    mode           text NOT NULL,
    dry_run        boolean NOT NULL,
    status         text NOT NULL,
    actor          text NOT NULL,
    reference      text,
    correlation_id text,
    rows_total     integer NOT NULL,
    rows_applied   integer NOT NULL DEFAULT 0,
    rows_failed    integer NOT NULL DEFAULT 0,
    last_row       integer NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    completed_at   timestamptz,
    CONSTRAINT stock_import_pkey PRIMARY KEY (id),
    CONSTRAINT stock_import_mode CHECK (mode IN ('set', 'delta')),
    CONSTRAINT stock_import_status CHECK (status IN ('pending', 'running', 'completed', 'canceled')),
    CONSTRAINT stock_import_rows_total CHECK (rows_total BETWEEN 1 AND 200000),
    CONSTRAINT stock_import_progress CHECK (rows_applied >= 0 AND rows_failed >= 0
        AND rows_applied + rows_failed <= rows_total AND last_row BETWEEN 0 AND rows_total),
    CONSTRAINT stock_import_completed CHECK (status <> 'completed' OR rows_applied + rows_failed = rows_total),
    CONSTRAINT stock_import_completed_at CHECK ((status IN ('completed', 'canceled')) = (completed_at IS NOT NULL))
);
CREATE INDEX stock_import_open_idx ON stock_import (id) WHERE status IN ('pending', 'running');
COMMENT ON TABLE stock_import IS 'Imports of stock: jobs that a worker does chunk by chunk';
COMMENT ON COLUMN stock_import.id IS 'UUIDv7; as imp_… the reference of its movements';
COMMENT ON COLUMN stock_import.mode IS 'Whether its rows set on_hand or add to it';
COMMENT ON COLUMN stock_import.dry_run IS 'Whether it only finds out what would become of its rows';
COMMENT ON COLUMN stock_import.status IS 'See domain::stock_import::ImportStatus';
COMMENT ON COLUMN stock_import.actor IS 'Who asked for it: an API key, or the command line';
COMMENT ON COLUMN stock_import.reference IS 'What it belongs to, in the merchant''s words';
COMMENT ON COLUMN stock_import.correlation_id IS 'The request that began the chain';
COMMENT ON COLUMN stock_import.rows_total IS 'How many rows it has, numbered from 1';
COMMENT ON COLUMN stock_import.rows_applied IS 'How many of them were applied';
COMMENT ON COLUMN stock_import.rows_failed IS 'How many of them failed';
COMMENT ON COLUMN stock_import.last_row IS 'No row up to this one is pending';
COMMENT ON COLUMN stock_import.created_at IS 'When it was asked for';
COMMENT ON COLUMN stock_import.completed_at IS 'When its last row was done, or it was canceled';

CREATE TABLE stock_import_row (
    import_id           uuid NOT NULL,
    row_number          integer NOT NULL,
    line                integer NOT NULL,
    status              text NOT NULL,
    sku                 text COLLATE "C",
    location_id         text COLLATE "C",
    on_hand             bigint,
    delta               bigint,
    compare_quantity    bigint,
    safety_stock        bigint,
    backorder_limit     bigint,
    low_stock_threshold bigint,
    on_hand_after       bigint,
    errors              jsonb,
    CONSTRAINT stock_import_row_pkey PRIMARY KEY (import_id, row_number),
    CONSTRAINT stock_import_row_status CHECK (status IN ('pending', 'applied', 'failed')),
    CONSTRAINT stock_import_row_applied CHECK ((status = 'applied') = (on_hand_after IS NOT NULL)),
    CONSTRAINT stock_import_row_failed CHECK ((status = 'failed') = (errors IS NOT NULL))
) WITH (fillfactor = 60);
-- fillfactor: each row is written once more, when it is done. No foreign key: I17 looks for orphans.
COMMENT ON TABLE stock_import_row IS 'The rows of imports, and what became of them';
COMMENT ON COLUMN stock_import_row.import_id IS 'The import';
COMMENT ON COLUMN stock_import_row.row_number IS 'Which row, from 1';
COMMENT ON COLUMN stock_import_row.line IS 'The line of the file that it begins on, from 1';
COMMENT ON COLUMN stock_import_row.status IS 'See domain::stock_import::RowStatus';
COMMENT ON COLUMN stock_import_row.sku IS 'Which SKU; null where it could not be read, like all that follow';
COMMENT ON COLUMN stock_import_row.location_id IS 'At which location';
COMMENT ON COLUMN stock_import_row.on_hand IS 'Mode set: units in the building from then on';
COMMENT ON COLUMN stock_import_row.delta IS 'Mode delta: units added, or taken away if negative';
COMMENT ON COLUMN stock_import_row.compare_quantity IS 'Only if on_hand is this before';
COMMENT ON COLUMN stock_import_row.safety_stock IS 'Units never sold; null: as it is';
COMMENT ON COLUMN stock_import_row.backorder_limit IS 'Units that may be sold beyond on_hand; null: as it is';
COMMENT ON COLUMN stock_import_row.low_stock_threshold IS 'At or below which what is available is low stock; null: as it is';
COMMENT ON COLUMN stock_import_row.on_hand_after IS 'What was on hand once it was applied';
COMMENT ON COLUMN stock_import_row.errors IS 'Why it failed: a list of field and detail';
