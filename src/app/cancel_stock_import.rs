//! Canceling an import of stock: no row is begun from then on, and what is done stays done.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{Answer, App, Conflict, Error, answer, retry::retry};
use crate::{
    domain::{ids::ImportId, stock_import::ImportStatus},
    store::{idempotency::IdempotentRequest, stock_imports},
};

/// A request to cancel an import.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct CancelStockImport {}

impl App {
    /// Cancels an import, once the chunk that is under way is done, and answers with it.
    ///
    /// # Errors
    /// Unknown import; one that is completed or canceled.
    pub async fn cancel_stock_import(
        &self,
        request: &IdempotentRequest,
        id: ImportId,
    ) -> Result<Answer, Error> {
        retry("cancel_stock_import", || async {
            let mut tx = self.store.begin("cancel_stock_import").await?;
            let import = stock_imports::lock(&mut tx, id).await?;
            let import = import.ok_or_else(|| Error::NotFound { kind: "import", id: id.to_string() })?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let permits = |status: ImportStatus| status.may_become(ImportStatus::Canceled);
            Conflict::require_status("import", import.status, permits)?;
            let canceled = stock_imports::mark_canceled(&mut tx, id).await?;
            let answer = answer::store(&mut tx, request, &canceled).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}
