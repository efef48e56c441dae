//! The parent dies; nothing of its stack survives.

// A helper that panics is a failed test.
#![allow(clippy::unwrap_used)]

// Each test program uses its own part of it.
#[allow(dead_code)]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use devstack::Addresses;
use support::{alone, assert_nothing_left, eventually, processes_of, sql};

const DEVSTACK: &str = env!("CARGO_BIN_EXE_devstack");

fn up() -> (Child, Addresses) {
    let mut child = Command::new(DEVSTACK).args(["up", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        text.push_str(&line);
        if line == "}" {
            break;
        }
    }
    (child, serde_json::from_str(&text).unwrap())
}

fn devstack(args: &[&str], dir: &str) -> (bool, String) {
    let output = Command::new(DEVSTACK).args(args).args(["--dir", dir]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_killed_parent_leaves_nothing() {
    let _alone = alone();
    let (mut parent, addresses) = up();
    let dir = addresses.dir.as_str();
    // A paused server with a session of its own, which cannot see any polite signal, and a busy session.
    let url = addresses.postgres_url.clone().unwrap();
    let mut busy = Command::new("psql")
        .args([&url, "-X", "-c", "SELECT count(*) FROM generate_series(1, 100000000000)"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1%' AND pid <> pg_backend_pid()";
    eventually("the busy query runs", Duration::from_secs(5), || sql(&url, running).as_deref() == Ok("1"));
    for server in ["postgres", "zookeeper"] {
        assert_eq!(devstack(&["pause", server], dir), (true, String::new()));
    }
    let (ok, status) = devstack(&["status"], dir);
    assert!(
        ok && status.matches("paused").count() == 2 && status.matches("running").count() == 1,
        "{status}"
    );
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert_nothing_left(dir);
    assert!(!busy.wait().unwrap().success());
    let (ok, text) = devstack(&["status"], dir);
    assert!(!ok && text.contains("no stack runs in"), "{text}");
}

#[test]
fn a_parent_killed_during_the_start_leaves_nothing() {
    let _alone = alone();
    // The folder's name is not printed yet: it is found through TMPDIR.
    let place = tempfile::Builder::new().prefix("devstack-").tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for delay in [100, 700, 2500] {
        let mut parent = Command::new(DEVSTACK)
            .arg("up")
            .env("TMPDIR", place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        parent.kill().unwrap();
        parent.wait().unwrap();
        let dir = place.path().display().to_string();
        eventually("no process and no folder", Duration::from_secs(15), || {
            processes_of(&dir).is_empty() && std::fs::read_dir(place.path()).unwrap().next().is_none()
        });
    }
}

#[test]
fn sigterm_stops_the_stack_and_the_command() {
    let _alone = alone();
    let mut parent = Command::new(DEVSTACK)
        .args(["run", "--zookeeper", "0", "--rabbitmq", "0", "--", "sh", "-c"])
        .arg("trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let pid = parent.id().to_string();
    assert!(Command::new("/bin/sh").args(["-c", "kill -TERM $0", &pid]).status().unwrap().success());
    assert_eq!(parent.wait().unwrap().code(), Some(5));
}

#[test]
fn the_control_commands_reach_the_stack() {
    let _alone = alone();
    let (mut parent, addresses) = up();
    let dir = addresses.dir.as_str();
    let (ok, env) = devstack(&["env"], dir);
    assert!(
        ok && env.contains(&format!("export DATABASE_URL='{}'", addresses.postgres_url.unwrap())),
        "{env}"
    );
    assert!(devstack(&["kill", "zookeeper"], dir).0);
    assert!(devstack(&["status"], dir).1.contains("stopped"));
    assert!(devstack(&["restart", "zookeeper"], dir).0);
    let (ok, text) = devstack(&["stop", "mysql"], dir);
    assert!(!ok && text.contains("no mysql in this stack"), "{text}");
    let pid = parent.id().to_string();
    assert!(Command::new("/bin/sh").args(["-c", "kill -INT $0", &pid]).status().unwrap().success());
    assert!(parent.wait().unwrap().success());
    assert!(!Path::new(dir).exists());
    assert_nothing_left(dir);
}
