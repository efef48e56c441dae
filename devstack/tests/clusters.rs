//! Three nodes of each, and the loss of one.

// A helper that panics is a failed test.
#![allow(clippy::unwrap_used)]

// Each test program uses its own part of it.
#[allow(dead_code)]
mod support;

use std::time::{Duration, Instant};

use devstack::{Stack, StackOptions};
use support::{alone, assert_nothing_left, eventually, srvr};

fn mode(stack: &Stack, node: &str) -> String {
    let text = srvr(&stack.addresses().servers[node]);
    text.lines().find_map(|line| line.strip_prefix("Mode: ")).unwrap_or_default().to_owned()
}

fn running_nodes(stack: &Stack, asked: &str) -> usize {
    let text = stack.rabbitmqctl(asked, &["cluster_status", "--formatter", "json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["running_nodes"].as_array().unwrap().len()
}

#[test]
fn three_nodes_of_each_survive_the_loss_of_one() {
    let _alone = alone();
    let started = Instant::now();
    let options = StackOptions { zookeeper_nodes: 3, rabbitmq_nodes: 3, ..StackOptions::default() };
    let stack = Stack::start(options).unwrap();
    eprintln!("3/3 up in {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(stack.names().len(), 7);
    assert_eq!(stack.addresses().amqp_urls.len(), 3);

    let nodes = ["zookeeper-1", "zookeeper-2", "zookeeper-3"];
    let leader = nodes.into_iter().find(|node| mode(&stack, node) == "leader").unwrap();
    stack.kill(leader).unwrap();
    eventually("a new leader", Duration::from_secs(20), || {
        nodes.into_iter().any(|node| node != leader && mode(&stack, node) == "leader")
    });
    stack.restart(leader).unwrap();
    assert_eq!(mode(&stack, leader), "follower");

    assert_eq!(running_nodes(&stack, "rabbitmq-3"), 3);
    stack.kill("rabbitmq-1").unwrap();
    eventually("the loss is seen", Duration::from_secs(20), || running_nodes(&stack, "rabbitmq-3") == 2);
    stack.restart("rabbitmq-1").unwrap();
    assert_eq!(running_nodes(&stack, "rabbitmq-1"), 3);

    let dir = stack.addresses().dir.clone();
    drop(stack);
    assert_nothing_left(&dir);
}
