//! An order with its times and the JSON that tells of it, which is the data of its event and the body of its answer.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Answer, Error, Placed, Placement};
use crate::{
    app::answer,
    domain::{allocation::Allocation, new_order::OrderDraft},
    store::placement::PlacedOrder,
};

/// What is written if the order is placed.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    pub(super) created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    body: String,
}

impl Rendered {
    pub(super) fn new(
        draft: &OrderDraft,
        allocations: &[Allocation],
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let expires_at = now + TimeDelta::seconds(draft.ttl_seconds);
        let body = answer::to_json(&draft.to_created(allocations, now, expires_at))?;
        Ok(Self { created_at: now, expires_at, body })
    }

    pub(super) fn order<'a>(
        &'a self,
        placement: &'a Placement,
        allocations: &'a [Allocation],
    ) -> PlacedOrder<'a> {
        PlacedOrder {
            draft: &placement.draft,
            allocations,
            created_at: self.created_at,
            expires_at: self.expires_at,
            request: &placement.request,
            body: &self.body,
            correlation_id: placement.cause.correlation_id.as_deref(),
            trace_parent: placement.cause.trace_parent,
        }
    }

    pub(super) fn into_placed(self, placement: &Placement) -> Placed {
        Placed::Answer(Answer { status: placement.request.success_status, body: self.body, replayed: false })
    }
}
