//! Locations. A level that is made makes its location with it: trigger `inventory_level_location`.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{Conn, Error, error::parse};
use crate::domain::inventory::{Location, LocationId};

/// A location that is to be made, or set. What is `None` stays as it is: of a new one, without name and active.
#[derive(Debug, Clone, Copy)]
pub struct NewLocation<'a> {
    /// Its id.
    pub id: &'a LocationId,
    /// What people call it, or that it has no name.
    pub name: Option<Option<&'a str>>,
    /// 0 to 1000, lower first.
    pub priority: i32,
    /// Whether new orders are taken from it without naming it.
    pub is_active: Option<bool>,
}

/// A location as it is stored.
struct Row {
    id: String,
    name: Option<String>,
    priority: i32,
    is_active: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Location {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let Row { id, name, priority, is_active, version, created_at, updated_at } = row;
        let id = parse(&id, "location.id")?;
        Ok(Self { id, name, priority, is_active, version, created_at, updated_at })
    }
}

/// Takes the row lock of a location. Gives its version, if there is one.
pub async fn lock(conn: &mut Conn, id: &LocationId) -> Result<Option<i64>, Error> {
    let query = sqlx::query_scalar!("SELECT version FROM location WHERE id = $1 FOR UPDATE", id.as_str());
    Ok(query.fetch_optional(conn).await?)
}

/// Makes a location, or sets the one that is there.
pub async fn upsert(conn: &mut Conn, location: &NewLocation<'_>) -> Result<Location, Error> {
    let row = sqlx::query_as!(
        Row,
        "INSERT INTO location AS l (id, name, priority, is_active) VALUES ($1, $3, $4, COALESCE($5, true))
         ON CONFLICT (id) DO UPDATE
         SET name = CASE WHEN $2 THEN EXCLUDED.name ELSE l.name END, priority = EXCLUDED.priority,
             is_active = COALESCE($5, l.is_active), version = l.version + 1, updated_at = now()
         RETURNING id, name, priority, is_active, version, created_at, updated_at",
        location.id.as_str(),
        location.name.is_some(),
        location.name.flatten(),
        location.priority,
        location.is_active,
    )
    .fetch_one(conn)
    .await?;
    row.try_into()
}

/// One location.
pub async fn find(conn: &mut Conn, id: &LocationId) -> Result<Option<Location>, Error> {
    let row = sqlx::query_as!(
        Row,
        "SELECT id, name, priority, is_active, version, created_at, updated_at FROM location WHERE id = $1",
        id.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(Location::try_from).transpose()
}

/// Those of the locations that there are.
pub async fn find_known(conn: &mut Conn, ids: &[&LocationId]) -> Result<HashSet<LocationId>, Error> {
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let known =
        sqlx::query_scalar!("SELECT id FROM location WHERE id = ANY($1)", &ids as _).fetch_all(conn).await?;
    known.iter().map(|id| parse(id, "location.id")).collect()
}

/// Locations by id: those that are active, or are not, if it is said, and from the one after `after` on.
pub async fn list(
    conn: &mut Conn,
    is_active: Option<bool>,
    after: Option<&LocationId>,
    limit: i64,
) -> Result<Vec<Location>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, name, priority, is_active, version, created_at, updated_at FROM location
         WHERE id > COALESCE($1, '') AND ($2::boolean IS NULL OR is_active = $2) ORDER BY id LIMIT $3",
        after.map(LocationId::as_str),
        is_active,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Location::try_from).collect()
}
