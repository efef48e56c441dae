//! Awaiting a payment: a client that asked to wait is answered when the payment has left the status it was in.
//!
//! However many wait, one task of the process asks the database about all of their payments in one query, and rests
//! between two of them. It starts with the first that waits and ends with the last. A client that goes away is forgotten
//! by the next query. Nothing is held while waiting: no connection, no transaction.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::{App, Error};
use crate::{
    domain::{
        ids::PaymentId,
        payment::{Payment, PaymentStatus},
    },
    store::{Store, payments},
};

/// The rest between two queries: what a waiting client loses at most.
const INTERVAL: Duration = Duration::from_millis(50);

/// The rest after a query that failed.
const INTERVAL_AFTER_ERROR: Duration = Duration::from_secs(1);

type Statuses = HashMap<PaymentId, watch::Sender<Option<PaymentStatus>>>;

/// The payments that clients of this process wait for.
#[derive(Debug, Clone)]
pub struct AwaitedPayments {
    store: Store,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    statuses: Statuses,
    is_asking: bool,
}

impl AwaitedPayments {
    /// Nobody waits yet.
    pub fn new(store: Store) -> Self {
        Self { store, waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the payment is seen in another status.
    async fn leaves(&self, id: PaymentId, status: PaymentStatus) {
        let mut seen = self.subscribe(id);
        // It fails where the sender is gone, which is not before the receiver.
        let _ = seen.wait_for(|seen| seen.is_some_and(|seen| seen != status)).await;
    }

    fn subscribe(&self, id: PaymentId) -> watch::Receiver<Option<PaymentStatus>> {
        let mut waiting = self.waiting();
        let seen = waiting.statuses.entry(id).or_insert_with(|| watch::Sender::new(None)).subscribe();
        if !std::mem::replace(&mut waiting.is_asking, true) {
            tokio::spawn(self.clone().ask());
        }
        seen
    }

    /// Asks until nobody waits.
    async fn ask(self) {
        let mut rest = INTERVAL;
        loop {
            sleep(rest).await;
            let ids = self.awaited();
            if ids.is_empty() {
                return;
            }
            rest = match self.list_statuses(&ids).await {
                Ok(statuses) => {
                    self.tell(&statuses);
                    INTERVAL
                }
                Err(error) => {
                    tracing::warn!(%error, "awaited payments cannot be read, trying again");
                    INTERVAL_AFTER_ERROR
                }
            };
        }
    }

    /// Forgets whom nobody waits for any more, and gives the others. None: the asking ends with this.
    fn awaited(&self) -> Vec<PaymentId> {
        let mut waiting = self.waiting();
        waiting.statuses.retain(|_, sender| sender.receiver_count() > 0);
        waiting.is_asking = !waiting.statuses.is_empty();
        waiting.statuses.keys().copied().collect()
    }

    async fn list_statuses(&self, ids: &[PaymentId]) -> Result<Vec<(PaymentId, PaymentStatus)>, Error> {
        Ok(payments::list_statuses(&mut *self.store.conn().await?, ids).await?)
    }

    fn tell(&self, statuses: &[(PaymentId, PaymentStatus)]) {
        let waiting = self.waiting();
        for (id, status) in statuses {
            if let Some(sender) = waiting.statuses.get(id) {
                sender.send_replace(Some(*status));
            }
        }
    }
}

impl App {
    /// The payment as it is once it has left `status`, or when there was `enough` waiting.
    pub async fn await_payment(
        &self,
        id: PaymentId,
        status: PaymentStatus,
        enough: impl Future<Output = ()>,
    ) -> Result<Payment, Error> {
        let payment = self.find_payment(id).await?;
        if payment.status != status {
            return Ok(payment);
        }
        tokio::select! {
            () = self.awaited.leaves(id, status) => {}
            // The payment says by itself how far it has come.
            () = enough => {}
        }
        self.find_payment(id).await
    }
}
