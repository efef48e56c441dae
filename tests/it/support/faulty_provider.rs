//! A payment provider that can be told to fail: before a request is sent, or after it took effect.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use holdfast::{
    domain::ids::{PaymentId, RefundId},
    provider::{Authorize, PaymentProvider, ProviderError, ProviderPayment},
};
use tokio::sync::Notify;

/// What goes wrong with every call that changes something, and with `get` and `find` where it is [`Fault::Away`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Nobody can be reached.
    Away,
    /// The request gets lost, and nobody knows.
    RequestLost,
    /// It takes effect, and its answer gets lost.
    AnswerLost,
    /// It takes effect, and its answer is lost only when the provider becomes something else.
    AnswerHeld,
}

#[derive(Debug)]
pub(crate) struct FaultyProvider {
    inner: Arc<dyn PaymentProvider>,
    fault: Mutex<Fault>,
    changed: Notify,
    calls: AtomicU32,
}

impl FaultyProvider {
    pub(crate) fn new(inner: Arc<dyn PaymentProvider>, fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner, fault: Mutex::new(fault), changed: Notify::new(), calls: AtomicU32::new(0) })
    }

    pub(crate) fn becomes(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
        self.changed.notify_waiters();
    }

    /// How many calls have come here so far.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::Away { Err(ProviderError::Unavailable("away".into())) } else { call.await }
    }

    async fn change(
        &self,
        call: impl Future<Output = Result<ProviderPayment, ProviderError>>,
    ) -> Result<ProviderPayment, ProviderError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::None => call.await,
            Fault::Away => Err(ProviderError::Unavailable("away".into())),
            Fault::RequestLost => Err(ProviderError::Unknown("the request got lost".into())),
            Fault::AnswerHeld => {
                let changed = self.changed.notified();
                call.await?;
                changed.await;
                Err(ProviderError::Unknown("the answer came too late".into()))
            }
            Fault::AnswerLost => {
                call.await?;
                Err(ProviderError::Unknown("the answer got lost".into()))
            }
        }
    }
}

#[async_trait]
impl PaymentProvider for FaultyProvider {
    async fn authorize(&self, request: &Authorize) -> Result<ProviderPayment, ProviderError> {
        self.change(self.inner.authorize(request)).await
    }

    async fn find(&self, payment_id: PaymentId) -> Result<Option<ProviderPayment>, ProviderError> {
        self.read(self.inner.find(payment_id)).await
    }

    async fn get(&self, reference: &str) -> Result<ProviderPayment, ProviderError> {
        self.read(self.inner.get(reference)).await
    }

    async fn capture(
        &self,
        payment_id: PaymentId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError> {
        self.change(self.inner.capture(payment_id, reference, amount)).await
    }

    async fn void(&self, payment_id: PaymentId, reference: &str) -> Result<ProviderPayment, ProviderError> {
        self.change(self.inner.void(payment_id, reference)).await
    }

    async fn refund(
        &self,
        refund_id: RefundId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError> {
        self.change(self.inner.refund(refund_id, reference, amount)).await
    }

    async fn ping(&self, timeout: Duration) -> Result<(), ProviderError> {
        self.inner.ping(timeout).await
    }
}
