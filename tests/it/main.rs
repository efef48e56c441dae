//! The tests that need more than one module, or a server.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod contract;
mod sandbox;
mod support;
