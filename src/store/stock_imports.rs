//! Imports of stock and their rows.
//!
//! Whoever does rows holds the row lock of their import ([`claim`]), and what becomes of them is written together with
//! what they change. So each row is done once, however often a worker is killed and however many there are.

use chrono::{DateTime, Utc};
use sqlx::types::Json;

use super::{Conn, Error, error::parse, expect_rows};
use crate::domain::{
    ids::ImportId,
    stock_import::{
        ImportMode, ImportRow, ImportStatus, NewImportRow, RowError, RowFields, RowStatus, StockImport,
    },
};

/// How many rows one statement writes.
const SLICE: usize = 10_000;

/// An import that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewStockImport<'a> {
    /// Its id.
    pub id: ImportId,
    /// What its rows say.
    pub mode: ImportMode,
    /// Whether it changes no level.
    pub dry_run: bool,
    /// Who asked for it.
    pub actor: &'a str,
    /// What it belongs to.
    pub reference: Option<&'a str>,
    /// The request that began the chain.
    pub correlation_id: Option<&'a str>,
    /// Its rows, in the order of the file.
    pub rows: &'a [NewImportRow],
}

/// An import under its row lock.
#[derive(Debug, Clone)]
pub struct ClaimedImport {
    /// The import.
    pub import: StockImport,
    /// Who asked for it.
    pub actor: String,
    /// The request that began the chain.
    pub correlation_id: Option<String>,
    /// The last row that is done; those after it are not.
    pub last_row: i32,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOutcome {
    /// Which row.
    pub row: i32,
    /// What is on hand after it, or why it failed.
    pub outcome: Result<i64, RowError>,
}

struct Row {
    id: uuid::Uuid,
    mode: String,
    dry_run: bool,
    status: String,
    reference: Option<String>,
    rows_total: i32,
    rows_applied: i32,
    rows_failed: i32,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for StockImport {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.id.into(),
            status: parse(&row.status, "stock_import.status")?,
            mode: parse(&row.mode, "stock_import.mode")?,
            dry_run: row.dry_run,
            reference: row.reference,
            rows_total: row.rows_total,
            rows_done: row.rows_applied + row.rows_failed,
            rows_applied: row.rows_applied,
            rows_failed: row.rows_failed,
            created_at: row.created_at,
            completed_at: row.completed_at,
        })
    }
}

/// Stores an import with its rows. Those that are wrong already are done.
pub async fn insert(conn: &mut Conn, new: &NewStockImport<'_>) -> Result<StockImport, Error> {
    let count = |rows: usize| i32::try_from(rows).unwrap_or(i32::MAX);
    let wrong = new.rows.iter().filter(|row| !row.errors.is_empty()).count();
    let row = sqlx::query_as!(
        Row,
        "INSERT INTO stock_import (id, mode, dry_run, status, actor, reference, correlation_id, rows_total, rows_failed)
         VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8)
         RETURNING id, mode, dry_run, status, reference, rows_total, rows_applied, rows_failed, created_at, completed_at",
        new.id.uuid(),
        new.mode.as_str(),
        new.dry_run,
        new.actor,
        new.reference,
        new.correlation_id,
        count(new.rows.len()),
        count(wrong),
    )
    .fetch_one(&mut *conn)
    .await?;
    for (slice, first) in new.rows.chunks(SLICE).zip((1..).step_by(SLICE)) {
        insert_rows(conn, new.id, first, slice).await?;
    }
    row.try_into()
}

