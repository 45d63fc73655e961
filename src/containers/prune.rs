//! Which containers go that do not run? All that some filters choose.

use std::collections::BTreeMap;

use super::end::{self, Force};
use super::record::{self, Afterwards};
use super::{Error, orphans};
use crate::label::Label;
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
        if !stopped
            || !own
            || !filters
                .iter()
                .all(|filter| filter.accepts(&record.created, &record.settings.labels))
        {
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

/// Docker's filters of `container prune`, and of other prunes. All must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Made before this, as records have times.
    Until(String),
    /// With this label.
    Label(Label),
    /// Without.
    NotLabel(Label),
}

impl Filter {
    /// Reads `until=TIME`, `label=…`, `label!=…`; `None` if it is none of them.
    pub fn parse(text: &str) -> Option<Filter> {
        // `label!=x`, too, is split at its first sign.
        let (key, value) = text.split_once('=')?;
        Some(match key {
            "until" => Filter::Until(record::shown(moment(value, jiff::Timestamp::now())?)),
            "label" => Filter::Label(Label::new(value)),
            "label!" => Filter::NotLabel(Label::new(value)),
            _ => return None,
        })
    }

    /// Does it hold for what was made then, and has these labels?
    pub fn accepts(&self, created: &str, labels: &BTreeMap<String, String>) -> bool {
        let has = |label: &Label| label.is_among(|name| labels.get(name));
        match self {
            Filter::Until(time) => created < time.as_str(),
            Filter::Label(label) => has(label),
            Filter::NotLabel(label) => !has(label),
        }
    }
}
