//! How is an answer laid out? One buffer per thread, filled in place and sent with one write.

use std::mem::size_of;

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::negotiate::MAX_WRITE;
use super::unlinked::Lasting;
use super::wire::{self, AttrOut, Dirent, EntryOut, InvalInodeOut, NOTIFY_INVAL_INODE, OutHeader};
use crate::attr::{Attr, Ino, Kind};

const HEADER: usize = size_of::<OutHeader>();

/// How long the kernel may believe an entry or its attributes, in seconds: for ever, for all changes go through it. (It
/// cuts this to the largest span that it can count.)
pub(super) const FOR_EVER: u64 = i64::MAX as u64;

const NOTIFICATION: usize = HEADER + size_of::<InvalInodeOut>();

/// The answer to one request, under construction. Empty, it says "done".
pub(super) struct Reply {
    /// Room for the largest answer, touched only as far as it was ever used. The header's place comes first.
    bytes: Box<[u8]>,
    len: usize,
    /// What the kernel must forget before it hears the answer.
    stale: [Option<(Ino, Forget)>; 2],
    /// Whose listings the kernel must forget once it has heard the answer.
    relisted: [Option<Ino>; 2],
    /// Of whose refused pages it tells.
    told: Option<Ino>,
    /// Whether entries of sockets may be believed.
    sockets: Sockets,
}

/// May the kernel believe an entry that leads to a socket?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sockets {
    /// As all others.
    Stay,
    /// No: another inode may stand at the name the next time ([`super::owners`]).
    MayChange,
}

/// What the kernel is to forget of an inode.
#[derive(Clone, Copy)]
enum Forget {
    Attributes,
    /// Of a directory: its pages are a listing's, which the kernel locks only while it copies, never while a request is on
    /// its way.
    AttributesAndPages,
}

/// "Forget the attributes of this inode": sent on no request's behalf.
pub(super) fn outdated(ino: Ino) -> impl AsRef<[u8]> {
    notification(ino, Forget::Attributes)
}

/// "Forget what you know of this inode."
fn notification(ino: Ino, what: Forget) -> [u8; NOTIFICATION] {
    let out = InvalInodeOut {
        ino: ino.0,
        off: match what {
            // Spares the pages; so the kernel takes no lock that the request might hold.
            Forget::Attributes => -1,
            Forget::AttributesAndPages => 0,
        },
        len: 0,
    };
    let header = OutHeader {
        len: 40,
        error: NOTIFY_INVAL_INODE,
        unique: 0,
    };
    let mut message = [0; NOTIFICATION];
    message[..HEADER].copy_from_slice(header.as_bytes());
    message[HEADER..].copy_from_slice(out.as_bytes());
    message
}

impl Reply {
    pub(super) fn new() -> Reply {
        // Comes zeroed from the system, hence without memory until it is used.
        Reply {
            bytes: vec![0; HEADER + MAX_WRITE as usize].into_boxed_slice(),
            len: HEADER,
            stale: [None; 2],
            relisted: [None; 2],
            told: None,
            sockets: Sockets::Stay,
        }
    }

    /// Starts anew.
    pub(super) fn clear(&mut self) {
        self.len = HEADER;
        self.stale = [None; 2];
        self.relisted = [None; 2];
        self.told = None;
    }

    /// Says that the answer tells of refused pages of `ino`.
    pub(super) fn tells_of(&mut self, ino: Ino) {
        self.told = Some(ino);
    }

    /// Of whose refused pages it tells.
    pub(super) fn told(&self) -> Option<Ino> {
        self.told
    }

    /// Says what the kernel may believe of sockets, of which the answer tells.
    pub(super) fn believe(&mut self, sockets: Sockets) {
        self.sockets = sockets;
    }

    /// Says that the operation changed attributes of `ino` that the kernel believes to know: those which it never asks
    /// for after such an operation, and those that an older answer, still on its way to whoever asked, would bring back.
    /// At most two inodes.
    pub(super) fn outdates(&mut self, ino: Ino) {
        self.outdates_by(ino, Forget::Attributes);
    }

    /// The same of a directory, whose listing changed as well.
    pub(super) fn outdates_directory(&mut self, dir: Ino) {
        self.outdates_by(dir, Forget::AttributesAndPages);
    }

    fn outdates_by(&mut self, ino: Ino, what: Forget) {
        let mut places = self.stale.iter_mut();
        if let Some(place) = places.find(|place| place.is_none_or(|(stale, _)| stale == ino)) {
            *place = Some((ino, what));
        }
    }

    /// The notifications that [`Reply::outdates`] asked for.
    pub(super) fn notifications(&self) -> impl Iterator<Item = [u8; NOTIFICATION]> {
        let stale = self.stale.into_iter().flatten();
        stale.map(|(ino, what)| notification(ino, what))
    }

