//! Where does a build's result go, if not into the store? Into a directory, or a tar of the whole tree.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use fuse_overlay::attr::{Kind, Time};

use super::contents::Contents;
use super::extract::{SetId, bound, extract};
use super::solve::Stage;
use super::source::{Links, Source as _, Stage as StageSource};
use super::tree::{Growing, ROOT};
use super::workspace::{Draft, io_error};
use super::{Error, Progress};
use crate::store::Store;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image in the store.
    Image,
    /// The tree, in a directory, as the user's own files: without devices, and without set-id bits, which would make its
    /// programs run as the user.
    Directory(PathBuf),
    /// The tree as a tar: in a file, or on standard output.
    Tar(Option<PathBuf>),
}

impl Stage {
    /// Puts the tree where it was asked for.
    pub(super) fn put_out(
        &self,
        store: &Store,
        output: &Output,
        now: Time,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let draft = Draft::over(store, &self.layers)?;
        let source = StageSource(&draft.tree);
        match output {
            Output::Image => Ok(()),
            Output::Directory(to) => {
                fs::create_dir_all(to).map_err(io_error("make", to))?;
                // Through a symlink that is the user's own; those in it are replaced.
                let to = to.canonicalize().map_err(io_error("find", to))?;
                Ok(extract(&source, Vec::new(), &to, SetId::Drop)?)
            }
            Output::Tar(Some(file)) => {
                let to = File::create(file).map_err(io_error("make", file))?;
                whole(store, &source, now, progress, BufWriter::new(to), file)
            }
            Output::Tar(None) => {
                let to = BufWriter::new(io::stdout().lock());
                whole(store, &source, now, progress, to, Path::new("standard output"))
            }
        }
    }
}

/// Writes the tree as a layer over nothing.
fn whole(
    store: &Store,
    source: &StageSource<'_>,
    now: Time,
    progress: &dyn Progress,
    to: impl Write,
    shown: &Path,
) -> Result<(), Error> {
    let order = super::copy::Order {
        dest: b"/".to_vec(),
        into: true,
        now,
        ..bound(Vec::new())
    };
    let mut plan = order.plan(source)?;
    plan.items.retain(|item| {
        let is_device = matches!(item.entry.kind, Kind::CharDevice | Kind::BlockDevice);
        if is_device {
            progress.warning(&format!("{} is a device node, which is left out", item.shown()));
        }
        !is_device
    });
    let empty = Draft::over(store, &[])?;
    let mut contents = Contents::default();
    order.carry_out(&plan, source, &empty.tree, &mut contents)?;
    let failed = |error| io_error("read", Path::new("/"))(error);
    if let Some(top) = source.look(b"", Links::Follow).map_err(failed)? {
        // No copy is of the top itself.
        let dressed = Growing(&empty.tree).dress(ROOT, top.perm, top.owner, Some(top.mtime));
        dressed.map_err(|error| failed(error.0.into()))?;
    }
    let written = empty.tree.write_layer_with(to, &|ino| contents.of(ino));
    contents.failure().map_or(Ok(()), Err)?;
    let flushed = written.and_then(|mut to| to.flush());
    flushed.map_err(io_error("write", shown))
}
