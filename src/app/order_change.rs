//! How an existing order is changed: its row lock first, then the change, then one version and one outbox row for each
//! event. All events of an order, its payments and its shipments share this one sequence.

use super::{Cause, Conflict, Error, ExpectedVersion};
use crate::{
    domain::{
        event::{Aggregate, Event, ShipmentData},
        ids::{OrderId, PaymentId, ShipmentId},
        order::OrderStatus,
        payment::Payment,
    },
    store::{
        Conn, open_orders,
        order_batch::{self, OrderMark},
        orders::{self, LockedOrder},
        outbox::{self, NewEvent},
        payments,
    },
};

/// An order under its row lock, with the events of the change that is being made to it.
pub(super) struct OrderChange {
    /// The order as it was locked; `status` moves with [`OrderChange::become_status`], amounts are set.
    pub(super) order: LockedOrder,
    from_status: OrderStatus,
    from_version: i64,
    cancel_reason: Option<String>,
    events: Vec<NewEvent>,
    cause: Cause,
}

impl OrderChange {
    /// Locks the order.
    pub(super) async fn lock(conn: &mut Conn, id: OrderId, cause: &Cause) -> Result<Self, Error> {
        tracing::Span::current().record("order_id", tracing::field::display(id));
        let order = orders::lock(conn, id).await?;
        let order = order.ok_or_else(|| Error::NotFound { kind: "order", id: id.to_string() })?;
        Ok(Self::of(order, cause.clone()))
    }

    /// Locks several orders, which are in the order of their ids, none twice. Gives each, or `None` where there is none.
    pub(super) async fn lock_all(
        conn: &mut Conn,
        wanted: Vec<(OrderId, Cause)>,
    ) -> Result<Vec<Option<Self>>, Error> {
        let ids: Vec<OrderId> = wanted.iter().map(|(id, _)| *id).collect();
        let mut locked = order_batch::orders::lock(conn, &ids).await?.into_iter().peekable();
        let changes = wanted.into_iter().map(|(id, cause)| {
            let order = locked.next_if(|order| order.id == id)?;
            Some(Self::of(order, cause))
        });
        Ok(changes.collect())
    }

    fn of(order: LockedOrder, cause: Cause) -> Self {
        let (from_status, from_version) = (order.status, order.version);
        Self { order, from_status, from_version, cancel_reason: None, events: Vec::new(), cause }
    }

    /// Fails unless the order is in a version that the request is meant for.
    pub(super) fn require_version(&self, expected: Option<&ExpectedVersion>) -> Result<(), Error> {
        ExpectedVersion::require(expected, Some(self.from_version))
    }

    /// What the change follows from.
    pub(super) const fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Moves the order on, if its status allows that.
    pub(super) fn become_status(&mut self, next: OrderStatus) -> Result<(), Error> {
        self.require_status(|status| status.may_become(next))?;
        self.order.status = next;
        Ok(())
    }

    /// Notes why the order is canceled.
    pub(super) fn because(&mut self, reason: Option<String>) {
        self.cancel_reason = reason;
    }

    /// Fails unless the order's status permits what was asked.
    pub(super) fn require_status(&self, permits: impl Fn(OrderStatus) -> bool) -> Result<(), Error> {
        Ok(Conflict::require_status("order", self.order.status, permits)?)
    }

    /// Adds an event to the order's history.
    pub(super) fn emit(&mut self, event: Event) {
        self.order.version += 1;
        self.events.push(order_event(self.order.id, self.order.version, event, &self.cause));
    }

    /// Adds an event that tells nothing but which shipment it is about, e.g. `Event::ShipmentPacked`.
    pub(super) fn emit_shipment(&mut self, event: fn(ShipmentData) -> Event, shipment_id: ShipmentId) {
        self.emit(event(ShipmentData { order_id: self.order.id, shipment_id }));
    }

    /// Locks the order's payments and gives one of them.
    pub(super) async fn lock_payment(&self, conn: &mut Conn, id: PaymentId) -> Result<Payment, Error> {
        let payments = payments::lock_of_order(conn, self.order.id).await?;
        let payment = payments.into_iter().find(|payment| payment.id == id);
        payment.ok_or_else(|| Error::NotFound { kind: "payment", id: id.to_string() })
    }

    /// Writes what changed of the order, and its events. Nothing is written where nothing happened: every change of
    /// an order has an event.
    pub(super) async fn save(self, conn: &mut Conn) -> Result<(), Error> {
        let events = self.save_order(conn).await?;
        if !events.is_empty() {
            outbox::insert(conn, &events).await?;
        }
        Ok(())
    }

    /// Writes what changed of the order. Gives its events, which have to be written in the same transaction.
    pub(super) async fn save_order(self, conn: &mut Conn) -> Result<Vec<NewEvent>, Error> {
        if self.events.is_empty() {
            return Ok(self.events);
        }
        orders::mark(conn, &self.order, self.from_version, self.cancel_reason.as_deref()).await?;
        // After the levels, which the change itself has locked.
        if self.is_closed() {
            open_orders::close(conn, &[self.order.id]).await?;
        }
        Ok(self.events)
    }

    /// The same for several orders, of which only status and version have changed.
    pub(super) async fn save_all(conn: &mut Conn, mut changes: Vec<Self>) -> Result<(), Error> {
        changes.retain(|change| !change.events.is_empty());
        if changes.is_empty() {
            return Ok(());
        }
        let marks = changes
            .iter()
            .map(|change| OrderMark { order: &change.order, from_version: change.from_version });
        order_batch::orders::mark(conn, &marks.collect::<Vec<_>>()).await?;
        let closed = changes.iter().filter(|change| change.is_closed());
        let closed: Vec<OrderId> = closed.map(|change| change.order.id).collect();
        if !closed.is_empty() {
            open_orders::close(conn, &closed).await?;
        }
        let events: Vec<NewEvent> = changes.into_iter().flat_map(|change| change.events).collect();
        Ok(outbox::insert(conn, &events).await?)
    }

    /// Whether the order waited for its payment, is counted because of it, and waits no more.
    fn is_closed(&self) -> bool {
        let waits = |status| status == OrderStatus::PendingPayment;
        self.order.is_counted && waits(self.from_status) && !waits(self.order.status)
    }
}

/// An event of an order's history.
pub(super) fn order_event(id: OrderId, sequence: i64, event: Event, cause: &Cause) -> NewEvent {
    NewEvent {
        aggregate: Aggregate::Order(id),
        sequence,
        event,
        correlation_id: cause.correlation_id.clone(),
        causation_id: cause.causation_id,
        trace_parent: cause.trace_parent,
    }
}
