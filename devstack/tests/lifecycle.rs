//! A stack comes up, is used, and leaves nothing behind.

// A helper that panics is a failed test.
#![allow(clippy::unwrap_used)]

// Each test program uses its own part of it.
#[allow(dead_code)]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use devstack::{Stack, StackOptions};
use support::{alone, assert_nothing_left, processes_of, sql, srvr};

#[test]
fn two_stacks_run_side_by_side_and_leave_nothing() {
    let _alone = alone();
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| Stack::start(StackOptions::default()).unwrap());
        let two = scope.spawn(|| Stack::start(StackOptions::default()).unwrap());
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(one.names(), ["postgres", "rabbitmq", "zookeeper"]);
    assert_ne!(one.environment(), two.environment());
    for stack in [&one, &two] {
        let url = stack.addresses().postgres_url.clone().unwrap();
        let settings = "SELECT current_setting('fsync'), current_setting('synchronous_commit')";
        assert_eq!(sql(&url, settings).unwrap(), "on|on");
        let zookeeper = srvr(stack.addresses().zookeeper_servers.as_deref().unwrap());
        assert!(zookeeper.contains("Mode: standalone"), "{zookeeper}");
        let users = stack.rabbitmqctl("rabbitmq", &["list_users", "--quiet"]).unwrap();
        assert!(users.contains("holdfast"), "{users}");
    }
    let dir = one.addresses().dir.clone();
    assert!(processes_of(&dir).len() > 5);
    one.shutdown().unwrap();
    assert_nothing_left(&dir);
    let dir = two.addresses().dir.clone();
    assert!(two.pid("rabbitmq").is_some());
    drop(two);
    assert_nothing_left(&dir);
}

#[test]
fn an_application_process_has_the_same_guarantees() {
    let _alone = alone();
    let options = StackOptions { zookeeper_nodes: 0, rabbitmq_nodes: 0, ..StackOptions::default() };
    let stack = Stack::start(options).unwrap();
    let script = "trap 'echo drained; exit 3' TERM; echo up $WHO; while :; do read -r line </dev/null; done";
    let env = [("WHO".to_owned(), "me".to_owned())];
    stack.spawn("app", Path::new("sh"), &["-c", script], &env).unwrap();
    let log = || std::fs::read_to_string(stack.log_file("app")).unwrap();
    support::eventually("the app is up", Duration::from_secs(5), || log() == "up me\n");
    assert!(stack.spawn("app", Path::new("sh"), &[], &[]).is_err());
    stack.pause("app").unwrap();
    assert!(stack.wait_exit("app", Duration::from_millis(100)).is_err());
    stack.stop("app").unwrap();
    assert_eq!(stack.wait_exit("app", Duration::ZERO).unwrap().code(), Some(3));
    assert_eq!(stack.pid("app"), None);
    stack.restart("app").unwrap();
    assert!(stack.pid("app").is_some());
    support::eventually("it is up again", Duration::from_secs(5), || log() == "up me\ndrained\nup me\n");
    assert!(stack.spawn("ghost", Path::new("/no/such/program"), &[], &[]).is_err());
    assert!(stack.kill("nobody").unwrap_err().to_string().contains("there is app, postgres"));
    let dir = stack.addresses().dir.clone();
    drop(stack);
    assert_nothing_left(&dir);
}

#[test]
fn a_kept_folder_keeps_the_data_and_serves_one_stack() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("stack");
    let options = StackOptions {
        dir: Some(dir.clone()),
        zookeeper_nodes: 0,
        rabbitmq_nodes: 1,
        ..StackOptions::default()
    };
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let stack = Stack::start(options.clone()).unwrap();
    let second = Stack::start(options.clone()).err().unwrap().to_string();
    assert!(second.contains("another stack already runs"), "{second}");
    sql(stack.addresses().postgres_url.as_deref().unwrap(), "CREATE TABLE kept (id int)").unwrap();
    stack.rabbitmqctl("rabbitmq", &["add_vhost", "kept"]).unwrap();
    stack.shutdown().unwrap();
    let stack = Stack::start(options).unwrap();
    let url = stack.addresses().postgres_url.clone().unwrap();
    assert_eq!(sql(&url, "SELECT count(*) FROM kept").unwrap(), "0");
    assert!(stack.rabbitmqctl("rabbitmq", &["list_vhosts"]).unwrap().contains("kept"));
    drop(stack);
    assert_eq!(processes_of(&dir.display().to_string()), Vec::<String>::new());
}

#[test]
fn run_hands_over_the_environment_and_the_exit_code() {
    let _alone = alone();
    let devstack = |command: &str| {
        let args = ["run", "--zookeeper", "0", "--rabbitmq", "0", "--", "sh", "-c", command];
        Command::new(env!("CARGO_BIN_EXE_devstack")).args(args).output().unwrap()
    };
    let output = devstack("echo $DATABASE_URL; exit 7");
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("postgres://holdfast:holdfast@127.0.0.1:"));
    assert_eq!(devstack("kill -9 $$").status.code(), Some(137));
}
