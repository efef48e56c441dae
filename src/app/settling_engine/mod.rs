//! The settling engine: starts payments, and carries out what events lead to, for many orders at once, one transaction for each
//! batch.
//!
//! Load makes the batches: while one batch of a kind is written the next one gathers, and a few milliseconds longer where that one
//! was of several ([`group`]). At low load a batch is one order, and nobody waits.
//!
//! It carries out the plain case only: the first payment of an order that waits for it, one that the provider has authorized or
//! captured as it was asked, stock that is there. Whatever is not plain under the row locks is left out of the batch, and so is everything of a batch that fails: who
//! asked then does it by itself, by the use case, which stays the reference. Either finds what the other has done by inbox and
//! status, so that an unknown commit is found out there too.
//!
//! Invariants: a batch takes its locks in the one order of all (inbox rows, orders and payments by id, levels in key order); no two
//! jobs of a batch are about the same order; an event that is left out has no inbox row from it.

use uuid::Uuid;

use super::{Answer, Cause, Error, Handling, order_change::OrderChange};
use crate::{
    domain::{
        ids::{EventId, OrderId, PaymentId},
        payment::{Payment, PaymentStatus},
    },
    provider::ProviderPayment,
    store::{Store, Tx, order_batch},
};

mod ask;
mod capture;
mod group;
mod record;
mod ship;
mod start;

use ask::Ask;
use capture::BeginCapture;
use group::Group;
use record::Record;
use ship::{Plan, Ship};

pub(super) use start::Start;

/// See the module. Clones share one engine. Whatever it is asked for, `None` means: not by me.
#[derive(Debug, Clone)]
pub struct SettlingEngine(Option<Groups>);

#[derive(Debug, Clone)]
struct Groups {
    ask: Group<Ask>,
    capture: Group<BeginCapture>,
    record: Group<Record>,
    plan: Group<Plan>,
    ship: Group<Ship>,
    start: Group<Start>,
}

impl SettlingEngine {
    /// An engine that does nothing yet. It runs on whatever runtime asks it for something.
    pub fn new(store: &Store) -> Self {
        Self(Some(Groups {
            ask: Group::new(store),
            capture: Group::new(store),
            record: Group::new(store),
            plan: Group::new(store),
            ship: Group::new(store),
            start: Group::new(store),
        }))
    }

    /// An engine that leaves everything to the use cases.
    pub const fn one_by_one() -> Self {
        Self(None)
    }

    /// Starts a payment.
    pub(super) async fn start_payment(&self, job: Start) -> Option<Answer> {
        self.0.as_ref()?.start.join(job).await
    }

    /// Notes that the provider is going to be asked to authorize a payment of which it cannot know yet.
    pub(super) async fn mark_asked(&self, id: PaymentId) -> Option<Payment> {
        self.0.as_ref()?.ask.join(Ask { id }).await
    }

    /// Fixes how much the provider is going to be asked to capture.
    pub(super) async fn begin_capture(&self, id: PaymentId) -> Option<(Payment, i64)> {
        self.0.as_ref()?.capture.join(BeginCapture { id }).await
    }

    /// Records the provider's view of a payment; `event` is done with by that.
    pub(super) async fn record_payment(
        &self,
        event: Option<&Handling>,
        payment: &Payment,
        seen: &ProviderPayment,
    ) -> Option<PaymentStatus> {
        if !record::may_be_plain(payment, seen) {
            return None;
        }
        let Groups { record, .. } = self.0.as_ref()?;
        record.join(Record { event: event.cloned(), payment: payment.clone(), seen: seen.clone() }).await
    }

    /// Makes the shipments of a confirmed order.
    pub(super) async fn plan_shipments(&self, event: &Handling, order_id: OrderId) -> Option<()> {
        self.0.as_ref()?.plan.join(Plan { event: event.clone(), order_id }).await
    }

