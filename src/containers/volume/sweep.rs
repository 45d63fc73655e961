//! What is left in `volumes/` that is none: removed volumes that are not empty yet, those that never came to be, copies for
//! containers that are gone. What in them belongs to the container's other users only their root can remove: a process of
//! its own does that, started anew, since a supervisor has threads.
//!
//! Whoever sweeps does so beside its own work: what cannot go is told of, and nothing fails for it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::empty::remove_all;
use super::record::{data, new_name, place};
use crate::containers::{Error, names, role, runtime};
use crate::host::Probe;
use crate::line::{chain, printable_line};
use crate::store::{self, Lock, Mode, Store, failpoint, root};

/// The name of the process that empties what was removed.
const SWEEPER: &str = "bryo-sweeper";

/// What a removed volume's directory is called until it is empty, and a copy of an image's files.
pub(super) const GONE: &str = ".gone-";
pub(super) const IMAGE: &str = ".image-";

/// Removes what killed commands left.
pub(in crate::containers) fn sweep(state: &Path) {
    let volumes = place(state);
    let entries = root::list(&volumes).unwrap_or_else(|error| {
        tracing::warn!("removed volumes stay: {}", chain(&error));
        Vec::new()
    });
    for entry in entries {
        let is_volume = entry.file_name().to_str().is_some_and(names::is_name);
        // What is no directory is not ours.
        if is_volume
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Err(error) = remove_unmade(&entry.path())
        {
            tracing::warn!("{} stays: {}", entry.path().display(), chain(&error));
        }
    }
    sweep_elsewhere(state);
}

/// Removes all that lies there, whoever uses it.
///
/// # Errors
/// It cannot be listed. What cannot go is told of.
pub fn wipe(state: &Path) -> Result<(), Error> {
    for entry in root::list(&place(state))? {
        let is_left = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(GONE));
        if !is_left && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            set_aside(&entry.path())?;
        }
    }
    sweep_elsewhere(state);
    Ok(())
}

/// Takes a volume's directory out of all ways. Its lock is held.
pub(super) fn set_aside(directory: &Path) -> Result<PathBuf, Error> {
    let gone = directory.with_file_name(format!("{GONE}{}", new_name()?));
    let renamed = failpoint::step().and_then(|()| fs::rename(directory, &gone));
    renamed.map_err(Error::io("remove", directory))?;
    Ok(gone)
}

/// Removes a directory that a killed command made for a volume. Without a record, but with data, it may be one that is
/// copied here at this moment, or whose record was lost: it stays as it is.
fn remove_unmade(directory: &Path) -> Result<(), Error> {
    if !is_unmade(directory)? {
        return Ok(());
    }
    let path = directory.join("lock");
    let lock = match Lock::try_acquire(&path, Mode::Exclusive) {
        Ok(Some(lock)) => lock,
        // It is being made; or somebody was faster.
        Ok(None) => return Ok(()),
        Err(store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !is_unmade(directory)? {
        return Ok(());
    }
    // Each goes by itself, so that what somebody puts there at this moment stays.
    let data = data(directory);
    was_there(failpoint::step().and_then(|()| fs::remove_dir(&data))).map_err(Error::io("remove", &data))?;
    for entry in root::list(directory)? {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(is_aside) {
            was_there(fs::remove_file(&path)).map_err(Error::io("remove", &path))?;
        }
    }
    was_there(failpoint::step().and_then(|()| fs::remove_file(&path))).map_err(Error::io("remove", &path))?;
    drop(lock);
    match failpoint::step().and_then(|()| fs::remove_dir(directory)) {
        // Somebody makes a volume of it.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => was_there(removed).map_err(Error::io("remove", directory)),
    }
}

/// Is there nothing but what a command leaves that was killed while it made a volume?
fn is_unmade(directory: &Path) -> Result<bool, Error> {
    for entry in root::list(directory)? {
        let is_ours = match entry.file_name().to_str() {
            Some("lock" | "lock.lease") => true,
            Some("_data") => root::list(&entry.path()).is_ok_and(|entries| entries.is_empty()),
            Some(name) => is_aside(name),
            None => false,
        };
        if !is_ours {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Is this a file that was to become the record?
fn is_aside(name: &str) -> bool {
    let name = name.strip_suffix(".lease").unwrap_or(name);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-')
        .is_some_and(|(process, number)| is_number(process) && is_number(number))
}

fn was_there(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
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

/// Starts the process that empties what was removed, if anything is left, and waits for it.
pub(super) fn sweep_elsewhere(state: &Path) {
    if !leftovers(state).is_ok_and(|left| left.is_empty())
        && let Err(why) = start_sweeper(state)
    {
        tracing::warn!("removed volumes still take room: {why}");
    }
}

fn start_sweeper(state: &Path) -> Result<(), String> {
    let done = role::command(SWEEPER)
        .env("BRYO_STATE", state)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("/proc/self/exe cannot be started: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(printable_line(String::from_utf8_lossy(&done.stderr).trim())),
    }
}

/// In the process that empties what was removed: its exit code. To be asked before anything else is done.
pub fn sweeper() -> Option<u8> {
    if role::arguments(SWEEPER)?.next().is_some() {
        return None;
    }
    match empty_all() {
        Ok(()) => Some(0),
        Err(why) => {
            crate::line::say!("{why}");
            Some(1)
        }
    }
}

/// Each by itself: of those that stay it gives how many, and why the first does.
fn empty_all() -> Result<(), String> {
    let store = Store::open().map_err(|error| chain(&error))?;
    let left = leftovers(store.state()).map_err(|error| chain(&error))?;
    let failed = runtime::as_root(&Probe::now(), store.run(), |_| {
        let mut failed = left.iter().filter_map(|path| remove_all(path).err());
        failed.next().map(|first| (first, failed.count()))
    })
    .map_err(|error| chain(&error))?;
    match failed {
        None => Ok(()),
        Some((first, 0)) => Err(first),
        Some((first, more)) => Err(format!("{first}; and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_killed_command_left_of_a_volume_goes() {
        let (_dir, store) = store::scratch();
        let volumes = place(store.state());
        let write = |path: &str| {
            let path = volumes.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        for killed in ["early/lock", "late/lock", "late/123-0", "late/123-0.lease"] {
            write(killed);
        }
        fs::create_dir_all(volumes.join("late/_data")).unwrap();
        fs::create_dir_all(volumes.join("first")).unwrap();
        for kept in ["restored/_data/file", "file.tar", "other/notes", "early.d/1-x"] {
            write(kept);
        }
        fs::create_dir_all(volumes.join("other/_data")).unwrap();
        sweep(store.state());
        let mut left: Vec<_> = fs::read_dir(&volumes)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["early.d", "file.tar", "other", "restored"]);
        assert!(volumes.join("restored/_data/file").exists() && volumes.join("other/_data").exists());
        assert!(!volumes.join("restored/lock").exists());
    }

    #[test]
    fn one_that_is_being_made_stays() {
        let (_dir, store) = store::scratch();
        let directory = place(store.state()).join("vol");
        fs::create_dir_all(&directory).unwrap();
        let lock = Lock::acquire(&directory.join("lock"), Mode::Exclusive).unwrap();
        sweep(store.state());
        assert!(directory.join("lock").exists());
        drop(lock);
        sweep(store.state());
        assert!(!directory.exists());
    }
}
