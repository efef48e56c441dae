//! A follower that is cut off from its leader goes on telling its clients that they hold what others have taken since.
//!
//! Sessions shorter than that time let two holders believe in one lock, and only the fence tells them apart; with a longer
//! one, a process suspects its session before another has its locks.

use std::fs;

use tokio::time::Instant;

use crate::support::{
    ensemble::{Ensemble, STALE},
    eventually,
    lock_system::{Differences, LockSystem},
    programs::fenced_holder,
    system::PATIENCE,
    zookeeper::{Locks, Observer},
};

/// Processes on both sides. The holders and their rivals read in one transaction and write in another.
struct Sides<'a> {
    fenced: LockSystem,
    /// Its holder writes without its token: the accounts of this one will not add up.
    unfenced: LockSystem,
    following: &'a str,
    leading: &'a str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_partition() {
    let ensemble = Ensemble::whole().await;
    let leader = ensemble.leader().await;
    let follower = (leader + 1) % 3;
    let sides = Sides::start(ensemble.server(leader), ensemble.server(follower)).await;
    let fenced = &sides.fenced;
    let (short_level, long_level) = (fenced.hold_level("short").await, fenced.hold_level("long").await);
    let cut_off = async {
        tokio::join!(
            fenced.order("short", "short", &[("short", 1)]),
            fenced.sell("long", "long", &[("long", 1)])
        )
    };
    let partition = async {
        fenced.wait_for_waiters(2).await;
        let mut nodes = fenced.observer.nodes().await.into_iter();
        let long_node = nodes.find(|node| node.contains("/long/")).unwrap();
        let (stale, fresh) = (programs_at(sides.following).await, programs_at(sides.leading).await);
        ensemble.cut_off(follower);
        let cut = Instant::now();
        let long_session = async {
            sides.wait_for_the_end(&long_node, cut).await;
            short_level.rollback().await.unwrap();
            long_level.rollback().await.unwrap();
        };
        let ((), (), rival, _) = tokio::join!(
            sides.overtake(&stale, &fresh, cut),
            long_session,
            fenced.order("rival", "rival-short", &[("short", 1)]),
            fenced.sell("rival", "rival-long", &[("long", 1)])
        );
        rival
    };
    let ((short, _), rival) = tokio::join!(cut_off, partition);
    let mut statuses = [short.status.as_u16(), rival.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{short:?} {rival:?}");
    sides.finish().await;
}

impl<'a> Sides<'a> {
    /// Everything up to the cut, but the orders.
    async fn start(leading: &'a str, following: &'a str) -> Self {
        let stock = [("absolute-on", 1), ("short", 1), ("long", 9)];
        let fenced = LockSystem::start(leading, &[], &stock).await;
        let unfenced = LockSystem::start(leading, &[], &[("absolute-off", 1)]).await;
        let sides = Self { fenced, unfenced, following, leading };
        for (system, fence) in sides.systems() {
            let go = system.stack.dir().join("go").display().to_string();
            hold(system, "holder", following, &["absolute", fence, &format!("absolute-{fence}"), &go]);
            system.wait_for_log("holder", "read").await;
        }
        let cut_off =
            |ms| Differences { zookeeper: Some(following), session_ms: Some(ms), ..Differences::default() };
        let (short, long) = (cut_off(2000), cut_off(10_000));
        let fenced = &sides.fenced;
        tokio::join!(fenced.api_with("short", &short), fenced.api_with("long", &long), fenced.api("rival"));
        sides
    }

    /// With what is said of the fence.
    fn systems(&self) -> [(&LockSystem, &'static str); 2] {
        [(&self.fenced, "on"), (&self.unfenced, "off")]
    }

    /// The rivals sell what the holders have read, while the holders' server tells them that nothing has changed. Then
    /// the holders go on.
    async fn overtake(&self, stale: &Observer, fresh: &Observer, cut: Instant) {
        let held = fresh.nodes().await;
        assert_eq!(held.len(), 2, "{held:?}");
        for (system, fence) in self.systems() {
            // What exists already: it need not wait.
            let go = system.stack.dir().display().to_string();
            hold(
                system,
                "rival-holder",
                self.leading,
                &["absolute", fence, &format!("absolute-{fence}"), &go],
            );
        }
        for (system, _) in self.systems() {
            assert_eq!(system.finish_program("rival-holder").await, "read\nsold\n");
        }
        for node in &held {
            let told = stale.client.check_stat(node).await;
            assert!(matches!(told, Ok(Some(_))), "{told:?} after {:?}", cut.elapsed());
            assert!(fresh.client.check_stat(node).await.unwrap().is_none());
        }
        eprintln!("partition: overtaken after {:?}", cut.elapsed());
        for (system, _) in self.systems() {
            fs::write(system.stack.dir().join("go"), "").unwrap();
        }
    }

    /// The long session ends after its process has become suspicious.
    async fn wait_for_the_end(&self, node: &String, cut: Instant) {
        let taken = async || !self.fenced.observer.nodes().await.contains(node);
        eventually("the long session expires", PATIENCE, taken).await;
        let (taken, log) = (cut.elapsed(), self.fenced.log("long"));
        eprintln!("partition: the long session expired after {taken:?}");
        assert!(log.contains("lock session suspect"), "{log}");
        assert!(taken > STALE, "{taken:?}");
    }

    async fn finish(&self) {
        let holder = self.fenced.finish_program("holder").await;
        assert!(holder.starts_with("read\nrefused: inconsistent data: "), "{holder}");
        // One of what was the last, and both of `long`.
        self.fenced.finish(4).await;
        // Without its token the same write goes through: nothing else would have stopped it.
        assert_eq!(self.unfenced.finish_program("holder").await, "read\nsold\n");
        assert_eq!(self.unfenced.count("SELECT count(*) FROM reservation").await, 2);
        assert!(!self.unfenced.run(&["verify"]).await.success);
    }
}

/// The locks of the programs, as this server tells.
async fn programs_at(server: &str) -> Observer {
    Locks { root: "/holdfast/locks".into(), ..Locks::new(server) }.observer().await
}

fn hold(system: &LockSystem, name: &str, server: &str, args: &[&str]) {
    system.spawn_program(name, &fenced_holder(), args, &[("HOLDFAST__LOCK__ZOOKEEPER__SERVERS", server)]);
}
