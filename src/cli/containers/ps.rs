//! `ps`: which containers are there?

use std::collections::HashSet;
use std::process::ExitCode;

use jiff::Timestamp;
use regex_lite::Regex;
use serde_json::{Map, Value};

use super::super::filter::all_match;
use super::super::output::{Listing, Row, human_duration, human_size, local_time, put, short_id};
use super::super::report::Failure;
use crate::containers::changes::{self, Sizes};
use crate::containers::health::{self, Status};
use crate::containers::network::{self, Exposed};
use crate::containers::record::{self, Afterwards, Life, Record};
use crate::containers::restart::Policy;
use crate::containers::volume::{Kind, Mounted};
use crate::images::names::{Record as Listed, References};
use crate::label::Label;
use crate::line::quoted;
use crate::store::{Digest, Store};
use crate::truth::truth;

/// Flags of `ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    /// Show those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// Show those that match: id, name, label, status, health, ancestor, exited, before, since, volume, network, publish,
    /// expose, restart-policy, should-start-on-boot, is-task, isolation
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, "table TEMPLATE", "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show the last ones created, whatever they do
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = -1, allow_negative_numbers = true)]
    last: i64,
    /// Show the last one created, whatever it does
    #[arg(short, long)]
    latest: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show how much containers changed, and how much that is with their images
    #[arg(short, long)]
    size: bool,
}

const LISTING: Listing = Listing {
    fields: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

/// So many characters of a command are shown.
const COMMAND: usize = 20;

/// `--size`.
const SIZED: Listing = Listing {
    fields: LISTING.fields,
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
};

fn shown(sizes: Sizes) -> String {
    let (changed, whole) = (human_size(sizes.changed), human_size(sizes.whole));
    format!("{changed} (virtual {whole})")
}

impl Ps {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let mut all = record::all(store)?;
        // Steps of builds are no containers of the user's.
        all.retain(|record| record.afterwards != Afterwards::Commit);
        let filters = self
            .filter
            .iter()
            .map(|text| Filter::parse(text, store, &all))
            .collect::<Result<Vec<_>, _>>()?;
        let last = if self.latest { 1 } else { self.last };
        let last = usize::try_from(last).ok();
        // Docker: a status asked for, or a number of the last, means those that do not run as well; `exited` does not.
        let stopped = self.all || last.is_some() || filters.iter().any(Filter::is_about_state);
        let shown: Vec<&Record> = all
            .iter()
            .filter(|record| stopped || record.life.supervisor().is_some())
            .filter(|record| Filter::all_accept(&filters, record))
            .take(last.unwrap_or(usize::MAX))
            .collect();
        if self.quiet && self.format.is_none() {
            let id = |record: &&Record| format!("{}\n", self.id(record));
            put(&shown.iter().map(id).collect::<String>())?;
            return Ok(ExitCode::SUCCESS);
        }
        // Docker: who names the size in a format gets it without the flag.
        let sized = self.size
            || self
                .format
                .as_ref()
                .is_some_and(|format| format.contains(".Size"));
        let row = |record: &&Record| {
            let size = match sized {
                true => Some(changes::sizes(store, record)?),
                false => None,
            };
            Ok(self.row(store, record, size))
        };
        let rows = shown.iter().map(row).collect::<Result<Vec<Row>, Failure>>()?;
        let listing = if self.size { SIZED } else { LISTING };
        listing.print(&rows, self.format.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }

    fn id<'a>(&self, record: &'a Record) -> &'a str {
        if self.no_trunc {
            &record.id
        } else {
            short_id(&record.id)
        }
    }

    fn mounts(&self, record: &Record) -> String {
        let shown = record
            .settings
            .mounts
            .iter()
            .map(Mounted::shown)
            .filter(|name| !name.is_empty());
        let cut = |name: String| match name.char_indices().nth(15) {
            Some(_) if !self.no_trunc => name.chars().take(14).chain(['…']).collect(),
            _ => name,
        };
        shown.map(cut).collect::<Vec<String>>().join(",")
    }

    fn row(&self, store: &Store, record: &Record, size: Option<Sizes>) -> Row {
        let settings = &record.settings;
        let labels: Map<String, Value> = settings
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        let is_volume = |mount: &&Mounted| mount.kind == Kind::Volume;
        let volumes = settings.mounts.iter().filter(is_volume).count();
        let created = seconds(&record.created);
        let pairs: Vec<String> = settings
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let fields = [
            ("ID", self.id(record).to_string()),
            ("Image", record.image_name.clone()),
            ("Command", command(record, self.no_trunc)),
            ("CreatedAt", local_time(created)),
            ("RunningFor", format!("{} ago", human_duration(age(created)))),
            ("Ports", network::Shown::line(&network::shown(record))),
            ("State", state(record).into()),
            ("Status", status(store, record)),
            ("Size", shown(size.unwrap_or_default())),
            ("Names", record.name.clone()),
            ("Labels", pairs.join(",")),
            ("Mounts", self.mounts(record)),
            ("Networks", network::names(record).join(",")),
            ("LocalVolumes", volumes.to_string()),
        ];
        let fields = fields
            .into_iter()
            .map(|(key, value)| (key.to_string(), value.into()))
            .collect();
        Row { fields, labels }
    }
}

