//! Rows that have served their purpose are deleted once they are old: idempotency keys, the providers' events, stock imports,
//! webhooks, dead letters that were dropped.
//!
//! In small steps, each of its own: nothing is locked that anybody else wants. A walk through a large table goes on where the
//! last run left off.

use super::{App, Error};
use crate::store::{
    self, Conn, dead_letters,
    retention::{self, AgingTable, Block},
    webhook_deliveries,
};

/// The most steps of one run through one table.
const STEPS: usize = 20;

/// How many deliveries of webhooks are deleted in one step.
const DELIVERIES: i64 = 1_000;
/// The most dead letters of one run.
const LETTERS: i64 = 1_000;

/// For how many days what is kept. `None`: for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowAges {
    /// After its request.
    pub idempotency_key: Option<i32>,
    /// After it came.
    pub provider_event: Option<i32>,
    /// After it ended.
    pub stock_import: Option<i32>,
    /// After it was over.
    pub webhook_delivery: Option<i32>,
    /// After it was dropped.
    pub dropped_letter: Option<i32>,
}

/// Where the next run goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowWalks {
    idempotency_keys: Block,
    provider_events: Block,
}

/// How many rows were deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletedRows {
    /// Idempotency keys.
    pub idempotency_keys: u64,
    /// Events of the providers.
    pub provider_events: u64,
    /// Stock imports, each with its rows.
    pub stock_imports: u64,
    /// Deliveries of webhooks, each with its attempts.
    pub webhook_deliveries: u64,
    /// Dead letters that were dropped.
    pub dropped_letters: u64,
}

impl App {
    /// Deletes what is older than `ages`, in a part of the tables; `walks` goes on with each run, and begins anew at the end.
    pub async fn delete_old_rows(&self, ages: RowAges, walks: &mut RowWalks) -> Result<DeletedRows, Error> {
        let mut conn = self.store.conn().await?;
        let mut deleted = DeletedRows::default();
        if let Some(days) = ages.idempotency_key {
            let (table, from) = (AgingTable::IdempotencyKeys, &mut walks.idempotency_keys);
            deleted.idempotency_keys = walk(&mut conn, table, from, days).await?;
        }
        if let Some(days) = ages.provider_event {
            let (table, from) = (AgingTable::ProviderEvents, &mut walks.provider_events);
            deleted.provider_events = walk(&mut conn, table, from, days).await?;
        }
        if let Some(days) = ages.stock_import {
            while deleted.stock_imports < STEPS as u64
                && retention::delete_stock_import(&mut conn, days).await?
            {
                deleted.stock_imports += 1;
            }
        }
        if let Some(days) = ages.webhook_delivery {
            for _ in 0..STEPS {
                let gone = webhook_deliveries::delete_old(&mut conn, days, DELIVERIES).await?;
                deleted.webhook_deliveries += gone;
                if gone == 0 {
                    break;
                }
            }
        }
        if let Some(days) = ages.dropped_letter {
            deleted.dropped_letters = dead_letters::delete_dropped(&mut conn, days, LETTERS).await?;
        }
        Ok(deleted)
    }
}

/// A part of a walk. Gives how many rows it deleted.
async fn walk(conn: &mut Conn, table: AgingTable, from: &mut Block, days: i32) -> Result<u64, store::Error> {
    let mut deleted = 0;
    for _ in 0..STEPS {
        let step = retention::delete_in_blocks(conn, table, *from, days).await?;
        deleted += step.deleted;
        *from = step.next.unwrap_or_default();
        if step.next.is_none() {
            break;
        }
    }
    Ok(deleted)
}
