//! What the audit names as not handled is what is sent again, and nothing else.

use holdfast::{
    app::{App, Resent},
    store::{audit::Scope, dead_letters::lost},
};
use sqlx::{Connection as _, Executor as _};

use super::{audit, healthy, last_hour};

/// Letters that are the event as it was.
const WHOLE: &str = "SELECT count(*) FROM dead_letter d JOIN outbox_sent s
    ON (s.event_id, s.type, s.subject, s.sequence, s.created_at, s.data::jsonb) =
       (d.event_id, d.type, d.subject, d.sequence, d.event_time, convert_from(d.body, 'UTF8')::jsonb)
    WHERE s.correlation_id IS NOT DISTINCT FROM d.correlation_id AND s.causation_id IS NOT DISTINCT FROM d.causation_id
      AND d.reason_code = 'lost' AND d.replay_requested_by = 'me' AND d.replay_claimed_at IS NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_audit_misses_is_sent_again_once() {
    let (app, healthy) = healthy().await;
    let database = healthy.copy().await;
    let mut conn = database.connect().await;
    let app = App { store: database.store().await, ..app };
    assert_eq!(sum(&resend(&app, Some("me")).await), 0);
    // One of them is a dead letter already.
    let lost = "DELETE FROM inbox WHERE consumer = 'fulfilment';
                DELETE FROM inbox i USING outbox_sent s WHERE s.event_id = i.event_id AND s.type = 'order.expired.v1';
                INSERT INTO dead_letter (consumer, event_id, body, reason_code, reason, attempts)
                SELECT 'payment', event_id, '', 'refused', 'x', 1 FROM outbox_sent WHERE type = 'order.expired.v1' LIMIT 1";
    conn.execute(lost).await.unwrap();
    let missed = audit(&app).await.violations;
    assert_eq!(missed, 5, "two orders confirmed, and captured; one of two expired");
    let dry = resend(&app, None).await;
    assert_eq!((sum(&dry), audit(&app).await.violations), (missed, missed));
    let resent = resend(&app, Some("me")).await;
    assert_eq!((sum(&resent), &resent.counts, &resent.named), (missed, &dry.counts, &dry.named));
    let whole: i64 = sqlx::query_scalar(WHOLE).fetch_one(&mut conn).await.unwrap();
    assert_eq!((whole, audit(&app).await.violations), (missed, 0));
    assert_eq!(sum(&resend(&app, Some("me")).await), 0);
    conn.close().await.unwrap();
    app.store.close().await;
    database.drop().await;
    healthy.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_every_event_once() {
    let (app, healthy) = healthy().await;
    let store = healthy.store().await;
    let mut conn = store.conn().await.unwrap();
    conn.execute("DELETE FROM inbox").await.unwrap();
    let now: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("SELECT now()").fetch_one(&mut *conn).await.unwrap();
    let required = last_hour().required;
    let whole = Scope {
        since: now - chrono::TimeDelta::hours(1),
        until: now + chrono::TimeDelta::hours(1),
        grace: std::time::Duration::ZERO,
        required: required.iter().map(|(consumer, event)| (*consumer, event.as_str())).collect(),
        ships_at_once: true,
    };
    let at_once = lost::list(&mut conn, &whole).await.unwrap();
    let (mut paged, mut pages, mut rest) = (Vec::new(), 0, whole.clone());
    while rest.since < whole.until {
        let end = lost::find_page_end(&mut conn, &rest, 3).await.unwrap().unwrap_or(whole.until);
        let page = Scope { until: end, ..rest.clone() };
        paged.extend(lost::list(&mut conn, &page).await.unwrap());
        (rest.since, pages) = (end, pages + 1);
    }
    assert_eq!(paged, at_once);
    assert!(at_once.len() > 10 && pages > 5, "{pages} pages of {}", at_once.len());
    drop(conn);
    store.close().await;
    app.store.close().await;
    healthy.drop().await;
}

async fn resend(app: &App, by: Option<&str>) -> Resent {
    app.resend_events(&last_hour(), by, |_, _| {}).await.unwrap()
}

fn sum(resent: &Resent) -> i64 {
    i64::try_from(resent.counts.values().sum::<u64>()).unwrap()
}
