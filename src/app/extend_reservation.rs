//! Extending a reservation: an order that waits for payment keeps its stock for longer, a bounded number of times and within
//! the longest time that an order may ask for.

use chrono::TimeDelta;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error, ExpectedVersion, answer, order_change::OrderChange, retry::retry,
};
use crate::{
    domain::{
        bounds::HoldSeconds,
        event::{Event, OrderExtended},
        ids::OrderId,
        order::OrderStatus,
        validation::{Rule, Validator},
    },
    store::{idempotency::IdempotentRequest, orders},
};

/// A request for more time.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "seconds": 600 }))]
pub struct ExtendReservation {
    /// How much longer than now `expires_at` the stock is held.
    #[schema(value_type = HoldSeconds)]
    pub seconds: i64,
}

impl App {
    /// Gives an order more time to be paid, and answers with it.
    ///
    /// # Errors
    /// Unknown order; another version than expected; one that does not wait for payment, or whose time has run out; too often; too long.
    pub async fn extend_reservation(
        &self,
        request: &IdempotentRequest,
        id: OrderId,
        expected: Option<&ExpectedVersion>,
        extend: ExtendReservation,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        let most = self.settings.limits.max_ttl_seconds;
        HoldSeconds::require_up_to(&mut check, most, extend.seconds, "/seconds");
        check.finish().map_err(Error::Invalid)?;
        retry("extend_reservation", || async {
            let mut tx = self.store.begin("extend_reservation").await?;
            let mut change = OrderChange::lock(&mut tx, id, cause).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            change.require_version(expected)?;
            let order = &change.order;
            change.require_status(|status| status == OrderStatus::PendingPayment)?;
            if order.is_overdue {
                return Err(Conflict::ReservationExpired {}.into());
            }
            let max_extensions = self.settings.max_extensions;
            if order.extensions >= i64::from(max_extensions) {
                let extensions = order.extensions;
                return Err(Conflict::ExtensionLimitReached { extensions, max_extensions }.into());
            }
            let latest = order.created_at + TimeDelta::seconds(self.settings.limits.max_ttl_seconds);
            let longest = (latest - order.expires_at).num_seconds().max(0);
            if !(1..=longest).contains(&extend.seconds) {
                let detail = match longest {
                    0 => {
                        format!("cannot be granted: {} is as long as an order may be held", order.expires_at)
                    }
                    longest => format!("must be 1 to {longest}: no order is held for longer"),
                };
                return Err(Error::invalid(Rule::ExtensionTooLong, "/seconds", detail));
            }
            let expires_at = order.expires_at + TimeDelta::seconds(extend.seconds);
            orders::extend(&mut tx, id, expires_at, max_extensions).await?;
            change.emit(Event::OrderExtended(OrderExtended { order_id: id, expires_at }));
            change.save(&mut tx).await?;
            let order = orders::find(&mut tx, id).await?;
            let answer = answer::store(&mut tx, request, &order).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}