    /// Packs and ships everything of an order that is paid.
    pub(super) async fn ship_order(&self, event: &Handling, order_id: OrderId) -> Option<()> {
        self.0.as_ref()?.ship.join(Ship { event: event.clone(), order_id }).await
    }
}

/// One order of a batch, under its lock.
struct Opened {
    /// Which job it is of.
    index: usize,
    /// The event that is noted as taking effect.
    event: Option<(&'static str, EventId)>,
    change: OrderChange,
}

/// A batch in its transaction.
struct Batch {
    tx: Tx,
    /// Those whose event has not taken effect before, in the order of their orders' ids.
    orders: Vec<Opened>,
    /// Those that are left out after all.
    left_out: Vec<Opened>,
    /// Events of orders that there are not.
    orphans: Vec<(&'static str, EventId)>,
}

impl Batch {
    /// Notes the events in the inbox and locks the orders. A job: the event that leads to it, if one does, its order, and what the
    /// change follows from.
    async fn open<'a>(
        store: &Store,
        name: &'static str,
        jobs: impl Iterator<Item = (Option<&'a Handling>, OrderId, Cause)>,
    ) -> Result<Self, Error> {
        let mut tx = store.begin_batch(name).await?;
        let noted = |event: &Handling| (event.consumer, event.event_id);
        let mut jobs: Vec<_> = jobs
            .enumerate()
            .map(|(index, (event, order_id, cause))| (index, event.map(noted), (order_id, cause)))
            .collect();
        let events: Vec<(&str, EventId)> = jobs.iter().filter_map(|(_, event, _)| *event).collect();
        if !events.is_empty() {
            let fresh = order_batch::orders::insert_inbox(&mut tx, &events).await?;
            jobs.retain(|(_, event, _)| event.is_none_or(|(_, event_id)| fresh.contains(&event_id)));
        }
        jobs.sort_by_key(|(_, _, (order_id, _))| *order_id);
        let (jobs, wanted): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|(index, event, wanted)| ((index, event), wanted)).unzip();
        let changes = OrderChange::lock_all(&mut tx, wanted).await?;
        let mut batch = Self { tx, orders: Vec::new(), left_out: Vec::new(), orphans: Vec::new() };
        for ((index, event), change) in jobs.into_iter().zip(changes) {
            match change {
                Some(change) => batch.orders.push(Opened { index, event, change }),
                None => batch.orphans.extend(event),
            }
        }
        Ok(batch)
    }

    fn order_ids(&self) -> Vec<OrderId> {
        self.orders.iter().map(|opened| opened.change.order.id).collect()
    }

    /// Leaves the orders out for which this does not hold.
    fn leave_out_unless(&mut self, is_plain: impl FnMut(&Opened) -> bool) {
        let (plain, others): (Vec<_>, Vec<_>) = self.orders.drain(..).partition(is_plain);
        self.orders = plain;
        self.left_out.extend(others);
    }

    /// Writes what changed of the orders, with their events, and commits. Gives which jobs are done.
    async fn commit(mut self) -> Result<Vec<usize>, Error> {
        let mut undone = self.orphans;
        undone.extend(self.left_out.iter().filter_map(|opened| opened.event));
        if !undone.is_empty() {
            order_batch::orders::delete_inbox(&mut self.tx, &undone).await?;
        }
        let done = self.orders.iter().map(|opened| opened.index).collect();
        let changes = self.orders.into_iter().chain(self.left_out).map(|opened| opened.change);
        OrderChange::save_all(&mut self.tx, changes.collect()).await?;
        self.tx.commit().await?;
        Ok(done)
    }
}

/// The outcomes of a batch of `jobs` of which these are done.
fn outcomes<T>(jobs: usize, done: impl IntoIterator<Item = (usize, T)>) -> Vec<Option<T>> {
    let mut outcomes: Vec<Option<T>> = (0..jobs).map(|_| None).collect();
    for (index, outcome) in done {
        outcomes[index] = Some(outcome);
    }
    outcomes
}

/// What no two jobs of a batch share.
type Subject = Uuid;
