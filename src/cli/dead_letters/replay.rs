//! `holdfast dead-letters replay`: asks for it, and tells what came of each letter.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::text::count;
use crate::{
    app::{App, Error, Replayed},
    store::dead_letters::{DeadLetter, replays::ReplayState},
};

/// How often to look.
const POLL: Duration = Duration::from_millis(100);

/// When to say that nobody seems to send anything.
const SILENCE: Duration = Duration::from_secs(10);

/// When to say what it may mean that some that were sent have not ended.
const RETRIED: Duration = Duration::from_secs(70);

/// Replays letters. Fails with exit code 1 where one of them is not done.
pub(super) async fn run(
    app: &App,
    letters: &[DeadLetter],
    by: &str,
    dry_run: bool,
    wait: bool,
) -> anyhow::Result<ExitCode> {
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    let states = app.list_replay_states(&ids).await?;
    let mut can = Vec::new();
    for (id, state) in &states {
        match state {
            ReplayState::Possible => can.push(*id),
            ReplayState::OnItsWay => {
                eprintln!("letter {id} is being replayed already");
                can.push(*id);
            }
            ReplayState::NotAnEvent => {
                eprintln!(
                    "letter {id} cannot be replayed: it is not an event, or its envelope is not known. It can be dropped"
                );
            }
            ReplayState::TooOld => {
                eprintln!(
                    "letter {id} cannot be replayed: what is known of events of its day was dropped \
                     (worker.retention.events_days), and it may have taken effect. It can be dropped"
                );
            }
        }
    }
    let all_can = can.len() == ids.len();
    if dry_run {
        println!("{} of {} would be replayed: {can:?}", can.len(), count(ids.len()));
        return Ok(exit(all_can));
    }
    let requested = app.replay_dead_letters(&can, by).await?;
    println!("{} to be replayed, {} of them from before", count(can.len()), can.len() - requested.len());
    if !wait {
        return Ok(exit(all_can));
    }
    let waited: Vec<DeadLetter> = letters.iter().filter(|letter| can.contains(&letter.id)).cloned().collect();
    let done = follow(app, &waited).await?;
    Ok(exit(all_can && done))
}

fn exit(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Waits until each has taken effect or is dead again. `true`: all have taken effect.
async fn follow(app: &App, letters: &[DeadLetter]) -> Result<bool, Error> {
    // Invariant: the template is right.
    let style = ProgressStyle::with_template("replaying {bar:40} {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(letters.len() as u64);
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (began, mut told, mut told_of_retries) = (Instant::now(), false, false);
    let ended = loop {
        let now = match app.find_replayed(letters).await {
            Ok(now) => now,
            // They are replayed whether anybody looks or not.
            Err(error) if error.is_transient() => {
                bar.suspend(|| eprintln!("cannot look, trying again: {error}"));
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let on_their_way = now.values().filter(|one| matches!(one, Replayed::OnItsWay { .. })).count();
        bar.set_position(letters.len().saturating_sub(on_their_way) as u64);
        if on_their_way == 0 {
            break now;
        }
        let is_sent = now.values().any(|one| !matches!(one, Replayed::OnItsWay { is_claimed: false }));
        if !told && !is_sent && began.elapsed() > SILENCE {
            told = true;
            bar.suspend(|| {
                eprintln!(
                    "nobody has begun to send them: does a `holdfast worker relay` run, and does the broker take messages \
                     (`holdfast doctor`)?"
                );
            });
        }
        if !told_of_retries && is_sent && began.elapsed() > RETRIED {
            told_of_retries = true;
            bar.suspend(|| {
                eprintln!(
                    "{on_their_way} have not ended yet. They may wait for a retry, up to 30 minutes; if the broker has lost them, \
                     run this again: they are sent once more, and take effect once"
                );
            });
        }
        sleep(POLL).await;
    };
    bar.finish_and_clear();
    let (mut done, mut dead) = (0, 0);
    for (id, outcome) in &ended {
        match outcome {
            Replayed::Done => {
                done += 1;
                println!("letter {id} has taken effect");
            }
            Replayed::Dead { letter, was_tried: true } => {
                dead += 1;
                println!("letter {id} is dead again, {}: {}", letter.reason, letter.text);
            }
            Replayed::Dead { letter, was_tried: false } => {
                dead += 1;
                println!(
                    "letter {id} was not tried: an earlier event of {} is dead again, or only a newer holdfast can read it",
                    letter.subject
                );
            }
            // Invariant: none is, or the loop would go on.
            Replayed::OnItsWay { .. } => {}
        }
    }
    println!("{} replayed, {dead} not", count(done));
    Ok(dead == 0)
}
