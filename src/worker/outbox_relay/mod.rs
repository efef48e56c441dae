//! The relay: publishes the outbox. The only caller of [`EventBus::publish`].
//!
//! At least once, and in order within an aggregate: a row leaves the outbox only after the broker has confirmed it, by a
//! statement that checks this process's lease. A crash anywhere before that publishes the row again, under the same id.
//! A paused former owner of a lease may publish a row twice; it cannot remove one.
//!
//! `assignment`: which shards are whose. `keeper`: takes them and hands them over. `leases`: what keeper and lanes share. `lane`:
//! publishes. `pace`: how often it looks. `place`: from where on.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

use crate::{app::App, bus::EventBus, config::RelayWorker, members::MemberDirectory};

mod assignment;
mod keeper;
mod lane;
mod leases;
mod metrics;
mod pace;
mod place;

use keeper::Keeper;
use lane::Lane;
use leases::Leases;
use pace::Pace;

pub(super) async fn run(
    app: App,
    bus: Arc<dyn EventBus>,
    directory: Arc<dyn MemberDirectory>,
    settings: RelayWorker,
    shutdown: CancellationToken,
) {
    metrics::describe();
    let name = format!("relay-{}", Uuid::now_v7().simple());
    let (owner, lease) = (Arc::from(name.as_str()), Duration::from_secs(settings.lease_seconds));
    let leases = Arc::new(Leases::new(settings.lanes.into()));
    let members = directory.join(&name, lease).await;
    let keeper = Keeper { app: app.clone(), name, lease, leases: Arc::clone(&leases), members };
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for index in 0..settings.lanes.into() {
        let (app, bus) = (app.clone(), Arc::clone(&bus));
        let (leases, owner) = (Arc::clone(&leases), Arc::clone(&owner));
        let lane = Lane { app, bus, leases, index, room: settings.window.into(), owner };
        tasks.spawn(lane.run(Pace::new(Duration::from_millis(settings.poll_interval_ms)), shutdown.clone()));
    }
    tasks.spawn(keeper.run(stop.clone()));
    let watched = AbortOnDropHandle::new(tokio::spawn({
        let app = app.clone();
        async move { app.backlog.watch(&app.store).await }
    }));
    // The lanes end first: the keeper waits for them. One that panics makes this task panic, and with it the process end.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
        if tasks.len() == 1 {
            stop.cancel();
        }
    }
    drop(watched);
}
