//! How does a running container get the filesystem server of a newer program? A link in its directory names the program of
//! all further servers, and the present one is killed, which nobody in the container notices. If the new program cannot
//! go on where the old one was (its ledger may be of another version), the supervisor's own is taken again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::Error;
use super::record::{self, Life, Record};
use crate::store::Store;
use crate::store::failpoint::step;

/// The link, beside the writable layer.
const LINK: &str = "server";

/// How long a new server may take to show itself; a long journal is read first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program that was asked for, for the container of this writable layer.
pub(super) fn program(upper: &Path) -> Option<PathBuf> {
    fs::read_link(upper.parent()?.join(LINK)).ok()
}

/// Forgets what was asked for when the container ran before: its first server is the tool's own program.
pub(super) fn forget(upper: &Path) {
    if let Some(directory) = upper.parent() {
        // It is nearly never there, and if it stays, there are two programs to try.
        let _ = step().and_then(|()| fs::remove_file(directory.join(LINK)));
    }
}

/// Puts a server of this very program in the place of a running container's.
///
/// # Errors
/// [`Error::NoServer`]; [`Error::NotUpgraded`] if the container goes on with another program's server.
pub fn upgrade_server(store: &Store, record: &Record) -> Result<(), Error> {
    let not_running = || Error::NoServer(record.name.clone());
    let Life::Running { server, .. } = record.life else {
        return Err(not_running());
    };
    let path = store.container(&record.id).join(LINK);
    let io = |source: io::Error| Error::Io {
        action: "name the program of the filesystem server in",
        path: path.clone(),
        source,
    };
    let not_upgraded = || {
        // Not to be tried again; if it stays, it is, at each death.
        let _ = fs::remove_file(&path);
        Error::NotUpgraded(record.name.clone())
    };
    let program = std::env::current_exe().map_err(io)?;
    let aside = path.with_extension("new");
    match step().and_then(|()| fs::remove_file(&aside)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let linked = step().and_then(|()| std::os::unix::fs::symlink(&program, &aside));
    linked.map_err(io)?;
    step().and_then(|()| fs::rename(&aside, &path)).map_err(io)?;
    let pidfd = server.open().map_err(io)?.ok_or_else(not_running)?;
    pidfd_send_signal(&pidfd, Signal::KILL).map_err(|_| not_running())?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let now = record::read(store, &record.id)?.ok_or_else(not_running)?;
        let Life::Running { server: next, .. } = now.life else {
            return Err(not_running());
        };
        if next != server {
            // Its program is known by its own words: as a running process of this user.
            let runs = fs::read_link(format!("/proc/{}/exe", next.pid)).map_err(io)?;
            return if runs == program {
                Ok(())
            } else {
                Err(not_upgraded())
            };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(not_upgraded())
}
