//! `build history`: what became of the last builds? In the shapes of `docker buildx history`.

mod filter;
mod inspect;
mod list;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Map, Value, json};

use super::Build;
use super::progress::{Again, Clock};
use crate::build::{
    Asked, Cache, Hash, Known, Order, Outcome, Progress, What, events, records, remove_record,
};
use crate::cli::each::each;
use crate::cli::report::Failure;
use crate::containers::files::HostAddress;
use crate::store::Store;

/// Commands on records of builds.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum History {
    /// List the last builds
    #[command(visible_alias = "list")]
    Ls(list::List),
    /// Show what is kept of a build
    Inspect(inspect::Inspect),
    /// Print what a build showed
    Logs(Logs),
    /// Remove records
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

/// Flags of `build history logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// In lines (plain), or in JSON (rawjson)
    #[arg(long, value_name = "HOW", default_value = "plain")]
    progress: Again,
    /// A build's id, or ^1 for the one before the last; without it, the last
    #[arg(value_name = "REF")]
    build: Option<String>,
}

/// Flags of `build history rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Remove all, but for builds that go on
    #[arg(long, conflicts_with = "builds", required_unless_present = "builds")]
    all: bool,
    /// Ids of builds
    #[arg(value_name = "REF")]
    builds: Vec<String>,
}

impl History {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        match self {
            History::Ls(list) => list.run(&store)?,
            History::Inspect(inspect) => inspect.run(&store)?,
            History::Logs(logs) => logs.run(&store)?,
            History::Rm(remove) => return remove.run(&store),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An id as buildx tells it: with a builder and its node, of which there is one.
pub(super) fn reference(id: &str) -> String {
    format!("{BUILDER}{id}")
}

const BUILDER: &str = "default/default/";

/// Reads it, or the id alone.
fn id(reference: &str) -> &str {
    reference.strip_prefix(BUILDER).unwrap_or(reference)
}

fn all(store: &Store) -> Result<Vec<Known>, Failure> {
    records(store).map_err(|error| Failure::of(&error))
}

/// The record that is meant: by id, `^N`, or the last.
fn find(store: &Store, wanted: Option<&str>) -> Result<Known, Failure> {
    let mut known = all(store)?.into_iter();
    let (found, missing) = match wanted.map(|wanted| (wanted, wanted.strip_prefix('^'))) {
        None => (known.next(), "no records found".to_string()),
        Some((_, Some(offset))) => {
            let number = offset
                .parse()
                .map_err(|_| Failure::new(format!("invalid offset \"^{offset}\"")))?;
            (
                known.nth(number),
                format!("no completed build found with offset {offset}"),
            )
        }
        Some((wanted, None)) => (
            known.find(|one| one.record.id == id(wanted)),
            format!("no record found for ref {wanted:?}"),
        ),
    };
    let hint = "`bryo build history ls` lists them";
    found.ok_or_else(|| Failure::new(missing).hint(wanted.map(|_| hint)))
}

impl Logs {
    fn run(self, store: &Store) -> Result<(), Failure> {
        let known = find(store, self.build.as_deref())?;
        let events = events(store, &known.record.id).map_err(|error| Failure::of(&error))?;
        let at = Arc::new(AtomicI64::new(known.record.started));
        let progress = self.progress.progress(Clock::Told(Arc::clone(&at)));
        let mut lanes: HashMap<u32, Box<dyn Progress + '_>> = HashMap::new();
        for event in events {
            at.store(event.at, Ordering::Relaxed);
            let lane = lanes.entry(event.lane).or_insert_with(|| progress.beside());
            match event.what {
                What::Begins(title) => lane.begins(&title),
                What::Cached => lane.cached(),
                What::Output(bytes) => lane.output(&bytes),
                What::Done => lane.done(),
                What::Warning(text) => lane.warning(&text),
            }
        }
        Ok(())
    }
}

impl Remove {
    fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let known = all(store)?;
        if self.all {
            for one in known.iter().filter(|one| !one.running) {
                remove_record(store, &one.record.id).map_err(|error| Failure::of(&error))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        each(&self.builds, |build| {
            if !known.iter().any(|one| one.record.id == id(build)) {
                return Err(Failure::new(format!("no record found for ref {build:?}")));
            }
            match remove_record(store, id(build)).map_err(|error| Failure::of(&error))? {
                true => Ok(None),
                false => Err(Failure::new(format!(
                    "cannot remove the record of {build}: the build goes on"
                ))),
            }
        })
    }
}

/// How a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Running,
    Completed,
    Failed,
    Canceled,
}

/// What is said of a build whose builder was killed.
const KILLED: &str = "the build was killed";

fn status(known: &Known) -> Status {
    match known.record.end.as_ref().map(|end| &end.outcome) {
        Some(Outcome::Completed { .. }) => Status::Completed,
        Some(Outcome::Failed { .. }) => Status::Failed,
        Some(Outcome::Canceled) => Status::Canceled,
        None if known.running => Status::Running,
        None => Status::Failed,
    }
}

fn microseconds(known: &Known) -> i64 {
    (known.last - known.record.started).max(0)
}

/// buildx's way: `1.4s`, `2m  5s`.
fn shown_duration(microseconds: i64) -> String {
    let seconds = microseconds / 1_000_000;
    match seconds < 60 {
        true => format!("{:.1}s", microseconds as f64 / 1e6),
        false => format!("{}m {:2}s", seconds / 60, seconds % 60),
    }
}

impl Build {
    /// What a record says of the order.
    pub(super) fn asked(&self, order: &Order, dockerfile: &str) -> Asked {
        let path = Path::new(self.place());
        let context = match path.is_dir() {
            true => std::fs::canonicalize(path)
                .map_or_else(|_| self.place().to_owned(), |path| path.display().to_string()),
            false => self.place().to_owned(),
        };
        let file = self.file.as_deref().map(|file| file.display().to_string());
        let repository = order
            .origin
            .context
            .as_ref()
            .and_then(|material| match &material.hash {
                Hash::Commit(commit) => Some((material.uri.clone(), commit.clone())),
                Hash::Sha256(_) => None,
            });
        let places = self.build_context.iter().filter_map(|text| text.split_once('='));
        Asked {
            name: self.called(order, &context),
            dockerfile: file.unwrap_or_else(|| dockerfile.to_owned()),
            context,
            repository,
            target: order.target.clone(),
            platforms: order.platforms.iter().map(ToString::to_string).collect(),
            contexts: places.map(|(name, place)| (name.into(), place.into())).collect(),
            args: order.args.iter().cloned().collect(),
            labels: order.labels.iter().cloned().collect(),
            config: self.config(order),
        }
    }

