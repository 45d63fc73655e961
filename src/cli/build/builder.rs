//! `builder`: commands on what builds keep.

use std::process::ExitCode;

use super::history::History;
use super::prune::{self, Prune};
use crate::build::{Kept, Kind, Total, kept};
use crate::cli::output::{align, human_duration, human_size, local_time, put};
use crate::cli::report::Failure;
use crate::line::printable_line;
use crate::store::Store;

/// Commands on the build cache.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Builder {
    /// Remove build cache
    Prune(Prune),
    /// Show what the build cache holds
    Du(Du),
    /// Work on records of builds: `build history`
    #[command(subcommand)]
    History(History),
}

/// Flags of `builder du`.
#[derive(Debug, clap::Args)]
pub(crate) struct Du {
    /// Show all that is known
    #[arg(long)]
    verbose: bool,
    /// Show only what this chooses: until=24h, id=ID, type=regular|exec.cachemount|source.local, inuse, shared, private
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

impl Builder {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        match self {
            Builder::Prune(prune) => prune.run(&store)?,
            Builder::Du(du) => du.run(&store)?,
            Builder::History(history) => return history.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Du {
    fn run(self, store: &Store) -> Result<(), Failure> {
        let filters = prune::filters(&self.filter)?;
        let mut kept = kept(store).map_err(|error| Failure::of(&error))?;
        kept.retain(|one| filters.accept(one));
        let now = jiff::Timestamp::now().as_second();
        let mut lines = Vec::new();
        match self.verbose {
            true => kept.iter().for_each(|one| lines.extend(told(one, now))),
            false => {
                lines.push("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED".into());
                lines.extend(kept.iter().map(|one| row(one, now)));
            }
        }
        put(&(align(&lines) + &align(&totals(&Total::of(&kept)))))
    }
}

/// With a star: what changes in place, and what images have, too.
fn marked(text: &str, mark: bool) -> String {
    format!("{text}{}", if mark { "*" } else { "" })
}

fn row(one: &Kept, now: i64) -> String {
    format!(
        "{}\t{}\t{}\t{} ago",
        marked(&one.id, one.kind == Kind::Cache),
        !one.in_use,
        marked(&human_size(one.bytes), one.shared),
        human_duration(now - one.used)
    )
}

fn told(one: &Kept, now: i64) -> Vec<String> {
    let mut lines = vec![format!("ID:\t{}", one.id)];
    lines.extend(one.parent.iter().map(|parent| format!("Parent:\t{parent}")));
    let made = one
        .made
        .as_deref()
        .and_then(|made| made.parse::<jiff::Timestamp>().ok());
    lines.extend(made.map(|made| format!("Created at:\t{}", local_time(made.as_second()))));
    lines.extend([
        format!("Mutable:\t{}", one.kind == Kind::Cache),
        format!("Reclaimable:\t{}", !one.in_use),
        format!("Shared:\t{}", one.shared),
        format!("Size:\t{}", human_size(one.bytes)),
        format!("Description:\t{}", printable_line(&one.text).replace('\t', " ")),
        format!("Last used:\t{} ago", human_duration(now - one.used)),
        format!("Type:\t{}", one.kind.name()),
        String::new(),
    ]);
    lines
}

fn totals(total: &Total) -> Vec<String> {
    let mut lines = Vec::new();
    if total.shared > 0 {
        lines.push(format!("Shared:\t{}", human_size(total.shared)));
        lines.push(format!("Private:\t{}", human_size(total.all - total.shared)));
    }
    lines.push(format!("Reclaimable:\t{}", human_size(total.reclaimable)));
    lines.push(format!("Total:\t{}", human_size(total.all)));
    lines
}
