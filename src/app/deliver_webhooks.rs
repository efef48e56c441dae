//! Delivering to the merchant's endpoints: what is due is claimed, posted outside any transaction, and what came of it is
//! recorded under the claim. At least once: whoever is killed between the two lets the claim run out, and the message is sent
//! again under the same `webhook-id`.
//!
//! An endpoint that fails again and again is paused, for longer each time, and then gets one message at a time until one
//! succeeds: what waits for it takes nobody's turn. One that answers 410, or has failed for days, is disabled.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{App, Error, retry::retry};
use crate::{
    domain::{
        ids::{EventId, WebhookEndpointId},
        webhook::{AttemptError, DeliveryStatus, DisabledReason},
    },
    store::{
        self, events,
        webhook_deliveries::{self, AttemptOutcome, ClaimedDelivery, Next},
        webhook_endpoints, webhook_fan_out, webhook_secrets,
    },
    webhook::{Answered, Message, SigningSecret, Unanswered},
};

/// What an attempt may take beyond the time-out before it is taken for lost.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// So many failures in a row pause an endpoint.
const PAUSED_AFTER: i32 = 5;

/// The first pause; each further failure doubles it.
const FIRST_PAUSE_SECONDS: f64 = 5.0;

/// The longest pause that an endpoint makes by failing, and the longest that it may ask for.
const LONGEST_PAUSE_SECONDS: f64 = 300.0;
const LONGEST_ASKED_PAUSE_SECONDS: f64 = 3600.0;

/// The longest wait until the next attempt that an endpoint may ask for.
const LONGEST_ASKED_WAIT_SECONDS: f64 = 86_400.0;

/// How deliveries are tried again, and when an endpoint is given up.
#[derive(Debug, Clone)]
pub struct WebhookSchedule {
    /// How long to wait after each failed attempt, in seconds; after one more, the delivery has failed.
    pub retry_seconds: Vec<u32>,
    /// After how many days without any success an endpoint is disabled.
    pub disable_after_days: i32,
}

impl WebhookSchedule {
    /// What becomes of a delivery that has been tried so often, in vain.
    fn next(&self, tries: i32, asked_wait: f64) -> Next {
        let place = usize::try_from(tries - 1).unwrap_or_default();
        let Some(&seconds) = self.retry_seconds.get(place) else { return Next::Over(DeliveryStatus::Failed) };
        // Spread out: what failed together does not come back together.
        let seconds = f64::from(seconds) * rand::random_range(0.85..=1.15);
        Next::Again(seconds.max(asked_wait.min(LONGEST_ASKED_WAIT_SECONDS)))
    }
}

/// For how long an endpoint is paused that has failed so often in a row, and may have asked for time.
fn pause(failures: i32, asked_wait: f64) -> Option<f64> {
    let asked = (asked_wait > 0.0).then(|| asked_wait.min(LONGEST_ASKED_PAUSE_SECONDS));
    let own = (failures >= PAUSED_AFTER).then(|| {
        let doubled = FIRST_PAUSE_SECONDS * 2_f64.powi((failures - PAUSED_AFTER).min(16));
        doubled.min(LONGEST_PAUSE_SECONDS)
    });
    own.into_iter().chain(asked).reduce(f64::max)
}

/// A delivery that this process is to make, with what that takes.
#[derive(Debug)]
pub struct DueWebhook {
    delivery: ClaimedDelivery,
    /// `None`: the event is no longer kept.
    body: Option<String>,
    secrets: Vec<SigningSecret>,
}

/// What came of an attempt, and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct WebhookAttempted {
    /// What became of the delivery: still pending where it is tried again.
    pub status: DeliveryStatus,
    /// How long the endpoint took.
    pub duration: Duration,
}

