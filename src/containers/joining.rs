//! How do several commands come into one container, which lives as long as one of them does (`run --join`: the ranks of an
//! MPI program on one node)? Whoever finds none makes it, under a lock of its name; then all come in by one way.

use std::fs;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::exec::{self, Prepared};
use super::record::{self, Life, Record};
use super::spec::Within;
use super::{Error, attach, inherited, names};
use crate::store::Store;
use crate::store::lock::{Attempt, Lock, Mode};

/// What the supervisor says to who has come in.
pub(super) const WELCOME: u8 = b'+';

/// How long one waits for a container that is being made, or ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a supervisor may take to say welcome.
const GREETING: Duration = Duration::from_secs(10);

/// How long the last waits until the container is gone: what that wrote goes to a disk that may be slow.
const LEAVING: Duration = Duration::from_secs(150);

/// How often one looks.
const LOOK: Duration = Duration::from_millis(10);

/// The name of the socket by which one comes in, beside that of `attach`.
pub(super) fn door(id: &str) -> String {
    format!("{id}{}", attach::DOOR)
}

/// A place in a container, which lives at least until it is left, or this process ends.
#[derive(Debug)]
pub struct Seat {
    connection: UnixStream,
    /// The container's.
    pub record: Record,
}

impl Seat {
    /// A command in the container, with these descriptors of this process. It dies with this process. To be called while
    /// that has one thread, by the [sealed program](super::runtime::ensure_sealed).
    ///
    /// # Errors
    /// As [`exec::prepare`].
    pub fn prepare(&self, store: &Store, asked: &Within, kept: Vec<RawFd>) -> Result<Prepared, Error> {
        Ok(exec::prepare(store, &self.record, asked)?.bound(kept))
    }

    /// Leaves; the last waits until the container is gone.
    pub fn leave(mut self) {
        // A supervisor that was killed waits for nobody, and nobody for it.
        if self.connection.shutdown(Shutdown::Write).is_ok() {
            let _ = self.connection.set_read_timeout(Some(LEAVING));
            let _ = self.connection.read_to_end(&mut Vec::new());
        }
    }
}

enum Place {
    Taken(Box<Seat>),
    /// There is no such container.
    Free,
    /// It is being made, or ends.
    Soon,
}

/// Takes a place in the container of this name, which all make by the same `flags` (a digest). `make` makes and starts it;
/// it is called again if that ended before anybody came in.
///
/// # Errors
/// [`Error::Name`], [`Error::NotShared`], [`Error::OtherFlags`], [`Error::Busy`]; what `make` says.
pub fn take<E: From<Error>>(
    store: &Store,
    name: &str,
    flags: &str,
    mut make: impl FnMut() -> Result<(), E>,
) -> Result<Seat, E> {
    if !names::is_name(name) {
        return Err(Error::Name(name.into()).into());
    }
    let mut end = Instant::now() + PATIENCE;
    loop {
        let mut place = look(store, name, flags)?;
        if let Place::Free = place {
            let begun = Instant::now();
            let turn = Turn::wait(store, name)?;
            let made = match look(store, name, flags) {
                Ok(Place::Free) => make().and_then(|()| Ok(look(store, name, flags)?)),
                there => there.map_err(E::from),
            };
            turn.end();
            place = made?;
            // Whoever makes it may have to pull the image first, for as long as that takes.
            end += begun.elapsed();
        }
        if let Place::Taken(seat) = place {
            return Ok(*seat);
        }
        if Instant::now() > end {
            return Err(Error::Busy(name.into()).into());
        }
        std::thread::sleep(LOOK);
    }
}

fn look(store: &Store, name: &str, flags: &str) -> Result<Place, Error> {
    let id = match record::find(store, name) {
        Err(Error::NoSuchContainer(_) | Error::Ambiguous(_)) => return Ok(Place::Free),
        id => id?,
    };
    // What looks like the beginning of an id may be a name that is free.
    let Some(record) = record::read(store, &id)?.filter(|record| record.name == name) else {
        return Ok(Place::Free);
    };
    match &record.settings.shared {
        None => return Err(Error::NotShared(name.into())),
        Some(shared) if shared != flags => return Err(Error::OtherFlags(name.into())),
        Some(_) => {}
    }
    if !matches!(record.life, Life::Running { .. }) {
        return Ok(Place::Soon);
    }
    match come_in(store, &id) {
        Ok(Some(connection)) => Ok(Place::Taken(Box::new(Seat { connection, record }))),
        Ok(None) => Ok(Place::Soon),
        Err(source) => Err(Error::Join {
            name: name.into(),
            source,
        }),
    }
}

/// `None`: it ends.
fn come_in(store: &Store, id: &str) -> io::Result<Option<UnixStream>> {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    let welcomed = || -> io::Result<UnixStream> {
        let mut connection = attach::connect(store.run(), &door(id))?;
        connection.set_read_timeout(Some(GREETING))?;
        let mut byte = [0];
        connection.read_exact(&mut byte)?;
        connection.set_read_timeout(None)?;
        Ok(connection)
    };
    match welcomed() {
        Ok(connection) => Ok(Some(connection)),
        Err(error)
            if matches!(
                error.kind(),
                ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Where the locks are of those who make a container.
fn turns(store: &Store) -> PathBuf {
    store.state().join("joins")
}

/// Removes the locks that killed tools left.
pub(super) fn sweep(store: &Store) {
    for entry in fs::read_dir(turns(store)).into_iter().flatten().flatten() {
        // Of one that cannot be taken or removed somebody else makes use, or the next sweep.
        if let Ok(Attempt::Taken(_lock)) = Lock::attempt_existing(&entry.path(), Mode::Exclusive) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whose turn it is to make a container of a name.
struct Turn {
    lock: Lock,
    path: PathBuf,
}

impl Turn {
    fn wait(store: &Store, name: &str) -> Result<Turn, Error> {
        let directory = turns(store);
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        let path = directory.join(name);
        let lock = Lock::acquire(&path, Mode::Exclusive)?;
        // It is the supervisor's, too, else, and held as long as the container lives.
        inherited::add(lock.file().as_raw_fd());
        Ok(Turn { lock, path })
    }

    fn end(self) {
        // Under the lock: who waits for it finds that it is no file's, and makes another.
        let _ = fs::remove_file(&self.path);
        inherited::remove(self.lock.file().as_raw_fd());
    }
}