fn seconds(time: &str) -> i64 {
    time.parse::<Timestamp>()
        .map(Timestamp::as_second)
        .unwrap_or_default()
}

fn age(since: i64) -> i64 {
    Timestamp::now().as_second() - since
}

/// Docker's words for what a container runs: arguments with a blank within stand in quotes, and all of it does, escaped.
pub(in crate::cli) fn command(record: &Record, whole: bool) -> String {
    let settings = &record.settings;
    let mut words = settings.entrypoint.iter().flatten().chain(&settings.command);
    let program = words.next().cloned();
    let arguments = words.map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    let line = program.into_iter().chain(arguments).collect::<Vec<_>>().join(" ");
    match whole || line.chars().count() <= COMMAND {
        true => quoted(&line),
        false => quoted(&line.chars().take(COMMAND - 1).chain(['…']).collect::<String>()),
    }
}

/// Docker's word for where a container is.
pub(super) fn state(record: &Record) -> &'static str {
    match &record.life {
        Life::Created => "created",
        Life::Running { .. } if record.paused => "paused",
        Life::Running { .. } => "running",
        Life::Restarting { .. } => "restarting",
        // It never ran.
        Life::Exited { started, .. } if started.is_empty() => "created",
        Life::Exited { .. } => "exited",
    }
}

/// The same with its times and its health, in words.
pub(in crate::cli) fn status(store: &Store, record: &Record) -> String {
    match &record.life {
        Life::Running { started, .. } => {
            let up = human_duration(age(seconds(started)));
            if record.paused {
                return format!("Up {up} (Paused)");
            }
            match health::found(store, record).map(|health| health.status) {
                None => format!("Up {up}"),
                Some(Status::Starting) => format!("Up {up} (health: starting)"),
                Some(status) => format!("Up {up} ({})", status.name()),
            }
        }
        Life::Restarting { code, finished, .. } => {
            format!(
                "Restarting ({code}) {} ago",
                human_duration(age(seconds(finished)))
            )
        }
        Life::Exited {
            code,
            finished,
            started,
            ..
        } if !started.is_empty() => {
            format!("Exited ({code}) {} ago", human_duration(age(seconds(finished))))
        }
        Life::Created | Life::Exited { .. } => "Created".into(),
    }
}

/// All containers of the user's that some `--filter` accept, newest first.
pub(super) fn chosen(store: &Store, filters: &[String]) -> Result<Vec<Record>, Failure> {
    let mut all = record::all(store)?;
    // Steps of builds are no containers of the user's.
    all.retain(|record| record.afterwards != Afterwards::Commit);
    let filters = filters.iter().map(|text| Filter::parse(text, store, &all));
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    all.retain(|record| Filter::all_accept(&filters, record));
    Ok(all)
}

/// One `--filter`. Several of one kind: any; of different kinds: all.
enum Filter {
    Id(String),
    /// `None`: no expression, which Docker has match nothing.
    Name(Option<Regex>),
    Label(Label),
    Status(String),
    Exited(i32),
    /// Those of this health, by their ids.
    Health(HashSet<String>),
    /// Those of these images, or of an image that was called so when they were made and is no more.
    Ancestor {
        name: String,
        images: HashSet<Digest>,
    },
    Before(String),
    Since(String),
    Network(String),
    /// `publish`: the host's ports.
    Published(Vec<Exposed>),
    /// `expose`: the container's.
    Exposed(Vec<Exposed>),
    Volume(String),
    /// `restart-policy`, by name.
    Policy(String),
    /// `should-start-on-boot`.
    OnBoot(bool),
    /// What is true of all containers here, or of none: `is-task`, `isolation`.
    All(bool),
}

