//! Who makes the files of a copy? A process in the container, if it runs; else this one.

use std::io::{self, BufRead as _, BufReader, PipeReader, Write as _};
use std::time::Instant;

use fuse_overlay::attr::Kind;
use fuse_overlay::name::Name;
use fuse_overlay::union::Tree;
use rustix::fs::OFlags;

use super::files::Place;
use super::give::{explained, mounts_left_out};
use super::mounted::Shown;
use super::names::{self, Asked, There, Top};
use super::root::{self, Root, Spot};
use super::tree::{InTree, io_error};
use super::unpack::{self, Onto, Owners, Unpacked, Unpacking};
use super::{BETWEEN, End, Order, PATIENCE, Way, describe, way};
use crate::containers::growing::{Growing, Missing, ROOT};
use crate::containers::record::{self, Life, Record};
use crate::containers::runtime::help;
use crate::containers::{Error, life};
use crate::images::pull::decompressed;
use crate::line::chain;
use crate::store::Store;

/// Makes the destination of what comes; from the user's own standard input if there is no reader.
pub(super) fn take(store: &Store, order: &Order, reader: Option<PipeReader>) -> Result<Unpacked, Error> {
    let failed = |why: String| Error::Copy {
        action: "copy to",
        place: describe(&order.to),
        why,
    };
    let mut incoming = match reader {
        Some(reader) => {
            let mut stream = BufReader::with_capacity(1 << 18, Source::Pipe(reader));
            // Nothing comes: the source says why.
            let top = unpack::hear(&mut stream).map_err(|_| failed("nothing came".into()))?;
            Incoming {
                top: Some(top),
                stream,
            }
        }
        None => Incoming {
            top: None,
            stream: BufReader::with_capacity(1 << 18, Source::Stdin),
        },
    };
    match &order.to {
        End::Stream => {
            let mut out = io::stdout().lock();
            // What is left in a buffer at the end would be lost in silence.
            let copied =
                io::copy(&mut incoming.stream, &mut out).and_then(|bytes| out.flush().map(|()| bytes));
            let bytes = copied.map_err(|error| failed(error.to_string()))?;
            Ok(Unpacked {
                bytes,
                warnings: Vec::new(),
            })
        }
        End::Host(path) => {
            let asked = Asked::new(path.as_os_str().as_encoded_bytes());
            let root = Root::host().map_err(|error| failed(error.to_string()))?;
            into_files(incoming, &asked, None, root).map_err(failed)
        }
        End::Container { name, path } => {
            let asked = Asked::new(path);
            match into_container(store, name, order.owners, &asked, incoming)? {
                Ok(done) => Ok(done),
                Err(why) => Err(failed(why)),
            }
        }
    }
}

/// A tar that comes, and of what it is.
struct Incoming {
    top: Option<Top>,
    stream: BufReader<Source>,
}

enum Source {
    Pipe(PipeReader),
    Stdin,
}

impl io::Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Pipe(pipe) => pipe.read(out),
            Source::Stdin => io::stdin().read(out),
        }
    }
}

fn into_container(
    store: &Store,
    name: &str,
    owners: Owners,
    asked: &Asked,
    incoming: Incoming,
) -> Result<Result<Unpacked, String>, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        let record = match way(store, name)? {
            Way::Runs(init) => {
                let helped = help(Some(&init), (), move || {
                    let root = Root::container().map_err(|error| error.to_string())?;
                    into_files(incoming, asked, Some(owners), root)
                });
                return Ok(helped
                    .map_err(|error| error.to_string())
                    .and_then(|(helper, ())| helper.end()));
            }
            Way::Stands(record) => record,
        };
        if let Some(held) = record::hold(store, &record.id)? {
            if matches!(held.record.life, Life::Running { .. }) {
                // Its supervisor was killed: reading it puts that right.
                drop(held);
                continue;
            }
            if let Some(there) = Shown::of(store, &held.record, asked)? {
                return Ok(into_mounted(store, &there, owners, incoming));
            }
            if held.spec()?.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
                return Ok(Err("the container's root is read-only (--read-only)".into()));
            }
            let upper = held.directory().join("upper");
            let lower = life::lower(store, &held.record)?;
            let tree = Tree::open(lower, &upper, held.record.settings.storage.limits())?;
            let done = into_tree(&tree, &held.record, owners, asked, incoming);
            // Also of what failed half-way.
            let synced = tree.sync().map(drop).map_err(|error| io_error(error).to_string());
            return Ok(done.and_then(|done| synced.map(|()| done)));
        }
        if Instant::now() > end {
            return Err(Error::Busy(record.name));
        }
        std::thread::sleep(BETWEEN);
    }
}

