//! Canceling an order, or units of its lines: the stock is free at once, and what the customer has paid for it is refunded.
//!
//! Whoever cancels the last open units cancels the order, or completes it where something has shipped. `amount_due` falls by
//! what the canceled units cost: money that is authorized is later captured for what is due only, money that is captured
//! goes back by a refund that this transaction writes down. A whole order's money is voided or refunded to its last unit,
//! unless the request says to keep what was captured.

use std::{cmp::Reverse, collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error, ExpectedVersion, answer,
    order_change::OrderChange,
    refund_payment::{RefundDraft, insert_refund},
    retry::retry,
    stock_events::take_reservations,
};
use crate::{
    domain::{
        bounds::Text,
        event::{Event, EventLine, OrderCanceled, OrderFulfilled, OrderLinesCanceled},
        ids::{OrderId, OrderLineId},
        line_quantity::{self, LineQuantity, check_left, draw},
        movement::MovementType,
        name::deserialize_from_name,
        order::{OrderLine, OrderStatus},
        payment::{Payment, PaymentStatus},
        reservation::ReservationStatus,
        shipment::ShipmentStatus,
        validation::{Rule, Validator},
    },
    store::{
        Conn,
        idempotency::IdempotentRequest,
        movements::{self, MovementCause, NewMovement},
        orders::{self, LineCounter},
        payment_lookups, payments,
        reservations::{self, Reservation, Step},
        shipments,
    },
};

/// A request to cancel an order, or a part of it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({ "reason": "The customer changed their mind" }))]
pub struct CancelOrder {
    /// Why, in the merchant's words.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// Which units; the whole order if absent. Units that have shipped, or are packed, cannot be named.
    #[schema(min_items = 1, max_items = 500)]
    pub lines: Option<Vec<LineQuantity>>,
    /// What becomes of captured money.
    pub refund: RefundChoice,
    /// Whether the units can be sold again. If not, they are taken out of `on_hand`.
    pub restock: bool,
}

impl Default for CancelOrder {
    fn default() -> Self {
        Self { reason: None, lines: None, refund: RefundChoice::Auto, restock: true }
    }
}

/// What becomes of captured money when units are canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundChoice {
    /// What the units cost is refunded; of a whole order, everything.
    #[default]
    Auto,
    /// It is kept. A refund can still be asked for.
    None,
}

impl FromStr for RefundChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => Err("must be auto or none"),
        }
    }
}

deserialize_from_name!(RefundChoice);

/// What is canceled of an order.
struct Cut {
    wanted: Vec<LineQuantity>,
    /// What the units cost.
    value: i64,
    /// What of that no refund has named before.
    refund_value: i64,
    /// What was due before.
    due_before: i64,
    /// The order's status from then on.
    next: OrderStatus,
}

impl App {
    /// Cancels an order, or units of it that are not packed and have not shipped, and answers with the order.
    ///
    /// # Errors
    /// Unknown order; another version than expected; an order that has shipped or is dead; a payment that is not decided yet; more units than are left.
    pub async fn cancel_order(
        &self,
        request: &IdempotentRequest,
        id: OrderId,
        expected: Option<&ExpectedVersion>,
        cancel: &CancelOrder,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        Text::require(&mut check, cancel.reason.as_deref(), "/reason");
        if let Some(lines) = &cancel.lines {
            line_quantity::validate(&mut check, lines);
        }
        check.finish().map_err(Error::Invalid)?;
        retry("cancel_order", || self.cancel_once(request, id, expected, cancel, actor, cause)).await
    }

    async fn cancel_once(
        &self,
        request: &IdempotentRequest,
        id: OrderId,
        expected: Option<&ExpectedVersion>,
        cancel: &CancelOrder,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut tx = self.store.begin("cancel_order").await?;
        let mut change = OrderChange::lock(&mut tx, id, cause).await?;
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(answer);
        }
        change.require_version(expected)?;
        refuse_status(&change, cancel)?;
        let payment = decided_payment(&mut tx, id).await?;
        carry_out(&mut tx, &mut change, cancel, payment, actor).await?;
        change.save(&mut tx).await?;
        let order = orders::find(&mut tx, id).await?;
        let answer = answer::store(&mut tx, request, &order).await?;
        tx.commit().await?;
        Ok(answer)
    }
}

/// Cancels a whole order whose payment is gone, in the transaction that records that. There is no money to settle.
pub(super) async fn cancel_unpaid(
    conn: &mut Conn,
    change: &mut OrderChange,
    reason: &str,
) -> Result<(), Error> {
    let cancel = CancelOrder { reason: Some(reason.into()), ..CancelOrder::default() };
    carry_out(conn, change, &cancel, None, "payment").await
}

