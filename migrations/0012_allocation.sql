-- Orders are allocated over locations: what the location of a line means from now on. A split line has one reservation for
-- each location; which ones, the reservations say.

COMMENT ON COLUMN order_line.location_id IS 'Where it is taken from; of a line that is split, the first of its locations';
