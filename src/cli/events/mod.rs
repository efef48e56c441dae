//! `holdfast events`: what the program says of events, as documents, and those that were lost, sent again. The files of the
//! repository that say the same as the documents are made by these commands (`make schemas`), and tests compare them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;

use super::{print, wiring};
use crate::{
    config::Config,
    domain::event::{EventType, example},
};

mod fields;
mod markdown;
mod resend;

#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Prints docs/events.md: every type with its data, and how to consume.
    Docs,
    /// Prints the AsyncAPI document that the API serves at `/asyncapi.json`.
    Asyncapi,
    /// Writes the JSON Schema of each type, and an event of each type to `examples`, into a folder.
    Schemas {
        /// The folder. It is made if it is missing.
        folder: PathBuf,
    },
    /// Sends again what its consumer never got, although the broker had it: what `audit` names as not handled. Each event comes to
    /// that consumer alone, and takes effect once. A `holdfast worker relay` sends them.
    Resend(resend::ResendOptions),
}

pub(super) async fn run(config: &Config, command: &EventsCommand) -> anyhow::Result<()> {
    match command {
        EventsCommand::Resend(options) => resend::run(config, options).await,
        EventsCommand::Docs => print(&markdown::document(|topic| wiring::exchange(config, topic))),
        EventsCommand::Asyncapi => print(&pretty(&wiring::asyncapi(config))?),
        EventsCommand::Schemas { folder } => {
            let examples = folder.join("examples");
            fs::create_dir_all(&examples).with_context(|| format!("cannot make {}", examples.display()))?;
            for &event_type in EventType::ALL {
                let name = event_type.schema_name();
                write(&folder.join(&name), &event_type.schema())?;
                write(&examples.join(&name), &serde_json::to_value(example(event_type))?)?;
            }
            Ok(())
        }
    }
}

fn write(path: &Path, json: &Value) -> anyhow::Result<()> {
    fs::write(path, pretty(json)?).with_context(|| format!("cannot write {}", path.display()))
}

fn pretty(json: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}
