//! An independent look at what was committed: every change of a level, in the order of the commits, and what came with it.
//!
//! A level's row is locked from its change until the commit, so the numbers that one level's changes draw in between are
//! in the order of their commits. The table's own guard against a token that goes back is taken away: what the
//! product does by itself is to be seen.

use holdfast::domain::event::EventType;

use super::system::System;

/// What must not be, as one count each.
const MUST_NOT_BE: &[(&str, &str)] = &[
    (
        "a fencing token went back",
        "SELECT count(*) FROM (
             SELECT (fence_epoch, fence) < (lag(fence_epoch) OVER changes, lag(fence) OVER changes) AS back
             FROM history WINDOW changes AS (PARTITION BY sku ORDER BY id)) AS steps
         WHERE back",
    ),
    (
        "stock was promised without a token",
        "SELECT count(*) FROM (
             SELECT fence, reserved > lag(reserved) OVER (PARTITION BY sku ORDER BY id) AS promised FROM history) AS steps
         WHERE promised AND fence = 0",
    ),
    ("a level was oversold", "SELECT count(*) FROM history WHERE reserved + committed > on_hand"),
    (
        "a level was changed past its history",
        "SELECT count(*) FROM inventory_level AS level LEFT JOIN
             (SELECT DISTINCT ON (sku) * FROM history ORDER BY sku, id DESC) AS last ON last.sku = level.sku
         WHERE (level.reserved, level.committed, level.fence)
             IS DISTINCT FROM (last.reserved, last.committed, last.fence)",
    ),
    (
        "what is not for sale any more is not what was reserved",
        "SELECT count(*) FROM inventory_level AS level WHERE reserved + committed <>
             (SELECT coalesce(sum(quantity), 0) FROM reservation
              WHERE reservation.sku = level.sku AND status IN ('held', 'committed'))",
    ),
];

impl System {
    /// Begins to record. Before the first order.
    pub(crate) async fn record_history(&self) {
        self.execute(
            "CREATE TABLE history (id bigint GENERATED ALWAYS AS IDENTITY, sku text COLLATE \"C\", fence_epoch integer,
                 fence bigint, on_hand bigint, reserved bigint, committed bigint);
             CREATE FUNCTION record_history() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO history (sku, fence_epoch, fence, on_hand, reserved, committed)
                 VALUES (NEW.sku, NEW.fence_epoch, NEW.fence, NEW.on_hand, NEW.reserved, NEW.committed);
                 RETURN NULL;
             END $$;
             CREATE TRIGGER history AFTER INSERT OR UPDATE ON inventory_level
             FOR EACH ROW EXECUTE FUNCTION record_history();
             DROP TRIGGER inventory_level_fence_grows ON inventory_level",
        )
        .await;
    }

    /// That nothing was sold twice or under an overtaken token, and that nobody heard of an order that was not placed.
    pub(crate) async fn assert_history(&self) {
        for (what, sql) in MUST_NOT_BE {
            assert_eq!(self.count(sql).await, 0, "{what}");
        }
        let unmatched = "SELECT count(*) FROM orders FULL JOIN
                 (SELECT aggregate_id, type FROM outbox UNION ALL SELECT aggregate_id, type FROM outbox_sent) AS event
             ON aggregate_id = orders.id AND type = $1
             WHERE orders.id IS NULL AND type = $1 OR aggregate_id IS NULL";
        let unmatched = sqlx::query_scalar(unmatched).bind(EventType::OrderCreated.as_str());
        let unmatched: i64 = unmatched.fetch_one(&self.database).await.unwrap();
        assert_eq!(unmatched, 0, "orders without their event, or events without their order");
    }
}
