//! What breaks an invariant, and what looks like it and does not.

/// A way to break one invariant, and every invariant that breaks with it.
pub(super) struct Seed {
    pub(super) broken: &'static str,
    pub(super) also: &'static [&'static str],
    pub(super) statements: &'static str,
}

const fn seed(broken: &'static str, also: &'static [&'static str], statements: &'static str) -> Seed {
    Seed { broken, also, statements }
}

/// The orders are told apart by their references: see [`super::healthy`].
pub(super) const SEEDS: &[Seed] = &[
    seed(
        "I1",
        &["I3"],
        "ALTER TABLE inventory_level DROP CONSTRAINT inventory_level_no_oversell;
         UPDATE inventory_level SET on_hand = 0 WHERE sku = 'a'",
    ),
    seed(
        "I1",
        &["I2"],
        "ALTER TABLE inventory_level DROP CONSTRAINT inventory_level_not_negative;
         UPDATE inventory_level SET reserved = -1 WHERE sku = 'unsold'",
    ),
    seed("I2", &[], "UPDATE inventory_level SET reserved = reserved + 1 WHERE sku = 'a'"),
    seed("I2", &[], "UPDATE inventory_level SET committed = committed - 1 WHERE sku = 'a'"),
    seed("I2", &[], "UPDATE inventory_level SET committed = 1 WHERE sku = 'unsold'"),
    seed("I3", &[], "UPDATE inventory_level SET on_hand = on_hand + 1 WHERE sku = 'a'"),
    seed("I3", &[], "DELETE FROM stock_movement WHERE sku = 'unsold'"),
    seed(
        "I4",
        &[],
        "UPDATE reservation SET quantity = 1 WHERE status = 'held';
         UPDATE inventory_level SET reserved = 1 WHERE sku = 'a'",
    ),
    seed(
        "I4",
        &[],
        "UPDATE reservation SET status = 'released' WHERE status = 'committed';
         UPDATE inventory_level SET committed = 0",
    ),
    seed(
        "I4",
        &[],
        "UPDATE reservation SET status = 'fulfilled' WHERE status = 'released'",
    ),
    seed(
        "I4",
        &[],
        "DELETE FROM reservation USING orders o WHERE o.id = order_id AND client_reference = 'canceled';
         DELETE FROM order_line USING orders o WHERE o.id = order_id AND client_reference = 'canceled'",
    ),
    seed(
        "I5",
        &[],
        "UPDATE reservation SET status = 'committed' WHERE status = 'released';
         UPDATE inventory_level SET committed = committed + 1 WHERE sku = 'a'",
    ),
    seed(
        "I6",
        &[],
        "DROP INDEX payment_one_live_key;
         INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method)
         SELECT gen_random_uuid(), order_id, 'card', 'stripe', 'x', 'processing', 'USD', amount, 'automatic'
         FROM payment WHERE status = 'captured'",
    ),
    seed(
        "I7",
        &[],
        "ALTER TABLE payment DROP CONSTRAINT payment_money_bounds;
         UPDATE payment SET amount_refunded = amount_captured + 1 WHERE status = 'captured'",
    ),
    seed(
        "I7",
        &[],
        "ALTER TABLE payment DROP CONSTRAINT payment_money_bounds;
         UPDATE payment SET amount_captured = amount + 1 WHERE status = 'captured'",
    ),
    seed(
        "I7",
        &[],
        "ALTER TABLE payment DROP CONSTRAINT payment_money_bounds;
         UPDATE payment SET amount_refund_claimed = amount_captured + 1 WHERE status = 'captured'",
    ),
    seed(
        "I7",
        &[],
        "INSERT INTO refund (id, payment_id, amount, status)
         SELECT gen_random_uuid(), id, 1, 'pending' FROM payment WHERE status = 'captured'",
    ),
    seed("I8", &[], "UPDATE payment SET status = 'voided', amount_captured = 0 WHERE status = 'captured'"),
    seed("I8", &[], "UPDATE payment SET amount = amount + 1 WHERE status = 'captured'"),
    seed(
        "I9",
        &[],
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, amount_captured,
                              capture_method, updated_at)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'captured', 'USD', 1000, 1000, 'automatic',
                now() - interval '16 minutes'
         FROM orders WHERE client_reference = 'canceled';
         UPDATE orders SET updated_at = now() - interval '16 minutes'",
    ),
    seed(
        "I9",
        &[],
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                              updated_at)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'authorized', 'USD', 1000, 'automatic',
                now() - interval '16 minutes'
         FROM orders WHERE client_reference = 'canceled';
         UPDATE orders SET updated_at = now() - interval '16 minutes'",
    ),
    seed(
        "I9",
        &[],
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                              updated_at)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'requires_action', 'USD', 1000, 'automatic',
                now() - interval '16 minutes'
         FROM orders WHERE client_reference = 'canceled';
         UPDATE orders SET updated_at = now() - interval '16 minutes'",
    ),
    seed(
        "I9",
        &[],
        "UPDATE orders SET keeps_money = true WHERE client_reference = 'canceled';
         INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                              updated_at)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'authorized', 'USD', 1000, 'automatic',
                now() - interval '16 minutes'
         FROM orders WHERE client_reference = 'canceled';
         UPDATE orders SET updated_at = now() - interval '16 minutes'",
    ),
    seed(
        "I10",
        &[],
        "UPDATE reservation SET expires_at = now() - interval '61 seconds' WHERE status = 'held'",
    ),
    // A payment in flight excuses it for a day.
    seed(
        "I10",
        &[],
        "UPDATE reservation SET expires_at = now() - interval '25 hours' WHERE status = 'held';
         INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'processing', 'USD', 1000, 'automatic'
         FROM orders WHERE client_reference = 'waiting'",
    ),
    seed("I11", &[], "UPDATE outbox SET created_at = now() - interval '61 seconds'"),
    seed(
        "I12",
        &[],
        "DROP INDEX orders_client_reference_key;
         UPDATE orders SET client_reference = 'canceled'",
    ),
    seed(
        "I13",
        &["I4"],
        "ALTER TABLE order_line DROP CONSTRAINT order_line_progress;
         UPDATE order_line SET quantity_fulfilled = quantity + 1
         FROM orders o WHERE o.id = order_id AND client_reference = 'paid'",
    ),
    seed(
        "I13",
        &[],
        "ALTER TABLE order_line DROP CONSTRAINT order_line_progress;
         UPDATE order_line SET quantity_returned = 1 FROM orders o WHERE o.id = order_id AND client_reference = 'paid'",
    ),
    seed("I13", &[], "UPDATE orders SET amount_canceled = 0 WHERE client_reference = 'canceled'"),
    seed("I14", &[], "UPDATE orders SET version = version + 1 WHERE client_reference = 'paid'"),
    seed("I14", &[], "DELETE FROM outbox WHERE sequence = 2"),
    // Its last event is not of the days that were dropped.
    seed(
        "I14",
        &[],
        "UPDATE event_feed SET kept_since = now() + interval '1 day';
         UPDATE orders SET version = version + 1 WHERE client_reference = 'paid'",
    ),
    seed("I14", &[], "UPDATE outbox SET sequence = sequence + 1 WHERE type = 'order.canceled.v1'"),
    seed(
        "I14",
        &[],
        "INSERT INTO outbox_sent (id, event_id, shard, aggregate_id, sequence, type, subject, data, created_at, sent_at,
                                  position)
         SELECT id, gen_random_uuid(), shard, aggregate_id, sequence, type, subject, data, created_at, now(), id
         FROM outbox
         WHERE type = 'order.canceled.v1'",
    ),
    seed(
        "I15",
        &["I4"],
        "UPDATE order_line SET order_id = gen_random_uuid() FROM orders o
         WHERE o.id = order_id AND client_reference = 'canceled'",
    ),
    seed("I15", &[], "UPDATE reservation SET order_line_id = gen_random_uuid() WHERE status = 'released'"),
    seed("I15", &[], "UPDATE reservation SET sku = 'nobody-stocks-it' WHERE status = 'released'"),
    seed(
        "I15",
        &[],
        "INSERT INTO shipment (id, order_id, location_id, status)
         SELECT id, id, 'main', 'pending' FROM orders WHERE client_reference = 'paid';
         INSERT INTO shipment_line (shipment_id, reservation_id, order_line_id, quantity)
         SELECT o.id, gen_random_uuid(), l.id, 1 FROM orders o JOIN order_line l ON l.order_id = o.id
         WHERE client_reference = 'paid'",
    ),
    // Of four units.
    seed(
        "I15",
        &[],
        "INSERT INTO shipment (id, order_id, location_id, status)
         SELECT id, id, 'main', 'pending' FROM orders WHERE client_reference = 'paid';
         INSERT INTO shipment_line (shipment_id, reservation_id, order_line_id, quantity)
         SELECT o.id, r.id, r.order_line_id, 3 FROM orders o JOIN reservation r ON r.order_id = o.id
         WHERE client_reference = 'paid'",
    ),
    seed(
        "I15",
        &[],
        "INSERT INTO shipment (id, order_id, location_id, status)
         SELECT id, id, 'main', 'pending' FROM orders WHERE client_reference = 'paid'",
    ),
    seed(
        "I16",
        &[],
        "INSERT INTO provider_event (provider, event_id, type, payment_id, provider_reference, created_at, received_at)
         SELECT 'stripe', 'evt_1', 'payment_intent.succeeded', id, provider_reference, now(),
                now() - interval '61 minutes'
         FROM payment WHERE status = 'captured'",
    ),
    seed(
        "I17",
        &[],
        "UPDATE payment SET next_lookup_at = now(), outcome_unknown_since = now() - interval '61 minutes'",
    ),
    seed("I17", &[], "UPDATE payment SET next_lookup_at = now() - interval '16 minutes'"),
    seed(
        "I17",
        &[],
        "UPDATE payment SET amount_refund_claimed = 1;
         INSERT INTO refund (id, payment_id, amount, status, outcome_unknown_since)
         SELECT id, id, 1, 'pending', now() - interval '61 minutes' FROM payment",
    ),
    // Nobody carries it out, and nothing is unknown.
    seed(
        "I17",
        &[],
        "UPDATE payment SET amount_refund_claimed = 1;
         INSERT INTO refund (id, payment_id, amount, status, created_at)
         SELECT id, id, 1, 'pending', now() - interval '61 minutes' FROM payment",
    ),
    // Its capture is rejected again and again.
    seed(
        "I17",
        &[],
        "UPDATE payment SET status = 'authorized', amount_captured = 0, amount_capturing = amount,
                capture_method = 'manual', updated_at = now() - interval '61 minutes'",
    ),
    seed(
        "I17",
        &[],
        "UPDATE payment SET status = 'authorized', amount_captured = 0, amount_capturing = NULL,
                capture_requested_amount = 1, capture_method = 'manual', updated_at = now() - interval '61 minutes'",
    ),
    seed(
        "I17",
        &[],
        "UPDATE payment SET status = 'authorized', amount_captured = 0, amount_capturing = NULL,
                updated_at = now() - interval '61 minutes'",
    ),
    // The provider holds money for it.
    seed(
        "I17",
        &[],
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                              updated_at)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'failed', 'USD', 1000, 'automatic',
                now() - interval '61 minutes'
         FROM orders WHERE client_reference = 'canceled'",
    ),
    seed("I18", &[], "UPDATE open_order_count SET open = 1"),
    seed("I18", &[], "UPDATE orders SET customer_id = 'uncounted' WHERE client_reference = 'waiting'"),
    seed("I18", &[], "UPDATE orders SET client_id = id WHERE client_reference = 'waiting'"),
    seed("I19", &[], "DELETE FROM location"),
    seed("I20", &[], "UPDATE stock_import SET rows_failed = rows_failed + 1, rows_applied = rows_applied - 1"),
    seed("I20", &[], "DELETE FROM stock_import_row WHERE status = 'failed'"),
    seed("I20", &[], "DELETE FROM stock_import"),
    seed(
        "I21",
        &[],
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'authorized', 'USD', 1000, 'automatic'
         FROM orders WHERE client_reference = 'waiting'",
    ),
    seed(
        "I21",
        &[],
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, amount_captured,
                              capture_method)
         SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'captured', 'USD', 1000, 1000, 'automatic'
         FROM orders WHERE client_reference = 'waiting'",
    ),
    seed(
        "I20",
        &[],
        "UPDATE stock_import SET status = 'running', completed_at = NULL, rows_applied = rows_applied - 1;
         UPDATE stock_import_row SET status = 'pending', on_hand_after = NULL WHERE row_number = 1",
    ),
];

