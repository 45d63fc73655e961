//! The filesystem server's own side: opens image and writable layer, serves the connection, minds the supervisor's end.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fuse_overlay::fuse::{AtEnd, IdMap, serve_noting};
use fuse_overlay::index::view::{Access, LoadError};
use fuse_overlay::ledger::Ledger;
use fuse_overlay::union::{Lower, OpenError, Tree};
use fuse_overlay::upper;
use nix::sys::signal::SigSet;
use rustix::process::{Signal, pidfd_send_signal};

use super::protocol::{After, Answer, Death, Indexes, Task};
use super::{confine, stdio};
use crate::containers::record::SERVER_PATIENCE;
use crate::containers::runtime::channel::Channel;
use crate::containers::storage::Storage;
use crate::stderr;

/// The server's whole life once it has its image.
pub(super) fn run(lower: Lower, upper: &Path, storage: Storage, ledger: &OwnedFd, channel: Channel) -> u8 {
    // The supervisor holds back those that are said to it; forks and successors inherit that. Cannot fail with a valid set.
    let _ = SigSet::all().thread_unblock();
    stdio::forget_streams();
    log_beside(upper);
    // A name is a help to people only.
    let _ = nix::sys::prctl::set_name(c"bryo-server");
    let directories: std::io::Result<Vec<OwnedFd>> = lower
        .directories()
        .map(|directory| directory.root().try_clone())
        .collect();
    let (tree, ledger) = match open(lower, upper, storage, ledger) {
        Ok(open) => open,
        Err(why) => {
            // If nobody hears it, nobody is there to be told.
            let _ = channel.send(&Answer::Failed(why.to_string()), &NO_DESCRIPTORS);
            return 1;
        }
    };
    // While the supervisor makes namespaces, so that no start waits for it.
    let confined = directories.map_err(confine::Error::from);
    if let Err(why) = confined.and_then(|directories| confine::server(&directories)) {
        tracing::warn!(%why, "the filesystem server is not confined");
    }
    if channel.send(&Answer::Open, &NO_DESCRIPTORS).is_err() {
        return 1;
    }
    let Ok(Some((
        Task::Serve {
            uids,
            gids,
            after,
            notes,
        },
        mut devices,
    ))) = channel.receive()
    else {
        return 1;
    };
    let notes = notes.then(|| devices.pop()).flatten().map(File::from);
    let ranges = |pairs: Vec<(u32, u32)>| pairs.into_iter().map(|(start, end)| start..end).collect();
    let at_end = match after {
        After::Read => AtEnd::Sync,
        After::Kept => AtEnd::List,
        After::Removed => AtEnd::Discard,
    };
    let ids = IdMap {
        uids: ranges(uids),
        gids: ranges(gids),
    };
    let guard = std::thread::Builder::new()
        .name("guard".into())
        .spawn(move || guard(&channel));
    match (guard, serve_noting(tree, ids, devices, &ledger, (at_end, notes))) {
        (Ok(_), Ok(())) => 0,
        (_, Err(why)) => unsynced(&why),
        (Err(_), Ok(())) => 1,
    }
}

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
enum OpeningError {
    #[error("the server's ledger: {0}")]
    Ledger(#[source] std::io::Error),
    #[error(transparent)]
    Upper(#[from] OpenError),
    #[error("the image: {0}")]
    Image(#[from] LoadError),
}

/// Warnings and errors go to a file beside the writable layer: nobody waits for this process's streams. What all servers of
/// a container say has its bound.
fn log_beside(upper: &Path) {
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    let log = options.open(upper.with_file_name(LOG));
    let size = log
        .as_ref()
        .map_or(Ok(0), |log| Ok::<_, std::io::Error>(log.metadata()?.len()));
    stderr::limit(MOST_LOG.saturating_sub(size.map_or(usize::MAX, |size| size as usize)));
    // On a full disk there is no log.
    let _ = log.map(|log| nix::unistd::dup2_stderr(&log));
}

fn open(
    lower: Lower,
    upper: &Path,
    storage: Storage,
    ledger: &OwnedFd,
) -> Result<(Tree, Ledger), OpeningError> {
    let ledger = Ledger::open(ledger).map_err(OpeningError::Ledger)?;
    let tree = Tree::open_under(lower, opened(upper)?, storage.limits(), &ledger)?;
    Ok((tree, ledger))
}

/// Opens the writable layer. The container is our supervisor's, so who still has the layer in use is a server whose
/// supervisor was killed before it could record it: that one ends as soon as it has synced.
fn opened(upper: &Path) -> Result<upper::Storage, OpenError> {
    let end = Instant::now() + SERVER_PATIENCE;
    loop {
        match upper::Storage::open(upper) {
            Err(OpenError::InUse { .. }) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            opened => return opened,
        }
    }
}

/// The life of one that was started to follow a dead server.
pub(super) fn succeed(channel: Channel) -> u8 {
    inherit(channel).unwrap_or(1)
}

/// Takes the image from the supervisor, and serves on.
fn inherit(channel: Channel) -> Option<u8> {
    let (
        Task::Inherit {
            upper,
            storage,
            descriptors,
            indexes,
            death,
        },
        ledger,
    ) = channel.receive().ok()??
    else {
        return None;
    };
    let ledger = ledger.into_iter().next()?;
    let mut image = Vec::new();
    while image.len() < descriptors {
        let (Task::Image, more) = channel.receive().ok()?? else {
            return None;
        };
        image.extend(more);
    }
    if death == Death::Crash {
        Ledger::open(&ledger).ok()?.blame();
    }
    let access = match indexes {
        Indexes::Mapped => Access::Map,
        Indexes::Read => Access::Read,
    };
    let lower = match Lower::from_descriptors(image, access) {
        Ok(lower) => lower,
        Err(error) => {
            // As in `run`.
            let _ = channel.send(
                &Answer::Failed(OpeningError::from(error).to_string()),
                &NO_DESCRIPTORS,
            );
            return None;
        }
    };
    let upper = Path::new(OsStr::from_bytes(&upper));
    Some(run(lower, upper, storage, &ledger, channel))
}

/// Waits for the supervisor's end, which closes the channel, and kills init then. (Its parent-death signal does so
/// too, but that one is lost when the command is a set-uid program.)
fn guard(channel: &Channel) {
    let mut init = None;
    while let Ok(Some((Task::Guard, descriptors))) = channel.receive() {
        init = descriptors.into_iter().next();
    }
    match init {
        Some(init) => {
            // It may be dead already.
            let _ = pidfd_send_signal(&init, Signal::KILL);
        }
        // Not told yet: what there is of the container waits for this process, and ends with it.
        None => std::process::exit(1),
    }
}

pub(super) const NO_DESCRIPTORS: [OwnedFd; 0] = [];

/// Exit code of a server whose connection has ended, and whose last sync failed: another would not find out, for a disk
/// tells of an error once.
///
/// The errno is added, if it is known.
const UNSYNCED: u8 = 100;

fn unsynced(why: &std::io::Error) -> u8 {
    let errno = why.raw_os_error().and_then(|errno| u8::try_from(errno).ok());
    UNSYNCED.saturating_add(errno.unwrap_or_default())
}

/// Why the last sync of a server failed that ended with this exit code; `None` if it ended otherwise.
pub(super) fn why_unsynced(code: i32) -> Option<std::io::Error> {
    match code - i32::from(UNSYNCED) {
        0 => Some(std::io::Error::other("see server.log beside the writable layer")),
        errno @ 1..156 => Some(std::io::Error::from_raw_os_error(errno)),
        _ => None,
    }
}

/// The server's log, beside the writable layer.
const LOG: &str = "server.log";
/// Most bytes of it.
const MOST_LOG: usize = 1 << 20;

/// The name under which a successor is started.
pub(super) const NAME: &str = "bryo-server";
