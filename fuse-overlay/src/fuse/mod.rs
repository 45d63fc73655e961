//! The FUSE front: messages of the kernel to calls on [`crate::union::Tree`], through `fuser`.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use crate::union::Tree;

/// Which ids the mount's user namespace maps, as (first id, count) inside it. The kernel refuses most work on an inode
/// whose owner it cannot map, so it is told another owner then: 65534 if that is mapped, else 0, and no set-id bits.
#[derive(Clone, Debug, Default)]
pub struct IdMap {
    /// Mapped user ids.
    pub uids: Vec<Range<u32>>,
    /// Mapped group ids.
    pub gids: Vec<Range<u32>>,
}

/// Serves `tree` on an already mounted connection until it is unmounted, then makes everything durable.
///
/// `devices` are descriptors of `/dev/fuse`, all opened in the mount's user namespace (the kernel clones a connection
/// only between such): the first is the mounted one, the others become clones of it, one thread each.
///
/// # Errors
/// Fails if the kernel's INIT cannot be answered; an aborted connection is no error.
pub fn serve(tree: Tree, ids: IdMap, devices: Vec<OwnedFd>) -> io::Result<()> {
    let _ = (tree, ids, devices);
    todo!()
}
