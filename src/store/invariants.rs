//! The invariants of the whole system, as SQL. Each query gives the rows that break it: none, if all is well.
//!
//! They run after every integration and failure test, and as `holdfast verify`. A few look only at what is older than a
//! grace time, because work that is on its way is no violation.

use sqlx::AssertSqlSafe;

use super::{Conn, Error, Store};

/// Something that must always hold.
#[derive(Debug)]
pub struct Invariant {
    /// Short name, e.g. `I1`.
    pub id: &'static str,
    /// What must hold.
    pub title: &'static str,
    /// Gives one text column: a description of each violation.
    sql: &'static str,
}

/// How many violations of one invariant are described; all are counted.
const DESCRIBED: i64 = 20;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which one.
    pub id: &'static str,
    /// What must hold.
    pub title: &'static str,
    /// How many rows break it.
    pub count: i64,
    /// The first of them.
    pub rows: Vec<String>,
}

/// All of them.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        id: "I1",
        title: "no level is oversold or below zero",
        sql: "SELECT format('%s at %s: on_hand %s, reserved %s, committed %s, backorder_limit %s',
                  sku, location_id, on_hand, reserved, committed, backorder_limit)
              FROM inventory_level
              WHERE reserved + committed > on_hand + backorder_limit OR least(on_hand, reserved, committed) < 0",
    },
    Invariant {
        id: "I2",
        title: "the counters of a level equal its reservations",
        sql: "SELECT format('%s at %s: reserved %s, held %s; committed %s, committed reservations %s',
                  l.sku, l.location_id, l.reserved, coalesce(r.held, 0), l.committed, coalesce(r.committed, 0))
              FROM inventory_level l
              LEFT JOIN (SELECT sku, location_id, sum(quantity) FILTER (WHERE status = 'held') AS held,
                                sum(quantity) FILTER (WHERE status = 'committed') AS committed
                         FROM reservation WHERE status IN ('held', 'committed') GROUP BY 1, 2) r
                ON r.sku = l.sku AND r.location_id = l.location_id
              WHERE (l.reserved, l.committed) <> (coalesce(r.held, 0), coalesce(r.committed, 0))",
    },
    Invariant {
        id: "I3",
        title: "on_hand equals the sum of the stock ledger",
        sql: "SELECT format('%s at %s: on_hand %s, ledger %s', l.sku, l.location_id, l.on_hand, coalesce(m.sum, 0))
              FROM inventory_level l
              LEFT JOIN (SELECT sku, location_id, sum(delta_on_hand) FROM stock_movement GROUP BY 1, 2) m
                ON m.sku = l.sku AND m.location_id = l.location_id
              WHERE l.on_hand <> coalesce(m.sum, 0)",
    },
    Invariant {
        id: "I4",
        title: "an order is reserved whole: every line, all of it, in the status that the order's status asks for",
        sql: "SELECT format('order %s is %s: line %s wants %s, has %s', o.id, o.status, l.id,
                  l.quantity - l.quantity_canceled - l.quantity_fulfilled, coalesce(sum(r.quantity), 0))
              FROM orders o JOIN order_line l ON l.order_id = o.id
              LEFT JOIN reservation r ON r.order_id = l.order_id AND r.order_line_id = l.id
                AND r.status = CASE WHEN o.status = 'pending_payment' THEN 'held' ELSE 'committed' END
              WHERE o.status IN ('pending_payment', 'confirmed', 'partially_fulfilled', 'fulfilled')
              GROUP BY o.id, l.order_id, l.id
              HAVING l.quantity - l.quantity_canceled - l.quantity_fulfilled <> coalesce(sum(r.quantity), 0)
              UNION ALL
              SELECT format('order %s: line %s has shipped %s, its reservations %s', l.order_id, l.id,
                  l.quantity_fulfilled, coalesce(sum(r.quantity), 0))
              FROM order_line l
              LEFT JOIN reservation r ON r.order_id = l.order_id AND r.order_line_id = l.id AND r.status = 'fulfilled'
              GROUP BY l.order_id, l.id
              HAVING l.quantity_fulfilled <> coalesce(sum(r.quantity), 0)
              UNION ALL
              SELECT format('order %s has no lines', o.id) FROM orders o
              WHERE NOT EXISTS (SELECT 1 FROM order_line l WHERE l.order_id = o.id)",
    },
    Invariant {
        id: "I5",
        title: "a dead order holds no stock",
        sql: "SELECT format('order %s is %s: reservation %s is %s', o.id, o.status, r.id, r.status)
              FROM reservation r JOIN orders o ON o.id = r.order_id
              WHERE o.status IN ('canceled', 'expired') AND r.status IN ('held', 'committed')",
    },
    Invariant {
        id: "I6",
        title: "an order has at most one live payment",
        sql: "SELECT format('order %s: %s live payments', order_id, count(*)) FROM payment
              WHERE status IN ('processing', 'requires_action', 'authorized', 'captured', 'partially_refunded',
                               'refunded')
              GROUP BY order_id HAVING count(*) > 1",
    },
    Invariant {
        id: "I7",
        title: "0 <= refunded <= claimed by refunds <= captured <= amount, for every payment",
        sql: "SELECT format('payment %s: amount %s, captured %s, claimed %s, refunded %s', id, amount, amount_captured,
                  amount_refund_claimed, amount_refunded)
              FROM payment
              WHERE NOT (0 <= amount_refunded AND amount_refunded <= amount_refund_claimed
                         AND amount_refund_claimed <= amount_captured AND amount_captured <= amount)
              UNION ALL
              SELECT format('payment %s: claimed %s, refunds of %s', p.id, p.amount_refund_claimed, sum(r.amount))
              FROM payment p JOIN refund r ON r.payment_id = p.id AND r.status <> 'failed'
              GROUP BY p.id HAVING sum(r.amount) > p.amount_refund_claimed",
    },
    Invariant {
        id: "I8",
        title: "a confirmed order is paid: one payment over all that is due",
        sql: "SELECT format('order %s is %s', o.id, o.status) FROM orders o
              WHERE o.status IN ('confirmed', 'partially_fulfilled', 'fulfilled') AND NOT EXISTS (
                  SELECT 1 FROM payment p WHERE p.order_id = o.id
                    AND p.amount BETWEEN o.total_amount - o.amount_canceled AND o.total_amount
                    AND p.status IN ('authorized', 'captured', 'partially_refunded', 'refunded'))",
    },
    Invariant {
        id: "I9",
        title: "a dead order keeps no money for more than 15 minutes, unless it was canceled with the wish to keep it",
        sql: "SELECT format('order %s is %s: payment %s is %s, captured %s, refunded %s', o.id, o.status, p.id,
                  p.status, p.amount_captured, p.amount_refunded)
              FROM payment p JOIN orders o ON o.id = p.order_id
              WHERE o.status IN ('canceled', 'expired')
                AND greatest(p.updated_at, o.updated_at) < now() - interval '15 minutes'
                AND (p.status IN ('requires_action', 'authorized') OR (p.amount_captured > p.amount_refunded AND NOT o.keeps_money))",
    },
    Invariant {
        id: "I10",
        title: "a hold ends within a minute of its time, or of a day after it if a payment is in flight",
        sql: "SELECT format('order %s: reservation %s expired at %s', r.order_id, r.id, r.expires_at)
              FROM reservation r
              WHERE r.status = 'held' AND r.expires_at < now() - interval '60 seconds' AND NOT EXISTS (
                  SELECT 1 FROM payment p WHERE p.order_id = r.order_id
                    AND r.expires_at > now() - interval '1 day 60 seconds'
                    AND p.status IN ('processing', 'requires_action'))",
    },
    Invariant {
        id: "I11",
        title: "an event leaves the outbox within a minute",
        sql: "SELECT format('event %s (%s) since %s', event_id, type, created_at) FROM outbox
              WHERE created_at < now() - interval '60 seconds'",
    },
    Invariant {
        id: "I12",
        title: "one order for one client reference",
        sql: "SELECT format('reference %s: %s orders', client_reference, count(*)) FROM orders
              WHERE client_reference IS NOT NULL GROUP BY client_reference HAVING count(*) > 1",
    },
    Invariant {
        id: "I13",
        title: "a line is never canceled and fulfilled beyond what was ordered, nor returned beyond what has shipped",
        sql: "SELECT format('line %s of order %s: ordered %s, canceled %s, fulfilled %s, returned %s, refunded %s', id,
                  order_id, quantity, quantity_canceled, quantity_fulfilled, quantity_returned, quantity_refunded)
              FROM order_line
              WHERE quantity_canceled < 0 OR quantity_fulfilled < 0
                 OR quantity_canceled + quantity_fulfilled > quantity
                 OR quantity_returned NOT BETWEEN 0 AND quantity_fulfilled
                 OR quantity_refunded NOT BETWEEN 0 AND quantity
              UNION ALL
              SELECT format('line %s of order %s: returned %s, its shipments %s', l.id, l.order_id, l.quantity_returned,
                  coalesce(sum(s.quantity_returned), 0))
              FROM order_line l
              LEFT JOIN shipment_line s ON s.order_line_id = l.id AND s.quantity_returned > 0
              GROUP BY l.order_id, l.id HAVING l.quantity_returned <> coalesce(sum(s.quantity_returned), 0)
              UNION ALL
              SELECT format('order %s: %s is canceled, its lines say %s', o.id, o.amount_canceled,
                  sum(l.quantity_canceled * l.unit_amount))
              FROM orders o JOIN order_line l ON l.order_id = o.id
              GROUP BY o.id HAVING o.amount_canceled <> sum(l.quantity_canceled * l.unit_amount)",
    },
    Invariant {
        id: "I14",
        title: "every change of an order has its event: 1 to version without a gap, each once; of orders older than the \
                events that are kept, as far as those go",
        // An hour, because the clocks of processes differ.
        sql: "SELECT format('order %s at version %s: %s events, sequences %s to %s', o.id, o.version, count(e.*),
                  min(e.sequence), max(e.sequence))
              FROM event_feed f CROSS JOIN orders o LEFT JOIN (
                  SELECT aggregate_id, sequence FROM outbox
                  UNION ALL SELECT aggregate_id, sequence FROM outbox_sent) e ON e.aggregate_id = o.id
              GROUP BY o.id, f.kept_since
              HAVING count(e.*) <> count(DISTINCT e.sequence) OR max(e.sequence) <> o.version
                  OR (o.created_at >= f.kept_since + interval '1 hour'
                      AND (count(e.*) <> o.version OR min(e.sequence) <> 1))",
    },
    Invariant {
        id: "I15",
        title: "no line, reservation or shipment line without what it belongs to; a shipment holds whole reservations",
        sql: "SELECT format('line %s: no order %s', l.id, l.order_id) FROM order_line l
              WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = l.order_id)
              UNION ALL
              SELECT format('reservation %s: no line %s of order %s', r.id, r.order_line_id, r.order_id)
              FROM reservation r
              WHERE NOT EXISTS (SELECT 1 FROM order_line l WHERE (l.order_id, l.id) = (r.order_id, r.order_line_id))
              UNION ALL
              SELECT format('reservation %s: no level of %s at %s', r.id, r.sku, r.location_id) FROM reservation r
              WHERE NOT EXISTS (SELECT 1 FROM inventory_level i WHERE (i.sku, i.location_id) = (r.sku, r.location_id))
              UNION ALL
              SELECT format('shipment %s: no reservation %s of order %s', s.id, l.reservation_id, s.order_id)
              FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
              WHERE NOT EXISTS (SELECT 1 FROM reservation r WHERE r.order_id = s.order_id AND r.id = l.reservation_id
                                  AND r.order_line_id = l.order_line_id)
              UNION ALL
              SELECT format('shipment %s is %s and holds %s: reservation %s of %s at %s is %s', s.id, s.status,
                  l.quantity, r.id, r.quantity, r.location_id, r.status)
              FROM shipment s JOIN shipment_line l ON l.shipment_id = s.id AND l.is_covering
              JOIN reservation r ON r.order_id = s.order_id AND r.id = l.reservation_id
              WHERE (r.quantity, r.location_id) <> (l.quantity, s.location_id)
                 OR r.status <> CASE WHEN s.status IN ('pending', 'packed') THEN 'committed' ELSE 'fulfilled' END
              UNION ALL
              SELECT format('shipment %s is %s and holds nothing', s.id, s.status) FROM shipment s
              WHERE (s.status = 'canceled') = EXISTS (
                  SELECT 1 FROM shipment_line l WHERE l.shipment_id = s.id AND l.is_covering)",
    },
    Invariant {
        id: "I16",
        title: "an event of the payment provider takes effect within an hour",
        sql: "SELECT format('event %s of %s (%s) about payment %s since %s', event_id, provider, type, payment_id,
                  received_at)
              FROM provider_event WHERE processed_at IS NULL AND received_at < now() - interval '1 hour'",
    },
    Invariant {
        id: "I17",
        title: "within an hour an outcome is known, a refund is made or taken on, what is to be captured is, and what is over \
                holds no money; no payment waits 15 minutes for its look-up",
        sql: "SELECT format('payment %s is %s: outcome unknown since %s, to be looked up at %s', id, status,
                  outcome_unknown_since, next_lookup_at)
              FROM payment
              WHERE outcome_unknown_since < now() - interval '1 hour'
                 OR next_lookup_at < now() - interval '15 minutes'
              UNION ALL
              SELECT format('refund %s of payment %s: outcome unknown since %s', id, payment_id, outcome_unknown_since)
              FROM refund WHERE outcome_unknown_since < now() - interval '1 hour'
              UNION ALL
              SELECT format('refund %s of payment %s: pending since %s', id, payment_id, created_at)
              FROM refund
              WHERE status = 'pending' AND accepted_at IS NULL AND created_at < now() - interval '1 hour'
              UNION ALL
              SELECT format('payment %s is authorized since %s, to be captured: asked for %s, asking for %s', p.id,
                  p.updated_at, p.capture_requested_amount, p.amount_capturing)
              FROM payment p JOIN orders o ON o.id = p.order_id
              WHERE p.status = 'authorized' AND p.void_requested_at IS NULL
                AND o.status NOT IN ('canceled', 'expired') AND p.updated_at < now() - interval '1 hour'
                AND (p.capture_method = 'automatic' OR p.capture_requested_amount IS NOT NULL
                     OR p.amount_capturing IS NOT NULL)
              UNION ALL
              SELECT format('payment %s is %s since %s, and is still looked up', id, status, updated_at) FROM payment
              WHERE status IN ('voided', 'failed') AND next_lookup_at IS NOT NULL
                AND updated_at < now() - interval '1 hour'",
    },
    Invariant {
        id: "I18",
        title: "the counts of open orders equal the orders",
        sql: "SELECT format('%s %s: counted %s, open %s', coalesce(c.kind, o.kind), coalesce(c.id, o.id),
                  coalesce(c.open, 0), coalesce(o.open, 0))
              FROM open_order_count c
              FULL JOIN (SELECT w.kind, w.id, count(*) AS open
                         FROM orders, LATERAL (VALUES ('client', client_id::text), ('customer', customer_id)) AS w (kind, id)
                         WHERE status = 'pending_payment' AND w.id IS NOT NULL GROUP BY w.kind, w.id) o
                ON o.kind = c.kind AND o.id = c.id
              WHERE coalesce(c.open, 0) <> coalesce(o.open, 0)",
    },
    Invariant {
        id: "I19",
        title: "every location that a level names is known",
        sql: "SELECT format('%s at %s: no such location', sku, location_id) FROM inventory_level l
              WHERE NOT EXISTS (SELECT 1 FROM location WHERE id = l.location_id)",
    },
    Invariant {
        id: "I20",
        title: "the counters of a stock import equal its rows, and none is left behind",
        sql: "SELECT format('import %s is %s: %s rows, %s applied, %s failed, up to row %s; counted %s, %s, %s', i.id,
                  i.status, i.rows_total, i.rows_applied, i.rows_failed, i.last_row, coalesce(r.total, 0),
                  coalesce(r.applied, 0), coalesce(r.failed, 0))
              FROM stock_import i
              FULL JOIN (SELECT import_id, count(*) AS total, count(*) FILTER (WHERE status = 'applied') AS applied,
                                count(*) FILTER (WHERE status = 'failed') AS failed,
                                min(row_number) FILTER (WHERE status = 'pending') AS pending
                         FROM stock_import_row GROUP BY import_id) r ON r.import_id = i.id
              WHERE (i.rows_total, i.rows_applied, i.rows_failed) IS DISTINCT FROM (r.total, r.applied, r.failed)
                 OR r.pending <= i.last_row",
    },
    Invariant {
        id: "I21",
        title: "an order that has its money does not wait for payment, unless the money is to be given free",
        sql: "SELECT format('order %s is %s: payment %s is %s', o.id, o.status, p.id, p.status)
              FROM payment p JOIN orders o ON o.id = p.order_id
              WHERE o.status = 'pending_payment' AND p.void_requested_at IS NULL
                AND p.status IN ('authorized', 'captured', 'partially_refunded', 'refunded')",
    },
];

