//! What is lost or doubled by hand, and what looks like it and is not.

/// A way to break something: the checks that see it, and what they say of it.
pub(super) struct Seed {
    pub(super) broken: &'static [&'static str],
    pub(super) names: &'static str,
    pub(super) statements: &'static str,
}

const fn seed(broken: &'static [&'static str], names: &'static str, statements: &'static str) -> Seed {
    Seed { broken, names, statements }
}

/// The orders are told apart by their references: see [`super::healthy`].
pub(super) const SEEDS: &[Seed] = &[
    // Committed, and not told.
    seed(
        &["A1"],
        "at version 3: 2 events",
        "UPDATE orders SET version = 3 WHERE client_reference = 'canceled'",
    ),
    // Told, and lost before it was sent.
    seed(
        &["A1", "A2", "A4", "A6"],
        "order.confirmed.v1",
        "DELETE FROM outbox_sent s USING orders o
         WHERE o.id = s.aggregate_id AND client_reference = 'shipped' AND type = 'order.confirmed.v1'",
    ),
    seed(&["A2"], "after place", "UPDATE event_feed SET position = position + 1"),
    // Sent, and sent again.
    seed(
        &["A1", "A2", "A6"],
        "and waits",
        "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
         SELECT event_id, shard, aggregate_id, sequence, type, subject, data FROM outbox_sent
         WHERE type = 'order.canceled.v1'",
    ),
    // Sent, and not handled.
    seed(
        &["A3"],
        "(payment.captured.v1)",
        "DELETE FROM inbox i USING outbox_sent s WHERE s.event_id = i.event_id AND s.type = 'payment.captured.v1'",
    ),
    seed(
        &["A3"],
        "not handled by payment",
        "DELETE FROM inbox i USING outbox_sent s WHERE s.event_id = i.event_id AND s.type = 'order.expired.v1'",
    ),
    // The same, where the provider is not waited for: nobody has asked for the capture, nobody looks the payment up, or the provider
    // has taken the refund on.
    seed(
        &["A3", "A6"],
        "(payment.authorized.v1)",
        "UPDATE payment SET status = 'authorized', amount_captured = 0, capture_method = 'manual',
             next_lookup_at = now() + interval '6 h' WHERE status = 'captured';
         DELETE FROM inbox i USING outbox_sent s WHERE s.event_id = i.event_id AND s.type = 'payment.authorized.v1'
             AND s.aggregate_id = (SELECT order_id FROM payment WHERE status = 'authorized')",
    ),
    seed(
        &["A3", "A6"],
        "(payment.created.v1)",
        "UPDATE payment SET status = 'processing', decline_code = NULL, next_lookup_at = now() - interval '16 min'
         WHERE status = 'failed';
         DELETE FROM inbox i USING outbox_sent s WHERE s.event_id = i.event_id AND s.type = 'payment.created.v1'
             AND s.aggregate_id = (SELECT order_id FROM payment WHERE status = 'processing')",
    ),
    seed(
        &["A3"],
        "(refund.created.v1)",
        "UPDATE refund SET status = 'pending', accepted_at = now() - interval '1 min';
         DELETE FROM inbox i USING outbox_sent s WHERE s.event_id = i.event_id AND s.type = 'refund.created.v1'",
    ),
    // Handled, and never made.
    seed(
        &["A4"],
        "no such event",
        "INSERT INTO inbox (consumer, event_id) SELECT 'payment', event_id_from(now() - interval '1 s')",
    ),
    // Handled, without effect.
    seed(
        &["A5", "A6"],
        "is processing",
        "UPDATE payment SET status = 'processing', decline_code = NULL, next_lookup_at = now() WHERE status = 'failed'",
    ),
    seed(
        &["A5", "A6"],
        "is authorized",
        "UPDATE payment SET status = 'authorized', amount_captured = 0 WHERE status = 'captured'",
    ),
    seed(&["A5"], "is pending", "UPDATE refund SET status = 'pending'"),
    seed(
        &["A5", "A6", "A7"],
        "without a shipment",
        "DELETE FROM shipment_line l USING shipment s, orders o
         WHERE s.id = l.shipment_id AND o.id = s.order_id AND client_reference = 'shipped';
         DELETE FROM shipment s USING orders o WHERE o.id = s.order_id AND client_reference = 'shipped'",
    ),
    seed(
        &["A5", "A6", "A7"],
        "is packed",
        "UPDATE shipment s SET status = 'packed', shipped_at = NULL FROM orders o
         WHERE o.id = s.order_id AND client_reference = 'shipped'",
    ),
    // Told, and not so.
    seed(
        &["A6"],
        "has not happened",
        "UPDATE orders SET status = 'confirmed' WHERE client_reference = 'shipped'",
    ),
    seed(
        &["A6"],
        "told 0 times, has happened",
        "UPDATE outbox_sent SET type = 'order.extended.v1' WHERE type = 'order.canceled.v1'",
    ),
    seed(
        &["A6"],
        "told 2 times, has happened",
        "UPDATE outbox_sent SET type = 'shipment.shipped.v1' WHERE type = 'shipment.packed.v1'",
    ),
    seed(&["A6"], "told 1 times", "DELETE FROM refund"),
    // Stock that left twice, or for nothing.
    seed(
        &["A7"],
        "holds 2 of a at main, the ledger says 4",
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reference)
         SELECT sku, location_id, type, delta_on_hand, on_hand_after, actor, reference FROM stock_movement
         WHERE type = 'ship' LIMIT 1",
    ),
    seed(
        &["A7"],
        "the ledger says 0",
        "DELETE FROM stock_movement WHERE id = (SELECT max(id) FROM stock_movement WHERE type = 'ship')",
    ),
    // Under an id that Holdfast gives to no event.
    seed(
        &["A4"],
        "no such event",
        "INSERT INTO inbox (consumer, event_id) VALUES ('fulfilment', '7689db8d-1de5-4f00-8000-000000000001')",
    ),
];

/// Each with how much is on its way then.
pub(super) const NO_VIOLATIONS: &[(i64, &str)] = &[
    // Given up, and kept for somebody to look at.
    (
        0,
        "WITH gone AS (DELETE FROM inbox i USING outbox_sent s
                       WHERE s.event_id = i.event_id AND s.type = 'order.expired.v1' RETURNING i.event_id)
         INSERT INTO dead_letter (consumer, event_id, body, reason_code, reason, attempts) SELECT 'payment', event_id, '', 'refused', 'x', 1 FROM gone",
    ),
    // Not sent yet, and handled already: the relay has not noted yet that the broker has it.
    (
        1,
        "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
         SELECT event_id, shard, aggregate_id, sequence, type, subject, data FROM outbox_sent
         WHERE position = (SELECT position FROM event_feed);
         DELETE FROM outbox_sent WHERE position = (SELECT position FROM event_feed);
         UPDATE event_feed SET position = position - 1",
    ),
    // Days that were dropped are not missed, of an order that has changed since, and of one that has not.
    (
        0,
        "UPDATE event_feed SET kept_since = now() - interval '2 h', oldest = position + 1;
         UPDATE orders SET created_at = created_at - interval '3 h';
         DELETE FROM outbox_sent WHERE type = 'order.created.v1'",
    ),
    (
        0,
        "UPDATE event_feed SET kept_since = now() + interval '1 s', oldest = position + 1;
         DELETE FROM outbox_sent;
         DELETE FROM inbox",
    ),
];
