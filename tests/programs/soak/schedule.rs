//! Which fault comes when: a function of the seed, the length and what there is, and of nothing else.

use std::{collections::BTreeMap, fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Options,
    system::{APIS, ROLES},
};

/// Until then everything works, so that there is something to break: also, RabbitMQ 3.10 that is killed at once after it made a
/// quorum queue can come back with a queue that never elects a leader.
const CALM: Duration = Duration::from_secs(12);

/// What is done to a process or a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// SIGKILL, and started again.
    Kill,
    /// SIGSTOP, SIGCONT.
    Pause,
    /// SIGTERM, and started again.
    Terminate,
    /// A process does not reach a server.
    Partition,
    /// What a process says to PostgreSQL and ZooKeeper arrives late: whatever it was writing when it lost its locks, too.
    Stall,
    /// The broker is low on memory.
    Alarm,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Terminate => "terminate",
            Self::Partition => "partition",
            Self::Stall => "stall",
            Self::Alarm => "alarm",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// From the begin of the load on.
    pub(super) at: Duration,
    pub(super) kind: Kind,
    /// A role or a server, by its name in the stack.
    pub(super) target: String,
    /// Which servers a partition or a stall is from: `postgres`, `zookeeper`, `rabbitmq`.
    pub(super) servers: &'static [&'static str],
    /// Until it is healed.
    pub(super) lasts: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, kind, target, servers, lasts } = self;
        let from =
            if servers.is_empty() { String::new() } else { format!(" from {}", servers.join(" and ")) };
        write!(
            f,
            "{:7.1} s  {} {target}{from} for {:.1} s",
            at.as_secs_f64(),
            kind.as_str(),
            lasts.as_secs_f64()
        )
    }
}

/// Draws the faults. A target is left alone until it has recovered from the fault before, and so are the servers as long as one
/// of them has not: of what it cannot do without, the system loses one at a time.
pub(super) fn draw(seed: u64, length: Duration, options: &Options) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut free_at = BTreeMap::<String, Duration>::new();
    let (mut faults, mut at) = (Vec::new(), CALM);
    while at < length {
        let mut fault = draw_one(&mut random, at, options);
        fault.lasts = fault.lasts.min(length.saturating_sub(at));
        let is_server = is_server(&fault.target) || fault.target == "sandbox";
        let name = if is_server { "servers".to_owned() } else { fault.target.clone() };
        if free_at.get(&name).is_none_or(|free_at| *free_at <= at) {
            free_at.insert(name, at + fault.lasts + recovery(&fault));
            faults.push(fault);
            at += Duration::from_millis(random.random_range(3_000..10_000));
        }
    }
    faults
}

fn draw_one(random: &mut StdRng, at: Duration, options: &Options) -> Fault {
    let seconds = |random: &mut StdRng, from: u64, to: u64| {
        Duration::from_millis(random.random_range(from * 1_000..to * 1_000))
    };
    let role = ROLES[random.random_range(0..ROLES.len())].0.to_owned();
    let node = |random: &mut StdRng, name: &str, count: u8| match count {
        1 => name.to_owned(),
        count => format!("{name}-{}", random.random_range(1..=count)),
    };
    let fault = |kind, target, servers, lasts| Fault { at, kind, target, servers, lasts };
    match random.random_range(0..100) {
        0..22 => fault(Kind::Kill, role, &[], seconds(random, 0, 4)),
        // Long enough to lose a lease (3 s), a session (4 s), an idle transaction (5 s), or none of them.
        22..43 => fault(Kind::Pause, role, &[], seconds(random, 1, 14)),
        43..50 => fault(Kind::Terminate, role, &[], seconds(random, 0, 2)),
        // Longer than a session, and not as long as an API waits for PostgreSQL.
        50..57 => {
            let api = APIS[random.random_range(0..APIS.len())];
            fault(Kind::Stall, api.to_owned(), &["postgres", "zookeeper"], seconds(random, 6, 12))
        }
        57..76 => {
            let server = [&["postgres"], &["zookeeper"], &["rabbitmq"]][random.random_range(0..3)];
            fault(Kind::Partition, role, server, seconds(random, 2, 12))
        }
        76..83 => fault(Kind::Kill, "postgres".to_owned(), &[], seconds(random, 0, 4)),
        83..89 => {
            fault(Kind::Kill, node(random, "zookeeper", options.zookeepers), &[], seconds(random, 0, 6))
        }
        89..94 => fault(Kind::Kill, node(random, "rabbitmq", options.brokers), &[], seconds(random, 0, 4)),
        94..97 => fault(Kind::Alarm, node(random, "rabbitmq", options.brokers), &[], seconds(random, 3, 10)),
        _ => fault(Kind::Pause, "sandbox".to_owned(), &[], seconds(random, 2, 8)),
    }
}

pub(super) fn is_server(target: &str) -> bool {
    ["postgres", "zookeeper", "rabbitmq"].iter().any(|server| target.starts_with(server))
}

/// How long it takes until a target works again, about.
fn recovery(fault: &Fault) -> Duration {
    Duration::from_secs(match fault.target.as_str() {
        target if target.starts_with("rabbitmq") => 25,
        target if is_server(target) => 12,
        _ => 5,
    })
}
