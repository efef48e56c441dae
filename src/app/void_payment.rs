//! Voiding a payment because the merchant asked for it: see `request_void` for what may be voided.

use super::{App, Error, Handling, authorize_payment::Progress, record_payment::Then};
use crate::domain::{ids::PaymentId, payment::PaymentStatus};

impl App {
    /// Carries a `payment.void_requested` event out.
    pub async fn void_payment(&self, handling: &Handling, id: PaymentId) -> Result<Progress, Error> {
        self.void(Some(handling), id).await
    }

    /// The same, whether an event led here or not.
    pub(super) async fn void(&self, event: Option<&Handling>, id: PaymentId) -> Result<Progress, Error> {
        let payment = self.find_payment(id).await?;
        let is_open = matches!(payment.status, PaymentStatus::RequiresAction | PaymentStatus::Authorized);
        if !is_open || payment.void_requested_at.is_none() {
            self.mark_handled(event).await?;
            return Ok(Progress::Done);
        }
        let seen = match self.let_go(&payment).await {
            Ok(seen) => seen,
            Err(error) => return Err(self.note_unknown(&payment, error).await?),
        };
        self.record_payment(event, &payment, &seen, Then::Finish).await?;
        Ok(Progress::Done)
    }
}
