//! Commands on volumes.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::report::Failure;
use crate::containers::Error;
use crate::containers::volume::{self, VolumeError};
use crate::store::Store;

mod create;
mod list;
mod remove;

pub(super) use remove::failed as volumes_stay;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a volume
    Create(create::Create),
    /// List volumes
    #[command(name = "ls", visible_alias = "list")]
    List(list::List),
    /// Show all that is known of volumes
    Inspect(super::inspect::Inspect),
    /// Remove volumes that no container uses
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::Remove),
    /// Remove all volumes that no container uses: without -a, those that nobody named
    Prune(remove::Prune),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Create(create) => create.run(&Store::open()?),
            Command::List(list) => list.run(&Store::open()?),
            Command::Inspect(inspect) => inspect.of_volumes().run(),
            Command::Remove(remove) => remove.run(&Store::open()?),
            Command::Prune(prune) => prune.run(&Store::open()?),
        }
    }
}

/// The volume's JSON, in Docker's shape; `None` if there is no such volume.
pub(super) fn inspect_volume(store: &Store, name: &str) -> Result<Option<Value>, Failure> {
    let volume = match volume::find(store, name) {
        Err(Error::Volume(VolumeError::NoSuchVolume(_))) => return Ok(None),
        found => found?,
    };
    let or_null = |map: &std::collections::BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    Ok(Some(json!({
        "CreatedAt": seconds(&volume.created),
        "Driver": "local",
        "Labels": or_null(&volume.labels),
        "Mountpoint": volume.mountpoint(store),
        "Name": volume.name,
        "Options": or_null(&volume.options),
        "Scope": "local",
    })))
}

/// A time without the parts of a second, as Docker has it here.
fn seconds(time: &str) -> String {
    format!("{}Z", time.split(['.', 'Z']).next().unwrap_or_default())
}
