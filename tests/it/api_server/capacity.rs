//! How many clients may be connected.

use std::{fs, path::Path, process::Command};

use super::{LIVEZ, Served, connect_until_refused};
use crate::support::{
    PATIENCE, eventually,
    programs::idle_connections,
    raw_http::RawHttp,
    system::{Servers, System},
};

/// How many of those that are too many are told so at a time.
const TOLD: usize = 256;

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_disturbs_nobody() {
    let served = Served::start(|settings| settings.max_connections = 2).await;
    let (mut first, mut second) = (served.connect().await, served.connect().await);
    for client in [&mut first, &mut second] {
        client.send(LIVEZ).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let answer = RawHttp::last_answer(served.address, LIVEZ.as_bytes()).await;
    let problem = answer.problem(503, "too_many_connections");
    assert_eq!((answer.header("retry-after"), &problem["retryable"]), (Some("1"), &true.into()));
    first.send(LIVEZ).await;
    assert_eq!(first.answer().await.status, 200);

    // An end makes room.
    drop(second);
    let room = async || {
        let mut client = served.connect().await;
        client.send(LIVEZ).await;
        client.answer().await.status == 200
    };
    eventually("there is room", PATIENCE, room).await;
    served.finish().await;
}

#[tokio::test]
async fn of_very_many_that_say_nothing_the_last_are_closed_at_once() {
    let served = Served::start(|settings| settings.max_connections = 1).await;
    let mut first = served.connect().await;
    first.send(LIVEZ).await;
    assert_eq!(first.answer().await.status, 200);
    let mut told = Vec::new();
    for _ in 0..TOLD {
        told.push(served.connect().await);
    }
    assert_eq!(served.connect().await.rest().await.0, "");
    let mut last_told = told.pop().unwrap();
    last_told.send(LIVEZ).await;
    last_told.ends_with_answer().await.problem(503, "too_many_connections");
    first.send(LIVEZ).await;
    assert_eq!(first.answer().await.status, 200);
    served.finish().await;
}

/// Starts an API under limits of the shell. Gives how many files it may open once it answers.
async fn open_files_under(system: &System, name: &str, ulimit: &str) -> u64 {
    let command = format!("{ulimit} && exec {} api", env!("CARGO_BIN_EXE_holdfast"));
    let bind = system.url(name).trim_start_matches("http://").to_owned();
    system.spawn_program(name, Path::new("/bin/bash"), &["-c", &command], &[("HOLDFAST__HTTP__BIND", &bind)]);
    system.ready(name).await;
    let status = system.stack.status().into_iter().find(|status| status.name == name).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", status.pid.unwrap())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_get_no_descriptors_that_the_database_needs() {
    let settings = [("HOLDFAST__HTTP__MAX_CONNECTIONS", "100")];
    let system = System::start(Servers::Neither, &settings).await;
    // The limit is raised to 100 connections, those that are told, and 512 others, and no further.
    assert_eq!(open_files_under(&system, "api", "ulimit -Sn 200").await, 868);
    assert!(!system.log("api").contains("http.max_connections"), "{}", system.log("api"));
    // Where it cannot be raised so far, there are fewer connections.
    assert_eq!(open_files_under(&system, "api-b", "ulimit -n 778").await, 778);
    let told = "http.max_connections is 100, but with 778 open files there is room for 10";
    assert!(system.log("api-b").contains(told), "{}", system.log("api-b"));
    let address = system.url("api-b").trim_start_matches("http://").parse().unwrap();
    let open = connect_until_refused(address).await;
    assert!(open.len() <= 11, "{}", open.len());
}

/// The measurement is run by hand, with many thousands; here it is seen to work.
#[test]
fn connections_that_say_nothing_are_held_beside_those_that_order() {
    let output = Command::new(idle_connections()).args(["50", "5", "200"]).output().unwrap();
    let (told, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{error}");
    let (rounds, medians): (Vec<&str>, Vec<&str>) = told.lines().partition(|line| line.starts_with("round "));
    assert_eq!(rounds.len(), 5, "{told}");
    assert!(rounds.iter().all(|round| round.contains("with 50 idle and 5 slow clients")), "{told}");
    assert!(medians.last().is_some_and(|last| last.starts_with("median p99: quiet ")), "{told}");
}
