//! How does what was written to a tree become a layer of the store?

use fuse_overlay::attr::Time;
use fuse_overlay::error::{Error, Result};
use fuse_overlay::index::DiffId;
use fuse_overlay::union::Tree;

use super::Error as BuildError;
use super::contents::Contents;
use super::workspace::io_error;
pub(super) use crate::containers::growing::{Growing, Missing, Owner, ROOT, deeper};
use crate::images::Claim;
use crate::images::commit::add_layer;
use crate::store::Store;

/// What the files of new layers have as times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// Their own.
    #[default]
    Own,
    /// Their own, but none later than this, in seconds since 1970: `rewrite-timestamp`.
    NotAfter(i64),
    /// This one: `--timestamp`.
    All(i64),
}

impl Times {
    /// Gives all that a layer of the tree will tell of its time.
    pub(super) fn settle(self, tree: &Tree) -> Result<()> {
        let (limit, is_fixed) = match self {
            Times::Own => return Ok(()),
            Times::NotAfter(limit) => (limit, false),
            Times::All(limit) => (limit, true),
        };
        let time = Time { sec: limit, nsec: 0 };
        let mut told = Vec::new();
        tree.differences(&mut |differing| {
            told.extend(differing.now.map(|(ino, _)| ino));
            Ok(())
        })?;
        for ino in told {
            let now = tree.getattr(ino)?.mtime;
            if now > time || is_fixed && now != time {
                Growing(tree).set_mtime(ino, time)?;
            }
        }
        Ok(())
    }
}

/// Stores what was written to a tree as a layer above `below`; `contents` are those of its files that have none yet.
///
/// The root's time is left as the image has it: other tools' layers do not tell of it, and it would make each layer that
/// adds a name there another one.
pub(super) fn add_tree(
    store: &Store,
    below: &[DiffId],
    tree: &Tree,
    contents: &Contents<'_>,
    times: Times,
) -> std::result::Result<Claim, BuildError> {
    let timed = |error: Error| io_error("set the times of", std::path::Path::new("/"))(error.0.into());
    if let Some(image) = tree.image_attr(ROOT) {
        Growing(tree).set_mtime(ROOT, image.mtime).map_err(timed)?;
    }
    times.settle(tree).map_err(timed)?;
    let added = add_layer(store, below, |out| {
        let written = tree.write_layer_with(out, &|ino| contents.of(ino));
        written.map(|_out| ())
    });
    contents.failure().map_or(Ok(()), Err)?;
    Ok(added?)
}
