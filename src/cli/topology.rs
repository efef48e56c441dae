//! `holdfast topology`: what the program declares on the broker, whether the broker has it, and what an operator may tune.

use std::{fmt::Write as _, process::ExitCode};

use clap::Subcommand;
use serde_json::json;

use super::{print, wiring};
use crate::config::Config;

/// What no answer of the broker tells, so that nobody takes silence for a yes.
const NOT_CHECKED: &str = "AMQP does not tell of bindings, of policies, or of what is there besides: `topology apply`, each \
    worker that starts and each relay every ten seconds make the bindings that are missing, and `rabbitmqctl list_bindings`, `list_policies` show the rest. Of an \
    object that differs, the broker names one difference at a time.";

/// Exchanges, queues and bindings.
#[derive(Debug, Subcommand)]
pub(super) enum TopologyCommand {
    /// Prints what the program declares, and which policies may tune it. Asks no broker.
    Show {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes what is missing, and changes nothing that is there. Exit code 1 if something differs.
    Apply,
    /// Says what is missing and what differs, and changes nothing. Exit code 1 if anything is.
    Check {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints commands that set the policies, for a shell where rabbitmqctl works. Asks no broker.
    Policies,
}

pub(super) async fn run(config: &Config, command: TopologyCommand) -> anyhow::Result<ExitCode> {
    match command {
        TopologyCommand::Show { json } => show(config, json).map(|()| ExitCode::SUCCESS),
        TopologyCommand::Apply => inspect(config, true, false).await,
        TopologyCommand::Check { json } => inspect(config, false, json).await,
        TopologyCommand::Policies => policies(config).map(|()| ExitCode::SUCCESS),
    }
}

fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    let (definitions, policies) = (wiring::definitions(config), wiring::policies(config));
    if json {
        let mut document = serde_json::to_value(&definitions)?;
        document["policies"] = json!(policies);
        return print(&format!("{}\n", serde_json::to_string_pretty(&document)?));
    }
    let arguments = |pairs: &mut dyn Iterator<Item = (&&'static str, String)>| {
        pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let exchanges = definitions.exchanges.iter().map(|exchange| {
        let mut set = exchange.arguments.iter().map(|(name, value)| (name, value.to_string()));
        vec![exchange.name.clone(), exchange.kind.to_owned(), arguments(&mut set)]
    });
    let mut text = table(&["EXCHANGE", "TYPE", "ARGUMENTS"], exchanges.collect());
    let queues = definitions.queues.iter().map(|queue| {
        let mut set = queue.arguments.iter().map(|(name, value)| (name, value.to_string()));
        vec![queue.name.clone(), queue.purpose.clone(), arguments(&mut set)]
    });
    writeln!(text, "\n{}", table(&["QUEUE", "FOR", "ARGUMENTS"], queues.collect()).trim_end())?;
    let bindings = definitions.bindings.iter().map(|binding| {
        vec![binding.source.clone(), binding.routing_key.clone(), binding.destination.clone()]
    });
    writeln!(
        text,
        "\n{}",
        table(&["FROM EXCHANGE", "ROUTING KEY", "TO QUEUE"], bindings.collect()).trim_end()
    )?;
    let tuned = policies.iter().map(|policy| {
        let mut set = policy.definition.iter().map(|(name, value)| (name, value.to_string()));
        vec![policy.name.clone(), policy.queues.join(" "), arguments(&mut set)]
    });
    writeln!(text, "\n{}", table(&["POLICY", "QUEUES", "MAY SET"], tuned.collect()).trim_end())?;
    writeln!(
        text,
        "topology: {} exchanges, {} queues, {} bindings; `topology policies` prints the policies",
        definitions.exchanges.len(),
        definitions.queues.len(),
        definitions.bindings.len()
    )?;
    print(&text)
}

async fn inspect(config: &Config, create: bool, json: bool) -> anyhow::Result<ExitCode> {
    let inspected = wiring::inspect_topology(config, create).await?;
    let wrong = inspected.iter().filter(|one| !one.is_ok()).count();
    let bindings = wiring::definitions(config).bindings.len();
    if json {
        let document = json!({
            "checked": inspected.len(), "wrong": wrong, "objects": inspected, "not_checked": NOT_CHECKED,
        });
        print(&format!("{}\n", serde_json::to_string_pretty(&document)?))?;
    } else {
        let rows = inspected
            .iter()
            .map(|one| vec![one.object.to_owned(), one.name.clone(), one.found.to_string()])
            .collect();
        let mut text = table(&["OBJECT", "NAME", "STATE"], rows);
        for one in &inspected {
            if let Some(remedy) = &one.remedy {
                writeln!(text, "{} {}: {}. {remedy}.", one.object, one.name, one.found)?;
            }
        }
        let checked = inspected.len();
        if create {
            writeln!(
                text,
                "topology: {checked} exchanges and queues and {bindings} bindings declared, {wrong} wrong"
            )?;
        } else {
            writeln!(text, "topology: {checked} exchanges and queues checked, {wrong} missing or different")?;
            writeln!(text, "{NOT_CHECKED}")?;
        }
        print(&text)?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn policies(config: &Config) -> anyhow::Result<()> {
    let mut text = String::from(
        "# What may be tuned of the queues of Holdfast, with the values to begin with: `holdfast topology policies`. The lower of a\n\
         # limit here and in the queue counts, so a policy makes it stricter and never lifts it. On a queue the policy of the\n\
         # highest priority takes effect, alone. Where leaders are is settled when a queue is made: set them before the first\n\
         # start, or `rabbitmq-queues rebalance quorum`.\nset -e\n",
    );
    for policy in wiring::policies(config) {
        writeln!(text, "\n# {}\n{policy}", policy.about)?;
    }
    print(&text)
}

/// Columns as wide as they must be; the last one as it is.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(ToString::to_string).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            // A string takes whatever is written.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
