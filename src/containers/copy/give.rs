//! Who reads the source of a copy? A process of its own, whichever it is, so that both sides work at once.

use std::io::{self, PipeReader, PipeWriter, Write};

use fuse_overlay::attr::{Attr, Kind};
use fuse_overlay::union::Tree;
use nix::errno::Errno;

use super::mounted::Shown;
use super::names::{Asked, Top};
use super::read::{self, Reading};
use super::root::Root;
use super::tree::io_error;
use super::{End, Order, Way, way};
use crate::containers::growing::{Growing, Missing};
use crate::containers::record::Record;
use crate::containers::runtime::{Helper, help};
use crate::containers::{Error, changes};
use crate::line::chain;
use crate::store::Store;

/// Why nobody reads it.
pub(super) enum NotGiven {
    Refused(Error),
    NoProcess(io::Error),
}

/// Starts the process that reads the source.
pub(super) fn give(
    store: &Store,
    order: &Order,
    reader: PipeReader,
    writer: PipeWriter,
) -> Result<(Helper<Vec<String>>, PipeReader), NotGiven> {
    let shown = |error: io::Error| error.to_string();
    let helped = match &order.from {
        End::Stream => return Err(NotGiven::NoProcess(io::ErrorKind::InvalidInput.into())),
        End::Host(path) => {
            let asked = Asked::new(path.as_os_str().as_encoded_bytes());
            let follow = order.follow;
            help(None, reader, move || {
                let root = Root::host().map_err(shown)?;
                let reading = Reading {
                    root: &root,
                    asked: &asked,
                    name: asked.name(),
                    follow,
                    xattrs: false,
                };
                read::give(&reading, buffered(writer)).map_err(shown)
            })
        }
        End::Container { name, path } => {
            let asked = Asked::new(path);
            match way(store, name).map_err(NotGiven::Refused)? {
                Way::Runs(init) => help(Some(&init), reader, || {
                    let root = Root::container().map_err(shown)?;
                    let reading = Reading {
                        root: &root,
                        asked: &asked,
                        name: asked.name(),
                        follow: order.follow,
                        xattrs: true,
                    };
                    read::give(&reading, buffered(writer)).map_err(shown)
                }),
                Way::Stands(record) => help(None, reader, || {
                    if let Some(there) = Shown::of(store, &record, &asked).map_err(|error| chain(&error))? {
                        let left_out = mounts_below(&record, &there.place);
                        let given = give_mounted(store, &there, asked.name(), order.follow, writer)?;
                        return Ok([left_out, given].concat());
                    }
                    let tree = changes::tree(store, &record).map_err(|error| chain(&error))?;
                    give_tree(&tree, &record, &asked, order.follow, buffered(writer)).map_err(shown)
                }),
            }
        }
    };
    helped.map_err(NotGiven::NoProcess)
}

fn buffered(writer: PipeWriter) -> impl Write {
    io::BufWriter::with_capacity(1 << 18, writer)
}

/// Reads from a directory that is mounted in a container when it runs.
fn give_mounted(
    store: &Store,
    there: &Shown,
    name: Option<&[u8]>,
    follow: bool,
    writer: PipeWriter,
) -> Result<Vec<String>, String> {
    there.work(store, |root, asked| {
        let reading = Reading {
            root: &root,
            asked,
            name,
            follow,
            xattrs: true,
        };
        read::give(&reading, buffered(writer)).map_err(|error| error.to_string())
    })
}

/// Reads from the tree of a container that does not run.
fn give_tree(
    tree: &Tree,
    record: &Record,
    asked: &Asked,
    follow: bool,
    mut out: impl Write,
) -> io::Result<Vec<String>> {
    let growing = Growing(tree);
    let (found, real) = find_in(&growing, asked, follow).map_err(|error| explained(record, asked, error))?;
    if asked.slash && found.kind != Kind::Directory {
        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    let warnings = mounts_left_out(record, &real)?;
    let top = Top {
        is_directory: found.kind == Kind::Directory,
        name: asked.name().map(Vec::from),
    };
    top.tell(&mut out)?;
    let path = top.name.unwrap_or_default();
    tree.write_tree(found.ino, &path, out)?.flush()?;
    Ok(warnings)
}

/// What is at a path, and where that is.
fn find_in(growing: &Growing<'_>, asked: &Asked, follow: bool) -> io::Result<(Attr, Vec<u8>)> {
    let place = growing.find(&asked.path, Missing::Refuse).map_err(io_error);
    if follow || asked.slash {
        let place = place?;
        let found = place.now.ok_or(Errno::ENOENT)?;
        return Ok((found, place.path()));
    }
    let found = growing.find_link(&asked.path).map_err(io_error)?;
    let found = found.ok_or(Errno::ENOENT)?;
    let real = match found.kind {
        // Itself is meant, wherever it leads.
        Kind::Symlink => Vec::new(),
        _ => place?.path(),
    };
    Ok((found, real))
}

/// What is mounted in a container is there only while it runs.
pub(super) fn mounts_left_out(record: &Record, real: &[u8]) -> io::Result<Vec<String>> {
    for mounted in record.settings.mounts.iter().map(|mounted| &mounted.target) {
        if is_below(real, mounted.trim_matches('/').as_bytes()) {
            return Err(io::Error::other(format!(
                "something is mounted at {mounted}, which is there only while the container runs: start it first"
            )));
        }
    }
    Ok(mounts_below(record, real))
}

/// Warns of what will be mounted below a path.
fn mounts_below(record: &Record, real: &[u8]) -> Vec<String> {
    let targets = record.settings.mounts.iter().map(|mounted| &mounted.target);
    let below = targets.filter(|mounted| {
        let point = mounted.trim_matches('/').as_bytes();
        point != real && is_below(point, real)
    });
    let told = |mounted: &String| {
        format!("what is mounted at {mounted} is left out: it is there only while the container runs")
    };
    below.map(told).collect()
}

/// What is not found may be in what is mounted.
pub(super) fn explained(record: &Record, asked: &Asked, error: io::Error) -> io::Error {
    let parts = asked.path.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    match mounts_left_out(record, &parts.join(&b'/')) {
        Err(mounted) => mounted,
        Ok(_) => error,
    }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    let rest = path.strip_prefix(above);
    above.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
