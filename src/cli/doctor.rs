//! `holdfast doctor`: asks every dependency whether it answers, and says what to do about those that do not.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;

use super::wiring;
use crate::config::Config;

/// How long each dependency has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let (store, locks) = tokio::join!(wiring::migrated_store(config), wiring::locks(config));
    // By itself: dozens of questions would eat into the time that PostgreSQL has for its one answer.
    let bus = check_bus(config).await;
    let locks = match locks {
        Ok(locks) => locks.ping(TIMEOUT).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let provider = match wiring::provider(config) {
        Ok(provider) => provider.ping(TIMEOUT).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let plain = |answer: anyhow::Result<()>| answer.map(|()| String::new());
    let answers = [
        ("PostgreSQL", plain(store.map(|_| ()))),
        ("locks", plain(locks)),
        ("RabbitMQ", bus),
        ("payment provider", plain(provider)),
    ];
    let mut code = ExitCode::SUCCESS;
    for (name, answer) in answers {
        match answer {
            Ok(note) => println!("{name:<17} ok{note}"),
            Err(error) => {
                println!("{name:<17} FAILED: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Whether the broker answers, and has nothing that is in the way of what the workers declare. What it lacks they make.
async fn check_bus(config: &Config) -> anyhow::Result<String> {
    let inspected = wiring::inspect_topology(config, false).await?;
    if let Some(one) = inspected.iter().find(|one| !one.is_ok() && !one.is_missing()) {
        bail!("{} {}: {}. See `holdfast topology check`", one.object, one.name, one.found);
    }
    let missing = inspected.iter().filter(|one| one.is_missing()).count();
    if missing == 0 {
        return Ok(String::new());
    }
    let all = inspected.len();
    Ok(format!(
        "; of its {all} exchanges and queues {missing} are missing, a worker declares them when it starts"
    ))
}
