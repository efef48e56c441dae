//! Dead letters as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::store::dead_letters::DeadLetter;

/// One line for each letter.
pub(super) fn table(letters: &[DeadLetter]) -> anyhow::Result<String> {
    let mut rows = vec![
        ["ID", "CONSUMER", "REASON", "TYPE", "SUBJECT", "SEQUENCE", "ATTEMPTS", "SINCE"].map(str::to_owned),
    ];
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for letter in letters {
        let replayed = if letter.replay_requested_at.is_some() { " (being replayed)" } else { "" };
        rows.push([
            letter.id.to_string(),
            letter.consumer.clone(),
            format!("{}{replayed}", letter.reason),
            or_none(&letter.event_type),
            or_none(&letter.subject),
            or_none(&letter.sequence.map(|sequence| sequence.to_string())),
            letter.attempts.to_string(),
            letter.last_at.format("%Y-%m-%d %H:%M:%S").to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(table, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    writeln!(table, "{}", count(letters.len()))?;
    Ok(table)
}

/// The letters as JSON, without their bodies.
pub(super) fn json_list(letters: &[DeadLetter]) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(letters)?))
}

/// Everything that is known of a letter.
pub(super) fn one(letter: &DeadLetter, blocks: &[i64]) -> anyhow::Result<String> {
    let mut text = String::new();
    let Value::Object(fields) = serde_json::to_value(letter)? else { anyhow::bail!("a letter is no object") };
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(text, "{name:<20} {value}")?;
    }
    if !blocks.is_empty() {
        let ids: Vec<String> = blocks.iter().map(ToString::to_string).collect();
        writeln!(text, "{:<20} {}", "blocks", ids.join(", "))?;
    }
    let body = match serde_json::from_slice::<Value>(&letter.body) {
        Ok(json) => serde_json::to_string_pretty(&json)?,
        Err(_) => String::from_utf8_lossy(&letter.body).into_owned(),
    };
    writeln!(text, "\n{body}")?;
    Ok(text)
}

/// The same as JSON. A body that is not JSON is a text.
pub(super) fn json_one(letter: &DeadLetter, blocks: &[i64]) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(letter)?;
    let body = serde_json::from_slice(&letter.body);
    value["body"] = body.unwrap_or_else(|_| json!(String::from_utf8_lossy(&letter.body)));
    value["blocks"] = json!(blocks);
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

/// How many letters.
pub(super) fn count(letters: usize) -> String {
    format!("{letters} dead letter{}", if letters == 1 { "" } else { "s" })
}
