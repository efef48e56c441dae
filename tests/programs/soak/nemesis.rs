//! Carries the faults out, heals them, and starts again what ended by itself, as whoever runs the system would.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use devstack::Signal;
use tokio::{
    task::{JoinSet, block_in_place},
    time::{sleep, sleep_until},
};

use super::{
    observer::Board,
    schedule::{Fault, Kind, is_server},
    system::{APIS, ROLES, System},
};

/// How long a process may take to drain.
const DRAIN: Duration = Duration::from_secs(25);

/// For so long it is looked whether what a fault had hit works again.
const RECOVERED_WITHIN: Duration = Duration::from_mins(1);

/// A recovery that takes so long is told of.
const SLOW_RECOVERY: Duration = Duration::from_secs(5);

/// Carries out all faults, and returns when the last is healed. Gives what went wrong with it.
pub(super) async fn run(
    system: &Arc<System>,
    board: &Arc<Board>,
    faults: Vec<Fault>,
    began: Instant,
) -> Vec<String> {
    tokio::spawn(supervise(Arc::clone(system), Arc::clone(board)));
    let mut running = JoinSet::new();
    // A fault waits for the one before it on the same target, should that take longer than the schedule thinks.
    let mut turns = BTreeMap::<String, Arc<tokio::sync::Mutex<()>>>::new();
    for fault in faults {
        let turn = Arc::clone(turns.entry(fault.target.clone()).or_default());
        let (system, board) = (Arc::clone(system), Arc::clone(board));
        running.spawn(async move {
            sleep_until((began + fault.at).into()).await;
            let _turn = turn.lock().await;
            carry_out(&system, &board, &fault, began).await
        });
    }
    let mut trouble = Vec::new();
    while let Some(ended) = running.join_next().await {
        trouble.extend(ended.unwrap());
    }
    trouble
}

async fn carry_out(
    system: &Arc<System>,
    board: &Arc<Board>,
    fault: &Fault,
    began: Instant,
) -> Option<String> {
    println!("{:7.1} s  begins: {fault}", began.elapsed().as_secs_f64());
    *board.faults.lock().unwrap().entry(fault.kind.as_str()).or_default() += 1;
    board.down.lock().unwrap().insert(fault.target.clone());
    let begun = begin(system, fault);
    sleep(fault.lasts).await;
    let healed = begun.and_then(|()| heal(system, fault));
    board.down.lock().unwrap().remove(&fault.target);
    let since = Instant::now();
    println!("{:7.1} s  healed: {} {}", began.elapsed().as_secs_f64(), fault.kind.as_str(), fault.target);
    tokio::spawn(note_recovery(Arc::clone(board), fault.clone(), since));
    healed.err().map(|error| format!("{fault}: {error:#}"))
}

/// Notes how long after its end it took until the way that a fault was on worked again.
async fn note_recovery(board: Arc<Board>, fault: Fault, since: Instant) {
    let path = path(&fault);
    let mut after = None;
    while after.is_none() && since.elapsed() < RECOVERED_WITHIN {
        sleep(Duration::from_millis(20)).await;
        after = path.iter().filter_map(|path| board.worked_since(path, since)).min();
    }
    let after = after.unwrap_or(RECOVERED_WITHIN);
    board.recoveries.lock().unwrap().push(after);
    if after >= SLOW_RECOVERY {
        println!("           {path:?} worked {:.1} s after the end of: {fault}", after.as_secs_f64());
    }
}

fn begin(system: &System, fault: &Fault) -> anyhow::Result<()> {
    let (stack, target) = (&system.stack, fault.target.as_str());
    block_in_place(|| match fault.kind {
        Kind::Kill => stack.kill(target),
        // One that has just ended by itself is not there to be stopped.
        Kind::Pause => stack.pause(target).or(Ok(())),
        Kind::Terminate => {
            stack.signal(target, Signal::TERM)?;
            stack.wait_exit(target, DRAIN).map(drop)
        }
        Kind::Partition | Kind::Stall => {
            for server in fault.servers {
                system.part(target, server, true);
            }
            Ok(())
        }
        Kind::Alarm => stack.rabbitmqctl(target, &["set_vm_memory_high_watermark", "0.00001"]).map(drop),
    })
}

fn heal(system: &System, fault: &Fault) -> anyhow::Result<()> {
    let (stack, target) = (&system.stack, fault.target.as_str());
    block_in_place(|| match fault.kind {
        // A busy machine may take longer than a start is given.
        Kind::Kill | Kind::Terminate => stack.restart(target).or_else(|_| stack.restart(target)),
        Kind::Pause => stack.resume(target),
        Kind::Partition | Kind::Stall => {
            for server in fault.servers {
                system.part(target, server, false);
            }
            Ok(())
        }
        Kind::Alarm => stack.rabbitmqctl(target, &["set_vm_memory_high_watermark", "0.4"]).map(drop),
    })
}

/// What has to work again, one of these: the way through the system that the fault was on.
fn path(fault: &Fault) -> Vec<String> {
    let target = fault.target.as_str();
    if target.starts_with("rabbitmq") {
        return vec!["relay".to_owned()];
    }
    if target == "sandbox" {
        return vec!["payment".to_owned()];
    }
    if is_server(target) {
        return APIS.map(str::to_owned).to_vec();
    }
    if target.starts_with("api") {
        return vec![target.to_owned()];
    }
    vec![target.trim_end_matches("-a").trim_end_matches("-b").to_owned()]
}

/// Starts what has ended by itself, e.g. because PostgreSQL was away when it started.
async fn supervise(system: Arc<System>, board: Arc<Board>) {
    while !board.is_over.load(Ordering::Relaxed) {
        sleep(Duration::from_secs(1)).await;
        for (role, _) in ROLES {
            let is_down = board.down.lock().unwrap().contains(role);
            if !is_down && system.stack.pid(role).is_none() {
                println!("           {role} has ended by itself: started again");
                let _ = block_in_place(|| system.stack.restart(role));
            }
        }
    }
}

pub(super) fn stop_supervising(board: &Board) {
    board.is_over.store(true, Ordering::Relaxed);
}