impl App {
    /// Claims deliveries that are due, `limit` at most, and of one endpoint so that `per_endpoint` are under way at most.
    pub async fn claim_webhooks(&self, limit: usize, per_endpoint: u16) -> Result<Vec<DueWebhook>, Error> {
        let lease = (self.webhook_sender.timeout() + LEASE_MARGIN).as_secs_f64();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if !webhook_fan_out::is_wanted(&mut *self.store.conn().await?).await? {
            return Ok(Vec::new());
        }
        let mut tx = self.store.begin("claim_webhooks").await?;
        tx.plan_each_statement().await?;
        let claimed =
            webhook_deliveries::claim(&mut tx, limit, per_endpoint.into(), PAUSED_AFTER, lease).await?;
        // Before the commit: a try counts only where everything is there that it takes.
        let due = read_due(&mut tx, claimed).await?;
        tx.commit().await?;
        Ok(due)
    }

    /// Makes one attempt at a delivery, and records what came of it.
    pub async fn deliver_webhook(
        &self,
        due: &DueWebhook,
        schedule: &WebhookSchedule,
    ) -> Result<WebhookAttempted, Error> {
        let began = Instant::now();
        let result = self.post_webhook(due).await;
        let duration = began.elapsed();
        let status = retry("record_webhook_attempt", || async {
            self.record_webhook_attempt(&due.delivery, schedule, &result, duration).await
        });
        Ok(WebhookAttempted { status: status.await?, duration })
    }

    async fn post_webhook(&self, due: &DueWebhook) -> Result<Answered, Unanswered> {
        let Some(body) = &due.body else {
            let detail = "the event is no longer kept".into();
            return Err(Unanswered { error: AttemptError::EventNotKept, detail });
        };
        let delivery = &due.delivery;
        let message = Message {
            url: &delivery.url,
            id: &delivery.event_id.to_string(),
            time: delivery.began,
            body,
            secrets: &due.secrets,
        };
        self.webhook_sender.send(&message).await
    }

    async fn record_webhook_attempt(
        &self,
        delivery: &ClaimedDelivery,
        schedule: &WebhookSchedule,
        result: &Result<Answered, Unanswered>,
        duration: Duration,
    ) -> Result<DeliveryStatus, Error> {
        let outcome = AttemptOutcome {
            duration_ms: i32::try_from(duration.as_millis()).unwrap_or(i32::MAX),
            result: result
                .as_ref()
                .map(|answered| answered.status.into())
                .map_err(|unanswered| unanswered.error),
            detail: result.as_ref().err().map(|unanswered| unanswered.detail.as_str()),
            response: result.as_ref().ok().map(|answered| answered.body.as_str()),
        };
        let mut tx = self.store.begin("record_webhook_attempt").await?;
        let status = match outcome.result {
            Ok(200..=299) => {
                webhook_endpoints::mark_succeeding(&mut tx, delivery.endpoint_id).await?;
                let next = Next::Over(DeliveryStatus::Delivered);
                webhook_deliveries::mark_tried(&mut tx, delivery, &outcome, next).await?;
                DeliveryStatus::Delivered
            }
            Err(AttemptError::EventNotKept) => {
                let next = Next::Over(DeliveryStatus::Failed);
                let written = webhook_deliveries::mark_tried(&mut tx, delivery, &outcome, next).await?;
                written.unwrap_or(DeliveryStatus::Failed)
            }
            _ => {
                let asked = result.as_ref().ok().and_then(|answered| answered.retry_after);
                let asked = asked.map_or(0.0, |wait| wait.as_secs_f64());
                record_failure(&mut tx, delivery, schedule, &outcome, asked).await?
            }
        };
        webhook_deliveries::insert_attempt(&mut tx, delivery, &outcome).await?;
        tx.commit().await?;
        Ok(status)
    }
}

