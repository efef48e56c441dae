//! Setting a location: its name, its priority, whether new orders are taken from it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App, Error,
    expected_version::ExpectedVersion,
    present::{given, present},
    retry::retry_before_commit,
};
use crate::{
    domain::{
        bounds::{Priority, Text},
        inventory::{Location, LocationId},
        validation::Validator,
    },
    store::locations::{self, NewLocation},
};

/// A request to set a location. Makes it if there is none.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "Warehouse north", "priority": 10 }))]
pub struct SetLocation {
    /// What people call it; nothing if `null`; unchanged if absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Text>)]
    pub name: Option<Option<String>>,
    /// Which location is taken from first: lower before higher, then by id.
    #[schema(value_type = Priority)]
    pub priority: i32,
    /// Whether new orders are taken from it without naming it; unchanged if absent, and of a new location `true`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    pub is_active: Option<bool>,
}

impl App {
    /// Sets a location, and answers with it.
    ///
    /// # Errors
    /// Invalid fields; another version than expected.
    pub async fn set_location(
        &self,
        id: &LocationId,
        expected: Option<&ExpectedVersion>,
        set: &SetLocation,
    ) -> Result<Location, Error> {
        let name = set.name.as_ref().map(Option::as_deref);
        let mut check = Validator::default();
        Text::require(&mut check, name.flatten(), "/name");
        Priority::require(&mut check, i64::from(set.priority), "/priority");
        check.finish().map_err(Error::Invalid)?;
        let location = NewLocation { id, name, priority: set.priority, is_active: set.is_active };
        retry_before_commit("set_location", || async {
            let mut tx = self.store.begin("set_location").await?;
            ExpectedVersion::require(expected, locations::lock(&mut tx, id).await?)?;
            let stored = locations::upsert(&mut tx, &location).await?;
            tx.commit().await?;
            Ok(stored)
        })
        .await
    }
}
