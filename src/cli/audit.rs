//! `holdfast audit`.

use std::{process::ExitCode, time::Duration};

use anyhow::anyhow;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::wiring;
use crate::{
    app::{Audit, AuditEvents, Checked, Error, Moment},
    config::Config,
    store::audit,
    worker,
};

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct AuditOptions {
    #[command(flatten)]
    which: Which,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Events of a time.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// From when on: a time (RFC 3339), or so long ago, e.g. 90s, 15m, 1h, 2d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Moment,
    /// Until when, in the same ways; now, if not given.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// For how long an event may be on its way to a consumer since it was sent, or since the provider decided what it is about: the
    /// longest wait of a retry, 30 minutes, and more. What an outage has kept back for longer shows up until it is handled.
    #[arg(long, value_name = "TIME", default_value = "40m", value_parser = length)]
    grace: TimeDelta,
}

impl Which {
    /// With what has to be handled, by this consumer or by each.
    pub(super) fn asked(&self, consumer: Option<&str>) -> AuditEvents {
        let mut subscriptions = worker::subscriptions();
        subscriptions.retain(|wants| consumer.is_none_or(|consumer| wants.consumer == consumer));
        let events =
            subscriptions.iter().flat_map(|wants| wants.events.iter().map(|event| (wants.consumer, *event)));
        AuditEvents {
            since: self.since,
            until: self.until,
            grace: self.grace.to_std().unwrap_or(Duration::ZERO),
            required: events.collect(),
        }
    }
}

/// Names the option that an error is about.
pub(super) fn by_option(error: Error) -> anyhow::Error {
    let Error::Invalid(invalid) = error else { return error.into() };
    let error = &invalid.errors[0];
    anyhow!("--{} {}", error.pointer.trim_start_matches('/'), error.detail)
}

pub(super) async fn run(config: &Config, options: &AuditOptions) -> anyhow::Result<ExitCode> {
    let app = wiring::app(config).await?;
    let asked = options.which.asked(None);
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("audit {bar:30} {pos} of {len}")?);
    let audited = app
        .audit_events(&asked, |done, steps| {
            bar.set_length(steps as u64);
            bar.set_position(done as u64);
        })
        .await;
    bar.finish_and_clear();
    let audit = audited.map_err(by_option)?;
    if options.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&audit)?))?;
    } else {
        super::print(&table(&audit))?;
    }
    Ok(if audit.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(audit: &Audit) -> String {
    let mut lines = vec![format!("from {} to {}", seconds(audit.since), seconds(audit.until))];
    lines.extend(dropped(audit.since, audit.kept_since));
    for Checked { id, title, violations, rows, counts } in &audit.checks {
        let counts: Vec<_> = counts.iter().map(|(state, count, _)| format!("{count} {state}")).collect();
        let counts = if counts.is_empty() { "nothing to look at".to_owned() } else { counts.join(", ") };
        let verdict = if *violations == 0 { "holds" } else { "BROKEN" };
        lines.push(format!("{id}  {verdict:<6}  {title}: {counts}"));
        if *violations > 0 {
            lines.push(format!("    {violations} times, of which the first:"));
        }
        lines.extend(rows.iter().map(|row| format!("    {row}")));
        if *violations > 0 && *id == audit::LOST {
            lines.push("    `holdfast events resend` with the same times sends them again".to_owned());
        }
    }
    let flight: Vec<_> =
        audit.checks.iter().flat_map(|check| &check.counts).flat_map(|(_, _, rows)| rows).collect();
    if !flight.is_empty() {
        lines.push("on its way:".to_owned());
        lines.extend(flight.into_iter().map(|row| format!("    {row}")));
    }
    let (violations, in_flight) = (audit.violations, audit.in_flight);
    lines.push(format!("audit: {violations} violations, {in_flight} events on their way\n"));
    lines.join("\n")
}

/// That of a part of the time nothing is known any more.
pub(super) fn dropped(since: DateTime<Utc>, kept_since: DateTime<Utc>) -> Option<String> {
    let kept = seconds(kept_since);
    let text = format!(
        "events before {kept} were dropped (worker.retention.events_days): of those nothing can be said"
    );
    (since < kept_since).then_some(text)
}

pub(super) fn seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ago) = length(text) {
        return Ok(Moment::Ago(ago));
    }
    let time = DateTime::parse_from_rfc3339(text).map(|time| Moment::At(time.to_utc()));
    time.map_err(|_| {
        "must be a time such as 2026-11-29T08:00:00Z, or so long ago, e.g. 90s, 15m, 1h, 2d".to_owned()
    })
}

fn length(text: &str) -> Result<TimeDelta, String> {
    let wrong = || "must be a number and one of s, m, h, d, e.g. 90s, 15m, 1h, 2d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    TimeDelta::try_seconds(i64::from(count) * seconds).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        let time = "2026-11-29T08:00:00Z".parse().expect("a time");
        for (text, expected) in [
            ("90s", Some(Moment::Ago(TimeDelta::seconds(90)))),
            ("2d", Some(Moment::Ago(TimeDelta::days(2)))),
            ("2026-11-29T08:00:00Z", Some(Moment::At(time))),
            ("2026-11-29T09:00:00+01:00", Some(Moment::At(time))),
            ("yesterday", None),
            ("-1h", None),
            ("1é", None),
            ("h", None),
            ("", None),
        ] {
            assert_eq!(moment(text).ok(), expected, "{text}");
        }
    }
}