/// Frees the stock, counts the units, tells of it and settles the money. Order and payment are locked.
async fn carry_out(
    conn: &mut Conn,
    change: &mut OrderChange,
    cancel: &CancelOrder,
    payment: Option<Payment>,
    actor: &str,
) -> Result<(), Error> {
    let id = change.order.id;
    let held_as = match change.order.status {
        OrderStatus::PendingPayment => ReservationStatus::Held,
        _ => ReservationStatus::Committed,
    };
    let lines = orders::list_lines(conn, id).await?;
    let stock = cancelable(reservations::list_of_order(conn, id, held_as).await?, cancel);
    let cut = cut(change, cancel, &lines, &stock, payment.as_ref())?;
    release_stock(conn, change, cancel, &draw_from(&cut.wanted, &stock), held_as, actor).await?;
    let quantities = line_quantity::sum(cut.wanted.iter().map(|line| (line.line_id, line.quantity)));
    orders::count_lines(conn, id, LineCounter::Canceled, &quantities).await?;
    for shipment_id in shipments::cancel_empty(conn, id).await? {
        change.emit_shipment(Event::ShipmentCanceled, shipment_id);
    }
    tell(change, cancel, &cut)?;
    settle_money(conn, change, payment, cancel, &cut).await
}

fn refuse_status(change: &OrderChange, cancel: &CancelOrder) -> Result<(), Error> {
    let in_parts = [OrderStatus::PendingPayment, OrderStatus::Confirmed, OrderStatus::PartiallyFulfilled];
    change.require_status(|status| match cancel.lines {
        Some(_) => in_parts.contains(&status),
        None => status.may_become(OrderStatus::Canceled),
    })
}

/// The order's live payment. Canceling under one that the provider has not decided could take money for nothing.
async fn decided_payment(conn: &mut Conn, id: OrderId) -> Result<Option<Payment>, Error> {
    let payments = payments::lock_of_order(conn, id).await?;
    let live = payments.into_iter().find(|payment| payment.status.is_live());
    match live {
        Some(payment) if payment.status.is_undecided() => {
            Err(Conflict::PaymentInProgress { payment_id: payment.id }.into())
        }
        live => Ok(live),
    }
}

/// What may be canceled, in the order in which it is taken: what is in no shipment first, and of a line that is split the
/// location that was chosen last, which may be on backorder, whatever shipments its units have been in. Units that are packed
/// go only with the whole order.
fn cancelable(mut stock: Vec<Reservation>, cancel: &CancelOrder) -> Vec<Reservation> {
    let is_packed = |reservation: &Reservation| matches!(reservation.shipment, Some((_, status)) if status != ShipmentStatus::Pending);
    stock.retain(|reservation| cancel.lines.is_none() || !is_packed(reservation));
    let last_first = |held: &Reservation| (held.shipment.is_some(), Reverse((held.first_id, held.id)));
    stock.sort_by_key(last_first);
    stock
}

fn cut(
    change: &OrderChange,
    cancel: &CancelOrder,
    lines: &[OrderLine],
    stock: &[Reservation],
    payment: Option<&Payment>,
) -> Result<Cut, Error> {
    let all = || {
        let open = lines.iter().filter(|line| line.open() > 0);
        open.map(|line| LineQuantity { line_id: line.id, quantity: line.open() }).collect()
    };
    let wanted: Vec<LineQuantity> = cancel.lines.clone().unwrap_or_else(all);
    let mut left: BTreeMap<OrderLineId, i64> = lines.iter().map(|line| (line.id, 0)).collect();
    left.extend(line_quantity::sum(stock.iter().map(|held| (held.order_line_id, held.quantity))));
    check_left(&wanted, &left, "order", "cancel").map_err(Error::Invalid)?;

    let by_id: BTreeMap<OrderLineId, &OrderLine> = lines.iter().map(|line| (line.id, line)).collect();
    let cost = |units: &dyn Fn(&OrderLine, i64) -> i64| -> i64 {
        let cost = |wanted: &LineQuantity| {
            by_id.get(&wanted.line_id).map_or(0, |line| units(line, wanted.quantity) * line.unit_amount)
        };
        wanted.iter().map(cost).sum()
    };
    let value = cost(&|_, quantity| quantity);
    let refund_value = cost(&|line, quantity| quantity.min(line.refundable()));
    let open: i64 = lines.iter().map(OrderLine::open).sum();
    let has_shipped = lines.iter().any(|line| line.quantity_fulfilled > 0);
    let next = match open - wanted.iter().map(|line| line.quantity).sum::<i64>() {
        0 if has_shipped => OrderStatus::Fulfilled,
        0 => OrderStatus::Canceled,
        _ => change.order.status,
    };
    let due_before = change.order.amount_due();
    // Nothing can pay or capture 0. What has shipped and is paid is paid.
    let is_paid = has_shipped && payment.is_some_and(|payment| payment.amount_captured > 0);
    if next != OrderStatus::Canceled && value == due_before && !is_paid {
        let detail =
            "must leave something to pay: cancel the whole order instead, or capture what has shipped first";
        return Err(Error::invalid(Rule::NothingLeftToPay, "/lines", detail));
    }
    Ok(Cut { wanted, value, refund_value, due_before, next })
}

