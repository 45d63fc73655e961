//! Who uses a volume, and how does one go? Its directory is renamed first, so that it is gone for all at once, then
//! emptied. What in it belongs to the container's other users only their root can remove: a process of its own does that,
//! started anew, since a supervisor has threads.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::fill::remove_all;
use super::record::{self, Held, attempt, data, hold, io, place};
use super::{Kind, Mounted, Record, VolumeError};
use crate::containers::{Error, names, runtime};
use crate::host::Probe;
use crate::line::chain;
use crate::store::{self, Lock, Mode, Store, failpoint, root};

/// The name of the process that empties what was removed.
const SWEEPER: &str = "bryo-sweeper";

/// What a removed volume's directory is called until it is empty, and a copy of an image's files.
const GONE: &str = ".gone-";
pub(super) const IMAGE: &str = ".image-";

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
                text => text.map_err(io("read", &path))?,
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

/// Removes volumes that no container uses, those that `chosen` names. Gives their names, and the bytes of disk that this
/// frees.
///
/// # Errors
/// One cannot be removed, or the users are not known.
pub fn prune(store: &Store, chosen: &dyn Fn(&Record) -> bool) -> Result<(Vec<String>, u64), Error> {
    let (mut gone, mut freed) = (Vec::new(), 0);
    sweep(store.state())?;
    for volume in record::all(store)?.iter().filter(|volume| chosen(volume)) {
        // One that is held is about to be used.
        let Some(held) = attempt(store.state(), &volume.name)? else {
            continue;
        };
        if !Users::now(store.state())?.of(&volume.name).is_empty() {
            continue;
        }
        let size = bytes(&data(&held.directory));
        discard(held)?;
        freed += size;
        gone.push(volume.name.clone());
    }
    Ok((gone, freed))
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
    let gone = set_aside(&directory)?;
    // NFS keeps a file that is open, the lock, under another name.
    drop(held);
    if remove_all(&gone).is_err() {
        let volumes = directory.parent();
        sweep_elsewhere(volumes.and_then(Path::parent).unwrap_or(&directory))?;
    }
    Ok(())
}

/// Takes a volume's directory out of all ways. Its lock is held.
fn set_aside(directory: &Path) -> Result<PathBuf, Error> {
    let gone = directory.with_file_name(format!("{GONE}{}", record::new_name()?));
    failpoint::step();
    fs::rename(directory, &gone).map_err(io("remove", directory))?;
    Ok(gone)
}

/// What of `volumes/` is to go: of removed volumes, and copies for containers that are gone.
fn leftovers(state: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_left = |name: &str| match name.strip_prefix(IMAGE) {
        Some(rest) => {
            let container = rest.split('-').next().unwrap_or_default();
            !state.join("containers").join(container).exists()
        }
        None => name.starts_with(GONE),
    };
    let entries = root::list(&place(state))?.into_iter();
    let left = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_left));
    Ok(left.map(|entry| entry.path()).collect())
}

/// Removes what killed commands left: volumes that never came to be, or were not yet emptied; copies for containers that
/// are gone.
///
/// # Errors
/// Something cannot be looked at or removed.
pub(in crate::containers) fn sweep(state: &Path) -> Result<(), Error> {
    for entry in root::list(&place(state))? {
        let directory = entry.path();
        let is_volume = entry.file_name().to_str().is_some_and(names::is_name);
        if !is_volume || directory.join("volume.json").exists() {
            continue;
        }
        let lock = match Lock::try_acquire(&directory.join("lock"), Mode::Exclusive) {
            Ok(Some(lock)) => lock,
            // It is being made; or somebody was faster.
            Ok(None) => continue,
            Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if record::load(&directory)?.is_none() {
            set_aside(&directory)?;
        }
        drop(lock);
    }
    sweep_elsewhere(state)
}

/// Starts the process that empties what was removed, if anything is left, and waits for it.
fn sweep_elsewhere(state: &Path) -> Result<(), Error> {
    if leftovers(state)?.is_empty() {
        return Ok(());
    }
    let program = Path::new("/proc/self/exe");
    let done = Command::new(program)
        .arg0(SWEEPER)
        .env("BRYO_STATE", state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(io("start", program))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(VolumeError::Work {
            name: "that was removed".into(),
            why: crate::line::printable_line(String::from_utf8_lossy(&done.stderr).trim()),
        }
        .into()),
    }
}

/// In the process that empties what was removed: its exit code. To be asked before anything else is done.
pub fn sweeper() -> Option<u8> {
    let mut arguments = std::env::args_os();
    if arguments.next().is_none_or(|name| name != SWEEPER) || arguments.next().is_some() {
        return None;
    }
    match empty_all() {
        Ok(()) => Some(0),
        Err(why) => {
            eprintln!("{why}");
            Some(1)
        }
    }
}

fn empty_all() -> Result<(), String> {
    let store = Store::open().map_err(|error| chain(&error))?;
    let left = leftovers(store.state()).map_err(|error| chain(&error))?;
    runtime::as_root(&Probe::now(), store.run(), |_| {
        left.iter().try_for_each(|path| remove_all(path))
    })
    .map_err(|error| chain(&error))?
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