impl Filter {
    fn parse(text: &str, store: &Store, all: &[Record]) -> Result<Filter, Failure> {
        let bad = |what: String| Failure::new(what).code(125);
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| bad(format!("invalid filter '{text}': expected KEY=VALUE")))?;
        let created = || {
            let named = all
                .iter()
                .find(|r| r.name == value || (!value.is_empty() && r.id.starts_with(value)));
            named
                .map(|r| r.created.clone())
                .ok_or_else(|| Failure::new(format!("No such container: {value}")))
        };
        Ok(match key {
            "id" => Filter::Id(value.into()),
            "name" => Filter::Name(Regex::new(value).ok()),
            "label" => Filter::Label(Label::new(value)),
            "status" if ["created", "running", "paused", "restarting", "exited"].contains(&value) => {
                Filter::Status(value.into())
            }
            // States that containers here are never in.
            "status" if ["removing", "dead"].contains(&value) => Filter::Status(value.into()),
            "exited" => Filter::Exited(
                value
                    .parse()
                    .map_err(|_| bad(format!("invalid filter 'exited={value}'")))?,
            ),
            "health" if ["starting", "healthy", "unhealthy", "none"].contains(&value) => {
                let is = |record: &&Record| {
                    let health = health::found(store, record).filter(|_| state(record) == "running");
                    health.map_or("none", |health| health.status.name()) == value
                };
                Filter::Health(all.iter().filter(is).map(|record| record.id.clone()).collect())
            }
            "ancestor" => Filter::Ancestor {
                name: value.into(),
                images: of_image(store, value)?,
            },
            "before" => Filter::Before(created()?),
            "since" => Filter::Since(created()?),
            "network" => Filter::Network(value.into()),
            "publish" => Filter::Published(ports(text, value)?),
            "expose" => Filter::Exposed(ports(text, value)?),
            "volume" => Filter::Volume(value.into()),
            "restart-policy" if Policy::parse(value).is_ok_and(|policy| policy.name() == value) => {
                Filter::Policy(value.into())
            }
            "should-start-on-boot" if ["true", "false"].contains(&value) => Filter::OnBoot(value == "true"),
            // Of a swarm's. The words are Docker's.
            "is-task" => {
                let wanted = truth(value).ok_or_else(|| bad(format!("invalid filter '{text}'")))?;
                Filter::All(!wanted)
            }
            // Of Windows; on Linux Docker passes it over.
            "isolation" => Filter::All(true),
            _ => return Err(bad(format!("invalid filter '{text}'"))),
        })
    }

    fn is_about_state(&self) -> bool {
        matches!(self, Filter::Status(_))
    }

    fn all_accept(filters: &[Filter], record: &Record) -> bool {
        let narrows = |filter: &Filter| matches!(filter, Filter::Label(_));
        all_match(filters, narrows, |filter| filter.matches(record))
    }

    fn matches(&self, record: &Record) -> bool {
        match self {
            Filter::Id(prefix) => record.id.starts_with(prefix.as_str()),
            // With Docker's slash and without: `^/web$` is written as well as `^web$`.
            Filter::Name(wanted) => wanted.as_ref().is_some_and(|wanted| {
                wanted.is_match(&record.name) || wanted.is_match(&format!("/{}", record.name))
            }),
            Filter::Label(label) => label.is_among(|name| record.settings.labels.get(name)),
            Filter::Status(wanted) => state(record) == wanted,
            Filter::Exited(wanted) => {
                state(record) == "exited"
                    && matches!(&record.life, Life::Exited { code, .. } if code == wanted)
            }
            Filter::Health(ids) => ids.contains(&record.id),
            Filter::Ancestor { name, images } => {
                let hex = name.trim_start_matches("sha256:");
                record.base.image().map_or(record.image_name == *name, |id| {
                    images.contains(id)
                        || (images.is_empty() && record.image_name == *name)
                        || (hex.len() >= 4 && id.hex().starts_with(hex))
                })
            }
            Filter::All(accepts) => *accepts,
            Filter::Before(created) => record.created < *created,
            Filter::Since(created) => record.created > *created,
            Filter::Network(wanted) => network::has(record, wanted),
            Filter::Published(wanted) => network::shown(record).iter().any(|port| {
                let host = port.host.map(|host| Exposed {
                    port: host.port(),
                    ..port.container
                });
                host.is_some_and(|host| wanted.contains(&host))
            }),
            Filter::Exposed(wanted) => network::shown(record)
                .iter()
                .any(|port| wanted.contains(&port.container)),
            Filter::Policy(name) => record.settings.upkeep.restart.name() == name,
            Filter::OnBoot(wanted) => {
                record.settings.upkeep.restart.starts_on_boot(record.stopped) == *wanted
            }
            // A volume's name, what is shown, or where.
            Filter::Volume(wanted) => record
                .settings
                .mounts
                .iter()
                .any(|mount| mount.shown() == *wanted || mount.target == *wanted),
        }
    }
}

/// The image of this name or id, and those that stand on it: whose layers begin with all of its. None if it is not there.
fn of_image(store: &Store, name: &str) -> Result<HashSet<Digest>, Failure> {
    let images = References::load(store)?;
    // What can be no name is nobody's, as in Docker.
    let Ok(Some(ancestor)) = images.find(name) else {
        return Ok(HashSet::new());
    };
    let below = &ancestor.layers;
    let descends = |image: &&Listed| {
        image.id == ancestor.id
            || (!below.is_empty() && image.layers.len() > below.len() && image.layers.starts_with(below))
    };
    Ok(images.images().filter(descends).map(|image| image.id).collect())
}

fn ports(text: &str, value: &str) -> Result<Vec<Exposed>, Failure> {
    let ports =
        network::expose(value).map_err(|_| Failure::new(format!("invalid filter '{text}'")).code(125))?;
    Ok(ports.collect())
}
