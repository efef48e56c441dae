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
