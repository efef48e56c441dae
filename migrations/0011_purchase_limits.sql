-- How many units of a SKU one customer may buy, over all its orders.
--
-- What a customer has bought is counted from its orders when it is asked for: a window cannot be kept in a counter, and what
-- is canceled or expires gives its units back by itself.

CREATE TABLE purchase_limit (
    sku            text COLLATE "C" NOT NULL,
    quantity       bigint NOT NULL,
    window_seconds bigint,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT purchase_limit_pkey PRIMARY KEY (sku),
    CONSTRAINT purchase_limit_sku_shape CHECK (sku ~ '^[!-~]{1,64}$'),
    CONSTRAINT purchase_limit_quantity CHECK (quantity BETWEEN 1 AND 1000000000),
    CONSTRAINT purchase_limit_window CHECK (window_seconds BETWEEN 1 AND 315360000)
);
COMMENT ON TABLE purchase_limit IS 'How many units of a SKU one customer may buy';
COMMENT ON COLUMN purchase_limit.sku IS 'Stock-keeping unit; it need not be stocked yet';
COMMENT ON COLUMN purchase_limit.quantity IS 'The most units that one customer may hold and have bought';
COMMENT ON COLUMN purchase_limit.window_seconds IS 'Only orders placed within this time count; null: all of them';
COMMENT ON COLUMN purchase_limit.created_at IS 'When it was made';
COMMENT ON COLUMN purchase_limit.updated_at IS 'When it was last set';
