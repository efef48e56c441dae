//! Locations. A level that is made makes its location with it: trigger `inventory_level_location`.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{Conn, Error, error::parse};
use crate::domain::inventory::{Location, LocationId};

/// A location that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewLocation<'a> {
    /// Its id.
    pub id: &'a LocationId,
    /// What people call it.
    pub name: Option<&'a str>,
    /// 0 to 1000, lower first.
    pub priority: i32,
    /// Whether new orders are taken from it without naming it.
    pub is_active: bool,
}

/// A location as it is stored.
struct Row {
    id: String,
    name: Option<String>,
    priority: i32,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Location {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let Row { id, name, priority, is_active, created_at, updated_at } = row;
        Ok(Self { id: parse(&id, "location.id")?, name, priority, is_active, created_at, updated_at })
    }
}

/// Makes a location, or sets everything of the one that is there.
pub async fn upsert(conn: &mut Conn, location: &NewLocation<'_>) -> Result<Location, Error> {
    let row = sqlx::query_as!(
        Row,
        "INSERT INTO location (id, name, priority, is_active) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE
         SET name = EXCLUDED.name, priority = EXCLUDED.priority, is_active = EXCLUDED.is_active, updated_at = now()
         RETURNING id, name, priority, is_active, created_at, updated_at",
        location.id.as_str(),
        location.name,
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
        "SELECT id, name, priority, is_active, created_at, updated_at FROM location WHERE id = $1",
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

/// Locations by id, from the one after `after` on.
pub async fn list(conn: &mut Conn, after: Option<&LocationId>, limit: i64) -> Result<Vec<Location>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, name, priority, is_active, created_at, updated_at FROM location
         WHERE id > COALESCE($1, '') ORDER BY id LIMIT $2",
        after.map(LocationId::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Location::try_from).collect()
}
