//! What of a container was changed since it was made? A file beside its record, since that belongs to whoever moves the
//! container: a tool may change this at any time, under a lock of its own, and whoever reads the record reads this over it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bridge::Endpoint;
use super::cgroup::{self, Limits};
use super::record::{Life, Record};
use super::restart::Policy;
use super::{Error, events, named};
use crate::store::Store;
use crate::store::write::{Durability, replace};

const NAME: &str = "amended.json";

/// The changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amended {
    /// `rename`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `update --restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Policy>,
    /// `network connect`, `network disconnect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Networks>,
    /// `update --memory` and the like: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// The networks that a container is to be on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// How often they were changed.
    pub serial: u64,
    /// The built-in one.
    pub bridge: bool,
    /// The user's own.
    pub endpoints: Vec<Endpoint>,
}

impl Amended {
    /// What was changed of the container in this directory. Nearly always nothing; what cannot be read is nothing, too,
    /// since it is written whole or not at all.
    pub(super) fn read(container: &Path) -> Amended {
        let text = fs::read(container.join(NAME)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(super) fn write(&self, container: &Path, durability: Durability) -> Result<(), Error> {
        let path = container.join(NAME);
        let text = serde_json::to_vec(self).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        Ok(replace(container, &path, &text, durability)?)
    }

    /// Puts the changes over the record.
    pub(super) fn apply(self, record: &mut Record) {
        if let Some(name) = self.name {
            record.name = name;
        }
        if let Some(policy) = self.restart {
            record.settings.upkeep.restart = policy;
        }
        if let Some(networks) = self.networks {
            record.settings.ports.set_networks(networks);
        }
        if let Some(limits) = self.limits {
            record.settings.cgroup.limits = limits;
        }
    }
}

/// Amends a container under its lock; `change` is told what it is like so far. Gives that, and what `change` gives; after an
/// error of its nothing is written.
pub(super) fn amend<T>(
    store: &Store,
    id: &str,
    change: impl FnOnce(&Record, &mut Amended) -> Result<T, Error>,
) -> Result<(Record, T), Error> {
    let container = store.container(id);
    let _lock = named::lock(&container, id)?;
    let record = super::record::read(store, id)?.ok_or_else(|| Error::NoSuchContainer(id.into()))?;
    let mut amended = Amended::read(&container);
    let changed = change(&record, &mut amended)?;
    amended.write(&container, record.durability())?;
    Ok((record, changed))
}

/// Gives a container another restart policy; one that runs has it at its end.
///
/// # Errors
/// It is gone, or the file cannot be written.
pub fn set_policy(store: &Store, id: &str, policy: Policy) -> Result<(), Error> {
    amend(store, id, |_, amended| {
        amended.restart = Some(policy);
        Ok(())
    })
    .map(drop)
}

/// Gives a container other limits, of which `newer` says some; if it runs, at once. Gives what is to be told of those that
/// have no effect.
///
/// # Errors
/// They contradict each other, or the kernel refuses one: then nothing is recorded.
pub fn set_limits(store: &Store, id: &str, newer: &Limits) -> Result<Vec<String>, Error> {
    let (record, warnings) = amend(store, id, |record, amended| {
        let limits = record.settings.cgroup.limits.clone().with(newer.clone());
        limits.check(cgroup::processors())?;
        let warnings = match record.life {
            Life::Running { .. } => limit(&store.container(id), &limits)?,
            _ => Vec::new(),
        };
        amended.limits = Some(limits);
        Ok(warnings)
    })?;
    events::happened(store.state(), &record, "update", &[]);
    Ok(warnings)
}

/// Limits a container that runs.
fn limit(container: &Path, limits: &Limits) -> Result<Vec<String>, Error> {
    let mut group = cgroup::of(container);
    let before = group.clone();
    group.widen(limits);
    // Another run may have begun meanwhile, with groups of its own.
    if group != before && cgroup::of(container) == before {
        // If it has ended meanwhile, whoever reads its record next removes that.
        group.note(container)?;
    }
    Ok(group.limit(limits)?.warnings())
}
