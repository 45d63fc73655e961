//! `system df`: how much room does what take?

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use crate::build::{Kept, Kind, Total, kept};
use crate::cli::containers::{container_command, container_status};
use crate::cli::images::uses;
use crate::cli::output::{Listing, Row, align, human_duration, human_size, put, short_id};
use crate::cli::report::Failure;
use crate::containers::record::{self, Afterwards, Record};
use crate::containers::{orphans, volume};
use crate::images::names::References;
use crate::images::reference::Reference;
use crate::images::usage::{Of, Usage, usage};
use crate::store::Store;

/// Flags of `system df`.
#[derive(Debug, clap::Args)]
pub(crate) struct Df {
    /// A Go template, "table TEMPLATE", "json"
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "verbose")]
    format: Option<String>,
    /// Show each thing
    #[arg(short, long)]
    verbose: bool,
}

const LISTING: Listing = Listing {
    fields: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

/// All that takes room.
struct Found {
    images: Usage,
    /// Each with its bytes.
    containers: Vec<(Record, u64)>,
    /// Each with the number of containers that use it, and its bytes.
    volumes: Vec<(String, usize, u64)>,
    cache: Vec<Kept>,
}

impl Df {
    pub(super) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let mut containers = record::all(store)?;
        containers.retain(|record| record.afterwards != Afterwards::Commit);
        let found = Found {
            images: usage(store, &References::load(store)?, &uses(store)?),
            containers: containers
                .into_iter()
                .map(|record| {
                    let bytes = orphans::bytes(&store.container(&record.id));
                    (record, bytes)
                })
                .collect(),
            volumes: volumes(store)?,
            cache: kept(store).map_err(|error| Failure::of(&error))?,
        };
        match self.verbose {
            true => put(&found.each(store))?,
            false => LISTING.print(&found.rows(), self.format.as_deref())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Found {
    fn rows(&self) -> Vec<Row> {
        let used = self.images.images.iter().filter(|of| of.containers > 0).count();
        let runs = |(record, _): &&(Record, u64)| record.life.supervisor().is_some();
        let bytes = |(_, bytes): &(Record, u64)| *bytes;
        let stopped = self.containers.iter().filter(|container| !runs(container));
        let room = |(_, _, bytes): &(String, usize, u64)| *bytes;
        let free = self.volumes.iter().filter(|(_, users, _)| *users == 0);
        let total = Total::of(&self.cache);
        // What images have, too, is counted with them.
        let own: Vec<&Kept> = self.cache.iter().filter(|one| !one.shared).collect();
        let reclaimable = Total::of(own.iter().copied()).reclaimable;
        vec![
            row(
                "Images",
                [self.images.images.len(), used],
                [self.images.all, self.images.reclaimable],
            ),
            row(
                "Containers",
                [self.containers.len(), self.containers.iter().filter(runs).count()],
                [self.containers.iter().map(bytes).sum(), stopped.map(bytes).sum()],
            ),
            row(
                "Local Volumes",
                [self.volumes.len(), self.volumes.len() - free.clone().count()],
                [self.volumes.iter().map(room).sum(), free.map(room).sum()],
            ),
            row(
                "Build Cache",
                [
                    self.cache.len(),
                    self.cache.iter().filter(|one| one.in_use).count(),
                ],
                [total.all - total.shared, reclaimable],
            ),
        ]
    }

    /// Docker's tables, one after the other.
    fn each(&self, store: &Store) -> String {
        let now = Timestamp::now().as_second();
        let mut images =
            vec!["REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS".into()];
        images.extend(self.images.images.iter().flat_map(|of| image(of, now)));
        let mut containers = vec!["CONTAINER ID\tIMAGE\tCOMMAND\tSIZE\tCREATED\tSTATUS\tNAMES".into()];
        containers.extend(
            self.containers
                .iter()
                .map(|(record, bytes)| container(store, record, *bytes, now)),
        );
        let mut volumes = vec!["VOLUME NAME\tLINKS\tSIZE".into()];
        let sized = self.volumes.iter();
        volumes.extend(sized.map(|(name, users, bytes)| format!("{name}\t{users}\t{}", human_size(*bytes))));
        let mut cache = vec!["CACHE ID\tCACHE TYPE\tSIZE\tLAST USED\tSHARED".into()];
        cache.extend(self.cache.iter().map(|one| {
            let (kind, size) = (one.kind.name(), human_size(one.bytes));
            let used = human_duration(now - one.used);
            format!(
                "{}{}\t{kind}\t{size}\t{used} ago\t{}",
                one.id,
                if one.kind == Kind::Cache { "*" } else { "" },
                one.shared
            )
        }));
        let total = Total::of(&self.cache);
        format!(
            "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
            align(&images),
            align(&containers),
            align(&volumes),
            human_size(total.all - total.shared),
            align(&cache)
        )
    }
}

/// As far as the user may look into them. One of memory, or of a directory of the host, takes none.
fn volumes(store: &Store) -> Result<Vec<(String, usize, u64)>, Failure> {
    let users = volume::Users::now(store.state())?;
    let sized = volume::all(store)?.into_iter().map(|one| {
        let bytes = volume::bytes(&one.mountpoint(store));
        let users = users.of(&one.name).len();
        (one.name, users, bytes)
    });
    Ok(sized.collect())
}

fn row(what: &str, [total, active]: [usize; 2], [size, reclaimable]: [u64; 2]) -> Row {
    let part = match size {
        0 => String::new(),
        size => format!(" ({}%)", u128::from(reclaimable) * 100 / u128::from(size)),
    };
    let fields = [
        ("Type", what.to_string()),
        ("TotalCount", total.to_string()),
        ("Active", active.to_string()),
        ("Size", human_size(size)),
        ("Reclaimable", human_size(reclaimable) + &part),
    ];
    Row {
        fields: fields
            .into_iter()
            .map(|(name, value)| (name.to_string(), Value::from(value)))
            .collect(),
        ..Row::default()
    }
}

/// A line for each name.
fn image(of: &Of, now: i64) -> Vec<String> {
    let none = || "<none>".to_string();
    let created = of.image.created.map(|created| human_duration(now - created));
    let rest = format!(
        "{}\t{}\t{}\t{}\t{}\t{}",
        short_id(&of.image.id.hex()),
        created.map_or_else(|| "N/A".into(), |age| format!("{age} ago")),
        human_size(of.image.size),
        human_size(of.shared),
        human_size(of.unique),
        of.containers
    );
    let names = of
        .image
        .names
        .iter()
        .filter_map(|name| Reference::parse(name).ok());
    let mut named: Vec<[String; 2]> = names
        .map(|name| [name.familiar_repository(), name.tag().unwrap_or("<none>").into()])
        .collect();
    if named.is_empty() {
        named.push([none(), none()]);
    }
    named
        .into_iter()
        .map(|[repository, tag]| format!("{repository}\t{tag}\t{rest}"))
        .collect()
}

fn container(store: &Store, record: &Record, bytes: u64, now: i64) -> String {
    let created = record
        .created
        .parse::<Timestamp>()
        .map(Timestamp::as_second)
        .unwrap_or_default();
    let line = [
        short_id(&record.id).to_string(),
        record.image_name.clone(),
        container_command(record, false),
        human_size(bytes),
        format!("{} ago", human_duration(now - created)),
        container_status(store, record),
        record.name.clone(),
    ];
    line.join("\t")
}
