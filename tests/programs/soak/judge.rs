//! The account: everything is healed, and now nothing may be missing, there twice, or other than somebody was told.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    client::{Body, Clients, Operation, Outcome, Request},
    observer,
    system::{APIS, ROLES, System},
};

/// From the last heal to an order at each API.
const ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// From the last customer to when nothing is on its way any more.
const SETTLED_WITHIN: Duration = Duration::from_mins(2);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Acknowledged, and not there.
    pub(super) lost: Vec<String>,
    /// Done more than once.
    pub(super) doubled: Vec<String>,
    /// Whatever else must not be.
    pub(super) violations: Vec<String>,
    pub(super) duplicates_delivered: i64,
    pub(super) stale_writes_refused: i64,
    pub(super) stale_writes_accepted: i64,
}

/// That both APIs take orders again soon after the last fault.
pub(super) async fn await_liveness(clients: &Clients, healed: Instant, slow: u32, verdict: &mut Verdict) {
    let within = ALIVE_WITHIN * slow;
    let seen = join_all(APIS.map(|api| async move {
        tokio::select! {
            after = first_success(clients, api, healed) => Some(after),
            () = try_orders(clients, api) => None,
            () = sleep((within * 2).saturating_sub(healed.elapsed())) => None,
        }
    }))
    .await;
    for (api, after) in APIS.iter().zip(seen) {
        let told = after.map_or_else(|| "not at all".to_owned(), |after| format!("{after:.1?}"));
        println!("soak: {api} takes orders again, after the last fault: {told}");
        if after.is_none_or(|after| after > within) {
            verdict.violations.push(format!(
                "{api} takes orders again, after the last fault: {told}, and not within {within:?}"
            ));
        }
    }
}