fn draw_from<'a>(wanted: &[LineQuantity], stock: &'a [Reservation]) -> Vec<(&'a Reservation, i64)> {
    draw(wanted, stock.iter().map(|held| (held.order_line_id, held.quantity, held)))
}

/// The units leave their shipments and are free, or are gone.
async fn release_stock(
    conn: &mut Conn,
    change: &OrderChange,
    cancel: &CancelOrder,
    drawn: &[(&Reservation, i64)],
    from: ReservationStatus,
    actor: &str,
) -> Result<(), Error> {
    let parts = |covered_only: bool| -> Vec<_> {
        let drawn = drawn.iter().filter(|(held, _)| held.shipment.is_some() || !covered_only);
        drawn.map(|(held, quantity)| (held.id, *quantity)).collect()
    };
    let id = change.order.id;
    shipments::uncover(conn, &parts(true)).await?;
    let to = ReservationStatus::Released;
    let step = if cancel.restock { Step::new(from, to) } else { Step::leaving(from, to) };
    let moved = take_reservations(conn, id, &parts(false), step, change.cause()).await?;
    let moved = moved.map_err(|items| Conflict::InsufficientStock { items })?;
    if cancel.restock {
        return Ok(());
    }
    let gone: Vec<_> = moved.levels.iter().filter_map(NewMovement::of).collect();
    let cause = MovementCause {
        movement_type: MovementType::Adjust,
        actor: actor.to_owned(),
        reason: cancel.reason.clone().or_else(|| Some("canceled and not restocked".into())),
        reference: Some(id.to_string()),
    };
    Ok(movements::insert(conn, &gone, &cause).await?)
}

fn tell(change: &mut OrderChange, cancel: &CancelOrder, cut: &Cut) -> Result<(), Error> {
    let (order_id, reason) = (change.order.id, cancel.reason.clone());
    change.order.amount_canceled += cut.value;
    if cut.next == OrderStatus::Canceled {
        change.become_status(OrderStatus::Canceled)?;
        change.because(reason.clone());
        change.emit(Event::OrderCanceled(OrderCanceled { order_id, reason }));
        return Ok(());
    }
    change.emit(Event::OrderLinesCanceled(OrderLinesCanceled {
        order_id,
        reason,
        lines: EventLine::of(&cut.wanted),
        amount_canceled: change.order.amount_canceled,
        amount_due: change.order.amount_due(),
    }));
    if cut.next == change.order.status {
        return Ok(());
    }
    change.become_status(cut.next)?;
    change.emit(Event::OrderFulfilled(OrderFulfilled { order_id }));
    Ok(())
}

/// Captured money goes back, or is kept. Money that is only authorized is voided or captured for less later.
async fn settle_money(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: Option<Payment>,
    cancel: &CancelOrder,
    cut: &Cut,
) -> Result<(), Error> {
    let is_whole = cut.next == OrderStatus::Canceled;
    if let Some(payment) = payment.as_ref().filter(|payment| payment.status == PaymentStatus::Authorized)
        && is_whole
    {
        // The event has it voided; if that is lost, the look-up does.
        payment_lookups::mark_soon(conn, payment.id).await?;
    }
    let Some(mut payment) = payment.filter(|payment| payment.refundable() > 0) else { return Ok(()) };
    if cancel.refund == RefundChoice::None {
        change.order.keeps_money = is_whole;
        return Ok(());
    }
    // What was due and never captured is let go of first.
    let never_captured = (cut.due_before - payment.amount_captured).max(0);
    let amount = if is_whole { payment.refundable() } else { cut.refund_value - never_captured };
    let amount = amount.min(payment.refundable());
    if amount > 0 {
        let reason = cancel.reason.clone().or_else(|| Some("canceled".into()));
        let draft = RefundDraft { amount, reason, lines: Vec::new() };
        insert_refund(conn, change, &mut payment, draft).await?;
    }
    Ok(())
}
