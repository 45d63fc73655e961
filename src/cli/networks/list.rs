//! `network ls`: which networks are there?

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::super::output::{Listing, Row, put};
use super::super::report::Failure;
use super::{predefined_driver, predefined_id};
use crate::containers::bridge::{self, Definition, Members, PREDEFINED};
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
    Label(String),
    Name(String),
    Scope(String),
    Custom(bool),
}

impl List {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = self.filter.iter().map(|text| Filter::parse(text));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let mut shown = Vec::new();
        for network in all(store)? {
            if accepted(&filters, store, &network)? {
                shown.push(network);
            }
        }
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

fn accepted(filters: &[Filter], store: &Store, network: &Shown) -> Result<bool, Failure> {
    for filter in filters {
        let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
        let accepted = match filter {
            Filter::Label(_) => filter.accepts(store, network)?,
            _ => {
                let others = filters
                    .iter()
                    .filter(same)
                    .map(|other| other.accepts(store, network));
                others.collect::<Result<Vec<_>, _>>()?.contains(&true)
            }
        };
        if !accepted {
            return Ok(false);
        }
    }
    Ok(true)
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
            ("label", _) => Filter::Label(value.into()),
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

    fn accepts(&self, store: &Store, network: &Shown) -> Result<bool, Failure> {
        Ok(match self {
            Filter::Dangling(wanted) => match &network.own {
                Some(own) => Members::of(store.run(), &own.id)?.is_empty() == *wanted,
                None => !*wanted,
            },
            Filter::Driver(driver) => network.driver == driver,
            Filter::Id(part) => network.id.starts_with(part.as_str()),
            Filter::Label(label) => network.own.as_ref().is_some_and(|own| has_label(own, label)),
            Filter::Name(part) => network.name.contains(part.as_str()),
            Filter::Scope(scope) => scope == "local",
            Filter::Custom(wanted) => network.own.is_some() == *wanted,
        })
    }
}

/// `label=KEY[=VALUE]` and `label!=…`.
pub(super) fn has_label(network: &Definition, text: &str) -> bool {
    match text.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(text),
    }
}
