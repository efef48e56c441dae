//! `holdfast doctor`: asks every dependency whether it answers, and says what to do about those that do not.

use std::{process::ExitCode, time::Duration};

use super::wiring;
use crate::config::Config;

/// How long each dependency has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let bus = wiring::bus(config);
    let (store, locks, bus) = tokio::join!(
        wiring::migrated_store(config),
        wiring::locks(config),
        wiring::check_bus(config, bus.as_ref())
    );
    let locks = match locks {
        Ok(locks) => locks.ping(TIMEOUT).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let provider = match wiring::provider(config) {
        Ok(provider) => provider.ping(TIMEOUT).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let answers = [
        ("PostgreSQL", store.map(|_| ())),
        ("locks", locks),
        ("RabbitMQ", bus),
        ("payment provider", provider),
    ];
    let mut code = ExitCode::SUCCESS;
    for (name, answer) in answers {
        match answer {
            Ok(()) => println!("{name:<17} ok"),
            Err(error) => {
                println!("{name:<17} FAILED: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