/// Makes files by descriptors. `owners`: whose they become in a container; on the host they are the user's.
fn into_files(
    mut incoming: Incoming,
    asked: &Asked,
    owners: Option<Owners>,
    root: Root,
) -> Result<Unpacked, String> {
    let shown = |error: io::Error| error.to_string();
    let spot = root.find(&asked.path).map_err(shown)?;
    let Spot {
        parent,
        above,
        name,
        there,
    } = spot;
    let (within, name) = land(&incoming, there, asked, name)?;
    let base = match &within {
        Some(name) => [above.as_slice(), name].join(&b'/'),
        None => above,
    };
    let base_dir = match &within {
        Some(name) => root::open_at(&parent, name, OFlags::PATH | OFlags::DIRECTORY).map_err(shown)?,
        None => parent,
    };
    let place = match owners {
        None => Place::Host,
        Some(_) => Place::Container { root, base },
    };
    pour(&place, &base_dir, &mut incoming, name.as_deref(), owners)
}

/// The same where a directory is mounted when the container runs.
fn into_mounted(
    store: &Store,
    there: &Shown,
    owners: Owners,
    incoming: Incoming,
) -> Result<Unpacked, String> {
    if !there.is_writable {
        return Err("it is mounted read-only".into());
    }
    there.work(store, |root, asked| {
        into_files(incoming, asked, Some(owners), root)
    })
}

/// The same in a tree.
fn into_tree(
    tree: &Tree,
    record: &Record,
    owners: Owners,
    asked: &Asked,
    mut incoming: Incoming,
) -> Result<Unpacked, String> {
    let growing = Growing(tree);
    let shown = |error: io::Error| error.to_string();
    let place = growing.find(&asked.path, Missing::Refuse);
    let place = place.map_err(|error| shown(explained(record, asked, io_error(error))))?;
    let there = match &place.now {
        None => There::Nothing,
        Some(found) if found.kind == Kind::Directory => There::Directory,
        Some(_) => There::Other,
    };
    let mut warnings = mounts_left_out(Some(&growing), record, &place.path()).map_err(shown)?;
    let own = place.name.as_ref().map(|name| name.as_bytes().to_vec());
    let (within, name) = land(&incoming, there, asked, own)?;
    let above: Vec<&[u8]> = place.above.iter().map(|name| Name::as_bytes(name)).collect();
    let (base, dir) = match (&within, &place.now) {
        (Some(_), Some(found)) => (place.path(), found.ino),
        (None, Some(found)) if place.name.is_none() => (Vec::new(), found.ino),
        _ => (above.join(&b'/'), place.dir),
    };
    if within.is_none() || dir == ROOT {
        // What is mounted below covers nothing that is copied beside it.
        warnings.clear();
    }
    let onto = InTree { tree: growing, base };
    let mut done = pour(&onto, &dir, &mut incoming, name.as_deref(), Some(owners))?;
    done.warnings.splice(..0, warnings);
    Ok(done)
}

type Landed = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The directory below the parent that everything comes into, if it is not the parent; and the name it gets there.
fn land(incoming: &Incoming, there: There, asked: &Asked, name: Option<Vec<u8>>) -> Result<Landed, String> {
    let Some(top) = &incoming.top else {
        return match there {
            There::Directory => Ok((name, None)),
            There::Nothing => Err("no such directory".into()),
            There::Other => Err("not a directory: an archive is unpacked into one".into()),
        };
    };
    let landing = names::landing(top, there, asked.slash).map_err(|refused| refused.to_string())?;
    let as_name = unpack::name_at(landing, name.as_deref()).map(Vec::from);
    Ok(match as_name {
        Some(_) => (None, as_name),
        None => (name, None),
    })
}

fn pour<O: Onto>(
    onto: &O,
    base: &O::Dir,
    incoming: &mut Incoming,
    name: Option<&[u8]>,
    owners: Option<Owners>,
) -> Result<Unpacked, String> {
    let how = Unpacking {
        top: incoming.top.as_ref(),
        name,
        owners,
    };
    let stream = &mut incoming.stream;
    if how.top.is_some() {
        return unpack::unpack(onto, base, &how, stream).map_err(|error| chain(&error));
    }
    // An archive of the user's may be compressed.
    if stream.fill_buf().map_err(|error| error.to_string())?.is_empty() {
        return Err("standard input is empty: no archive".into());
    }
    let mut plain = decompressed(stream).map_err(|error| error.to_string())?;
    unpack::unpack(onto, base, &how, &mut plain).map_err(|error| chain(&error))
}
