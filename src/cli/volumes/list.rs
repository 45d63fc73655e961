//! `volume ls`: which volumes are there?

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::super::filter::all_match;
use super::super::output::{Listing, Row, put};
use super::super::report::Failure;
use crate::containers::volume::{self, Record, Users};
use crate::label::Label;
use crate::store::Store;

/// Flags of `volume ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show those that match: dangling, driver, label, name
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, "table TEMPLATE", "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing = Listing {
    fields: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
};

/// One `--filter`. Several of one kind: any, but labels narrow down; of different kinds: all.
enum Filter {
    Dangling(bool),
    Driver(String),
    Label(Label),
    Name(String),
}

impl List {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = self.filter.iter().map(|text| Filter::parse(text));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let users = match filters.iter().any(|filter| matches!(filter, Filter::Dangling(_))) {
            true => Users::now(store.state())?,
            false => Users::default(),
        };
        let mut volumes = volume::all(store)?;
        let narrows = |filter: &Filter| matches!(filter, Filter::Label(_));
        volumes.retain(|volume| all_match(&filters, narrows, |filter| filter.matches(volume, &users)));
        if self.quiet && self.format.is_none() {
            let name = |volume: &Record| format!("{}\n", volume.name);
            put(&volumes.iter().map(name).collect::<String>())?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Row> = volumes.iter().map(|volume| row(store, volume)).collect();
        LISTING.print(&rows, self.format.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn row(store: &Store, volume: &Record) -> Row {
    let labels = volume.labels.iter();
    let labels: Map<String, Value> = labels
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    let pairs: Vec<String> = volume
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let fields = [
        ("Availability", "N/A".into()),
        ("Driver", "local".into()),
        ("Group", "N/A".into()),
        ("Labels", pairs.join(",")),
        ("Links", "N/A".into()),
        ("Mountpoint", volume.mountpoint(store).display().to_string()),
        ("Name", volume.name.clone()),
        ("Scope", "local".into()),
        ("Size", "N/A".into()),
        ("Status", "N/A".into()),
    ];
    let fields = fields
        .into_iter()
        .map(|(key, value): (_, String)| (key.to_string(), value.into()));
    Row {
        fields: fields.collect(),
        labels,
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, Failure> {
        let invalid = || Failure::new(format!("invalid filter '{text}'"));
        let (key, value) = text.split_once('=').ok_or_else(invalid)?;
        Ok(match (key, value) {
            ("dangling", "true" | "1") => Filter::Dangling(true),
            ("dangling", "false" | "0") => Filter::Dangling(false),
            ("driver", _) => Filter::Driver(value.into()),
            ("label", _) => Filter::Label(Label::new(value)),
            ("name", _) => Filter::Name(value.into()),
            _ => return Err(invalid().hint(Some("dangling, driver, label and name work here"))),
        })
    }

    fn matches(&self, volume: &Record, users: &Users) -> bool {
        match self {
            Filter::Dangling(wanted) => users.of(&volume.name).is_empty() == *wanted,
            Filter::Driver(driver) => driver == "local",
            Filter::Label(label) => label.is_among(|name| volume.labels.get(name)),
            Filter::Name(part) => volume.name.contains(part.as_str()),
        }
    }
}
