//! `stats`: what do containers use? Their cgroups know it. Of a container that has none its living processes are asked, and
//! the help says what they cannot tell.

use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::super::output::{Listing, Row, is_heard, put, short_id};
use super::super::report::Failure;
use super::end::load;
use crate::containers::cgroup;
use crate::containers::processes::{self, Usage};
use crate::containers::record::{self, Afterwards, Life, Record};
use crate::store::Store;

/// Flags of `stats`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where a container has no cgroup of its own, processor time and memory are those of the processes that \
    live now; disks always are. Of the network, all devices but the loopback are counted; that of the host is not."
)]
pub(crate) struct Stats {
    /// Show those that do not run, too
    #[arg(short, long)]
    all: bool,
    /// A Go template, "table TEMPLATE", "json"
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show one look, and end
    #[arg(long)]
    no_stream: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids; without them all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const LISTING: Listing = Listing {
    fields: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same where only one is shown.
const SHORT: Duration = Duration::from_millis(300);

/// What a container used at a moment.
struct Look {
    record: Record,
    usage: Option<Usage>,
    /// Bytes received and sent, if it has a network of its own.
    network: Option<(u64, u64)>,
    /// The memory that it may use.
    limit: u64,
    at: Instant,
}

impl Stats {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        // An unknown name is told before anything is shown.
        let mut before = self.look(store)?;
        let clears = !self.no_stream && stdout().is_terminal();
        loop {
            std::thread::sleep(if self.no_stream { SHORT } else { INTERVAL });
            let now = self.look(store)?;
            let rows: Vec<Row> = now.iter().map(|look| self.row(look, &before)).collect();
            if clears {
                put("\x1b[2J\x1b[H")?;
            }
            LISTING.print(&rows, self.format.as_deref())?;
            if self.no_stream || !is_heard() {
                return Ok(ExitCode::SUCCESS);
            }
            before = now;
        }
    }

    fn look(&self, store: &Store) -> Result<Vec<Look>, Failure> {
        let records = match &self.containers[..] {
            [] => {
                let mut all = record::all(store)?;
                all.retain(|record| record.afterwards != Afterwards::Commit);
                all.retain(|record| self.all || matches!(record.life, Life::Running { .. }));
                all
            }
            names => {
                let found = names.iter().map(|name| load(store, name));
                found.collect::<Result<Vec<_>, _>>()?
            }
        };
        let machine = processes::machine_memory();
        let looks = records.into_iter().map(|record| {
            let counted = cgroup::usage(&store.container(&record.id));
            Look {
                usage: matches!(record.life, Life::Running { .. })
                    .then(|| over(processes::usage(&processes::processes(&record)), counted)),
                network: processes::network(&record),
                limit: counted.memory_limit.map_or(machine, |limit| limit.min(machine)),
                record,
                at: Instant::now(),
            }
        });
        Ok(looks.collect())
    }

    fn row(&self, look: &Look, before: &[Look]) -> Row {
        let earlier = before.iter().find(|other| other.record.id == look.record.id);
        let id = if self.no_trunc {
            &look.record.id
        } else {
            short_id(&look.record.id)
        };
        let usage = look.usage.unwrap_or_default();
        let limit = look.limit;
        // Pages that are shared with others count in part, if the kernel tells that much.
        let memory = usage.memory.unwrap_or(usage.resident);
        let pair = |counted: Option<(u64, u64)>| match counted {
            Some((read, written)) => format!("{} / {}", decimal(read), decimal(written)),
            None => "-- / --".into(),
        };
        let fields = [
            ("Container", id.to_string()),
            ("ID", id.to_string()),
            ("Name", look.record.name.clone()),
            ("CPUPerc", format!("{:.2}%", share(look, earlier))),
            ("MemUsage", format!("{} / {}", binary(memory), binary(limit))),
            (
                "MemPerc",
                format!("{:.2}%", 100.0 * memory as f64 / limit.max(1) as f64),
            ),
            ("NetIO", pair(look.network)),
            ("BlockIO", pair(usage.io)),
            ("PIDs", usage.tasks.to_string()),
        ];
        let stopped = |key: &str| look.usage.is_none() && !["Container", "ID", "Name"].contains(&key);
        Row {
            fields: fields
                .into_iter()
                .map(|(key, value)| {
                    let value = if stopped(key) { "--".to_string() } else { value };
                    (key.to_string(), value.into())
                })
                .collect(),
            ..Row::default()
        }
    }
}

/// What its cgroups count, in place of what its processes tell.
fn over(told: Usage, counted: cgroup::Usage) -> Usage {
    Usage {
        time: counted.time.unwrap_or(told.time),
        memory: counted.memory.or(told.memory),
        tasks: counted.tasks.unwrap_or(told.tasks),
        ..told
    }
}

/// Percent of one processor.
fn share(look: &Look, earlier: Option<&Look>) -> f64 {
    let (Some(now), Some((before, at))) = (
        look.usage,
        earlier.and_then(|earlier| Some((earlier.usage?, earlier.at))),
    ) else {
        return 0.0;
    };
    let wall = look.at.duration_since(at).as_secs_f64();
    // Less than before: some ended that nobody waited for.
    let used = now.time.saturating_sub(before.time).as_secs_f64();
    if wall > 0.0 { 100.0 * used / wall } else { 0.0 }
}

/// go-units' `HumanSizeWithPrecision(size, 3)`.
fn decimal(bytes: u64) -> String {
    super::super::output::human_size(bytes)
}

/// go-units' `BytesSize`: powers of 1024, four digits.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let decimals = match size {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    };
    format!("{text}{}", UNITS.get(unit).unwrap_or(&"B"))
}

#[cfg(test)]
mod tests {
    use super::binary;

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1_500_000, "1.431MiB"),
            (15_728_640, "15MiB"),
            (8_325_431_296, "7.754GiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(binary(bytes), text);
        }
    }
}