    /// Says that the directory `dir` should be listed anew the next time. At most two directories.
    pub(super) fn relists(&mut self, dir: Ino) {
        if let Some(place) = self.relisted.iter_mut().find(|place| place.is_none()) {
            *place = Some(dir);
        }
    }

    /// The notifications that [`Reply::relists`] asked for. They are sent after the answer, for nobody waits for them.
    pub(super) fn afterwards(&self) -> impl Iterator<Item = [u8; NOTIFICATION]> {
        let dirs = self.relisted.into_iter().flatten();
        dirs.map(|dir| notification(dir, Forget::AttributesAndPages))
    }

    /// Bytes so far, the header's included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes. ERANGE if they do not fit, which only an extended attribute could bring about.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let end = self.len.checked_add(bytes.len()).ok_or(Errno::ERANGE)?;
        self.bytes
            .get_mut(self.len..end)
            .ok_or(Errno::ERANGE)?
            .copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    pub(super) fn push_struct(&mut self, value: &(impl IntoBytes + Immutable)) -> Result<(), Errno> {
        self.push(value.as_bytes())
    }

    /// The answer to whatever makes or finds an inode.
    pub(super) fn entry(&mut self, attr: &Attr, lasting: Lasting) -> Result<(), Errno> {
        self.push_struct(&entry_out(attr, lasting, self.sockets))
    }

    /// "There is no such name", which the kernel keeps like an entry (ENOENT it would ask again).
    pub(super) fn no_entry(&mut self) -> Result<(), Errno> {
        self.push_struct(&EntryOut {
            entry_valid: FOR_EVER,
            ..EntryOut::default()
        })
    }

    pub(super) fn attr(&mut self, attr: &Attr, lasting: Lasting) -> Result<(), Errno> {
        self.push_struct(&AttrOut {
            attr_valid: lasting.seconds(),
            attr: wire_attr(attr),
            ..AttrOut::default()
        })
    }

    /// Lets `fill` write up to `size` bytes and say how many they were.
    pub(super) fn fill(
        &mut self,
        size: u32,
        fill: impl FnOnce(&mut [u8]) -> crate::error::Result<usize>,
    ) -> Result<(), Errno> {
        let end = self.len.checked_add(size as usize).ok_or(Errno::EINVAL)?;
        let room = self.bytes.get_mut(self.len..end).ok_or(Errno::EINVAL)?;
        let filled = fill(room).map_err(|error| error.0)?;
        self.len += filled.min(size as usize);
        Ok(())
    }

    /// Completes the message, which is then [`Reply::message`].
    pub(super) fn finish(&mut self, unique: u64, result: Result<(), Errno>) {
        let error = match result {
            Ok(()) => 0,
            Err(errno) => {
                self.len = HEADER;
                // The kernel takes no other numbers, and its caller would wait for ever.
                match errno as i32 {
                    number @ 1..512 => -number,
                    _ => -(Errno::EIO as i32),
                }
            }
        };
        let header = OutHeader {
            len: self.len as u32,
            error,
            unique,
        };
        if let Some(place) = self.bytes.get_mut(..HEADER) {
            place.copy_from_slice(header.as_bytes());
        }
    }

    /// The finished message.
    pub(super) fn message(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Entries of a directory as they fit into the size that the kernel asked for.
pub(super) struct Listing<'a> {
    reply: &'a mut Reply,
    /// Where the answer must end.
    limit: usize,
    /// Where an entry's attributes go (READDIRPLUS), and whose they are.
    blanks: Vec<(usize, Ino)>,
    form: Form,
}

/// What an entry of a [`Listing`] holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// READDIR: inode number and kind.
    Names,
    /// READDIRPLUS: the attributes too.
    Attributes,
}

/// Whether an entry had room.
#[derive(PartialEq, Eq)]
pub(super) enum Added {
    Yes,
    Full,
}

