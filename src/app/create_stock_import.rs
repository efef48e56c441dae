//! Creating an import of stock: its file is read, its rows are stored, and a worker does them (`run_stock_import`).

use tokio::sync::{Semaphore, SemaphorePermit};

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

/// How many files are read, or held as rows until they are stored, at a time: the rows of one may take 100 MB.
static TURNS: Semaphore = Semaphore::const_new(2);

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

/// An import whose file was read. While it lives, it takes one of the [`TURNS`].
struct ReadImport {
    mode: ImportMode,
    dry_run: bool,
    reference: Option<String>,
    rows: Vec<NewImportRow>,
    _turn: SemaphorePermit<'static>,
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
        let read = move || stock_file::read(&file, format, mode, &location);
        let (rows, turn) = in_turn(&TURNS, read).await?;
        Ok(ReadImport { mode, dry_run, reference, rows: rows.map_err(Error::Invalid)?, _turn: turn })
    }
}

/// Does long work, when it is its turn, on a thread that answers nobody. It cannot be stopped, so the turn is its own: where
/// whoever asked has gone, the turn ends with the work.
async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, SemaphorePermit<'static>), Error> {
    let broken = |error: &dyn std::fmt::Display| store::Error::Inconsistent(format!("a stock file: {error}"));
    let turn = turns.acquire().await.map_err(|closed| broken(&closed))?;
    let done = tokio::task::spawn_blocking(move || (work(), turn)).await;
    Ok(done.map_err(|panicked| broken(&panicked))?)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::poll;

    use super::*;

    #[test]
    fn a_turn_lasts_until_the_work_is_done_whether_anybody_waits_or_not() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (finish, finished) = mpsc::channel::<()>();
            let mut gone = Box::pin(in_turn(&ONE, move || finished.recv()));
            assert!(poll!(&mut gone).is_pending());
            drop(gone);
            let mut next = Box::pin(in_turn(&ONE, || 7));
            assert!(poll!(&mut next).is_pending());
            assert_eq!(ONE.available_permits(), 0);
            finish.send(()).expect("the work goes on");
            let (seven, turn) = next.await.expect("the next turn");
            assert_eq!((seven, ONE.available_permits()), (7, 0));
            drop(turn);
            assert_eq!(ONE.available_permits(), 1);
        });
    }
}
