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
                        let left_out = mounts_below(None, &record, &there.place);
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
    let warnings = mounts_left_out(Some(&growing), record, &real)?;
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

/// What is mounted in a container is there only while it runs. Symlinks on the way to it are those of this tree, if one is given.
pub(super) fn mounts_left_out(
    growing: Option<&Growing<'_>>,
    record: &Record,
    real: &[u8],
) -> io::Result<Vec<String>> {
    for (mounted, point) in points(growing, record) {
        if is_below(real, &point) {
            return Err(io::Error::other(format!(
                "something is mounted at {mounted}, which is there only while the container runs: start it first"
            )));
        }
    }
    Ok(mounts_below(growing, record, real))
}

/// Where something will be mounted: as it was asked for, and the path from the root.
fn points<'a>(growing: Option<&Growing<'_>>, record: &'a Record) -> Vec<(&'a str, Vec<u8>)> {
    let targets = record
        .settings
        .mounts
        .iter()
        .map(|mounted| mounted.target.as_str());
    let point = |target: &'a str| {
        let written = target.trim_matches('/').as_bytes();
        (
            target,
            growing.map_or(written.to_vec(), |tree| real_point(tree, written)),
        )
    };
    targets.map(point).collect()
}

/// A path without symlinks, as far as it is there.
fn real_point(growing: &Growing<'_>, written: &[u8]) -> Vec<u8> {
    let mut there = written;
    loop {
        match growing.find(there, Missing::Refuse) {
            Ok(place) => {
                let (real, rest) = (place.path(), written.strip_prefix(there).unwrap_or_default());
                let names = real
                    .split(|byte| *byte == b'/')
                    .chain(rest.split(|byte| *byte == b'/'));
                return names
                    .filter(|name| !name.is_empty())
                    .collect::<Vec<_>>()
                    .join(&b'/');
            }
            Err(_) if there.is_empty() => return written.to_vec(),
            Err(_) => {}
        }
        let above = there.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        there = there.get(..above).unwrap_or_default();
    }
}

/// Warns of what will be mounted below a path.
fn mounts_below(growing: Option<&Growing<'_>>, record: &Record, real: &[u8]) -> Vec<String> {
    let all = points(growing, record).into_iter();
    let below = all.filter(|(_, point)| point != real && is_below(point, real));
    let told = |(mounted, _)| {
        format!("what is mounted at {mounted} is left out: it is there only while the container runs")
    };
    below.map(told).collect()
}

/// What is not found may be in what is mounted.
pub(super) fn explained(record: &Record, asked: &Asked, error: io::Error) -> io::Error {
    let parts = asked.path.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    match mounts_left_out(None, record, &parts.join(&b'/')) {
        Err(mounted) => mounted,
        Ok(_) => error,
    }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    let rest = path.strip_prefix(above);
    above.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