/// Reads what it takes to make deliveries that this transaction has claimed.
async fn read_due(tx: &mut store::Tx, claimed: Vec<ClaimedDelivery>) -> Result<Vec<DueWebhook>, Error> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<EventId> = claimed.iter().map(|delivery| delivery.event_id).collect();
    let found = events::list_confirmed(tx, &ids).await?;
    let bodies: Result<HashMap<EventId, String>, Error> =
        found.iter().map(|event| Ok((event.id, super::answer::to_json(event)?))).collect();
    let bodies = bodies?;
    let mut endpoints: Vec<WebhookEndpointId> = claimed.iter().map(|delivery| delivery.endpoint_id).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let mut secrets: HashMap<WebhookEndpointId, Vec<SigningSecret>> = HashMap::new();
    for (endpoint_id, secret) in webhook_secrets::list_live(tx, &endpoints).await? {
        secrets.entry(endpoint_id).or_default().push(SigningSecret::from_bytes(secret));
    }
    let due = claimed.into_iter().filter_map(|mut delivery| {
        Some(DueWebhook {
            // Each endpoint has one, and is locked. Nothing goes anywhere without a signature.
            secrets: secrets.get(&delivery.endpoint_id)?.clone(),
            body: delivery.body.take().or_else(|| bodies.get(&delivery.event_id).cloned()),
            delivery,
        })
    });
    Ok(due.collect())
}

/// Records that an attempt failed: what becomes of the delivery, and of its endpoint.
async fn record_failure(
    tx: &mut store::Tx,
    delivery: &ClaimedDelivery,
    schedule: &WebhookSchedule,
    outcome: &AttemptOutcome<'_>,
    asked_wait: f64,
) -> Result<DeliveryStatus, Error> {
    let endpoint_id = delivery.endpoint_id;
    // The endpoint before its delivery, as everywhere.
    let endpoint = webhook_endpoints::lock(tx, endpoint_id).await?;
    // What the old URL answers says nothing about the new one.
    let is_there = endpoint.is_some_and(|endpoint| endpoint.url == delivery.url);
    let is_gone = is_there && outcome.result == Ok(410);
    let asked_wait = if is_there { asked_wait } else { 0.0 };
    let next =
        if is_gone { Next::Over(DeliveryStatus::Failed) } else { schedule.next(delivery.tries, asked_wait) };
    let Some(status) = webhook_deliveries::mark_tried(tx, delivery, outcome, next).await? else {
        return Ok(match next {
            Next::Over(status) => status,
            Next::Again(_) => DeliveryStatus::Pending,
        });
    };
    if !is_there {
        return Ok(status);
    }
    let pause = |failures| pause(failures, asked_wait);
    let is_over =
        webhook_endpoints::mark_failing(tx, endpoint_id, delivery.began, pause, schedule.disable_after_days)
            .await?;
    let reason = match (is_gone, is_over) {
        (true, _) => DisabledReason::Gone,
        (false, true) => DisabledReason::Failing,
        (false, false) => return Ok(status),
    };
    if webhook_endpoints::mark_disabled(tx, endpoint_id, reason).await? {
        tracing::warn!(%endpoint_id, %reason, "a webhook endpoint was disabled");
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_grow_as_the_schedule_says_and_then_it_has_failed() {
        let schedule = WebhookSchedule { retry_seconds: vec![100, 1000], disable_after_days: 5 };
        let wait = |tries, asked| match schedule.next(tries, asked) {
            Next::Again(seconds) => seconds,
            Next::Over(status) => panic!("{status}"),
        };
        assert!((85.0..=115.0).contains(&wait(1, 0.0)));
        assert!((850.0..=1150.0).contains(&wait(2, 0.0)));
        // Whoever asks for more time gets it, within bounds.
        assert!((wait(1, 5000.0) - 5000.0).abs() < 1e-9);
        assert!((wait(1, 1e9) - LONGEST_ASKED_WAIT_SECONDS).abs() < 1e-9);
        assert_eq!(schedule.next(3, 0.0), Next::Over(DeliveryStatus::Failed));
    }

    #[test]
    fn an_endpoint_is_paused_for_longer_each_time() {
        let pauses: Vec<Option<f64>> = [1, 4, 5, 6, 11, 1000].map(|failures| pause(failures, 0.0)).into();
        assert_eq!(pauses, [None, None, Some(5.0), Some(10.0), Some(300.0), Some(300.0)]);
        assert_eq!(pause(1, 60.0), Some(60.0));
        assert_eq!(pause(5, 1.0), Some(5.0));
        assert_eq!(pause(11, 1e9), Some(LONGEST_ASKED_PAUSE_SECONDS));
    }
}
