//! Refunding a payment: a refund is written down with its money claimed, and `carry_out_refund` asks the provider. There is no
//! other way that money goes back: what a cancellation or a dead order gives back is such a refund too.
//!
//! Invariant: no two refunds claim the same money. The claim is one conditional statement, and the constraint
//! `payment_money_bounds` holds it.

use std::collections::BTreeMap;

use super::{
    Answer, App, Cause, Conflict, Error, answer,
    order_change::OrderChange,
    retry::retry,
    return_shipment::{GiveBack, give_back},
};
use crate::{
    domain::{
        event::Event,
        ids::{OrderId, PaymentId, RefundId},
        line_quantity::{LineQuantity, check_left, draw, sum},
        order::OrderLine,
        payment::{Payment, PaymentStatus},
        refund::{NewRefund, Refund, RefundStatus},
        reservation::ReservationStatus,
        shipment::ShipmentStatus,
        validation::Rule,
    },
    store::{
        Conn,
        idempotency::IdempotentRequest,
        orders::{self, LineCounter},
        payments, refunds, reservations, shipments,
    },
};

/// A refund that is decided.
pub(super) struct RefundDraft {
    /// How much, at least 1.
    pub(super) amount: i64,
    /// Why.
    pub(super) reason: Option<String>,
    /// Which units it is for, where it names them.
    pub(super) lines: Vec<LineQuantity>,
}

impl App {
    /// Writes a refund of a captured payment down, and answers with it.
    ///
    /// # Errors
    /// Unknown payment; one that is not captured; more than is left of what was captured, or of a line.
    pub async fn refund_payment(
        &self,
        request: &IdempotentRequest,
        id: PaymentId,
        new: &NewRefund,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        new.validate().map_err(Error::Invalid)?;
        let order_id = self.find_payment(id).await?.order_id;
        retry("refund_payment", || async {
            let mut tx = self.store.begin("refund_payment").await?;
            let mut change = OrderChange::lock(&mut tx, order_id, cause).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let mut payment = change.lock_payment(&mut tx, id).await?;
            require_status(&payment, |status| {
                matches!(status, PaymentStatus::Captured | PaymentStatus::PartiallyRefunded)
            })?;
            let lines = orders::list_lines(&mut tx, order_id).await?;
            let draft = draft(new, &payment, &lines)?;
            let named = draft.lines.clone();
            let refund = insert_refund(&mut tx, &mut change, &mut payment, draft).await?;
            let quantities = sum(named.iter().map(|line| (line.line_id, line.quantity)));
            orders::count_lines(&mut tx, order_id, LineCounter::Refunded, &quantities).await?;
            if new.restock {
                restock(&mut tx, &mut change, &lines, &named, new.reason.as_deref(), actor).await?;
            }
            change.save(&mut tx).await?;
            let answer = answer::store(&mut tx, request, &refund).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}

/// Fails unless the payment's status permits what was asked.
pub(super) fn require_status(
    payment: &Payment,
    permits: impl Fn(PaymentStatus) -> bool,
) -> Result<(), Error> {
    Ok(Conflict::require_status("payment", payment.status, permits)?)
}

fn exceeds(payment: &Payment) -> Error {
    Conflict::RefundExceedsCaptured { payment_id: payment.id, refundable: payment.refundable() }.into()
}

/// How much is asked for: an amount, what units cost, or everything that is left.
fn draft(new: &NewRefund, payment: &Payment, lines: &[OrderLine]) -> Result<RefundDraft, Error> {
    let named = new.lines.clone().unwrap_or_default();
    let left: BTreeMap<_, _> = lines.iter().map(|line| (line.id, line.refundable())).collect();
    check_left(&named, &left, "order", "refund").map_err(Error::Invalid)?;
    let amounts: BTreeMap<_, _> = lines.iter().map(|line| (line.id, line.unit_amount)).collect();
    let cost = |line: &LineQuantity| line.quantity * amounts.get(&line.line_id).copied().unwrap_or_default();
    let amount = match (new.amount, &new.lines) {
        (Some(amount), _) => amount,
        (None, Some(_)) => named.iter().map(cost).sum(),
        (None, None) => payment.refundable(),
    };
    if amount == 0 && new.lines.is_some() {
        let detail = "must name units that cost something";
        return Err(Error::invalid(Rule::NothingToRefund, "/lines", detail));
    }
    if !(1..=payment.refundable()).contains(&amount) {
        return Err(exceeds(payment));
    }
    Ok(RefundDraft { amount, reason: new.reason.clone(), lines: named })
}

/// Claims the money and writes the refund down. The payment is locked, and was written before if it has changed.
pub(super) async fn insert_refund(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: &mut Payment,
    draft: RefundDraft,
) -> Result<Refund, Error> {
    if !payments::claim_refund(conn, payment.id, draft.amount).await? {
        return Err(exceeds(payment));
    }
    payment.amount_refund_claimed += draft.amount;
    let now = payments::now(conn).await?;
    let refund = Refund {
        id: RefundId::new(),
        payment_id: payment.id,
        order_id: payment.order_id,
        amount: draft.amount,
        status: RefundStatus::Pending,
        reason: draft.reason,
        failure_code: None,
        outcome_unknown_since: None,
        asked_at: None,
        accepted_at: None,
        created_at: now,
        updated_at: now,
        lines: draft.lines,
    };
    refunds::insert(conn, &refund).await?;
    change.emit(Event::RefundCreated((&refund).into()));
    Ok(refund)
}

/// Puts refunded units that have shipped back on the shelf they came from, the oldest shipment first.
async fn restock(
    conn: &mut Conn,
    change: &mut OrderChange,
    lines: &[OrderLine],
    named: &[LineQuantity],
    reason: Option<&str>,
    actor: &str,
) -> Result<(), Error> {
    let with_customer = |line: &OrderLine| (line.id, line.quantity_fulfilled - line.returned());
    let left = lines.iter().map(with_customer).collect();
    check_left(named, &left, "order", "restock").map_err(Error::Invalid)?;
    let order_id: OrderId = change.order.id;
    let mut shipped = shipments::list_of_order(conn, order_id).await?;
    shipped.retain(|shipment| matches!(shipment.status, ShipmentStatus::Shipped | ShipmentStatus::Delivered));
    let pieces = shipped.iter().enumerate().flat_map(|(place, shipment)| {
        let left =
            shipment.lines.iter().map(|line| (line.order_line_id, line.quantity - line.quantity_returned));
        left.map(move |(line_id, quantity)| (line_id, quantity, (place, line_id)))
    });
    let mut by_shipment = BTreeMap::<usize, Vec<LineQuantity>>::new();
    for ((place, line_id), quantity) in draw(named, pieces.collect::<Vec<_>>()) {
        by_shipment.entry(place).or_default().push(LineQuantity { line_id, quantity });
    }
    if by_shipment.len() > 1 {
        reservations::lock_levels_of(conn, &[order_id], ReservationStatus::Fulfilled).await?;
    }
    for (place, lines) in by_shipment {
        let back = GiveBack { lines: Some(&lines), restock: true, reason, actor };
        give_back(conn, change, &mut shipped[place], &back).await?;
    }
    Ok(())
}
