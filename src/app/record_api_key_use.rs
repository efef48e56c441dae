//! Recording when API keys were used. Not with each request: a process collects the keys that were used, and records them
//! every few seconds.

use super::{App, Error};
use crate::{domain::ids::ApiKeyId, store::api_keys};

impl App {
    /// Records that these keys were used within the last seconds.
    pub async fn record_api_key_use(&self, ids: &[ApiKeyId]) -> Result<(), Error> {
        Ok(api_keys::mark_used(&mut *self.store.conn().await?, ids).await?)
    }
}
