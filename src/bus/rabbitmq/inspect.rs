//! Whether a broker has what the program declares, object by object.
//!
//! Owns the questions. Invariants: unless it is asked to create, nothing on the broker changes. A passive declare, which
//! creates nothing, comes before the declare that compares the arguments, which changes nothing that is there; what somebody
//! deletes between the two is made again as it was to be. What AMQP has no question for is not reported as well: bindings,
//! policies, what is there besides, and further differences of an object that has one.

use std::fmt;

use lapin::Channel;
use serde::Serialize;

use super::{
    connection::Connected,
    definitions::Definitions,
    difference::Difference,
    topology::{Refusal, bind, declare_exchange, declare_queue},
};
use crate::bus::BusError;

/// What there was on the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Found {
    /// It is there as it must be.
    Ok,
    /// It is not there.
    Missing,
    /// It was not there, and is now.
    Created,
    /// It is there, with another property.
    Different(Difference),
    /// The broker refuses to tell or to make it.
    Refused {
        /// What it says.
        reason: String,
    },
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Missing => f.write_str("missing"),
            Self::Created => f.write_str("created"),
            Self::Different(difference) => difference.fmt(f),
            Self::Refused { reason } => reason.fmt(f),
        }
    }
}

/// An exchange or a queue that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// `exchange` or `queue`.
    pub object: &'static str,
    /// Its name.
    pub name: String,
    /// What there was.
    #[serde(flatten)]
    pub found: Found,
    /// What an operator has to do, where the program cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Inspected {
    /// Whether it is not there, and nothing is known against it.
    pub fn is_missing(&self) -> bool {
        self.found == Found::Missing
    }

    /// Whether the broker has it now as it must be.
    pub fn is_ok(&self) -> bool {
        matches!(self.found, Found::Ok | Found::Created)
    }
}

/// Looks for every exchange and queue; with `create`, makes what is missing, and every binding between those that are there.
pub(super) async fn inspect(
    connected: &Connected,
    definitions: &Definitions,
    create: bool,
) -> Result<Vec<Inspected>, BusError> {
    let mut inspector = Inspector { connected, channel: None, create };
    let mut inspected = Vec::new();
    for exchange in &definitions.exchanges {
        let declare = async |channel: &Channel, passive| declare_exchange(channel, exchange, passive).await;
        inspected.push(inspector.look("exchange", &exchange.name, declare).await?);
    }
    for queue in &definitions.queues {
        let declare = async |channel: &Channel, passive| declare_queue(channel, queue, passive).await;
        inspected.push(inspector.look("queue", &queue.name, declare).await?);
    }
    let is_there = |name: &str| !inspected.iter().any(|one| one.name == name && !one.is_ok());
    for binding in definitions.bindings.iter().filter(|_| create) {
        if is_there(&binding.source) && is_there(&binding.destination) {
            bind(inspector.channel().await?, binding).await?;
        }
    }
    Ok(inspected)
}

struct Inspector<'a> {
    connected: &'a Connected,
    /// None after a refusal: the broker closes the channel with it.
    channel: Option<Channel>,
    create: bool,
}

impl Inspector<'_> {
    async fn channel(&mut self) -> Result<&Channel, BusError> {
        match self.channel {
            Some(ref channel) => Ok(channel),
            None => Ok(self.channel.insert(self.connected.open_channel().await?)),
        }
    }

    async fn look(
        &mut self,
        object: &'static str,
        name: &str,
        declare: impl AsyncFn(&Channel, bool) -> Result<(), Refusal>,
    ) -> Result<Inspected, BusError> {
        let mut is_there = true;
        let mut refusal = declare(self.channel().await?, true).await.err();
        if let Some(Refusal::Missing) = refusal {
            self.channel = None;
            is_there = false;
        }
        if refusal.is_none() || (!is_there && self.create) {
            refusal = declare(self.channel().await?, false).await.err();
        }
        let (found, remedy) = match refusal {
            None if is_there => (Found::Ok, None),
            None => (Found::Created, None),
            Some(Refusal::Missing) => (Found::Missing, None),
            Some(Refusal::Different(difference)) => {
                let remedy = difference.remedy(object, name);
                (Found::Different(difference), Some(remedy))
            }
            Some(Refusal::Forbidden(reason)) => (Found::Refused { reason }, None),
            Some(unavailable @ Refusal::Unavailable(_)) => return Err(unavailable.into_error(object, name)),
        };
        if !matches!(found, Found::Ok | Found::Created) {
            self.channel = None;
        }
        Ok(Inspected { object, name: name.to_owned(), found, remedy })
    }
}
