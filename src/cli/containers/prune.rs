//! `container prune`: removes all that do not run, after a question.

use std::process::ExitCode;

use super::super::output::{human_size, put};
use super::super::question::confirmed;
use super::super::report::Failure;
use crate::containers::end::{self, Force};
use crate::containers::record::{self, Afterwards, Record};
use crate::containers::{Error, orphans};
use crate::moment::moment;
use crate::store::Store;

/// Flags of `container prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove only containers for which this holds (until, label, label!)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let filters = self.filter.iter().map(|text| Filter::parse(text));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        if !self.force && !confirmed("all stopped containers")? {
            return Err(Failure::new("container prune has been cancelled"));
        }
        let mut bytes = orphans::remove(store)?;
        let mut gone = Vec::new();
        for record in record::all(store)? {
            let stopped = record.life.supervisor().is_none();
            let own = record.afterwards != Afterwards::Commit;
            if !stopped || !own || !filters.iter().all(|filter| filter.accepts(&record)) {
                continue;
            }
            let freed = orphans::bytes(&store.container(&record.id));
            match end::remove(store, &record.id, Force::No) {
                Ok(()) => {
                    bytes += freed;
                    gone.push(record.id);
                }
                // Somebody has started it meanwhile.
                Err(Error::Running(_) | Error::Restarting(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut text = String::new();
        if !gone.is_empty() {
            text = format!("Deleted Containers:\n{}\n\n", gone.join("\n"));
        }
        put(&format!("{text}Total reclaimed space: {}\n", human_size(bytes)))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Docker's filters of `container prune`. All must hold.
enum Filter {
    /// Made before this, as records have times.
    Until(String),
    Label(String, Option<String>),
    NotLabel(String, Option<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, Failure> {
        let invalid = || {
            Failure::new(format!("invalid filter '{text}'")).hint(Some("until, label and label! work here"))
        };
        let (key, value) = text.split_once('=').ok_or_else(invalid)?;
        let label = || match value.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (value.to_owned(), None),
        };
        Ok(match key {
            "until" => {
                let time = moment(value, jiff::Timestamp::now()).ok_or_else(invalid)?;
                Filter::Until(record::shown(time))
            }
            "label" => {
                let (name, value) = label();
                Filter::Label(name, value)
            }
            "label!" => {
                let (name, value) = label();
                Filter::NotLabel(name, value)
            }
            _ => return Err(invalid()),
        })
    }

    fn accepts(&self, record: &Record) -> bool {
        let has = |name: &str, value: &Option<String>| record.settings.has_label(name, value.as_deref());
        match self {
            Filter::Until(time) => record.created < *time,
            Filter::Label(name, value) => has(name, value),
            Filter::NotLabel(name, value) => !has(name, value),
        }
    }
}