async fn first_success(clients: &Clients, api: &str, healed: Instant) -> Duration {
    loop {
        if let Some(after) = clients.board.worked_since(api, healed) {
            return after;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Orders at one API until somebody stops it, should no other client do.
async fn try_orders(clients: &Clients, api: &str) {
    for number in 0_u64.. {
        let body = json!({ "currency": "USD", "reservation_ttl_seconds": 5,
                           "lines": [{ "sku": format!("sku-{}", number % 7), "quantity": 1, "unit_amount": 100 }] });
        let request = Request {
            path: "/v1/orders".to_owned(),
            key: format!("alive-{api}-{number}"),
            body: Body::Json(body),
        };
        clients.ask(api, &request).await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until no order waits for anything, and no event is on its way.
pub(super) async fn settle(system: &System, since: DateTime<Utc>, slow: u32, verdict: &mut Verdict) {
    let began = Instant::now();
    let open = "SELECT (SELECT count(*) FROM orders WHERE status = 'pending_payment')
                     + (SELECT count(*) FROM stock_import WHERE completed_at IS NULL) + (SELECT count(*) FROM outbox)";
    loop {
        let open = system.count(open).await;
        // What is broken may be late only: its consumer has it, or gets it from a retry queue.
        if open == 0 {
            let audit = audit(system, since).await;
            if audit["in_flight"] == 0 && audit["violations"] == 0 {
                println!(
                    "soak: all has settled {:.1} s after the last customer",
                    began.elapsed().as_secs_f64()
                );
                return;
            }
        }
        if began.elapsed() > SETTLED_WITHIN * slow {
            verdict.violations.push(format!(
                "not all has settled after {:.0?}: {open} orders, imports and events wait",
                began.elapsed()
            ));
            return;
        }
        sleep(Duration::from_secs(2)).await;
    }
}

async fn audit(system: &System, since: DateTime<Utc>) -> Value {
    let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (_, output) = system.run(&["audit", "--since", &since, "--grace", "0s", "--json"]).await;
    let json = output.find("{\n").map_or("", |at| &output[at..]);
    serde_json::from_str(json).unwrap_or_else(|error| panic!("audit: {error}\n{output}"))
}

pub(super) async fn judge(system: &System, clients: &Clients, since: DateTime<Utc>, verdict: &mut Verdict) {
    let (holds, output) = system.run(&["verify"]).await;
    if !holds {
        verdict.violations.push(format!("verify:\n{output}"));
    }
    let audit = audit(system, since).await;
    for check in audit["checks"].as_array().unwrap().iter().filter(|check| check["violations"] != 0) {
        let text = format!("audit {}: {} times: {}", check["id"], check["violations"], check["rows"]);
        // A1 to A3: an event that is not there; A6 and A7: something told or done that was not once.
        match check["id"].as_str().unwrap() {
            "A1" | "A2" | "A3" => verdict.lost.push(text),
            "A7" => verdict.doubled.push(text),
            _ => verdict.violations.push(text),
        }
    }
    judge_money(system, verdict).await;
    judge_history(clients, verdict).await;
    for role in ROLES.map(|(role, _)| role).into_iter().chain(["sandbox"]) {
        let log = system.log(role);
        verdict.violations.extend(
            log.lines().filter(|line| line.contains("panicked at")).map(|line| format!("{role}: {line}")),
        );
        let stale = log.matches("fencing token is stale, locking again").count();
        verdict.stale_writes_refused += i64::try_from(stale).unwrap();
    }
    verdict.duplicates_delivered = observer::duplicates(system).await;
    verdict.stale_writes_accepted = observer::stale_writes(system).await;
    let dead = system.count("SELECT count(*) FROM dead_letter").await;
    if dead > 0 {
        verdict.violations.push(format!("{dead} dead letters"));
    }
}

/// What the database says of each payment is what the provider says, and nobody has paid twice.
async fn judge_money(system: &System, verdict: &mut Verdict) {
    let summary = provider(system, "summary").await;
    for count in ["captures_per_payment_max", "authorizations_per_payment_max"] {
        if summary[count].as_u64().unwrap() > 1 {
            verdict.doubled.push(format!("{count} is {}", summary[count]));
        }
    }
    let twice = [
        (
            "orders have two payments that were captured",
            "SELECT count(*) FROM (SELECT order_id FROM payment
          WHERE amount_captured > 0 GROUP BY order_id HAVING count(*) > 1) AS twice",
        ),
        (
            "orders have two shipments of one location",
            "SELECT count(*) FROM (SELECT order_id FROM shipment
          WHERE status <> 'canceled' GROUP BY order_id, location_id HAVING count(*) > 1) AS twice",
        ),
    ];
    for (what, sql) in twice {
        let count = system.count(sql).await;
        if count > 0 {
            verdict.doubled.push(format!("{count} {what}"));
        }
    }
    // What our rows say of refunds comes from the provider: that it made none twice is seen by the refunds that were asked for.
    let payments: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT 'pay_' || replace(p.id::text, '-', ''), amount_captured, amount_refunded, coalesce((
             SELECT sum(r.amount) FROM refund r WHERE r.payment_id = p.id AND r.status = 'succeeded'), 0)::bigint
         FROM payment p",
    )
    .fetch_all(&system.database)
    .await
    .unwrap();
    println!("soak: comparing {} payments with the provider's record", payments.len());
    let differences = stream::iter(payments).map(async |(id, captured, refunded, asked)| {
        let theirs = provider(system, &format!("payments?payment_id={id}")).await;
        let is_same = theirs["amount_captured"] == captured
            && theirs["amount_refunded"] == refunded
            && theirs["amount_refunded"] == asked;
        (!is_same).then(|| {
            format!(
                "payment {id}: captured {captured}, refunded {refunded}, by refunds of {asked}; the provider says {theirs}"
            )
        })
    });
    verdict
        .violations
        .extend(differences.buffer_unordered(8).filter_map(std::future::ready).collect::<Vec<_>>().await);
}

async fn provider(system: &System, what: &str) -> Value {
    let url = format!("{}/sandbox/{what}", system.url("sandbox"));
    system.http.get(url).send().await.unwrap().json().await.unwrap()
}

/// What a client was told is so: what was done is there, as it was told; what was refused has left nothing. Who was told
/// nothing asks again, and then knows.
async fn judge_history(clients: &Clients, verdict: &mut Verdict) {
    let history: Vec<Operation> = clients.history.lock().unwrap().clone();
    let unknown: Vec<&Operation> =
        history.iter().filter(|operation| operation.outcome == Outcome::Unknown).collect();
    println!("soak: asking again about {} requests that were not answered", unknown.len());
    let resolved = Mutex::new(HashMap::new());
    stream::iter(unknown)
        .for_each_concurrent(8, async |operation| {
            let (outcome, _) = clients.send_one(&operation.request, 0, Duration::from_secs(30)).await;
            resolved.lock().unwrap().insert(operation.request.key.clone(), outcome);
        })
        .await;
    let resolved = resolved.into_inner().unwrap();
    let stored: Vec<(String, i16, String)> =
        sqlx::query_as("SELECT key, status_code, response_body FROM idempotency_key")
            .fetch_all(&clients.system.database)
            .await
            .unwrap();
    let stored: HashMap<String, (u16, String)> =
        stored.into_iter().map(|(key, status, body)| (key, (u16::try_from(status).unwrap(), body))).collect();
    let references: Vec<String> =
        sqlx::query_scalar("SELECT client_reference FROM orders WHERE client_reference IS NOT NULL")
            .fetch_all(&clients.system.database)
            .await
            .unwrap();
    let references: std::collections::HashSet<String> = references.into_iter().collect();
    for Operation { request, outcome, .. } in &history {
        let outcome = resolved.get(&request.key).unwrap_or(outcome);
        let kept = stored.get(&request.key);
        let order = request.key.strip_suffix("-order").map(|reference| references.contains(reference));
        match outcome {
            Outcome::Done(status, body) => {
                if kept.is_none_or(|kept| (kept.0, kept.1.as_str()) != (*status, body.as_str()))
                    || order == Some(false)
                {
                    verdict.lost.push(format!(
                        "{} under {} was answered {status} {body}, stored is {kept:?}",
                        request.path, request.key
                    ));
                }
            }
            Outcome::Refused(status, code) => {
                if kept.is_some_and(|kept| kept.0 < 300) || order == Some(true) {
                    let text = format!(
                        "{} under {} was refused ({status} {code}), and took effect",
                        request.path, request.key
                    );
                    verdict.violations.push(text);
                }
            }
            Outcome::Unknown => {
                verdict
                    .violations
                    .push(format!("{} under {} is answered by nobody", request.path, request.key));
            }
        }
    }
    verdict.violations.extend(clients.contradictions.lock().unwrap().iter().cloned());
}
