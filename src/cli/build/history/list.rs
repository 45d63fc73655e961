//! `build history ls`: which builds were there?

use serde_json::{Map, Value, json};

use super::filter::Filter;
use super::{Status, all, microseconds, reference, shown_duration, status};
use crate::build::Known;
use crate::cli::output::{Listing, Row, human_duration, put};
use crate::cli::report::Failure;
use crate::line::printable_line;
use crate::store::Store;

/// Flags of `build history ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show those that match: status=running|completed|error|canceled, ref=ID, repository=URL, each with != too;
    /// startedAt, completedAt and duration with <, <=, > or >=
    #[arg(long, value_name = "CONDITION")]
    filter: Vec<String>,
    /// A Go template, "table TEMPLATE", "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show names in full
    #[arg(long)]
    no_trunc: bool,
}

const LISTING: Listing = Listing {
    fields: &[
        ("Ref", "BUILD ID"),
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("CreatedAt", "CREATED AT"),
        ("Duration", "DURATION"),
    ],
    table: "{{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}",
};

/// Letters of a name in a table.
const NAME: usize = 36;

impl List {
    pub(super) fn run(self, store: &Store) -> Result<(), Failure> {
        let now = jiff::Timestamp::now();
        let filters = self.filter.iter().map(|text| Filter::parse(text, now));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let mut known = all(store)?;
        known.retain(|one| filters.iter().all(|filter| filter.accepts(one)));
        // Those that go on come first.
        known.sort_by_key(|one| !one.running);
        if self.format.as_deref() == Some("json") {
            let lines: Vec<String> = known.iter().map(|one| format!("{}\n", document(one))).collect();
            return put(&lines.concat());
        }
        let format = self.format.as_deref().unwrap_or("table").trim_start();
        let short = format.starts_with("table") && !self.no_trunc;
        let rows: Vec<Row> = known.iter().map(|one| row(one, short, now)).collect();
        LISTING.print(&rows, self.format.as_deref())
    }
}

fn row(known: &Known, short: bool, now: jiff::Timestamp) -> Row {
    let record = &known.record;
    let ago = (now.as_microsecond() - record.started) / 1_000_000;
    let more = if known.running { "+" } else { "" };
    let fields = [
        ("Ref", record.id.clone()),
        ("Name", name(&printable_line(&record.asked.name), short)),
        ("Status", word(status(known)).into()),
        ("CreatedAt", format!("{} ago", human_duration(ago))),
        (
            "Duration",
            format!("{}{more}", shown_duration(microseconds(known))),
        ),
    ];
    Row {
        fields: fields
            .into_iter()
            .map(|(field, value)| (field.to_string(), value.into()))
            .collect(),
        labels: Map::new(),
    }
}

/// Of a long name the end is shown.
fn name(name: &str, short: bool) -> String {
    let letters = name.chars().count();
    match short && letters > NAME {
        true => format!("..{}", name.chars().skip(letters - NAME + 2).collect::<String>()),
        false => name.into(),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Running => "Running",
        Status::Completed => "Completed",
        Status::Failed | Status::Canceled => "Error",
    }
}

/// buildx's (`commands/history/ls.go`).
fn document(known: &Known) -> Value {
    let time =
        |at: i64| jiff::Timestamp::from_microsecond(at).map_or(Value::Null, |at| json!(at.to_string()));
    let mut document = json!({
        "ref": reference(&known.record.id),
        "name": known.record.asked.name,
        "status": word(status(known)),
        "created_at": time(known.record.started),
        "total_steps": known.steps.total,
        "completed_steps": known.steps.completed,
        "cached_steps": known.steps.cached,
    });
    if !known.running {
        document["completed_at"] = time(known.last);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_name_the_end_is_shown() {
        let long = format!("{}/end", "x".repeat(60));
        assert_eq!(name(&long, true).len(), NAME);
        assert!(name(&long, true).starts_with("..x") && name(&long, true).ends_with("/end"));
        assert_eq!(name(&long, false), long);
        assert_eq!(name("short", true), "short");
    }
}
