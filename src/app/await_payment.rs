//! Awaiting a payment: a client that asked to wait is answered when the payment has left the status it was in.

use super::{App, Error};
use crate::domain::{
    ids::PaymentId,
    payment::{Payment, PaymentStatus},
};

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
        let mut seen = self.watches.payments.subscribe(id);
        tokio::select! {
            // It fails where the sender is gone, which is not before the receiver.
            _ = seen.wait_for(|seen| seen.is_some_and(|seen| seen != status)) => {}
            // The payment says by itself how far it has come.
            () = enough => {}
        }
        self.find_payment(id).await
    }
}