/// Work that is on its way is no violation.
pub(super) const NO_VIOLATIONS: &[&str] = &[
    // Older than the events that are kept: the first are gone, or all.
    "UPDATE event_feed SET kept_since = now() + interval '1 day'; DELETE FROM outbox WHERE sequence = 1",
    "UPDATE event_feed SET kept_since = now() + interval '1 day'; DELETE FROM outbox",
    // Canceled just now, long after its payment was authorized.
    "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                          updated_at)
     SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'authorized', 'USD', 1000, 'automatic',
            now() - interval '1 day'
     FROM orders WHERE client_reference = 'canceled'",
    // The provider has taken it on.
    "UPDATE payment SET amount_refund_claimed = 1;
     INSERT INTO refund (id, payment_id, amount, status, created_at, asked_at, accepted_at)
     SELECT id, id, 1, 'pending', now() - interval '2 days', now() - interval '2 days', now() - interval '2 days'
     FROM payment",
    // The merchant has not asked for it yet.
    "UPDATE payment SET status = 'authorized', amount_captured = 0, amount_capturing = NULL, capture_method = 'manual',
            updated_at = now() - interval '1 day'",
    // The customer pays in time.
    "UPDATE reservation SET expires_at = now() - interval '2 hours' WHERE status = 'held';
     INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method)
     SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'requires_action', 'USD', 1000, 'automatic'
     FROM orders WHERE client_reference = 'waiting'",
    // Authorized after the merchant asked to void it.
    "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                          void_requested_at)
     SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'authorized', 'USD', 1000, 'automatic', now()
     FROM orders WHERE client_reference = 'waiting'",
];
