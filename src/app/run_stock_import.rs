//! Doing the rows of an import, chunk by chunk: each chunk is one transaction with everything that its rows change, their
//! ledger rows, events and outcomes, and the import's progress. A worker that is killed loses nothing and does nothing twice;
//! a second one passes over an import that is being worked on.
//!
//! A dry run is one chunk, so that its rows see what those before them would have done, and locks no level.

use std::collections::{BTreeMap, BTreeSet};

use super::{App, Cause, Error, change_levels::change_levels, retry::retry};
use crate::{
    domain::{
        ids::ImportId,
        inventory::{InventoryLevel, LevelChange, LevelKey},
        movement::MovementType,
        stock_import::{ImportMode, ImportRow, RowError, RowStatus, StockImport},
    },
    store::{
        self, Conn, Tx, inventory,
        movements::{MovementCause, NewMovement},
        stock_imports::{self, ClaimedImport, RowOutcome},
    },
};

/// How many rows are done in one transaction: orders wait that long for their levels.
const CHUNK: i64 = 500;

type Levels = BTreeMap<LevelKey, InventoryLevel>;

impl App {
    /// Does the next rows of an import: of this one, or of the oldest that nobody works on. Gives it as it is from then on;
    /// `None` if there is nothing to do.
    ///
    /// # Errors
    /// The database is unavailable, or refuses what has nothing to do with the rows. Nothing was done, and may be later.
    pub async fn run_stock_import(&self, id: Option<ImportId>) -> Result<Option<StockImport>, Error> {
        retry("run_stock_import", || async {
            let mut tx = self.store.begin("run_stock_import").await?;
            let Some(claimed) = stock_imports::claim(&mut tx, id).await? else { return Ok(None) };
            tx.plan_each_statement().await?;
            let import = do_next_rows(&mut tx, &claimed).await?;
            tx.commit().await?;
            Ok(Some(import))
        })
        .await
    }
}

/// Does a chunk. One that cannot be written because of its rows is halved until it can: a row that never can fails alone.
/// Meanwhile the import stays claimed, so the row that fails is the one that was refused, whoever else works on imports.
async fn do_next_rows(tx: &mut Tx, claimed: &ClaimedImport) -> Result<StockImport, Error> {
    let mut limit = CHUNK;
    loop {
        let mut part = tx.begin_part().await?;
        let error = match do_chunk(&mut part, claimed, limit).await {
            Ok(import) => {
                part.keep().await?;
                return Ok(import);
            }
            Err(error) if is_about_rows(&error) => error,
            Err(error) => return Err(error),
        };
        part.undo().await?;
        tracing::error!(%error, import_id = %claimed.import.id, after_row = claimed.last_row, rows = limit,
            "rows of an import cannot be written");
        if limit == 1 {
            return fail_row(tx, claimed).await;
        }
        limit /= 2;
    }
}

/// Fails the next row, which cannot be written.
async fn fail_row(conn: &mut Conn, claimed: &ClaimedImport) -> Result<StockImport, Error> {
    let rows = stock_imports::list_rows(conn, claimed.import.id, None, claimed.last_row, 1).await?;
    let pending = rows.iter().filter(|row| row.status == RowStatus::Pending);
    let detail = "could not be written; the reason was logged";
    let outcomes: Vec<RowOutcome> = pending
        .map(|row| RowOutcome { row: row.row, outcome: Err(RowError::new(RowError::ROW, detail)) })
        .collect();
    write_outcomes(conn, claimed, &rows, &outcomes).await
}

/// Whether an error is about the rows that were to be written. Of any other, such as a privilege that is missing, every row
/// of every import would fail: they wait until it is mended.
fn is_about_rows(error: &Error) -> bool {
    match error {
        Error::Store(error) => error.is_about_data(),
        Error::Invalid(_) | Error::Conflict(_) => true,
        _ => false,
    }
}

async fn do_chunk(conn: &mut Conn, claimed: &ClaimedImport, limit: i64) -> Result<StockImport, Error> {
    let limit = if claimed.import.dry_run { i64::MAX } else { limit };
    let rows = stock_imports::list_rows(conn, claimed.import.id, None, claimed.last_row, limit).await?;
    let pending: Vec<&ImportRow> = rows.iter().filter(|row| row.status == RowStatus::Pending).collect();
    let outcomes = do_rows(conn, claimed, &pending).await?;
    write_outcomes(conn, claimed, &rows, &outcomes).await
}

async fn write_outcomes(
    conn: &mut Conn,
    claimed: &ClaimedImport,
    rows: &[ImportRow],
    outcomes: &[RowOutcome],
) -> Result<StockImport, Error> {
    let import = &claimed.import;
    stock_imports::mark_rows(conn, import.id, outcomes).await?;
    let applied = outcomes.iter().filter(|outcome| outcome.outcome.is_ok()).count();
    let last_row = rows.last().map_or(import.rows_total, |row| row.row);
    let failed = outcomes.len() - applied;
    Ok(stock_imports::mark_progress(conn, import.id, last_row, applied, failed).await?)
}

