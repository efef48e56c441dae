//! Webhooks between real processes: the sandbox signs what the API takes, and a worker that is killed while it acts on one
//! has only lost time.

use crate::support::{
    PATIENCE, eventually,
    system::{Servers, System},
    webhooks::PATH,
};

/// The new secret of a rotation first: it signs.
const SECRETS: &str = "whsec_of_the_sandbox_new,whsec_of_the_sandbox_old";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_take_effect_once_whatever_is_killed() {
    let system = System::start(Servers::RabbitMq, &[("HOLDFAST__PROVIDER__WEBHOOK_SECRETS", SECRETS)]).await;
    let webhook_url = format!("{}{PATH}", system.url("api"));
    system.spawn("sandbox", &["sandbox"], &[("HOLDFAST__SANDBOX__WEBHOOK_URL", &webhook_url)]);
    let bind = system.url("api").replace("http://", "");
    system.spawn("api", &["all"], &[("HOLDFAST__HTTP__BIND", &bind)]);
    system.ready("api").await;
    system.import_stock("sku,on_hand\nhooked,9\n").await;

    let order = system.place("api", "one", "hooked", 1).await.id().to_owned();
    system.pay("api", &order, "pm_sandbox_webhook_x3").await;
    system.wait_for_order("api", &order, "fulfilled").await;
    system.wait_for_count("SELECT count(*) FROM provider_event WHERE processed_at IS NOT NULL", 2).await;
    assert_metrics(&system).await;

    // It is killed after the provider has taken the request and told of it, and before it has answered.
    let order = system.place("api", "two", "hooked", 1).await.id().to_owned();
    system.pay("api", &order, "pm_sandbox_webhook_before_response").await;
    system.wait_for_count("SELECT count(*) FROM provider_event", 3).await;
    system.crash("api");
    system.wait_for_order("api", &order, "fulfilled").await;
    let open = "SELECT count(*) FROM provider_event WHERE processed_at IS NULL";
    // A look-up that the kill interrupted comes again when its lease is over, a minute later; not for this test.
    system.execute("UPDATE payment SET next_lookup_at = now() WHERE next_lookup_at IS NOT NULL").await;
    eventually("every event took effect", PATIENCE, async || system.count(open).await == 0).await;
    assert_eq!(system.count("SELECT count(*) FROM provider_event WHERE payment_id IS NULL").await, 0);
    assert_eq!(system.count("SELECT count(*) FROM payment_event WHERE status = 'captured'").await, 2);
    system.assert_charged_once().await;
    system.assert_clean().await;
}

async fn assert_metrics(system: &System) {
    let answer = system.http.get(format!("{}/metrics", system.url("api"))).send().await.unwrap();
    let text = answer.text().await.unwrap();
    for line in [
        "holdfast_provider_breaker_state 0",
        "holdfast_provider_calls_total{call=\"authorize\",outcome=\"answered\"} 1",
        "holdfast_provider_calls_total{call=\"capture\",outcome=\"answered\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}
