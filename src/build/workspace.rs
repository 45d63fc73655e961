//! Where does a step keep its writable layer while it works? In a directory of its own below the state, which goes with
//! the step. Its lock lies beside it and is taken first; what a killed builder left is unlocked, and goes with the next
//! prune.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fuse_overlay::index::DiffId;
use fuse_overlay::union::{Limits, Lower, Tree};

use super::{Error, owner};
use crate::images::layers;
use crate::store::lock::Attempt;
use crate::store::{Lock, Mode, Store};

/// A step's directory.
#[derive(Debug)]
pub(super) struct Workspace {
    store: Store,
    directory: tempfile::TempDir,
    lock: PathBuf,
    _held: Lock,
}

impl Workspace {
    /// Makes one.
    pub(super) fn new(store: &Store) -> Result<Workspace, Error> {
        let above = directory(store);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&above);
        made.map_err(io_error("make", &above))?;
        let name = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(12)
            .tempfile_in(&above);
        // Only its name is wanted, which nobody else draws while it is there.
        let lock = name.map_err(io_error("make a file in", &above))?.into_temp_path();
        let _held = Lock::acquire(&lock, Mode::Exclusive)?;
        let lock = lock
            .keep()
            .map_err(|error| io_error("keep", &above)(error.error))?;
        let directory = tempfile::Builder::new().prefix(&prefix(&lock)).tempdir_in(&above);
        Ok(Workspace {
            store: store.clone(),
            directory: directory.map_err(io_error("make a directory in", &above))?,
            lock,
            _held,
        })
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A tree that is written to in a workspace, and goes with it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) tree: Tree,
    _workspace: Workspace,
}

impl Draft {
    /// One over these layers, lowest first.
    pub(super) fn over(store: &Store, layers: &[DiffId]) -> Result<Draft, Error> {
        Draft::within(Workspace::new(store)?, layers::open(store, layers)?)
    }

    /// One over `lower`, which may lie in the workspace.
    pub(super) fn within(workspace: Workspace, lower: Lower) -> Result<Draft, Error> {
        let tree = Tree::open(lower, workspace.path(), Limits::default()).map_err(Error::Upper)?;
        Ok(Draft {
            tree,
            _workspace: workspace,
        })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What stays goes with the next prune. A container may have left what is another's.
        let _ = owner::remove(&self.store, self.path());
        let _ = fs::remove_file(&self.lock);
    }
}

/// Removes a directory with all in it, also where its directories may not be written to (Go's module cache).
///
/// # Errors
/// Something in it is another user's.
pub(super) fn remove_tree(top: &Path) -> io::Result<()> {
    match fs::remove_dir_all(top) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => return done,
    }
    let mut ahead = vec![top.to_owned()];
    while let Some(directory) = ahead.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                ahead.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(top)
}

/// What the names of a lock's directories begin with.
fn prefix(lock: &Path) -> String {
    let name = lock.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}.")
}

fn directory(store: &Store) -> PathBuf {
    store.state().join("builds")
}

/// Removes what steps of killed builders left.
pub(super) fn remove_orphans(store: &Store) -> Result<(), Error> {
    let above = directory(store);
    for entry in crate::store::root::list(&above)? {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let lock = above.join(name.split('.').next().unwrap_or_default());
        let held = match Lock::attempt_existing(&lock, Mode::Exclusive)? {
            Attempt::Held => continue,
            Attempt::Gone => None,
            Attempt::Taken(held) => Some(held),
        };
        let removed = match path.is_dir() {
            true => owner::remove(store, &path),
            false => fs::remove_file(&path),
        };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            // One that stays must not keep the others.
            tracing::warn!(path = %path.display(), %error, "what a build left cannot be removed");
        }
        drop(held);
    }
    Ok(())
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