/// Applies rows to their levels, and gives what became of each.
async fn do_rows(
    conn: &mut Conn,
    claimed: &ClaimedImport,
    rows: &[&ImportRow],
) -> Result<Vec<RowOutcome>, Error> {
    let import = &claimed.import;
    let keyed = rows.iter().map(|row| Ok((row_key(row)?, *row))).collect::<Result<Vec<_>, Error>>()?;
    let before = levels(conn, import, &keyed).await?;
    let mut after = before.clone();
    let (mut outcomes, mut movements) = (Vec::with_capacity(rows.len()), Vec::new());
    for (key, row) in keyed {
        let outcome = apply(&after, &key, row, import.mode).map(|level| {
            let on_hand = level.on_hand;
            let delta = on_hand - after.get(&key).map_or(0, |level| level.on_hand);
            if delta != 0 {
                movements.push(NewMovement { key: key.clone(), delta, on_hand_after: on_hand });
            }
            after.insert(key, level);
            on_hand
        });
        outcomes.push(RowOutcome { row: row.row, outcome });
    }
    if import.dry_run {
        return Ok(outcomes);
    }
    // A level that is as it was has nothing to tell: most rows of a nightly import are like that.
    let moved: BTreeSet<&LevelKey> = movements.iter().map(|movement| &movement.key).collect();
    let change = |after: InventoryLevel| {
        let before = before.get(&after.key)?.clone();
        (before != after || moved.contains(&after.key)).then_some(LevelChange { before, after })
    };
    let changes: Vec<_> = after.into_values().filter_map(change).collect();
    if !changes.is_empty() {
        let cause = Cause { correlation_id: claimed.correlation_id.clone(), ..Cause::default() };
        change_levels(conn, changes, &movements, &movement_cause(claimed), &cause).await?;
    }
    Ok(outcomes)
}

/// The levels that the rows name, under their row locks; of a dry run as they are at the moment.
async fn levels(
    conn: &mut Conn,
    import: &StockImport,
    rows: &[(LevelKey, &ImportRow)],
) -> Result<Levels, Error> {
    let distinct = |keys: &mut Vec<LevelKey>| {
        keys.sort();
        keys.dedup();
    };
    let mut keys: Vec<LevelKey> = rows.iter().map(|(key, _)| key.clone()).collect();
    distinct(&mut keys);
    if import.dry_run {
        let levels = inventory::find_levels(conn, &keys).await?;
        return Ok(levels.into_iter().map(|level| (level.key.clone(), level)).collect());
    }
    if import.mode == ImportMode::Set {
        // A row that expects something of a level that is not there fails, and must not leave one behind.
        let makes = |row: &ImportRow| row.fields.compare_quantity.is_none_or(|expected| expected == 0);
        let makers = rows.iter().filter(|(_, row)| makes(row));
        let mut made: Vec<LevelKey> = makers.map(|(key, _)| key.clone()).collect();
        distinct(&mut made);
        inventory::insert_missing_levels(conn, &made).await?;
    }
    let (levels, _) = inventory::lock_levels(conn, &keys).await?;
    Ok(levels.into_iter().map(|(key, locked)| (key, locked.level)).collect())
}

fn apply(
    levels: &Levels,
    key: &LevelKey,
    row: &ImportRow,
    mode: ImportMode,
) -> Result<InventoryLevel, RowError> {
    match (levels.get(key), mode) {
        (Some(level), _) => row.fields.apply(level),
        (None, ImportMode::Set) => row.fields.apply(&InventoryLevel::empty(key.clone())),
        (None, ImportMode::Delta) => {
            let detail = format!("there is no SKU {} at location {}", key.sku, key.location_id);
            Err(RowError::new("sku", detail))
        }
    }
}

fn row_key(row: &ImportRow) -> Result<LevelKey, Error> {
    let wrong = || store::Error::Inconsistent(format!("row {} of an import names no level", row.row));
    Ok(row.fields.key().ok_or_else(wrong)?)
}

fn movement_cause(claimed: &ClaimedImport) -> MovementCause {
    let import = &claimed.import;
    MovementCause {
        movement_type: match import.mode {
            ImportMode::Set => MovementType::Count,
            ImportMode::Delta => MovementType::Adjust,
        },
        actor: claimed.actor.clone(),
        reason: Some(match &import.reference {
            Some(reference) => format!("stock import {reference}"),
            None => "stock import".to_owned(),
        }),
        reference: Some(import.id.to_string()),
    }
}
