-- Orders are allocated over locations: what the location of a line means from now on. A split line has one reservation or
-- more for each location; which ones, the reservations say.

COMMENT ON COLUMN order_line.location_id IS 'Where it is taken from; of a line that is split, the first of its locations';
COMMENT ON FUNCTION refuse_placement IS
    'Ends the statement that places orders: placement_levels, a level is short, unknown, under a newer fencing token, would cross a threshold that an event tells of, or would go on backorder where other levels come before that; placement_open_orders, somebody would have too many unpaid orders; placement_purchase_limits, a SKU has a limit; placement_time, its idea of the time is not the database''s';
