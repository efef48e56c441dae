//! Creating an import of stock: its file is read, its rows are stored, and a worker does them (`run_stock_import`).

use super::{Answer, App, Cause, Error, answer, retry::retry};
use crate::{
    domain::{
        bounds::Text,
        ids::ImportId,
        inventory::LocationId,
        stock_file::{self, StockFormat},
        stock_import::{ImportMode, NewImportRow, StockImport},
        validation::Validator,
    },
    store::{
        self, Conn,
        idempotency::IdempotentRequest,
        stock_imports::{self, NewStockImport},
    },
};

/// A request to import stock.
#[derive(Debug, Clone)]
pub struct CreateStockImport {
    /// The file.
    pub file: Vec<u8>,
    /// How it is written.
    pub format: StockFormat,
    /// What its rows say.
    pub mode: ImportMode,
    /// Whether only to find out what would become of its rows.
    pub dry_run: bool,
    /// Where the rows are that name no location; the default one if absent.
    pub location_id: Option<LocationId>,
    /// What it belongs to.
    pub reference: Option<String>,
}

/// An import whose file was read.
struct ReadImport {
    mode: ImportMode,
    dry_run: bool,
    reference: Option<String>,
    rows: Vec<NewImportRow>,
}

impl App {
    /// Creates an import for a request, and answers with it.
    ///
    /// # Errors
    /// A file that is wrong as a whole. A wrong row is no error: it fails alone.
    pub async fn create_stock_import(
        &self,
        request: &IdempotentRequest,
        create: CreateStockImport,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let import = self.read_import(create).await?;
        retry("create_stock_import", || async {
            let mut tx = self.store.begin("create_stock_import").await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let created = insert(&mut tx, &import, actor, cause).await?;
            let answer = answer::store(&mut tx, request, &created).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }

    /// Creates an import that no request asks for.
    ///
    /// # Errors
    /// A file that is wrong as a whole.
    pub async fn create_own_stock_import(
        &self,
        create: CreateStockImport,
        actor: &str,
    ) -> Result<StockImport, Error> {
        let import = self.read_import(create).await?;
        let mut tx = self.store.begin("create_stock_import").await?;
        let created = insert(&mut tx, &import, actor, &Cause::default()).await?;
        tx.commit().await?;
        Ok(created)
    }

    async fn read_import(&self, create: CreateStockImport) -> Result<ReadImport, Error> {
        let CreateStockImport { file, format, mode, dry_run, location_id, reference } = create;
        let mut check = Validator::default();
        Text::require(&mut check, reference.as_deref(), "?reference");
        check.finish().map_err(Error::Invalid)?;
        let location = location_id.unwrap_or_else(|| self.settings.limits.default_location.clone());
        // Many megabytes: not on a thread that answers others.
        let read =
            tokio::task::spawn_blocking(move || stock_file::read(&file, format, mode, &location)).await;
        let read = read.map_err(|error| store::Error::Inconsistent(format!("a stock file: {error}")))?;
        Ok(ReadImport { mode, dry_run, reference, rows: read.map_err(Error::Invalid)? })
    }
}

async fn insert(
    conn: &mut Conn,
    import: &ReadImport,
    actor: &str,
    cause: &Cause,
) -> Result<StockImport, Error> {
    let new = NewStockImport {
        id: ImportId::new(),
        mode: import.mode,
        dry_run: import.dry_run,
        actor,
        reference: import.reference.as_deref(),
        correlation_id: cause.correlation_id.as_deref(),
        rows: &import.rows,
    };
    Ok(stock_imports::insert(conn, &new).await?)
}
