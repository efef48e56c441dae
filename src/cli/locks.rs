//! `holdfast locks`: who holds what, asked of the lock backend from outside.

use std::{fmt::Write as _, time::SystemTime};

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::wiring;
use crate::config::{Config, LockBackend};

/// Locks.
#[derive(Debug, Subcommand)]
pub(super) enum LocksCommand {
    /// Prints every key that is held, its holder, for how long it has been held, and how many other processes wait for it.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(config: &Config, command: LocksCommand) -> anyhow::Result<()> {
    let LocksCommand::List { json } = command;
    let locks = wiring::locks(config).await?;
    let listed = locks.list().await;
    locks.close().await;
    let listed = listed?;
    if json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&listed)?));
    }
    if config.lock.backend == LockBackend::None {
        println!("locks: there are none, lock.backend is \"none\"");
        return Ok(());
    }
    let now = SystemTime::now().into();
    let column =
        |texts: &mut dyn Iterator<Item = usize>, title: &str| texts.max().unwrap_or(0).max(title.len());
    let key = column(&mut listed.iter().map(|locked| locked.key.chars().count()), "KEY");
    let holder = column(&mut listed.iter().map(|locked| locked.holder.chars().count()), "HOLDER");
    let mut table = format!("{:<key$}  {:<holder$}  {:>9}  WAITING\n", "KEY", "HOLDER", "HELD");
    for locked in &listed {
        let age = locked.since.map_or_else(|| "unknown".to_owned(), |since| age(since, now));
        writeln!(table, "{:<key$}  {:<holder$}  {age:>9}  {}", locked.key, locked.holder, locked.waiting)?;
    }
    writeln!(table, "locks: {} held", listed.len())?;
    super::print(&table)
}

/// Clocks differ between hosts, so a lock may seem to come from the future.
fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let milliseconds = (now - since).num_milliseconds().max(0);
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}
