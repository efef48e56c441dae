//! Receiving a provider's event: a row in the inbox of the provider's events, and the look-up that it asks for.
//!
//! The event is a hint. What it says of money is not even read: the payment worker, which alone holds the provider's key,
//! looks the payment up and records what it finds. Its look-ups come from one queue, `payment.next_lookup_at`, so that
//! taking the hint is to make the payment due, in the transaction that stores the event. No message goes through the
//! broker: the worker polls that queue anyway, and hints count while the broker is away.

use std::time::SystemTime;

use super::{App, Error, retry::retry};
use crate::{
    domain::provider_event::ProviderEvent,
    store::{payment_lookups, provider_events},
};

impl App {
    /// Takes a webhook of a provider, at the time `now`. One that was taken before changes nothing, and neither does one
    /// that is about no payment of ours.
    ///
    /// # Errors
    /// An unknown provider; a signature that does not count; a body that is no event.
    pub async fn receive_provider_event(
        &self,
        provider: &str,
        signature: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Error> {
        if provider != self.webhooks.provider() {
            return Err(Error::NotFound { kind: "payment provider", id: provider.to_owned() });
        }
        let Some(event) = self.webhooks.open(signature, body, now)? else { return Ok(()) };
        retry("receive_provider_event", || self.receive_once(&event)).await
    }

    async fn receive_once(&self, event: &ProviderEvent) -> Result<(), Error> {
        let provider = self.webhooks.provider();
        let mut tx = self.store.begin("receive_provider_event").await?;
        let payment_id = provider_events::lock_payment(&mut tx, provider, event).await?;
        if !provider_events::insert(&mut tx, provider, event, payment_id).await? {
            return Ok(());
        }
        if let Some(payment_id) = payment_id {
            payment_lookups::mark_due(&mut tx, payment_id).await?;
        }
        let (event_id, event_type) = (&event.id, &event.event_type);
        tracing::info!(event_id, event_type, ?payment_id, "the provider told of a payment");
        Ok(tx.commit().await?)
    }
}