    /// buildx's name for a build: the last name of its context's path, and its target.
    fn called(&self, order: &Order, context: &str) -> String {
        let given = order.args.iter().rfind(|(name, _)| name == "BUILDKIT_BUILD_NAME");
        if let Some((_, name)) = given.filter(|(_, name)| !name.is_empty()) {
            return name.clone();
        }
        let place = match (&order.origin.context, context) {
            (Some(material), _) => material.uri.clone(),
            (None, "-") => String::new(),
            (None, path) => Path::new(path)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        };
        match (&order.target, place.is_empty()) {
            (Some(target), true) => target.clone(),
            (Some(target), false) => format!("{place} ({target})"),
            (None, _) => place,
        }
    }

    /// Under the names of `docker buildx history inspect`.
    fn config(&self, order: &Order) -> Map<String, Value> {
        let mut config = Map::new();
        let mut set = |name: &str, value: Value| config.insert(name.into(), value);
        if let Some(network) = self.network {
            set("Network", json!(format!("{network:?}").to_lowercase()));
        }
        if !self.add_host.is_empty() {
            let hosts = self.add_host.iter().map(|(name, address)| match address {
                HostAddress::Of(address) => format!("{name}={address}"),
                HostAddress::Gateway => format!("{name}=host-gateway"),
            });
            set("ExtraHosts", hosts.collect());
        }
        if order.cache == Cache::Ignore {
            set("NoCache", json!(true));
        }
        if !self.no_cache_filter.is_empty() {
            set("NoCacheFilter", json!(self.no_cache_filter));
        }
        if let Some(size) = &self.shm_size {
            set("ShmSize", json!(size));
        }
        if !self.ulimit.is_empty() {
            set("Ulimit", json!(self.ulimit.join(",")));
        }
        if let Some(epoch) = order.epoch {
            set("SourceDateEpoch", json!(epoch.to_string()));
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_buildx_shows_them() {
        assert_eq!(shown_duration(1_449_999), "1.4s");
        assert_eq!(shown_duration(125_000_000), "2m  5s");
    }
}
