//! Follows the session for the table: suspect, verified, over. Also the clock of the table.
//!
//! After every doubt about the session each held node is looked up once before anything is granted from the table again.

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};

use super::{Cache, table::Table};
use crate::lock::zookeeper::{
    entry::RETRY,
    session::{Fault, Session},
};

/// Requests on their way at a time.
const WINDOW: usize = 256;
/// How often, at least, the table learns that the process runs.
const TICK_MAX: Duration = Duration::from_millis(250);

/// Until closing.
pub(super) async fn watch(cache: Arc<Cache>, mut sessions: watch::Receiver<Option<Arc<Session>>>) {
    loop {
        let session = tokio::select! {
            biased;
            () = cache.closing.cancelled() => break,
            session = sessions.wait_for(Option::is_some) => session.ok().and_then(|session| session.clone()),
        };
        let Some(session) = session else { break };
        cache.with(|table, now, fx| table.begin(session.clone(), now, fx));
        cache.sessions.send_replace(Some(session.clone()));
        tokio::select! {
            biased;
            () = cache.closing.cancelled() => {}
            () = session.ended().cancelled() => {}
            () = follow(&cache, &session) => {}
        }
        cache.sessions.send_replace(None);
        cache.with(|table, _, fx| table.end(fx));
    }
    cache.with(|table, _, fx| table.close(fx));
}

/// Never returns, except with the session.
async fn follow(cache: &Cache, session: &Session) {
    let mut states = session.client().state_watcher();
    let mut tick = time::interval((session.longest_pause() / 4).min(TICK_MAX).min(cache.tick));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let doubt = tokio::select! {
            biased;
            _ = states.changed() => true,
            _ = tick.tick() => cache.with(|table, now, fx| {
                let doubt = table.wake(session.longest_pause(), now);
                table.sweep(now, fx);
                doubt
            }),
        };
        if !doubt {
            continue;
        }
        cache.with(|table, _, _| table.trusted = false);
        loop {
            if session.connected().await.is_err() {
                return;
            }
            match verify(cache, session).await {
                Ok(()) => break,
                Err(Fault::Ended) => return,
                Err(fault) => tracing::debug!(%fault, "held locks are not verified yet"),
            }
            time::sleep(RETRY).await;
        }
        cache.with(Table::trust);
    }
}

/// Whether every held node still exists. `sync` first: the server must have seen what happened while it was away.
async fn verify(cache: &Cache, session: &Session) -> Result<(), Fault> {
    session.call(session.client().sync("/")).await?;
    let nodes = cache.with(|table, _, _| table.nodes());
    for nodes in nodes.chunks(WINDOW) {
        let stats = nodes.iter().map(|node| session.call(session.client().check_stat(&node.path)));
        let stats = try_join_all(stats).await?;
        for (node, _) in nodes.iter().zip(stats).filter(|(_, stat)| stat.is_none()) {
            cache.with(|table, _, fx| table.lose_node(node, fx));
        }
    }
    Ok(())
}
