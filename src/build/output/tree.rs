//! How is a stage's whole tree put into a directory, or a tar?

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use fuse_overlay::attr::{Kind, Time};

use crate::build::contents::Contents;
use crate::build::copy::Order;
use crate::build::extract::{SetId, bound, extract};
use crate::build::solve::Stage;
use crate::build::source::{Links, Source as _, Stage as StageSource};
use crate::build::tree::{Growing, ROOT};
use crate::build::workspace::{Draft, io_error};
use crate::build::{Error, Progress};
use crate::store::{Given, Store};

impl Stage {
    /// Puts the tree into a directory, as the user's own files.
    pub(super) fn write_directory(&self, store: &Store, to: &Path) -> Result<(), Error> {
        let draft = Draft::over(store, &self.layers)?;
        fs::create_dir_all(to).map_err(io_error("make", to))?;
        // Through a symlink that is the user's own; those in it are replaced.
        let to = to.canonicalize().map_err(io_error("find", to))?;
        Ok(extract(
            store,
            &StageSource(&draft.tree),
            Vec::new(),
            &to,
            SetId::Drop,
        )?)
    }

    /// Writes the tree as a tar.
    pub(super) fn write_tar(
        &self,
        store: &Store,
        file: Option<&Path>,
        now: Time,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let draft = Draft::over(store, &self.layers)?;
        let source = StageSource(&draft.tree);
        let Some(file) = file else {
            let to = BufWriter::new(io::stdout().lock());
            return whole(store, &source, now, progress, to, Path::new("standard output"));
        };
        let given = Given::create(store, file).map_err(io_error("make", file))?;
        whole(
            store,
            &source,
            now,
            progress,
            BufWriter::new(given.writer()),
            file,
        )?;
        given.commit().map_err(io_error("write", file))
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
    let order = Order {
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