async fn insert_rows(conn: &mut Conn, id: ImportId, first: i32, rows: &[NewImportRow]) -> Result<(), Error> {
    fn column<T>(rows: &[NewImportRow], value: impl Fn(&NewImportRow) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    let numbers: Vec<i32> = (first..).take(rows.len()).collect();
    let lines = column(rows, |row| row.line);
    let skus: Vec<Option<&str>> = rows.iter().map(|row| row.fields.sku.as_deref()).collect();
    let locations: Vec<Option<&str>> = rows.iter().map(|row| row.fields.location_id.as_deref()).collect();
    let on_hand = column(rows, |row| row.fields.on_hand);
    let deltas = column(rows, |row| row.fields.delta);
    let compare = column(rows, |row| row.fields.compare_quantity);
    let safety = column(rows, |row| row.fields.safety_stock);
    let backorder = column(rows, |row| row.fields.backorder_limit);
    let thresholds = column(rows, |row| row.fields.low_stock_threshold);
    let errors: Vec<Json<&[RowError]>> = rows.iter().map(|row| Json(&*row.errors)).collect();
    let result = sqlx::query!(
        "INSERT INTO stock_import_row (import_id, row_number, line, status, sku, location_id, on_hand, delta,
                                       compare_quantity, safety_stock, backorder_limit, low_stock_threshold, errors)
         SELECT $1, row_number, line, CASE WHEN errors = '[]' THEN 'pending' ELSE 'failed' END, sku, location_id, on_hand,
                delta, compare_quantity, safety_stock, backorder_limit, low_stock_threshold, NULLIF(errors, '[]')
         FROM UNNEST($2::integer[], $3::integer[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
                     $9::bigint[], $10::bigint[], $11::bigint[], $12::jsonb[])
              AS n (row_number, line, sku, location_id, on_hand, delta, compare_quantity, safety_stock, backorder_limit,
                    low_stock_threshold, errors)",
        id.uuid(),
        &numbers,
        &lines,
        &skus as _,
        &locations as _,
        &on_hand as _,
        &deltas as _,
        &compare as _,
        &safety as _,
        &backorder as _,
        &thresholds as _,
        &errors as _,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, rows.len(), "insert rows of an import")
}

/// One import.
pub async fn find(conn: &mut Conn, id: ImportId) -> Result<Option<StockImport>, Error> {
    let row = sqlx::query_as!(
        Row,
        "SELECT id, mode, dry_run, status, reference, rows_total, rows_applied, rows_failed, created_at, completed_at
         FROM stock_import WHERE id = $1",
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(StockImport::try_from).transpose()
}

/// One import, under its row lock: whoever does rows of it is waited for.
pub async fn lock(conn: &mut Conn, id: ImportId) -> Result<Option<StockImport>, Error> {
    sqlx::query!("SELECT 1 AS one FROM stock_import WHERE id = $1 FOR UPDATE", id.uuid())
        .fetch_optional(&mut *conn)
        .await?;
    find(conn, id).await
}

/// Imports, the newest first, from the one before `starting_after` on.
pub async fn list(
    conn: &mut Conn,
    status: Option<ImportStatus>,
    starting_after: Option<ImportId>,
    limit: i64,
) -> Result<Vec<StockImport>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, mode, dry_run, status, reference, rows_total, rows_applied, rows_failed, created_at, completed_at
         FROM stock_import
         WHERE ($1::text IS NULL OR status = $1) AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC LIMIT $3",
        status.map(ImportStatus::as_str),
        starting_after.map(ImportId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(StockImport::try_from).collect()
}

/// Locks an import that has rows to do: this one, or the oldest. One that another transaction works on is passed over.
pub async fn claim(conn: &mut Conn, id: Option<ImportId>) -> Result<Option<ClaimedImport>, Error> {
    let claimed = sqlx::query!(
        "SELECT id, actor, correlation_id, last_row FROM stock_import
         WHERE status IN ('pending', 'running') AND ($1::uuid IS NULL OR id = $1)
         ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
        id.map(ImportId::uuid),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = claimed else { return Ok(None) };
    let import = find(conn, row.id.into()).await?;
    let gone = || Error::Inconsistent(format!("import {} was locked and is gone", ImportId::from(row.id)));
    let (actor, correlation_id, last_row) = (row.actor, row.correlation_id, row.last_row);
    Ok(Some(ClaimedImport { import: import.ok_or_else(gone)?, actor, correlation_id, last_row }))
}

/// The rows of an import after this one, in their order; of this status if given.
pub async fn list_rows(
    conn: &mut Conn,
    id: ImportId,
    status: Option<RowStatus>,
    after: i32,
    limit: i64,
) -> Result<Vec<ImportRow>, Error> {
    let rows = sqlx::query!(
        r#"SELECT row_number, line, status, sku, location_id, on_hand, delta, compare_quantity, safety_stock,
                  backorder_limit, low_stock_threshold, on_hand_after, errors AS "errors: Json<Vec<RowError>>"
           FROM stock_import_row
           WHERE import_id = $1 AND row_number > $2 AND ($3::text IS NULL OR status = $3)
           ORDER BY row_number LIMIT $4"#,
        id.uuid(),
        after,
        status.map(RowStatus::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ImportRow {
                row: row.row_number,
                line: row.line,
                status: parse(&row.status, "stock_import_row.status")?,
                fields: RowFields {
                    sku: row.sku,
                    location_id: row.location_id,
                    on_hand: row.on_hand,
                    delta: row.delta,
                    compare_quantity: row.compare_quantity,
                    safety_stock: row.safety_stock,
                    backorder_limit: row.backorder_limit,
                    low_stock_threshold: row.low_stock_threshold,
                },
                on_hand_after: row.on_hand_after,
                errors: row.errors.map(|errors| errors.0).unwrap_or_default(),
            })
        })
        .collect()
}

/// Writes what became of rows that were not done.
pub async fn mark_rows(conn: &mut Conn, id: ImportId, outcomes: &[RowOutcome]) -> Result<(), Error> {
    for slice in outcomes.chunks(SLICE) {
        let rows: Vec<i32> = slice.iter().map(|outcome| outcome.row).collect();
        let after: Vec<Option<i64>> = slice.iter().map(|outcome| outcome.outcome.clone().ok()).collect();
        let errors: Vec<Option<Json<[RowError; 1]>>> =
            slice.iter().map(|outcome| outcome.outcome.clone().err().map(|error| Json([error]))).collect();
        let result = sqlx::query!(
            "UPDATE stock_import_row r
             SET status = CASE WHEN o.errors IS NULL THEN 'applied' ELSE 'failed' END,
                 on_hand_after = o.on_hand_after, errors = o.errors
             -- Each row is found by its key. Of an import that is newer than the statistics of the table one row is expected: all of
             -- its rows would be compared with all of these.
             FROM UNNEST($2::integer[], $3::bigint[], $4::jsonb[]) AS o (row_number, on_hand_after, errors)
             CROSS JOIN LATERAL (
                 SELECT k.ctid FROM stock_import_row k
                 WHERE k.import_id = $1 AND k.row_number = o.row_number AND k.status = 'pending' OFFSET 0) AS k
             WHERE r.ctid = k.ctid",
            id.uuid(),
            &rows,
            &after as _,
            &errors as _,
        )
        .execute(&mut *conn)
        .await?;
        expect_rows(&result, slice.len(), "mark rows of an import")?;
    }
    Ok(())
}

/// Notes how far an import has come that this transaction has locked: up to `last_row`, with so many more rows applied and
/// failed. Gives it as it is from then on: completed with its last row.
pub async fn mark_progress(
    conn: &mut Conn,
    id: ImportId,
    last_row: i32,
    applied: usize,
    failed: usize,
) -> Result<StockImport, Error> {
    let count = |rows: usize| i32::try_from(rows).unwrap_or(i32::MAX);
    let row = sqlx::query_as!(
        Row,
        "UPDATE stock_import
         SET last_row = $2, rows_applied = rows_applied + $3, rows_failed = rows_failed + $4,
             status = CASE WHEN $2 >= rows_total THEN 'completed' ELSE 'running' END,
             completed_at = CASE WHEN $2 >= rows_total THEN now() END
         WHERE id = $1 AND status IN ('pending', 'running')
         RETURNING id, mode, dry_run, status, reference, rows_total, rows_applied, rows_failed, created_at, completed_at",
        id.uuid(),
        last_row,
        count(applied),
        count(failed),
    )
    .fetch_one(conn)
    .await?;
    row.try_into()
}

/// Marks an import as canceled that this transaction has locked and that has rows to do.
pub async fn mark_canceled(conn: &mut Conn, id: ImportId) -> Result<StockImport, Error> {
    let row = sqlx::query_as!(
        Row,
        "UPDATE stock_import SET status = 'canceled', completed_at = now()
         WHERE id = $1 AND status IN ('pending', 'running')
         RETURNING id, mode, dry_run, status, reference, rows_total, rows_applied, rows_failed, created_at, completed_at",
        id.uuid(),
    )
    .fetch_one(conn)
    .await?;
    row.try_into()
}