impl<'a> Listing<'a> {
    pub(super) fn new(reply: &'a mut Reply, size: u32, form: Form) -> Listing<'a> {
        let limit = reply.len.saturating_add(size as usize).min(reply.bytes.len());
        Listing {
            reply,
            limit,
            blanks: Vec::new(),
            form,
        }
    }

    pub(super) fn add(&mut self, ino: Ino, kind: Kind, cookie: u64, name: &[u8]) -> Added {
        let plus = if self.form == Form::Attributes {
            size_of::<EntryOut>()
        } else {
            0
        };
        let dirent = plus + size_of::<Dirent>();
        let start = self.reply.len;
        let end = start + (dirent + name.len()).next_multiple_of(8);
        if end > self.limit {
            return Added::Full;
        }
        let Some(place) = self.reply.bytes.get_mut(start..end) else {
            return Added::Full;
        };
        let head = Dirent {
            ino: ino.0,
            off: cookie,
            namelen: name.len() as u32,
            kind: kind as u32,
        };
        place.fill(0);
        place[plus..dirent].copy_from_slice(head.as_bytes());
        place[dirent..dirent + name.len()].copy_from_slice(name);
        // The kernel takes no inode from "." and "..", so they must not count as looked up.
        if self.form == Form::Attributes && name != b"." && name != b".." {
            self.blanks.push((start, ino));
        }
        self.reply.len = end;
        Added::Yes
    }

    /// Fills in the attributes that `attr` knows. An entry without stays a name only, which the kernel looks up itself.
    pub(super) fn complete(self, mut attr: impl FnMut(Ino) -> Option<(Attr, Lasting)>) {
        for (start, ino) in self.blanks {
            let Some((attr, lasting)) = attr(ino) else {
                continue;
            };
            if let Some(place) = self.reply.bytes.get_mut(start..start + size_of::<EntryOut>()) {
                place.copy_from_slice(entry_out(&attr, lasting, self.reply.sockets).as_bytes());
            }
        }
    }
}

fn entry_out(attr: &Attr, lasting: Lasting, sockets: Sockets) -> EntryOut {
    let believed = attr.kind != Kind::Socket || sockets == Sockets::Stay;
    EntryOut {
        nodeid: attr.ino.0,
        // An inode number is never given to another file.
        generation: 0,
        entry_valid: if believed { FOR_EVER } else { 0 },
        attr_valid: lasting.seconds(),
        entry_valid_nsec: 0,
        attr_valid_nsec: 0,
        attr: wire_attr(attr),
    }
}

fn wire_attr(attr: &Attr) -> wire::Attr {
    wire::Attr {
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.sec,
        mtime: attr.mtime.sec,
        ctime: attr.ctime.sec,
        atimensec: attr.atime.nsec,
        mtimensec: attr.mtime.nsec,
        ctimensec: attr.ctime.nsec,
        mode: attr.mode(),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    fn finished(reply: &mut Reply, unique: u64, result: Result<(), Errno>) -> (OutHeader, &[u8]) {
        reply.finish(unique, result);
        OutHeader::read_from_prefix(reply.message()).unwrap()
    }

    #[test]
    fn an_error_carries_nothing_and_always_an_errno_that_the_kernel_takes() {
        let mut reply = Reply::new();
        reply.push(b"half an answer").unwrap();
        let (header, rest) = finished(&mut reply, 7, Err(Errno::ENOENT));
        assert_eq!((header.len, header.error, header.unique), (16, -2, 7));
        assert!(rest.is_empty());
        reply.clear();
        let (header, _) = finished(&mut reply, 8, Err(Errno::UnknownErrno));
        assert_eq!(header.error, -5);
    }

    #[test]
    fn a_listing_ends_where_the_kernel_said() {
        let mut reply = Reply::new();
        let mut listing = Listing::new(&mut reply, 100, Form::Names);
        assert!(listing.add(Ino(2), Kind::Regular, 1, b"a name of 20 bytes..") == Added::Yes);
        assert!(listing.add(Ino(3), Kind::Regular, 2, b"a name of 24 bytes......") == Added::Yes);
        assert!(listing.add(Ino(4), Kind::Regular, 3, b"x") == Added::Full);
        listing.complete(|_| None);
        let (header, rest) = finished(&mut reply, 1, Ok(()));
        assert_eq!((header.len, rest.len()), (16 + 48 + 48, 96));
        assert_eq!(Dirent::read_from_prefix(&rest[48..]).unwrap().0.off, 2);
    }

    #[test]
    fn dots_of_a_listing_are_not_looked_up() {
        let mut reply = Reply::new();
        let mut listing = Listing::new(&mut reply, 4096, Form::Attributes);
        for name in [&b"."[..], b"..", b"x"] {
            assert!(listing.add(Ino(9), Kind::Directory, 1, name) == Added::Yes);
        }
        let mut asked = 0;
        listing.complete(|_| {
            asked += 1;
            None
        });
        assert_eq!(asked, 1);
    }

    #[test]
    fn more_than_the_buffer_is_refused() {
        let mut reply = Reply::new();
        assert_eq!(reply.fill(MAX_WRITE + 1, |out| Ok(out.len())), Err(Errno::EINVAL));
        assert_eq!(reply.push(&vec![0; MAX_WRITE as usize + 1]), Err(Errno::ERANGE));
        assert_eq!(reply.fill(MAX_WRITE, |out| Ok(out.len())), Ok(()));
    }
}
