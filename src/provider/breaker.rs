//! A circuit breaker around a payment provider: when most calls fail, the next ones fail at once, so that a provider in
//! trouble is left alone and workers do not wait for it.
//!
//! A call refused here is `Unavailable`: it never left, and nothing may be recorded of the payment. Each call has a time
//! budget over all the requests that it makes; past it the outcome is unknown.
//!
//! Closed, it counts over a sliding window. Open, it refuses. After that it is half-open: one call at a time is let
//! through as a probe, and its outcome closes or opens again. Own code, because the crates for it count calls instead of
//! time, let through more than one probe, or cannot be asked for their state.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::{
    Authorize, PaymentProvider, ProviderError, ProviderPayment,
    metrics::{BREAKER_STATE, count_call, count_refused},
};
use crate::domain::ids::{PaymentId, RefundId};

/// Parts of the window: it slides by one of them at a time.
const SLICES: u32 = 10;

/// When to open, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BreakerOptions {
    /// Over how long calls are counted.
    pub window: Duration,
    /// Opens at so many failures within the window, if they are half of the calls or more.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open: Duration,
    /// The longest that a call may take, with all of its requests.
    pub budget: Duration,
}

/// See the module. One for each process.
#[derive(Debug)]
pub struct CircuitBreaker {
    inner: Arc<dyn PaymentProvider>,
    options: BreakerOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open {
        until: Instant,
    },
    /// A probe is under way.
    HalfOpen,
}

/// Calls of the last [`BreakerOptions::window`], by slices of it.
#[derive(Debug, Default)]
struct Window(VecDeque<Slice>);

#[derive(Debug)]
struct Slice {
    began: Instant,
    calls: u32,
    failures: u32,
}

impl Window {
    /// Counts a call. Gives whether there are failures enough to open.
    fn count(&mut self, options: &BreakerOptions, failed: bool) -> bool {
        let now = Instant::now();
        while self.0.front().is_some_and(|slice| now - slice.began >= options.window) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|slice| now - slice.began >= options.window / SLICES) {
            self.0.push_back(Slice { began: now, calls: 0, failures: 0 });
        }
        if let Some(slice) = self.0.back_mut() {
            slice.calls += 1;
            slice.failures += u32::from(failed);
        }
        let sum = |part: fn(&Slice) -> u32| self.0.iter().map(part).sum::<u32>();
        let (calls, failures) = (sum(|slice| slice.calls), sum(|slice| slice.failures));
        failures >= options.failures && failures * 2 >= calls
    }
}

/// A call that was let through. Dropped before it is settled, a probe leaves the next call to be one.
struct Admission<'a> {
    breaker: &'a CircuitBreaker,
    is_probe: bool,
}

impl Admission<'_> {
    fn settle(mut self, failed: bool) {
        let (breaker, is_probe) = (self.breaker, std::mem::take(&mut self.is_probe));
        let mut state = breaker.state();
        match &mut *state {
            State::HalfOpen if is_probe && !failed => become_closed(&mut state),
            State::HalfOpen if is_probe => breaker.become_open(&mut state),
            State::Closed(window) => {
                if window.count(&breaker.options, failed) {
                    breaker.become_open(&mut state);
                }
            }
            // An answer to a call from before it opened.
            State::Open { .. } | State::HalfOpen => {}
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            *self.breaker.state() = State::Open { until: Instant::now() };
        }
    }
}

fn become_closed(state: &mut State) {
    tracing::info!("the payment provider answers again");
    *state = State::Closed(Window::default());
    BREAKER_STATE.set(0.0);
}

impl CircuitBreaker {
    /// Closed.
    pub fn new(inner: Arc<dyn PaymentProvider>, options: BreakerOptions) -> Self {
        BREAKER_STATE.set(0.0);
        Self { inner, options, state: Mutex::new(State::Closed(Window::default())) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn become_open(&self, state: &mut State) {
        tracing::error!(open = ?self.options.open, "calls to the payment provider fail: it is left alone");
        *state = State::Open { until: Instant::now() + self.options.open };
        BREAKER_STATE.set(2.0);
    }

    fn admit(&self) -> Option<Admission<'_>> {
        let mut state = self.state();
        let is_probe = match *state {
            State::Closed(_) => false,
            State::Open { until } if Instant::now() >= until => {
                *state = State::HalfOpen;
                BREAKER_STATE.set(1.0);
                true
            }
            State::Open { .. } | State::HalfOpen => return None,
        };
        Some(Admission { breaker: self, is_probe })
    }

    async fn call<T>(
        &self,
        name: &'static str,
        request: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        let Some(admission) = self.admit() else {
            count_refused(name);
            return Err(ProviderError::Unavailable("the circuit breaker is open".into()));
        };
        let budget = self.options.budget;
        let result = timeout(budget, request).await.unwrap_or_else(|_| {
            Err(ProviderError::Unknown(format!("{name}: no answer within its budget of {budget:?}")))
        });
        count_call(name, &result);
        admission.settle(matches!(result, Err(ProviderError::Unknown(_) | ProviderError::Unavailable(_))));
        result
    }
}

#[async_trait]
impl PaymentProvider for CircuitBreaker {
    async fn authorize(&self, request: &Authorize) -> Result<ProviderPayment, ProviderError> {
        self.call("authorize", self.inner.authorize(request)).await
    }

    async fn find(&self, payment_id: PaymentId) -> Result<Option<ProviderPayment>, ProviderError> {
        self.call("find", self.inner.find(payment_id)).await
    }

    async fn get(&self, reference: &str) -> Result<ProviderPayment, ProviderError> {
        self.call("get", self.inner.get(reference)).await
    }

    async fn capture(
        &self,
        payment_id: PaymentId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError> {
        self.call("capture", self.inner.capture(payment_id, reference, amount)).await
    }

    async fn void(&self, payment_id: PaymentId, reference: &str) -> Result<ProviderPayment, ProviderError> {
        self.call("void", self.inner.void(payment_id, reference)).await
    }

    async fn refund(
        &self,
        refund_id: RefundId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError> {
        self.call("refund", self.inner.refund(refund_id, reference, amount)).await
    }

    /// Past the breaker: who asks wants to know how the provider is, not how it was.
    async fn ping(&self, timeout: Duration) -> Result<(), ProviderError> {
        self.inner.ping(timeout).await
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
