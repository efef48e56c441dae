//! Kill, restart, pause and resume of each server.

// A helper that panics is a failed test.
#![allow(clippy::unwrap_used)]

// Each test program uses its own part of it.
#[allow(dead_code)]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use devstack::{Stack, StackOptions};
use support::{alone, assert_nothing_left, sql, srvr};

/// One command of ZooKeeper's own client.
fn zookeeper_client(stack: &Stack, args: &[&str]) -> String {
    let servers = stack.addresses().zookeeper_servers.clone().unwrap();
    let classpath = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar";
    let main = ["-cp", classpath, "org.apache.zookeeper.ZooKeeperMain", "-server", &servers];
    let output = Command::new("java").args(main).args(args).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn kill_and_restart_keep_data_and_port() {
    let _alone = alone();
    let stack = Stack::start(StackOptions::default()).unwrap();
    let before = stack.addresses().clone();
    let url = before.postgres_url.clone().unwrap();
    sql(&url, "CREATE TABLE kept AS SELECT 42 AS answer").unwrap();
    assert!(zookeeper_client(&stack, &["create", "/kept", "yes"]).contains("Created /kept"));
    stack.rabbitmqctl("rabbitmq", &["add_vhost", "kept"]).unwrap();
    // An open session must not keep the shared memory, nor the restart waiting.
    let mut session = Command::new("psql")
        .args([&url, "-X", "-c", "SELECT pg_sleep(600)"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for name in stack.names() {
        let old = stack.pid(&name).unwrap();
        stack.kill(&name).unwrap();
        assert_eq!(stack.pid(&name), None);
        stack.restart(&name).unwrap();
        assert_ne!(stack.pid(&name), Some(old));
        // Gracefully this time.
        stack.restart(&name).unwrap();
    }
    session.wait().unwrap();
    assert_eq!(stack.addresses(), &before);
    assert_eq!(sql(&url, "SELECT answer FROM kept").unwrap(), "42");
    assert!(zookeeper_client(&stack, &["get", "/kept"]).contains("yes"));
    assert!(stack.rabbitmqctl("rabbitmq", &["list_vhosts"]).unwrap().contains("kept"));
    let dir = before.dir;
    drop(stack);
    assert_nothing_left(&dir);
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let _alone = alone();
    let stack = Stack::start(StackOptions::default()).unwrap();
    let url = stack.addresses().postgres_url.clone().unwrap();
    let zookeeper = stack.addresses().zookeeper_servers.clone().unwrap();

    // A session that already runs must stop, too: PostgreSQL gives each one a process group of its own.
    sql(&url, "CREATE TABLE ticks (at timestamptz)").unwrap();
    let script = "DO $$ BEGIN FOR i IN 1..200 LOOP INSERT INTO ticks VALUES (clock_timestamp()); COMMIT; \
                  PERFORM pg_sleep(0.02); END LOOP; END $$";
    let mut session = Command::new("psql").args([&url, "-X", "-c", script]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    stack.pause("postgres").unwrap();
    let paused = Instant::now();
    stack.pause("zookeeper").unwrap();
    stack.pause("rabbitmq").unwrap();
    assert_eq!(srvr(&zookeeper), "");
    assert!(stack.pid("postgres").is_some());
    std::thread::sleep(Duration::from_secs(2).saturating_sub(paused.elapsed()));
    for name in stack.names() {
        stack.resume(&name).unwrap();
    }
    assert!(session.wait().unwrap().success());
    let gap = "SELECT max(gap) >= interval '1.5 s' FROM (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM ticks) g";
    assert_eq!(sql(&url, gap).unwrap(), "t");
    assert!(srvr(&zookeeper).contains("Mode: standalone"));
    stack.rabbitmqctl("rabbitmq", &["status"]).unwrap();

    // A paused server can be stopped and killed.
    stack.pause("postgres").unwrap();
    stack.stop("postgres").unwrap();
    stack.pause("rabbitmq").unwrap();
    stack.kill("rabbitmq").unwrap();
    let dir = stack.addresses().dir.clone();
    stack.pause("zookeeper").unwrap();
    drop(stack);
    assert_nothing_left(&dir);
}

#[test]
fn a_failed_start_names_the_server_its_log_and_the_last_lines() {
    let _alone = alone();
    let options = StackOptions {
        postgres: false,
        rabbitmq_nodes: 0,
        zookeeper_jvm_flags: vec!["-Xno-such-flag".to_owned()],
        ..StackOptions::default()
    };
    let error = Stack::start(options).err().unwrap().to_string();
    assert!(error.starts_with("zookeeper ended at its start (exit status: 1)"), "{error}");
    assert!(error.contains("logs/zookeeper.log") && error.contains("-Xno-such-flag"), "{error}");
    let dir = error.split("lines of ").nth(1).unwrap().split("/logs").next().unwrap();
    assert_nothing_left(Path::new(dir).to_str().unwrap());
}