/// Those that are checked all the time: what they read is bounded by what is open, not by what there ever was.
pub const WATCHED: [&str; 4] = ["I1", "I11", "I16", "I21"];

/// How long the check of a watched one may take.
const WATCHED_TIMEOUT: &str = "SET LOCAL statement_timeout = '2s'";

/// Runs a watched invariant's query. One that takes too long is an error, and not known to be broken.
pub async fn check_watched(store: &Store, invariant: &Invariant) -> Result<Option<Violation>, Error> {
    let mut tx = store.begin_report("watch_invariant").await?;
    sqlx::query(WATCHED_TIMEOUT).execute(&mut *tx).await?;
    let found = check(&mut tx, invariant).await?;
    tx.rollback().await?;
    Ok(found)
}

/// Runs one invariant's query.
pub async fn check(conn: &mut Conn, invariant: &Invariant) -> Result<Option<Violation>, Error> {
    // The server counts, however many there are.
    let sql = format!(
        "SELECT violation, count(*) OVER () FROM ({}) AS found (violation) LIMIT {DESCRIBED}",
        invariant.sql
    );
    let found: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(conn).await?;
    let count = found.first().map_or(0, |(_, count)| *count);
    Ok((count > 0).then(|| Violation {
        id: invariant.id,
        title: invariant.title,
        count,
        rows: found.into_iter().map(|(violation, _)| violation).collect(),
    }))
}
