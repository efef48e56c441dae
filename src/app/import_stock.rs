//! Importing stock from a file: every row is checked before one is applied, and all are applied in one transaction.

use std::{collections::BTreeMap, io::Read};

use serde::Deserialize;

use super::{
    App, Cause, Error,
    change_levels::{change_levels, refuse_below_promised},
    retry::retry,
};
use crate::{
    domain::{
        inventory::{InventoryLevel, LevelChange, LevelKey, LocationId, MAX_QUANTITY, Sku},
        movement::MovementType,
    },
    store::{
        inventory,
        movements::{MovementCause, NewMovement},
    },
};

/// One row of a stock file: CSV with the columns `sku,on_hand`, and if wanted `location_id`, `safety_stock` and
/// `backorder_limit`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockRow {
    /// Which SKU.
    pub sku: Sku,
    /// Units in the building from now on.
    pub on_hand: i64,
    /// At which location; the default one if absent or empty.
    #[serde(default)]
    pub location_id: Option<LocationId>,
    /// Units never sold; unchanged if absent or empty.
    #[serde(default)]
    pub safety_stock: Option<i64>,
    /// Units that may be sold beyond `on_hand`; unchanged if absent or empty.
    #[serde(default)]
    pub backorder_limit: Option<i64>,
}

/// Why a file was not imported. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
pub enum ImportStockError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A line is wrong.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number in the file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no rows.
    #[error("the file holds no rows")]
    Empty,
    /// The database refused.
    #[error(transparent)]
    App(#[from] Error),
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedStock {
    /// Levels set.
    pub levels: usize,
    /// Units in all of them.
    pub on_hand: i64,
}

impl App {
    /// Imports a stock file. `reference` is noted in the ledger, e.g. the file's name.
    pub async fn import_stock(
        &self,
        file: impl Read,
        reference: &str,
        actor: &str,
    ) -> Result<ImportedStock, ImportStockError> {
        let rows = self.read_stock(file)?;
        let movement = MovementCause {
            movement_type: MovementType::Count,
            actor: actor.to_owned(),
            reason: Some("stock import".into()),
            reference: Some(reference.to_owned()),
        };
        retry("import_stock", || self.import_once(&rows, &movement)).await?;
        Ok(ImportedStock { levels: rows.len(), on_hand: rows.values().map(|row| row.on_hand).sum() })
    }

    fn read_stock(&self, mut file: impl Read) -> Result<BTreeMap<LevelKey, StockRow>, ImportStockError> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
        let mut rows = BTreeMap::new();
        let headers = reader.headers().map_err(|error| line_error(1, &error))?.clone();
        for record in reader.records() {
            let record = record.map_err(|error| line_error(line_of(&bytes, error.position()), &error))?;
            let line = line_of(&bytes, record.position());
            let row: StockRow =
                record.deserialize(Some(&headers)).map_err(|error| line_error(line, &error))?;
            let counters = [Some(row.on_hand), row.safety_stock, row.backorder_limit];
            if !counters.into_iter().flatten().all(|value| (0..=MAX_QUANTITY).contains(&value)) {
                let reason = format!("on_hand, safety_stock and backorder_limit must be 0 to {MAX_QUANTITY}");
                return Err(ImportStockError::Line { line, reason });
            }
            let location_id = row.location_id.clone();
            let location_id = location_id.unwrap_or_else(|| self.settings.limits.default_location.clone());
            let key = LevelKey { sku: row.sku.clone(), location_id };
            let reason = format!("SKU {} at location {} is in the file twice", key.sku, key.location_id);
            if rows.insert(key, row).is_some() {
                return Err(ImportStockError::Line { line, reason });
            }
        }
        if rows.is_empty() { Err(ImportStockError::Empty) } else { Ok(rows) }
    }

    async fn import_once(
        &self,
        rows: &BTreeMap<LevelKey, StockRow>,
        movement: &MovementCause,
    ) -> Result<(), Error> {
        let keys: Vec<LevelKey> = rows.keys().cloned().collect();
        let mut tx = self.store.begin("import_stock").await?;
        inventory::insert_missing_levels(&mut tx, &keys).await?;
        let (levels, _) = inventory::lock_levels(&mut tx, &keys).await?;
        let mut changes = Vec::with_capacity(rows.len());
        for (key, locked) in levels {
            let Some(row) = rows.get(&key) else { continue };
            let before = locked.level;
            let after = InventoryLevel {
                on_hand: row.on_hand,
                safety_stock: row.safety_stock.unwrap_or(before.safety_stock),
                backorder_limit: row.backorder_limit.unwrap_or(before.backorder_limit),
                ..before.clone()
            };
            let change = LevelChange { before, after };
            refuse_below_promised(&change)?;
            changes.push(change);
        }
        let moved: Vec<_> = changes.iter().filter_map(NewMovement::of).collect();
        change_levels(&mut tx, changes, &moved, movement, &Cause::default()).await?;
        Ok(tx.commit().await?)
    }
}

/// The line that a record is on. The reader's own count stops before the blank lines that it skips.
fn line_of(bytes: &[u8], record: Option<&csv::Position>) -> u64 {
    let start = record.map_or(0, |position| usize::try_from(position.byte()).unwrap_or(usize::MAX));
    let (before, after) = bytes.split_at(start.min(bytes.len()));
    let blank = after.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    1 + before.iter().chain(blank).fold(0, |lines, byte| lines + u64::from(*byte == b'\n'))
}

fn line_error(line: u64, error: &csv::Error) -> ImportStockError {
    let reason = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    };
    ImportStockError::Line { line, reason }
}
