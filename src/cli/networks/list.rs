//! `network ls`: which networks are there?

use std::collections::HashSet;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::super::filter::all_match;
use super::super::output::{Listing, Row, put};
use super::super::report::Failure;
use super::{predefined_driver, predefined_id};
use crate::containers::bridge::{self, Definition, Members, PREDEFINED};
use crate::label::Label;
use crate::store::Store;

/// Flags of `network ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Show those that match: dangling, driver, id, label, name, scope, type
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, "table TEMPLATE", "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing = Listing {
    fields: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

/// A network, one of the user's own or not.
struct Shown {
    name: String,
    id: String,
    driver: &'static str,
    own: Option<Definition>,
}

/// One `--filter`. Several of one kind: any, but labels narrow down; of different kinds: all.
enum Filter {
    Dangling(bool),
    Driver(String),
    Id(String),
    Label(Label),
    Name(String),
    Scope(String),
    Custom(bool),
}

impl List {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = self.filter.iter().map(|text| Filter::parse(text));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let mut shown = all(store)?;
        let used = match filters.iter().any(|filter| matches!(filter, Filter::Dangling(_))) {
            true => used(store, &shown)?,
            false => HashSet::new(),
        };
        let narrows = |filter: &Filter| matches!(filter, Filter::Label(_));
        shown.retain(|network| all_match(&filters, narrows, |filter| filter.matches(network, &used)));
        let length = if self.no_trunc { 64 } else { 12 };
        if self.quiet && self.format.is_none() {
            let id = |network: &Shown| format!("{}\n", network.id.get(..length).unwrap_or(&network.id));
            put(&shown.iter().map(id).collect::<String>())?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Row> = shown.iter().map(|network| row(network, length)).collect();
        LISTING.print(&rows, self.format.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// All, by name.
fn all(store: &Store) -> Result<Vec<Shown>, Failure> {
    let predefined = PREDEFINED.iter().map(|name| Shown {
        name: (*name).into(),
        id: predefined_id(name),
        driver: predefined_driver(name),
        own: None,
    });
    let own = bridge::all(store)?.into_iter().map(|network| Shown {
        name: network.name.clone(),
        id: network.id.clone(),
        driver: "bridge",
        own: Some(network),
    });
    let mut all: Vec<Shown> = predefined.chain(own).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// The ids of those that containers are on.
fn used(store: &Store, networks: &[Shown]) -> Result<HashSet<String>, Failure> {
    let mut used = HashSet::new();
    for network in networks.iter().filter_map(|network| network.own.as_ref()) {
        if !Members::of(store.run(), &network.id)?.is_empty() {
            used.insert(network.id.clone());
        }
    }
    Ok(used)
}

fn row(network: &Shown, length: usize) -> Row {
    let own = network.own.as_ref();
    let labels = own.map(|own| own.labels.clone()).unwrap_or_default();
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let fields = [
        (
            "CreatedAt",
            own.map_or("0001-01-01T00:00:00Z".into(), |own| own.created.clone()),
        ),
        ("Driver", network.driver.into()),
        ("ID", network.id.get(..length).unwrap_or(&network.id).into()),
        ("IPv4", "true".into()),
        ("IPv6", own.is_some_and(|own| own.ipv6).to_string()),
        ("Internal", own.is_some_and(|own| own.internal).to_string()),
        ("Labels", pairs.join(",")),
        ("Name", network.name.clone()),
        ("Scope", "local".into()),
    ];
    let fields = fields
        .into_iter()
        .map(|(key, value): (_, String)| (key.to_string(), value.into()));
    let labels = labels.into_iter().map(|(key, value)| (key, Value::from(value)));
    Row {
        fields: fields.collect(),
        labels: labels.collect::<Map<_, _>>(),
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
            ("id", _) => Filter::Id(value.into()),
            ("label", _) => Filter::Label(Label::new(value)),
            ("name", _) => Filter::Name(value.into()),
            ("scope", _) => Filter::Scope(value.into()),
            ("type", "custom") => Filter::Custom(true),
            ("type", "builtin") => Filter::Custom(false),
            _ => {
                let hint = "dangling, driver, id, label, name, scope and type work here";
                return Err(invalid().hint(Some(hint)));
            }
        })
    }

    fn matches(&self, network: &Shown, used: &HashSet<String>) -> bool {
        match self {
            Filter::Dangling(wanted) => match &network.own {
                Some(own) => used.contains(&own.id) != *wanted,
                None => !*wanted,
            },
            Filter::Driver(driver) => network.driver == driver,
            Filter::Id(part) => network.id.starts_with(part.as_str()),
            Filter::Label(label) => {
                let mut own = network.own.iter();
                own.any(|own| label.is_among(|name| own.labels.get(name)))
            }
            Filter::Name(part) => network.name.contains(part.as_str()),
            Filter::Scope(scope) => scope == "local",
            Filter::Custom(wanted) => network.own.is_some() == *wanted,
        }
    }
}
