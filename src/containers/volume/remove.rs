//! Who uses a volume, and how does one go? Its directory is renamed first, so that it is gone for all at once, then
//! emptied: see `sweep`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::empty::remove_all;
use super::record::{self, Held, attempt, data, happened, hold};
use super::sweep::{set_aside, sweep, sweep_elsewhere};
use super::{Kind, Mounted, Record, VolumeError};
use crate::containers::{Error, names};
use crate::line::chain;
use crate::store::{Store, root};

/// A container that uses volumes.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// Its id.
    pub id: String,
    settings: Mounts,
}

#[derive(Debug, Clone, Deserialize)]
struct Mounts {
    #[serde(default)]
    mounts: Vec<Mounted>,
}

/// Which containers use which volumes.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<String, Vec<String>>);

impl Users {
    /// By the records of all containers, whatever they do.
    ///
    /// # Errors
    /// A record cannot be read: nobody knows what it uses.
    pub fn now(state: &Path) -> Result<Users, Error> {
        let mut users = Users::default();
        for entry in root::list(&state.join("containers"))? {
            let path = entry.path().join("record.json");
            let text = match fs::read(&path) {
                // One that is made or removed just now; or lost at a power cut, as those of --rm may be.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text.map_err(Error::io("read", &path))?,
            };
            if text.is_empty() {
                continue;
            }
            let user: User =
                serde_json::from_slice(&text).map_err(|_| VolumeError::DamagedUser(path.clone()))?;
            for mount in user.settings.mounts {
                if mount.kind == Kind::Volume {
                    users.0.entry(mount.name).or_default().push(user.id.clone());
                }
            }
        }
        Ok(users)
    }

    /// The ids of those that use this volume.
    pub fn of(&self, volume: &str) -> &[String] {
        self.0.get(volume).map_or(&[], Vec::as_slice)
    }
}

/// Removes a volume.
///
/// # Errors
/// There is none of that name, or a container uses it.
pub fn remove(store: &Store, name: &str) -> Result<(), Error> {
    let none = || VolumeError::NoSuchVolume(name.into());
    if !names::is_name(name) {
        return Err(none().into());
    }
    let held = hold(store.state(), name)?.ok_or_else(none)?;
    let users = Users::now(store.state())?;
    match users.of(name) {
        [] => discard(held),
        users => Err(VolumeError::InUse {
            name: name.into(),
            users: users.to_vec(),
        }
        .into()),
    }
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names of volumes.
    pub gone: Vec<String>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
    /// Why others stay, that should have gone.
    pub failed: Vec<Error>,
}

/// Removes volumes that no container uses, those that `chosen` names.
///
/// # Errors
/// Volumes cannot be listed, or their users are not known: nothing is removed.
pub fn prune(store: &Store, chosen: &dyn Fn(&Record) -> bool) -> Result<Pruned, Error> {
    sweep(store.state());
    Users::now(store.state())?;
    let mut pruned = Pruned::default();
    for volume in record::all(store)?.iter().filter(|volume| chosen(volume)) {
        match prune_one(store, &volume.name) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                pruned.bytes += bytes;
                pruned.gone.push(volume.name.clone());
            }
            Err(error) => pruned.failed.push(error),
        }
    }
    Ok(pruned)
}

/// Gives the bytes that this frees; none: it is used, or about to be.
fn prune_one(store: &Store, name: &str) -> Result<Option<u64>, Error> {
    let Some(held) = attempt(store.state(), name)? else {
        return Ok(None);
    };
    if !Users::now(store.state())?.of(name).is_empty() {
        return Ok(None);
    }
    let size = bytes(&data(&held.directory));
    discard(held)?;
    Ok(Some(size))
}

/// Lets go of what a removed container had of its own: volumes that nobody named, and copies of images' files. What another
/// container uses stays. What cannot be removed now is left to a prune.
pub(in crate::containers) fn release(state: &Path, mounts: &[Mounted]) {
    for mount in mounts {
        let own = mount.kind == Kind::Image || (mount.kind == Kind::Volume && mount.anonymous);
        let released = match own {
            true => release_one(state, &mount.name),
            false => Ok(()),
        };
        if let Err(error) = released {
            tracing::warn!("volume {} stays: {}", mount.name, chain(&error));
        }
    }
}

fn release_one(state: &Path, name: &str) -> Result<(), Error> {
    match attempt(state, name)? {
        Some(held) if Users::now(state)?.of(name).is_empty() => discard(held),
        _ => Ok(()),
    }
}

fn discard(held: Held) -> Result<(), Error> {
    let directory = held.directory.clone();
    let volumes = directory.parent();
    let state = volumes.and_then(Path::parent).unwrap_or(&directory);
    let gone = set_aside(&directory)?;
    happened(state, &held.record.name, "destroy");
    // NFS keeps a file that is open, the lock, under another name.
    drop(held);
    if remove_all(&gone).is_err() {
        sweep_elsewhere(state);
    }
    Ok(())
}

/// Bytes of disk that a directory takes, as far as the user may look into it.
pub fn bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut sum, mut ahead) = (0, vec![directory.to_owned()]);
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            sum += found.blocks() * 512;
            if found.is_dir() {
                ahead.push(entry.path());
            }
        }
    }
    sum
}
