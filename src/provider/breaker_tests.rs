//! The breaker on a clock that jumps, around a provider that does what it is told.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::{advance, sleep};

use super::*;
use crate::provider::ProviderStatus;

/// What the next calls come to.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Answers,
    Rejects,
    Unavailable,
    Unknown,
    Silent,
}

#[derive(Debug)]
struct Moody {
    mood: Mutex<Mood>,
    calls: AtomicU32,
}

#[async_trait]
impl PaymentProvider for Moody {
    async fn get(&self, reference: &str) -> Result<ProviderPayment, ProviderError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Answers => Ok(ProviderPayment {
                reference: reference.into(),
                status: ProviderStatus::Authorized,
                amount: 1,
                amount_captured: 0,
                amount_refunded: 0,
                refunds: Vec::new(),
                decline_code: None,
            }),
            Mood::Rejects => Err(ProviderError::Rejected { code: "no".into(), message: "no".into() }),
            Mood::Unavailable => Err(ProviderError::Unavailable("away".into())),
            Mood::Unknown => Err(ProviderError::Unknown("lost".into())),
            Mood::Silent => {
                sleep(Duration::from_hours(1)).await;
                Err(ProviderError::Unknown("never".into()))
            }
        }
    }

    async fn authorize(&self, request: &Authorize) -> Result<ProviderPayment, ProviderError> {
        self.get(&request.token).await
    }

    async fn find(&self, _: PaymentId) -> Result<Option<ProviderPayment>, ProviderError> {
        self.get("found").await.map(Some)
    }

    async fn capture(&self, _: PaymentId, r: &str, _: i64) -> Result<ProviderPayment, ProviderError> {
        self.get(r).await
    }

    async fn void(&self, _: PaymentId, r: &str) -> Result<ProviderPayment, ProviderError> {
        self.get(r).await
    }

    async fn refund(&self, _: RefundId, r: &str, _: i64) -> Result<ProviderPayment, ProviderError> {
        self.get(r).await
    }

    async fn ping(&self, _: Duration) -> Result<(), ProviderError> {
        self.get("ping").await.map(drop)
    }
}

const OPTIONS: BreakerOptions = BreakerOptions {
    window: Duration::from_secs(30),
    failures: 3,
    open: Duration::from_secs(5),
    budget: Duration::from_secs(10),
};

fn moody(mood: Mood) -> (Arc<Moody>, CircuitBreaker) {
    let inner = Arc::new(Moody { mood: Mutex::new(mood), calls: AtomicU32::new(0) });
    (Arc::clone(&inner), CircuitBreaker::new(inner, OPTIONS))
}

