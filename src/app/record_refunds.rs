//! Recording what the provider says of a payment's refunds: how much went back, and what became of each.
//!
//! That the provider has taken a refund on, and even that it has sent the money, is not the end: the customer's bank may give
//! it back days later. Then the refund has failed, its claim is free, and the payment is what it was before. The amount that
//! went back is set from the provider's view, never added up. It falls only by a view that is newer than all that was recorded,
//! or that tells of a failure; and never below the refunds that have succeeded, so that an answer that was overtaken takes
//! nothing back.

use super::{Error, order_change::OrderChange};
use crate::{
    domain::{
        event::Event,
        ids::RefundId,
        line_quantity::sum,
        payment::Payment,
        refund::{Refund, RefundStatus},
    },
    provider::{ProviderPayment, ProviderRefundStatus},
    store::{
        self, Conn,
        orders::{self, LineCounter},
        payment_lookups, payments, refunds,
    },
};

/// Writes down what became of the refunds of a payment that this transaction has locked, and what went back in all.
/// `is_newest`: nothing was recorded of the payment since the provider was asked.
pub(super) async fn record_refunds(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: &mut Payment,
    seen: &ProviderPayment,
    is_newest: bool,
) -> Result<(), Error> {
    let is_same = seen.refunds.is_empty() && seen.amount_refunded == payment.amount_refunded;
    if payment.amount_captured == 0 || is_same {
        return Ok(());
    }
    let mut ours = refunds::list_of_payment(conn, payment.id).await?;
    let mut failed = Vec::new();
    for refund in &mut ours {
        match seen.refund(refund.id) {
            Some(ProviderRefundStatus::Pending) => refunds::mark_accepted(conn, refund.id).await?,
            Some(ProviderRefundStatus::Succeeded) if refund.status == RefundStatus::Pending => {
                refunds::mark(conn, refund.id, refund.status, RefundStatus::Succeeded, None).await?;
                refund.status = RefundStatus::Succeeded;
            }
            Some(ProviderRefundStatus::Failed { code }) if refund.status != RefundStatus::Failed => {
                fail(conn, change, refund, code).await?;
                failed.push(refund.id);
            }
            _ => {}
        }
    }
    let may_fall = is_newest || !failed.is_empty();
    let seen =
        if may_fall { seen.amount_refunded } else { seen.amount_refunded.max(payment.amount_refunded) };
    settle(conn, change, payment, &ours, seen).await?;
    tell_failed(conn, change, &failed).await
}

/// Decides a pending refund that the provider refused to make.
pub(super) async fn refuse_refund(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: &mut Payment,
    id: RefundId,
    code: &str,
) -> Result<(), Error> {
    let mut ours = refunds::list_of_payment(conn, payment.id).await?;
    let pending = |refund: &&mut Refund| refund.id == id && refund.status == RefundStatus::Pending;
    let Some(refund) = ours.iter_mut().find(pending) else { return Ok(()) };
    fail(conn, change, refund, code).await?;
    let amount_refunded = payment.amount_refunded;
    settle(conn, change, payment, &ours, amount_refunded).await?;
    tell_failed(conn, change, &[id]).await
}

/// The units that it named may be named again.
async fn fail(conn: &mut Conn, change: &OrderChange, refund: &mut Refund, code: &str) -> Result<(), Error> {
    tracing::warn!(refund_id = %refund.id, from = %refund.status, code, "the customer does not get the refund");
    refunds::mark(conn, refund.id, refund.status, RefundStatus::Failed, Some(code)).await?;
    refund.status = RefundStatus::Failed;
    let lines = sum(refund.lines.iter().map(|line| (line.line_id, -line.quantity)));
    Ok(orders::count_lines(conn, change.order.id, LineCounter::Refunded, &lines).await?)
}

/// Sets what went back, and what is claimed: that, and what is on its way.
async fn settle(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: &mut Payment,
    ours: &[Refund],
    amount_seen: i64,
) -> Result<(), Error> {
    let of = |status: RefundStatus| -> i64 {
        ours.iter().filter(|refund| refund.status == status).map(|refund| refund.amount).sum()
    };
    let before = (payment.amount_refunded, payment.amount_refund_claimed);
    let refunded = amount_seen.max(of(RefundStatus::Succeeded));
    let claimed = (refunded + of(RefundStatus::Pending)).min(payment.amount_captured);
    if before == (refunded, claimed) {
        return Ok(());
    }
    let from = payment.status;
    (payment.amount_refunded, payment.amount_refund_claimed) = (refunded, claimed);
    payment.status = payment.status_with_refunded(refunded);
    if refunded > before.0 {
        payments::mark(conn, payment, from, "the provider sent money back").await?;
        change.emit(Event::PaymentRefunded((&*payment).into()));
        return Ok(());
    }
    payments::mark(conn, payment, from, "a refund failed").await?;
    if refunded < before.0 {
        // An answer that was on its way meanwhile may say what was: one more look-up finds what is.
        payment_lookups::mark_soon(conn, payment.id).await?;
    }
    Ok(())
}

async fn tell_failed(conn: &mut Conn, change: &mut OrderChange, failed: &[RefundId]) -> Result<(), Error> {
    for &id in failed {
        let refund = refunds::find(conn, id).await?;
        let refund = refund.ok_or_else(|| store::Error::Inconsistent(format!("refund {id} is gone")))?;
        change.emit(Event::RefundFailed((&refund).into()));
    }
    Ok(())
}
