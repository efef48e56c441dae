//! `holdfast dead-letters`: what consumers could not handle, to be looked at, sent again, or given up.

use std::{env, process::ExitCode};

use anyhow::ensure;
use clap::{Args, Subcommand};

use super::wiring;
use crate::{
    app::App,
    config::Config,
    domain::{
        dead_letter::DeadLetterReason,
        event::{Aggregate, EventType},
        ids::OrderId,
    },
    store::dead_letters::{self, DeadLetter, DeadLetterFilter},
    worker,
};

mod replay;
mod text;

/// Dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLettersCommand {
    /// Lists the letters that wait, the oldest first.
    List {
        #[command(flatten)]
        which: Which,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints one letter: its envelope, why it is dead, what waits for it, and its body.
    Show {
        /// Its id.
        id: i64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Has letters sent to their consumers again, of each order in the order of its history, and waits until each has taken effect
    /// or is dead again. A `holdfast worker relay` sends them. Exit code 1 if one is not done.
    Replay {
        #[command(flatten)]
        ids: Ids,
        #[command(flatten)]
        which: Which,
        /// Every letter: without it, ids or a filter have to say which.
        #[arg(long)]
        all: bool,
        /// Only says which would be replayed.
        #[arg(long)]
        dry_run: bool,
        /// Does not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Gives letters up for good: what they tell of takes no effect at their consumer.
    Drop {
        #[command(flatten)]
        ids: Ids,
        #[command(flatten)]
        which: Which,
        /// Every letter: without it, ids or a filter have to say which.
        #[arg(long)]
        all: bool,
        /// Why, kept with the letters.
        #[arg(long, value_name = "TEXT")]
        reason_text: String,
    },
}

/// Letters by their ids.
#[derive(Debug, Args)]
pub(super) struct Ids {
    /// Ids, as `list` prints them.
    ids: Vec<i64>,
}

/// Letters by what they are.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Whose: payment, fulfilment.
    #[arg(long, value_parser = consumer)]
    consumer: Option<String>,
    /// Why: `not_an_event`, `schema_violation`, `too_old`, refused, panicked, `delivery_limit`, `order_blocked`, lost.
    #[arg(long)]
    reason: Option<DeadLetterReason>,
    /// Of this type of event.
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    event_type: Option<String>,
    /// Of this order, `ord_…`.
    #[arg(long)]
    order: Option<OrderId>,
    /// Given up longer ago, e.g. 90s, 15m, 2h, 7d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    older_than: Option<f64>,
    /// Given up less long ago.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    newer_than: Option<f64>,
    /// At most so many, the oldest first.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    limit: Option<i64>,
}

impl Which {
    fn filter(self, ids: Vec<i64>) -> DeadLetterFilter {
        DeadLetterFilter {
            ids: (!ids.is_empty()).then_some(ids),
            consumer: self.consumer,
            reason: self.reason,
            event_type: self.event_type,
            subject: self.order.map(|id| Aggregate::Order(id).subject()),
            older_than_seconds: self.older_than,
            newer_than_seconds: self.newer_than,
            limit: self.limit,
        }
    }
}

pub(super) fn consumer(text: &str) -> Result<String, String> {
    one_of(text, worker::subscriptions().iter().map(|wants| wants.consumer))
}

fn event_type(text: &str) -> Result<String, String> {
    one_of(text, EventType::ALL.iter().map(|event_type| event_type.as_str()))
}

fn one_of<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let known: Vec<&str> = known.collect();
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be one of: {}", known.join(", ")))
    }
}

pub(super) async fn run(config: &Config, command: DeadLettersCommand) -> anyhow::Result<ExitCode> {
    let app = wiring::app(config).await?;
    match command {
        DeadLettersCommand::List { which, json } => {
            let letters = list(&app, &which.filter(Vec::new())).await?;
            super::print(&if json { text::json_list(&letters)? } else { text::table(&letters)? })?;
        }
        DeadLettersCommand::Show { id, json } => {
            let filter = DeadLetterFilter { ids: Some(vec![id]), ..DeadLetterFilter::default() };
            let letters = list(&app, &filter).await?;
            let [letter] = letters.as_slice() else { anyhow::bail!("no dead letter {id} waits") };
            let blocks = dead_letters::list_blocked_by(&mut *app.store.conn().await?, id).await?;
            super::print(&if json { text::json_one(letter, &blocks)? } else { text::one(letter, &blocks)? })?;
        }
        DeadLettersCommand::Replay { ids, which, all, dry_run, no_wait } => {
            let letters = chosen(&app, which.filter(ids.ids), all).await?;
            return replay::run(&app, &letters, &who(), dry_run, !no_wait).await;
        }
        DeadLettersCommand::Drop { ids, which, all, reason_text } => {
            ensure!(
                !reason_text.trim().is_empty(),
                "--reason-text is empty: say why these letters are given up"
            );
            let letters = chosen(&app, which.filter(ids.ids), all).await?;
            let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
            let dropped = app.drop_dead_letters(&ids, &who(), reason_text.trim()).await?;
            for id in ids.iter().filter(|id| !dropped.contains(id)) {
                eprintln!("letter {id} is being replayed, or is gone: it was not dropped");
            }
            println!("{} dropped", text::count(dropped.len()));
            if dropped.len() < ids.len() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(app: &App, filter: &DeadLetterFilter) -> anyhow::Result<Vec<DeadLetter>> {
    Ok(dead_letters::list(&mut *app.store.conn().await?, filter).await?)
}

/// The letters that are meant. Ids that no letter has are an error, before anything is done.
async fn chosen(app: &App, filter: DeadLetterFilter, all: bool) -> anyhow::Result<Vec<DeadLetter>> {
    let everything = filter.is_everything();
    ensure!(!everything || all, "say which: ids, a filter such as --consumer or --order, or --all");
    ensure!(everything || !all, "--all is every letter: leave the ids and the filters out, or --all");
    let letters = list(app, &filter).await?;
    for id in filter.ids.iter().flatten() {
        ensure!(
            letters.iter().any(|letter| letter.id == *id),
            "no dead letter {id} waits that fits the filters"
        );
    }
    Ok(letters)
}

/// Who asks, for the record.
pub(super) fn who() -> String {
    let user = env::var("USER").or_else(|_| env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
    format!("{user}@{}", wiring::hostname())
}

/// A time such as `15m`, in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no time: a whole number and a unit, such as 90s, 15m, 2h or 7d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(f64::from(number) * f64::from(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, expected) in
            [("0s", 0.0), ("90s", 90.0), ("15m", 900.0), ("2h", 7200.0), ("7d", 604_800.0)]
        {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "15", "m", "-1m", "1.5h", "1w", "15µ"] {
            assert!(seconds(text).expect_err(text).contains("15m"), "{text}");
        }
    }
}
