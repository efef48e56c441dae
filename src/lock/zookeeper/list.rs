//! Who holds what, read from outside: what `holdfast locks list` prints.
//!
//! Reads only, one level of the tree after the other, with many requests on their way at a time. What comes or goes
//! meanwhile is in the list or not.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;

use super::{
    path,
    session::{Fault, Session},
};
use crate::lock::LockedKey;

/// Requests on their way at a time.
const WINDOW: usize = 128;

/// What a node says about its owner.
#[derive(Deserialize)]
struct NodeData {
    holder: String,
    since: DateTime<Utc>,
}

/// Every key that is held, sorted.
pub(super) async fn locked_keys(session: &Session, root: &str) -> Result<Vec<LockedKey>, Fault> {
    let shards = children(session, root).await?;
    let queues = stream::iter(shards).map(|shard| async move { children(session, &shard).await });
    let queues: Vec<Vec<String>> = queues.buffered(WINDOW).try_collect().await?;
    let locked = stream::iter(queues.concat()).map(|queue| async move { locked(session, &queue).await });
    let locked: Vec<Option<LockedKey>> = locked.buffered(WINDOW).try_collect().await?;
    let mut locked: Vec<LockedKey> = locked.into_iter().flatten().collect();
    locked.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(locked)
}

/// The paths of a node's children; none of a node that does not exist.
async fn children(session: &Session, path: &str) -> Result<Vec<String>, Fault> {
    match session.call(session.client().list_children(path)).await {
        Ok(names) => Ok(names.into_iter().map(|name| format!("{path}/{name}")).collect()),
        Err(Fault::NoNode) => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

async fn locked(session: &Session, queue: &str) -> Result<Option<LockedKey>, Fault> {
    let contenders = children(session, queue).await?;
    let Some((node, waiting)) = path::first(&contenders) else { return Ok(None) };
    let data = match session.call(session.client().get_data(node)).await {
        Ok((data, _)) => data,
        // Released meanwhile.
        Err(Fault::NoNode) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let key = path::key(queue.rsplit_once('/').map_or(queue, |(_, name)| name));
    let (holder, since) = match serde_json::from_slice::<NodeData>(&data) {
        Ok(data) => (data.holder, Some(data.since)),
        // Another program's.
        Err(_) => ("unknown".to_owned(), None),
    };
    Ok(Some(LockedKey { key, holder, since, waiting }))
}
