//! `cp`: how do files come into a container, out of it, or from one into another? As a tar through a pipe, whose ends know
//! nothing of each other: one reads files, the other makes them.
//!
//! ```text
//! source ── one line: what it is (names.rs) ── tar ──► destination
//! ```
//! Where the container runs, a process of ours in its namespaces is the end (`runtime/inside.rs`), by descriptors (`root`,
//! `read`, `files`). Where it does not, its tree is read, or written to under its lock, without a mount (`tree`); so are the
//! volumes that it will show (`mounted`).

mod files;
mod give;
mod mounted;
mod names;
mod read;
mod root;
mod take;
mod tree;
mod unpack;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::give::NotGiven;
pub use self::unpack::Owners;
use super::growing::ROOT;
use super::record::{self, Life, Record};
use super::runtime::{Helper, is_sealed};
use super::{Error, changes, end, exec};
use crate::store::Store;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `-`: a tar on standard input or output.
    Stream,
    /// A path of the host.
    Host(PathBuf),
    /// A path in a container, from its root.
    Container {
        /// The container, as the user called it.
        name: String,
        /// The path.
        path: Vec<u8>,
    },
}

/// What is to be copied, and how.
#[derive(Debug)]
pub struct Order {
    /// The source.
    pub from: End,
    /// The destination.
    pub to: End,
    /// `-a`.
    pub owners: Owners,
    /// `-L`: a symlink at the source's path is followed.
    pub follow: bool,
}

/// What was copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of files.
    pub bytes: u64,
    /// What could not be copied as it is.
    pub warnings: Vec<String>,
}

/// How long a container may take to end, or another command to be done with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often one looks.
const BETWEEN: Duration = Duration::from_millis(50);

/// How the files of a container are reached.
#[derive(Debug)]
enum Way {
    /// Within its namespaces, by its init.
    Runs(OwnedFd),
    /// By its tree.
    Stands(Box<Record>),
}

/// Does any side of it run, so that a process of ours goes in there?
///
/// # Errors
/// There is no such container.
pub fn enters(store: &Store, order: &Order) -> Result<bool, Error> {
    for end in [&order.from, &order.to] {
        if let End::Container { name, .. } = end
            && matches!(record::of_name(store, name)?.life, Life::Running { .. })
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies. To be called while the process has one thread; if one of the containers runs, in a
/// [sealed copy](super::runtime::ensure_sealed) of the program.
///
/// # Errors
/// Says which side failed, and why; what was copied before that stays.
pub fn copy(store: &Store, order: &Order) -> Result<Copied, Error> {
    let (reader, writer) = io::pipe().map_err(|source| Error::Io {
        action: "make",
        path: "a pipe".into(),
        source,
    })?;
    let from = describe(&order.from);
    let unsure = |why: String| Error::Copy {
        action: "copy from",
        place: from.clone(),
        why,
    };
    let (source, reader) = match &order.from {
        End::Stream => {
            drop((reader, writer));
            (None, None)
        }
        End::Host(_) | End::Container { .. } => {
            let (helper, reader) = give::give(store, order, reader, writer).map_err(|error| match error {
                NotGiven::Refused(error) => error,
                NotGiven::NoProcess(error) => unsure(error.to_string()),
            })?;
            (Some(helper), Some(reader))
        }
    };
    let put = take::take(store, order, reader);
    let given = source.map_or(Ok(Vec::new()), Helper::end);
    match (put, given) {
        // Who has nobody to read it says no more than that.
        (Err(error), Err(why)) if why.contains(BROKEN) => Err(error),
        (_, Err(why)) => Err(unsure(why)),
        (put, Ok(warnings)) => put.map(|done| Copied {
            bytes: done.bytes,
            warnings: [warnings, done.warnings].concat(),
        }),
    }
}

/// What a source says whose destination has failed.
const BROKEN: &str = "Broken pipe";

fn describe(end: &End) -> String {
    match end {
        End::Stream => "-".into(),
        End::Host(path) => path.display().to_string(),
        End::Container { name, path } => format!("{name}:{}", String::from_utf8_lossy(path)),
    }
}

/// How a container's files are reached now. One that is just ending is waited for: until its supervisor has seen to it, what
/// it wrote last is not in its tree.
fn way(store: &Store, name: &str) -> Result<Way, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        let record = record::of_name(store, name)?;
        let Life::Running { init, .. } = record.life else {
            return Ok(Way::Stands(Box::new(record)));
        };
        match exec::way_in(init, &record)? {
            // It was started since we looked, and this program's own file does not go in there.
            Some(_) if !is_sealed() => return Err(Error::Busy(record.name)),
            Some(init) => return Ok(Way::Runs(init)),
            None if Instant::now() > end => return Err(Error::Busy(record.name)),
            // With `--init`, its command may not be there yet.
            None => end::wait(&record, Some(BETWEEN)).map(drop)?,
        }
    }
}

/// Writes the whole tree of a container, as it is now, as a tar. What is mounted in it is no part of it.
///
/// # Errors
/// Its image is gone, its writable layer cannot be read, or `out` fails.
pub fn export(store: &Store, record: &Record, out: &mut dyn Write) -> Result<(), Error> {
    let tree = changes::frozen(store, record)?;
    let written = tree.write_tree(ROOT, b"", io::BufWriter::with_capacity(1 << 18, out));
    let flushed = written.and_then(|mut out| out.flush());
    flushed.map_err(|source| Error::Io {
        action: "export",
        path: Path::new(&record.name).into(),
        source,
    })
}