impl Moody {
    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn get(breaker: &CircuitBreaker) -> Result<ProviderPayment, ProviderError> {
    breaker.get("pi_1").await
}

/// Whether a call fails without reaching the provider.
async fn is_refused(inner: &Moody, breaker: &CircuitBreaker) -> bool {
    let before = inner.calls();
    let result = get(breaker).await;
    let refused = inner.calls() == before;
    assert!(!refused || matches!(result, Err(ProviderError::Unavailable(_))), "{result:?}");
    refused
}

#[tokio::test(start_paused = true)]
async fn it_opens_at_so_many_failures_and_leaves_the_provider_alone() {
    for mood in [Mood::Unavailable, Mood::Unknown] {
        let (inner, breaker) = moody(mood);
        for _ in 0..3 {
            assert!(!is_refused(&inner, &breaker).await);
        }
        for _ in 0..5 {
            assert!(is_refused(&inner, &breaker).await);
        }
        advance(Duration::from_millis(4_999)).await;
        assert!(is_refused(&inner, &breaker).await);
        assert_eq!(inner.calls(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_goes_through_it_and_ping_does_not() {
    let (inner, breaker) = moody(Mood::Unavailable);
    let (id, refund_id) = (PaymentId::new(), RefundId::new());
    for _ in 0..3 {
        breaker.find(id).await.unwrap_err();
    }
    let request = Authorize {
        payment_id: id,
        order_id: crate::domain::ids::OrderId::new(),
        amount: 1,
        currency: "EUR".parse().unwrap(),
        token: "t".into(),
    };
    breaker.authorize(&request).await.unwrap_err();
    breaker.find(id).await.unwrap_err();
    breaker.get("r").await.unwrap_err();
    breaker.capture(id, "r", 1).await.unwrap_err();
    breaker.void(id, "r").await.unwrap_err();
    breaker.refund(refund_id, "r", 1).await.unwrap_err();
    assert_eq!(inner.calls(), 3);
    breaker.ping(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(inner.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn answers_and_rejections_are_no_failures() {
    let (inner, breaker) = moody(Mood::Rejects);
    for _ in 0..20 {
        assert!(matches!(get(&breaker).await, Err(ProviderError::Rejected { .. })));
    }
    // Three failures among more than twice as many good answers open nothing.
    inner.becomes(Mood::Unknown);
    for _ in 0..3 {
        get(&breaker).await.unwrap_err();
    }
    assert!(!is_refused(&inner, &breaker).await);
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_with_the_window() {
    let (inner, breaker) = moody(Mood::Unknown);
    for _ in 0..20 {
        for _ in 0..2 {
            assert!(!is_refused(&inner, &breaker).await);
        }
        advance(OPTIONS.window).await;
    }
    // But not with a slice of it.
    for _ in 0..3 {
        assert!(!is_refused(&inner, &breaker).await);
        advance(OPTIONS.window / SLICES).await;
    }
    assert!(is_refused(&inner, &breaker).await);
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_closes_it_or_opens_it_again() {
    let (inner, breaker) = moody(Mood::Unavailable);
    for _ in 0..3 {
        get(&breaker).await.unwrap_err();
    }
    // A probe that fails opens it for as long again.
    advance(OPTIONS.open).await;
    assert!(!is_refused(&inner, &breaker).await);
    assert!(is_refused(&inner, &breaker).await);
    advance(OPTIONS.open).await;
    // While a probe waits for its answer, nobody else gets through.
    inner.becomes(Mood::Silent);
    let (probe, ()) = tokio::join!(get(&breaker), async {
        tokio::task::yield_now().await;
        assert!(is_refused(&inner, &breaker).await);
    });
    assert!(matches!(probe, Err(ProviderError::Unknown(_))));
    advance(OPTIONS.open).await;
    inner.becomes(Mood::Answers);
    get(&breaker).await.unwrap();
    for _ in 0..3 {
        assert!(!is_refused(&inner, &breaker).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_leaves_the_next_call_to_be_one() {
    let (inner, breaker) = moody(Mood::Unavailable);
    for _ in 0..3 {
        get(&breaker).await.unwrap_err();
    }
    advance(OPTIONS.open).await;
    inner.becomes(Mood::Silent);
    assert!(timeout(Duration::from_secs(1), get(&breaker)).await.is_err());
    inner.becomes(Mood::Answers);
    get(&breaker).await.unwrap();
    assert!(!is_refused(&inner, &breaker).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_past_its_budget_is_unknown() {
    let (_, breaker) = moody(Mood::Silent);
    let began = Instant::now();
    let result = get(&breaker).await;
    assert!(matches!(result, Err(ProviderError::Unknown(_))), "{result:?}");
    assert_eq!(began.elapsed(), OPTIONS.budget);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_it_opened_changes_nothing() {
    let (inner, breaker) = moody(Mood::Silent);
    let late = get(&breaker);
    tokio::pin!(late);
    assert!(timeout(Duration::from_millis(1), &mut late).await.is_err());
    inner.becomes(Mood::Unavailable);
    for _ in 0..3 {
        get(&breaker).await.unwrap_err();
    }
    late.await.unwrap_err();
    inner.becomes(Mood::Answers);
    // The ten seconds of the late call are over, so this is the probe, and its answer closes.
    get(&breaker).await.unwrap();
    assert!(!is_refused(&inner, &breaker).await);
}
