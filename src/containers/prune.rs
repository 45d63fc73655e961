//! Which containers go that do not run? All that some filters choose.

use super::end::{self, Force};
use super::record::{self, Afterwards, Record};
use super::{Error, orphans};
use crate::moment::moment;
use crate::store::Store;

/// What a prune did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Ids.
    pub gone: Vec<String>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
}

/// Removes all containers that do not run and that every filter accepts.
///
/// # Errors
/// One cannot be read or removed.
pub fn prune(store: &Store, filters: &[Filter]) -> Result<Pruned, Error> {
    let (bytes, gone) = (orphans::remove(store)?, Vec::new());
    let mut pruned = Pruned { gone, bytes };
    for record in record::all(store)? {
        let stopped = record.life.supervisor().is_none();
        let own = record.afterwards != Afterwards::Commit;
        if !stopped || !own || !filters.iter().all(|filter| filter.accepts(&record)) {
            continue;
        }
        let freed = orphans::bytes(&store.container(&record.id));
        match end::remove(store, &record.id, Force::No) {
            Ok(()) => {
                pruned.bytes += freed;
                pruned.gone.push(record.id);
            }
            // Somebody has started or removed it meanwhile, or is about to.
            Err(Error::Running(_) | Error::Restarting(_) | Error::Busy(_) | Error::NoSuchContainer(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}

/// Docker's filters of `container prune`. All must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Made before this, as records have times.
    Until(String),
    /// With this label.
    Label(String, Option<String>),
    /// Without.
    NotLabel(String, Option<String>),
}

impl Filter {
    /// Reads `until=TIME`, `label=…`, `label!=…`; `None` if it is none of them.
    pub fn parse(text: &str) -> Option<Filter> {
        let (key, value) = text.split_once('=')?;
        let label = || match value.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (value.to_owned(), None),
        };
        Some(match key {
            "until" => Filter::Until(record::shown(moment(value, jiff::Timestamp::now())?)),
            "label" => {
                let (name, value) = label();
                Filter::Label(name, value)
            }
            "label!" => {
                let (name, value) = label();
                Filter::NotLabel(name, value)
            }
            _ => return None,
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
