//! `holdfast events resend`.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::super::{audit, dead_letters, print, wiring};
use crate::{app::Resent, config::Config};

/// Which events.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResendOptions {
    #[command(flatten)]
    which: audit::Which,
    /// Only to this consumer: payment, fulfilment.
    #[arg(long, value_parser = dead_letters::consumer)]
    consumer: Option<String>,
    /// Only says which would be sent.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(config: &Config, options: &ResendOptions) -> anyhow::Result<()> {
    let app = wiring::app(config).await?;
    let asked = options.which.asked(options.consumer.as_deref());
    let who = (!options.dry_run).then(dead_letters::who);
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("looking for them {bar:30} {percent} %")?);
    let resent = app.resend_events(&asked, who.as_deref(), |done, seconds| {
        bar.set_length(seconds);
        bar.set_position(done);
    });
    let resent = resent.await;
    bar.finish_and_clear();
    print(&text(&resent.map_err(audit::by_option)?, options.dry_run))
}

fn text(resent: &Resent, dry_run: bool) -> String {
    let Resent { since, until, kept_since, counts, named } = resent;
    let mut lines = vec![format!("from {} to {}", audit::seconds(*since), audit::seconds(*until))];
    lines.extend(audit::dropped(*since, *kept_since));
    for event in named {
        let (id, subject) = (event.event_id.uuid(), &event.subject);
        lines.push(format!("event {id} ({}) of {subject}: to {}", event.event_type, event.consumer));
    }
    let count: u64 = counts.values().sum();
    let more = count.saturating_sub(named.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.extend(
        counts.iter().map(|((consumer, event_type), count)| format!("{count} {event_type} to {consumer}")),
    );
    lines.push(match (count, dry_run) {
        (0, _) => "nothing to send again: what was sent is handled, a dead letter (`holdfast dead-letters list`), or so young that \
                   it may be on its way (--grace)"
            .to_owned(),
        (_, true) => format!("{count} would be sent again"),
        (_, false) => format!(
            "{count} to be sent again by a `holdfast worker relay`; `holdfast dead-letters list --reason lost` has those that \
             have not taken effect yet"
        ),
    });
    lines.join("\n") + "\n"
}
