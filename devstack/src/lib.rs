//! Private PostgreSQL, ZooKeeper and RabbitMQ servers for the demo, the tests and the benchmarks.
//!
//! Owns the life of the servers and of the application processes that a test starts beside them. Must not know
//! anything about the service itself, and is never shipped. Invariants: every process is in its own process group
//! and known to the stack's guard before its program runs, so nothing is left behind even when the parent is killed;
//! a signal goes only to a process that was started here and has not been reaped.

mod addresses;
mod application;
mod find;
mod guard;
mod member;
mod ports;
mod postgres;
mod process;
mod rabbitmq;
mod ready;
mod spec;
mod stack;
mod start;
mod tree;
mod zookeeper;

pub use addresses::Addresses;
pub use rustix::process::Signal;
pub use stack::{Stack, Status};
pub use start::StackOptions;
