-- A location, an actor and a type each find their movements in the order in which they are listed, however rare they are: no
-- list by one of them walks through the ledger. Shipments too, which a ledger of counts may not have at all.
--
-- Placing an order writes no movement; shipping it writes one for each line.
CREATE INDEX stock_movement_location_idx ON stock_movement (location_id, id);
DROP INDEX stock_movement_type_idx;
CREATE INDEX stock_movement_type_idx ON stock_movement (type, id);
