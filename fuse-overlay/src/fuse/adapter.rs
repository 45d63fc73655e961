//! Message → call → answer: decodes a request, calls the [`Tree`], encodes what it says. Nothing is decided here but
//! how a failure ends: with an errno, or, after a bug, with EIO for this request alone.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use super::crash::{self, Point};
use super::grown::Grown;
use super::ids::{IdMap, SET_ID_BITS};
use super::listings::Listings;
use super::owners;
use super::refused::Refused;
use super::reply::{Added, Form, Listing, Reply, Sockets};
use super::request::{Operation, Request};
use super::sync::Unsynced;
use super::touched::Notes;
use super::unlinked::{Lasting, Unlinked};
use super::wire::{self, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, GetXattrOut, OpenOut, WriteOut};
use crate::attr::{Attr, Ino, Kind};
use crate::union::acl;
use crate::union::{Caller, Released, SetAttr, Tree};

/// A tree as the kernel talks to it.
pub(super) struct Adapter {
    pub(super) tree: Tree,
    ids: IdMap,
    pub(super) unsynced: Unsynced,
    listings: Listings,
    pub(super) refused: Refused,
    pub(super) grown: Grown,
    unlinked: Unlinked,
    notes: Notes,
}

/// Names of a directory whose attributes all come with a listing. Of one with more the kernel had better not keep an inode
/// for each name that somebody lists: those of the first part alone come with their attributes.
const MANY: u64 = 1 << 13;

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With the reply as it was filled.
    Answered,
    /// The kernel waits for no answer.
    Silent,
}

/// How often has the request been in a server's hands?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answering {
    /// It is new.
    First,
    /// Another server had it and was killed before it saved an answer.
    Again,
    /// Servers die of it: it fails.
    Refuse,
}

type Ended = Result<End, Errno>;

impl Adapter {
    pub(super) fn new(tree: Tree, ids: IdMap, notes: Notes) -> Adapter {
        Adapter {
            refused: Refused::under(tree.ledger().clone()),
            tree,
            ids,
            unsynced: Unsynced::default(),
            listings: Listings::default(),
            grown: Grown::default(),
            unlinked: Unlinked::default(),
            notes,
        }
    }

    /// Handles one message, and leaves the answer in `reply`.
    pub(super) fn handle(&self, message: &[u8], reply: &mut Reply, answering: Answering) -> End {
        reply.clear();
        reply.believe(match self.ids.is_single() {
            true => Sockets::MayChange,
            false => Sockets::Stay,
        });
        let request = match Request::decode(message) {
            Ok(request) => request,
            Err((Some(header), errno)) => {
                reply.finish(header.unique, Err(errno));
                return End::Answered;
            }
            Err((None, _)) => {
                tracing::error!(len = message.len(), "FUSE message without a header");
                return End::Silent;
            }
        };
        let header = request.header;
        let _span = tracing::trace_span!(
            "fuse",
            unique = header.unique,
            ino = header.nodeid,
            pid = header.pid
        )
        .entered();
        tracing::trace!(operation = ?request.operation);
        // The tree's locks do not poison and its changes are whole records, so a panic costs this request alone.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            crash::may_panic(message);
            let known = match answering {
                Answering::First => None,
                Answering::Again => self.answer_from_journal(&request, reply),
                Answering::Refuse => {
                    tracing::error!(operation = ?request.operation, "two servers died of this request: it is answered EIO");
                    Some(Err(Errno::EIO))
                }
            };
            known.unwrap_or_else(|| {
                let ended = self.answer(&request, reply);
                crash::pass(Point::Done, message);
                ended
            })
        }))
        .unwrap_or_else(|_| {
            tracing::error!(operation = ?request.operation, "panic: a bug; the request is answered EIO");
            Err(Errno::EIO)
        });
        if request.operation.changes_tree() {
            // After the change, so that a sync under way cannot miss it and take the mark away.
            self.unsynced.mark();
        }
        tracing::trace!(error = ended.as_ref().err().map(|errno| errno.desc()));
        let (end, result) = match ended {
            Ok(end) => (end, Ok(())),
            Err(errno) => (End::Answered, Err(errno)),
        };
        reply.finish(header.unique, result);
        end
    }

    /// Answers a request that another server had in hand. A change that is in the journal is answered from there: it may not do
    /// the same when it is done twice, find no room the second time, or be what the other died of. All else is to be done:
    /// nobody can have built on it, since nobody was told.
    fn answer_from_journal(&self, request: &Request<'_>, reply: &mut Reply) -> Option<Ended> {
        let file = request.ino();
        if let Operation::Write { .. } | Operation::Fallocate { .. } = request.operation {
            // It may have cleared set-id bits, and died before the kernel was told.
            reply.outdates(file);
        }
        if let Operation::SetXattr { name, value, .. } = request.operation
            && self.stands_in(name)
        {
            owners::outdate(file, name, value, reply);
        }
        let made = self.tree.happened(request.header.unique)?;
        Some(match &request.operation {
            Operation::Symlink { .. }
            | Operation::Mknod { .. }
            | Operation::Mkdir { .. }
            | Operation::TmpFile { .. } => self.tell_names(request, made, reply),
            Operation::Link { ino, .. } => self.tell_names(request, Some(*ino), reply),
            Operation::Unlink { .. } | Operation::Rmdir { .. } | Operation::Rename { .. } => {
                self.tell_names(request, None, reply)
            }
            Operation::SetXattr { .. } | Operation::RemoveXattr { .. } => Ok(End::Answered),
            Operation::Write { data, .. } => {
                // It may have: what it was before, nobody knows.
                self.grown.add(file);
                tell_written(data, reply).map(|()| End::Answered)
            }
            Operation::Fallocate { .. } => {
                let taken = self.take_set_id(&request.caller(), file);
                taken.map(|()| End::Answered).map_err(|error| error.0)
            }
            Operation::SetAttr(_) | Operation::TakePrivileges { .. } => {
                self.attr(self.tree.getattr(file), reply)
            }
            _ => return None,
        })
    }

    /// Tells of names that came or went, and of the inode that has got one.
    fn tell_names(&self, request: &Request<'_>, ino: Option<Ino>, reply: &mut Reply) -> Ended {
        outdate_directories(request, reply);
        let Some(ino) = ino else {
            return Ok(End::Answered);
        };
        self.tree.looked_up(ino);
        let attr = self.tree.getattr(ino).map_err(|error| error.0)?;
        self.entry(request, &attr, reply)
    }

    fn answer(&self, request: &Request<'_>, reply: &mut Reply) -> Ended {
        let (tree, ino, caller) = (&self.tree, request.ino(), &request.caller());
        outdate_directories(request, reply);
        let made = match &request.operation {
            Operation::Lookup { name } => return self.lookup(ino, name, reply),
            Operation::Symlink { name, target } => tree.symlink(caller, ino, name, target),
            Operation::Mknod { name, mode, rdev, .. } => tree.mknod(caller, ino, name, *mode, *rdev),
            Operation::Mkdir { name, perm, .. } => tree.mkdir(caller, ino, name, *perm),
            Operation::Link { ino: file, name } => tree.link(caller, *file, ino, name),
            Operation::TmpFile { perm, .. } => tree.tmpfile(caller, ino, *perm),
            _ => return self.answer_existing(request, reply),
        };
        self.entry(request, &made.map_err(|error| error.0)?, reply)
    }

    /// Tells of an inode that was made, or got a name.
    fn entry(&self, request: &Request<'_>, attr: &Attr, reply: &mut Reply) -> Ended {
        let (attr, lasting) = self.told(attr);
        reply.entry(&attr, lasting)?;
        if let Operation::TmpFile { .. } = request.operation {
            let open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
            reply.push_struct(&OpenOut {
                open_flags,
                ..OpenOut::default()
            })?;
        }
        Ok(End::Answered)
    }

    /// Requests that make no inode.
    fn answer_existing(&self, request: &Request<'_>, reply: &mut Reply) -> Ended {
        let (tree, ino, caller) = (&self.tree, request.ino(), &request.caller());
        let done = match &request.operation {
            Operation::GetAttr { by_file } => return self.getattr(ino, *by_file, reply),
            Operation::SetAttr(set) => return self.attr(tree.setattr(caller, ino, set), reply),
            Operation::TakePrivileges { ctime } => {
                return self.attr(tree.take_privileges(caller, ino, *ctime), reply);
            }
            Operation::ReadLink => {
                self.notes.link(ino);
                tree.readlink(ino).and_then(|target| Ok(reply.push(&target)?))
            }
            Operation::Unlink { name } => self.unlinked(tree.unlink(caller, ino, name)),
            Operation::Rmdir { name } => tree.rmdir(caller, ino, name),
            Operation::Rename {
                from,
                to_dir,
                to,
                how,
            } => self.unlinked(tree.rename(caller, (ino, from), (*to_dir, to), *how)),
            Operation::Read { offset, size } => {
                self.notes.read(ino, *offset, *size);
                if *offset == 0 {
                    self.outdated(ino, reply);
                }
                Ok(reply.fill(*size, |out| tree.read(ino, *offset, out))?)
            }
            Operation::Write {
                offset,
                data,
                kill_priv,
                cached,
            } => {
                let write = || {
                    let before = tree.getattr(ino)?.blocks;
                    match cached {
                        true => tree.write_back(caller, ino, *offset, data, *kill_priv)?,
                        false => tree.write(caller, ino, *offset, data, *kill_priv)?,
                    }
                    if *cached && tree.getattr(ino)?.blocks != before {
                        self.grown.add(ino);
                    }
                    Ok(())
                };
                let written = self.minding_set_id(ino, reply, write);
                if let (Err(error), true) = (&written, *cached) {
                    self.refused.add(ino, error.0);
                    reply.outdates(ino);
                }
                written.and_then(|()| Ok(tell_written(data, reply)?))
            }
            Operation::ReadDir { cookie, size } => self.list(ino, *cookie, *size, Form::Names, reply),
            Operation::ReadDirPlus { cookie, size } => {
                self.list(ino, *cookie, *size, Form::Attributes, reply)
            }
            Operation::Fallocate { how, offset, length } => self.minding_set_id(ino, reply, || {
                tree.fallocate(caller, ino, *how, *offset, *length)?;
                self.take_set_id(caller, ino)
            }),
            Operation::Fsync => {
                if self.grown.take(ino) {
                    reply.outdates(ino);
                }
                tree.fsync(ino).map(|_durable| ())
            }
            Operation::Statfs => self.statfs(reply),
            Operation::Release => Ok(()),
            _ => return self.answer_rest(request, reply),
        };
        done.map(|()| End::Answered).map_err(|error| error.0)
    }

    /// Extended attributes, and what wants no answer.
    fn answer_rest(&self, request: &Request<'_>, reply: &mut Reply) -> Ended {
        let (tree, ino, caller) = (&self.tree, request.ino(), &request.caller());
        match &request.operation {
            Operation::GetXattr { name, size } => {
                let value = match *name == owners::OWNER.as_bytes() && self.stands_in(name) {
                    true => owners::owner(tree, ino)?,
                    false => tree.getxattr(ino, name).map_err(|error| error.0)?,
                };
                let is_list = [acl::ACCESS, acl::DEFAULT].contains(name);
                let value = match is_list.then(|| self.ids.shown_list(&value)).flatten() {
                    Some(shown) => shown,
                    None => value,
                };
                xattr(&[&value], *size, reply)
            }
            Operation::ListXattr { size } => {
                let names = tree.listxattr(ino).map_err(|error| error.0)?;
                let names: Vec<&[u8]> = names.iter().flat_map(|name| [name.as_slice(), b"\0"]).collect();
                xattr(&names, *size, reply)
            }
            Operation::SetXattr { name, value, .. } if self.stands_in(name) => {
                owners::outdate(ino, name, value, reply);
                owners::set(tree, caller, ino, name, value)?;
                Ok(End::Answered)
            }
            Operation::SetXattr {
                name,
                value,
                how,
                set_gid,
            } => {
                tree.setxattr(caller, ino, name, value, *how, *set_gid)
                    .map_err(|error| error.0)?;
                Ok(End::Answered)
            }
            Operation::RemoveXattr { name } => {
                tree.removexattr(caller, ino, name).map_err(|error| error.0)?;
                Ok(End::Answered)
            }
            Operation::Forget { count } => {
                self.forget(ino, *count);
                Ok(End::Silent)
            }
            Operation::ForgetMany { inodes } => {
                inodes.iter().for_each(|&(ino, count)| self.forget(ino, count));
                Ok(End::Silent)
            }
            Operation::Destroy => Ok(End::Answered),
            Operation::Reply => Ok(End::Silent),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Does this attribute say what the kernel would not? With one id only; else the kernel passes on what there is to say.
    fn stands_in(&self, name: &[u8]) -> bool {
        self.ids.is_single() && owners::is_ours(name)
    }

    /// Fails if pages of a file that is still there were refused and the writer was not told by us.
    pub(super) fn untold_refusals(&self) -> std::io::Result<()> {
        let (left, unknown) = self.refused.left();
        let is_there = |(ino, _): &(Ino, _)| self.tree.getattr(*ino).is_ok_and(|attr| attr.nlink > 0);
        let known = left.into_iter().find(is_there);
        match known
            .map(|(ino, errno)| (Some(ino), errno))
            .or(unknown.map(|errno| (None, errno)))
        {
            None => Ok(()),
            Some((ino, errno)) => {
                tracing::error!(?ino, %errno, "what was written to a file could not be kept");
                Err(errno.into())
            }
        }
    }

    fn lookup(&self, parent: Ino, name: &crate::name::Name, reply: &mut Reply) -> Ended {
        match self.tree.lookup(parent, name) {
            Ok(attr) => {
                self.notes.name(parent, name, Some(attr.ino));
                let (attr, lasting) = self.told(&attr);
                reply.entry(&attr, lasting)?;
            }
            Err(error) if error.0 == Errno::ENOENT => {
                self.notes.name(parent, name, None);
                reply.no_entry()?;
            }
            Err(error) => return Err(error.0),
        }
        Ok(End::Answered)
    }

    /// Takes lookups back. A file that goes with the last frees its space at the next sync.
    fn forget(&self, ino: Ino, count: u64) {
        if self.tree.forget(ino, count) == Released::Gone {
            if self.refused.take(ino).is_some() {
                self.refused.heard(ino);
            }
            self.unsynced.mark();
        }
    }

    fn getattr(&self, ino: Ino, by_file: bool, reply: &mut Reply) -> Ended {
        if by_file && let Some(errno) = self.refused.take(ino) {
            reply.tells_of(ino);
            return Err(errno);
        }
        if self.refused.has(ino) {
            // The question must come again when somebody writes.
            reply.outdates(ino);
        }
        self.outdated(ino, reply);
        self.attr(self.tree.getattr(ino), reply)
    }

    fn attr(&self, attr: crate::error::Result<Attr>, reply: &mut Reply) -> Ended {
        let (attr, lasting) = self.told(&attr.map_err(|error| error.0)?);
        reply.attr(&attr, lasting)?;
        Ok(End::Answered)
    }

    /// Attributes as the kernel is told them, and for how long.
    fn told(&self, attr: &Attr) -> (Attr, Lasting) {
        (self.ids.shown(attr), self.unlinked.lasting(attr.ino))
    }

    /// A name is gone; of a file that keeps others the link count is told with care for a while.
    fn unlinked(&self, done: crate::error::Result<Option<Ino>>) -> crate::error::Result<()> {
        if let Some(left) = done? {
            self.unlinked.add(left);
        }
        Ok(())
    }

    fn list(
        &self,
        ino: Ino,
        cookie: u64,
        size: u32,
        form: Form,
        reply: &mut Reply,
    ) -> crate::error::Result<()> {
        let empty = reply.len();
        let mut listing = Listing::new(reply, size, form);
        self.tree.readdir(ino, cookie, &mut |entry| match listing.add(
            entry.ino,
            entry.kind,
            entry.cookie,
            entry.name,
        ) {
            Added::Yes => ControlFlow::Continue(()),
            Added::Full => ControlFlow::Break(()),
        })?;
        let told = cookie == 0 || self.tree.name_count(ino)? <= MANY;
        // After the listing, since the tree may hold its lock while it lists. A name that went away meanwhile has no
        // attributes; its entry is stale, as any listing may be.
        listing.complete(|ino| {
            let attr = told.then(|| self.tree.getattr(ino).ok())??;
            self.tree.looked_up(ino);
            Some(self.told(&attr))
        });
        // The kernel takes an answer without entries for the end.
        if reply.len() == empty {
            if self.listings.ended(ino) {
                reply.relists(ino);
            }
            let dir = self.tree.image_parent(ino).map(|(_, dir)| dir);
            if let Some(dir) = dir.filter(|dir| *dir != ino && self.listings.listed(*dir)) {
                reply.relists(dir);
            }
        }
        Ok(())
    }

    /// The kernel does not know the attributes of `ino`, or will not after this read: the listing of its directory is worth
    /// less. Of directories that is counted when they are listed.
    fn outdated(&self, ino: Ino, reply: &mut Reply) {
        let dir = self
            .tree
            .image_parent(ino)
            .filter(|(kind, _)| *kind == Kind::Regular);
        if let Some((_, dir)) = dir.filter(|(_, dir)| self.listings.outdated(*dir)) {
            reply.relists(dir);
        }
    }

    /// Runs an operation that may clear set-id bits. The kernel leaves that to us (HANDLE_KILLPRIV_V2) and then does not
    /// ask for the mode again, so it is told; else a file could be run with the bits that it has lost.
    fn minding_set_id(
        &self,
        ino: Ino,
        reply: &mut Reply,
        operation: impl FnOnce() -> crate::error::Result<()>,
    ) -> crate::error::Result<()> {
        let before = self.tree.getattr(ino)?.perm;
        let done = operation();
        if before & SET_ID_BITS != 0 {
            reply.outdates(ino);
        }
        done
    }

    /// Clears set-id bits where the kernel does not say whether the caller may keep them: inside a user namespace none may.
    fn take_set_id(&self, caller: &Caller, ino: Ino) -> crate::error::Result<()> {
        if self.tree.getattr(ino)?.perm & SET_ID_BITS != 0 {
            let set = SetAttr {
                kill_priv: true,
                ..SetAttr::default()
            };
            self.tree.setattr(caller, ino, &set)?;
        }
        Ok(())
    }

    fn statfs(&self, reply: &mut Reply) -> crate::error::Result<()> {
        let space = self.tree.statfs()?;
        let [blocks, bfree, bavail] = space.blocks;
        let [files, ffree] = space.inodes;
        Ok(reply.push_struct(&wire::StatfsOut {
            blocks,
            bfree,
            bavail,
            files,
            ffree,
            bsize: 4096,
            namelen: crate::name::MAX_LEN as u32,
            frsize: 4096,
            ..Default::default()
        })?)
    }
}

/// A write's answer: all of it.
fn tell_written(data: &[u8], reply: &mut Reply) -> Result<(), Errno> {
    reply.push_struct(&WriteOut {
        size: data.len() as u32,
        padding: 0,
    })
}

/// The kernel forgets the attributes of directories in which names come or go, and the listings that it keeps: whoever goes
/// on in one from a place in its middle would still find names there that are gone.
fn outdate_directories(request: &Request<'_>, reply: &mut Reply) {
    let changed = request.operation.changed_directories(request.ino());
    changed
        .into_iter()
        .flatten()
        .for_each(|dir| reply.outdates_directory(dir));
}

/// Answers GETXATTR and LISTXATTR: the size alone to whoever asks with none, ERANGE if `size` is too small.
fn xattr(pieces: &[&[u8]], size: u32, reply: &mut Reply) -> Ended {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    if size == 0 {
        reply.push_struct(&GetXattrOut {
            size: total as u32,
            padding: 0,
        })?;
    } else if total > size as usize {
        return Err(Errno::ERANGE);
    } else {
        pieces.iter().try_for_each(|piece| reply.push(piece))?;
    }
    Ok(End::Answered)
}

// `Kind` reaches the wire as its `d_type` value.
const _: () = assert!(Kind::Regular as u32 == libc::DT_REG as u32);
