//! The bytes of the journal, versions 2 and 3; `ARCHITECTURE.md` draws them.
//!
//! A record is one operation of the tree, whole or not at all; its payload is a list of [`Change`]s with absolute
//! values. The same changes are applied to the inodes in memory, live and on replay, by `State::apply`: what a replay
//! makes cannot differ from what the operation made.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::attr::{Ino, Kind, MAX_FILE, Time};
use crate::name::Name;

/// First bytes of every journal.
pub(crate) const MAGIC: [u8; 8] = *b"BRYOJNL1";
/// Raised with every change of meaning. All up to [`LISTED`] are read; one of version 1 has no checkpoints, and becomes one
/// of this version with its first.
pub(crate) const VERSION: u32 = 2;
/// The version of a journal that has a list ([`super::list`]): it becomes one with its first.
pub(crate) const LISTED: u32 = 3;
/// Where the first record lies.
pub(crate) const HEADER_SIZE: u64 = 4096;
/// Records start on multiples of this.
pub(crate) const ALIGN: usize = 8;
/// The longest record in bytes: a value of 64 KiB with its name, or a write scattered over 400,000 runs.
pub(crate) const MAX_RECORD: usize = 16 << 20;
/// Places in a directory's listing are below this.
pub(crate) const MOST_PLACES: u64 = 1 << 62;
/// Unit of the data file and of extents, in bytes.
pub(crate) const PAGE: u64 = 4096;

/// The image that a journal is laid over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// Chain id.
    pub chain_id: [u8; 32],
    /// Nodes of its merged index.
    pub node_count: u32,
    /// The merged index's checksum.
    pub index_sum: u32,
}

/// The start of the journal; what follows it in its 4096 bytes is zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`] or [`LISTED`].
    pub version: U32,
    /// Nodes of the merged index: inode numbers above it are the upper's own.
    pub node_count: U32,
    /// The merged index's chain id.
    pub image: [u8; 32],
    /// The merged index's own checksum: pins its numbering of nodes, which the records speak of.
    pub index_sum: U32,
    /// Random: starts every record's CRC, so that bytes inside a record's payload, which a container may choose, are
    /// never taken for a record.
    pub salt: U32,
    /// CRC32C of all above.
    pub crc: U32,
}

/// What stands before a record's payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RecordHeader {
    /// Bytes of this header and the payload, without the padding to [`ALIGN`].
    pub length: U32,
    /// CRC32C of all after this field, begun with [`Header::salt`].
    pub crc: U32,
    /// One more than the record before.
    pub sequence: U64,
    /// The FUSE request's unique id; 0 outside FUSE.
    pub unique: U64,
    /// [`Operation`].
    pub operation: U16,
    /// 16 bits over the rest of this header, so that a search for records does not add up the payload of every place
    /// that looks like a length.
    pub check: U16,
    /// How many records before this one were not yet known to be on the disk when it was written (saturating). Tells a
    /// tail lost with the power, which nobody was promised, from damage to what was.
    pub pending: U32,
}

const _: () = assert!(size_of::<Header>() == 60);
const _: () = assert!(offset_of!(Header, crc) == size_of::<Header>() - 4);
const _: () = assert!(size_of::<RecordHeader>() == 32);

/// Bytes of a [`RecordHeader`].
pub(crate) const RECORD_HEADER: usize = size_of::<RecordHeader>();

impl Header {
    /// The header of a new journal.
    pub(crate) fn new(image: &Image, salt: u32) -> Header {
        Header {
            magic: MAGIC,
            version: VERSION.into(),
            node_count: image.node_count.into(),
            image: image.chain_id,
            index_sum: image.index_sum.into(),
            salt: salt.into(),
            crc: 0.into(),
        }
        .of_version(VERSION)
    }

    /// The same in another version.
    pub(crate) fn of_version(self, version: u32) -> Header {
        let mut header = Header {
            version: version.into(),
            ..self
        };
        header.crc = header.sum().into();
        header
    }

    /// Was the journal laid over this image?
    pub(crate) fn is_over(&self, image: &Image) -> bool {
        (self.image, self.node_count.get(), self.index_sum.get())
            == (image.chain_id, image.node_count, image.index_sum)
    }

    /// Is it whole? Its version may have been about to be raised, with the checksum not written yet.
    pub(crate) fn is_whole(&self) -> bool {
        (1..=LISTED).any(|version| self.of_version(version).crc == self.crc)
    }

    /// What [`Header::crc`] should be.
    fn sum(&self) -> u32 {
        crc32c::crc32c(self.as_bytes().get(..offset_of!(Header, crc)).unwrap_or_default())
    }
}

/// Which operation a record is of. A reader needs only the changes; this is for people, and for answering a request
/// again after the server was restarted. 100 and above are a checkpoint's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
#[allow(missing_docs)]
pub(crate) enum Operation {
    SetAttr = 1,
    Mknod = 2,
    Mkdir = 3,
    Symlink = 4,
    TmpFile = 5,
    Link = 6,
    Unlink = 7,
    Rmdir = 8,
    Rename = 9,
    Write = 10,
    Allocate = 11,
    SetXattr = 12,
    RemoveXattr = 13,
    Forget = 14,
    /// No operation: [`Mark::Boot`].
    Boot = 15,
    /// No operation: [`Mark::Synced`].
    Synced = 16,
    /// No operation: an inode, or a part of one, as it is here.
    State = 100,
    /// No operation: the end of a checkpoint.
    Checkpoint = 101,
    /// No operation: where some inodes' states stand ([`super::list`]).
    Places = 102,
    /// No operation: the end of a list, which says what it needs but these.
    List = 103,
}

impl Operation {
    /// Is it no operation, but a part of a checkpoint or of its list?
    pub(crate) fn is_checkpoint(self) -> bool {
        self as u16 >= Operation::State as u16
    }

    /// Is the record of this operation a part of a list, which says nothing new?
    pub(crate) fn is_list(operation: u16) -> bool {
        [Operation::Places, Operation::List]
            .iter()
            .any(|list| *list as u16 == operation)
    }
}

/// One start of the host: what its page cache holds is what was written, until the next.
pub(crate) type BootId = [u8; 16];

/// What the journal says of itself, in a record of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// What follows was written under this boot of the host, another than what stands before. The records between the
    /// last [`Mark::Synced`]'s and here may have outlived their data: they count for nothing.
    Boot(BootId),
    /// All data that the records up to this sequence speak of was on the disk before this was written.
    Synced(u64),
}

impl Mark {
    fn operation(self) -> Operation {
        match self {
            Mark::Boot(_) => Operation::Boot,
            Mark::Synced(_) => Operation::Synced,
        }
    }

    /// Appends the whole record.
    pub(crate) fn encode(self, out: &mut Vec<u8>, salt: u32, stamp: Stamp) {
        encode(out, salt, stamp, self.operation(), |out| match self {
            Mark::Boot(id) => out.extend_from_slice(&id),
            Mark::Synced(upto) => out.extend_from_slice(&upto.to_le_bytes()),
        });
    }

    /// Is the record of this operation a mark?
    pub(crate) fn is(operation: u16) -> bool {
        [Operation::Boot, Operation::Synced]
            .iter()
            .any(|mark| *mark as u16 == operation)
    }

    /// Reads a record's payload; `None` if it is none of a mark.
    pub(crate) fn decode(operation: u16, payload: &[u8]) -> Option<Mark> {
        if operation == Operation::Boot as u16 {
            payload.try_into().ok().map(Mark::Boot)
        } else if operation == Operation::Synced as u16 {
            let upto = payload.try_into().ok()?;
            Some(Mark::Synced(u64::from_le_bytes(upto)))
        } else {
            None
        }
    }
}

/// Attributes that an inode's record keeps beside its size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Meta {
    pub perm: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub rdev: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
}

/// Does the image show an entry of this name in this directory?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Below {
    /// It does; the upper's entry or whiteout hides it, and takes its place in listings.
    Hidden,
    /// It does not.
    Absent,
}

/// One change to one inode, in absolute values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change<'a> {
    /// A new inode. `target` is a symlink's, `parent` a directory's, else empty and 0.
    Make {
        ino: Ino,
        kind: Kind,
        meta: Meta,
        target: &'a [u8],
        parent: Ino,
    },
    /// All attributes but the size.
    Meta { ino: Ino, meta: Meta },
    /// A directory's content changed: its mtime and ctime, and how many names it has itself.
    Touch { ino: Ino, nlink: u32, time: Time },
    /// Names of an inode came or went.
    Linked { ino: Ino, nlink: u32, ctime: Time },
    /// A file was written: its new size, mtime and ctime.
    Wrote { ino: Ino, size: u64, time: Time },
    /// A file was cut or extended to this size in bytes.
    Resize { ino: Ino, size: u64 },
    /// Pages `page..page + count` of a file lie in the data file from page `at` on.
    Map {
        ino: Ino,
        page: u64,
        count: u64,
        at: u64,
    },
    /// Pages of a file read as zeros.
    Hole { ino: Ino, page: u64, count: u64 },
    /// A directory's entry now points to an inode.
    Enter {
        ino: Ino,
        name: &'a Name,
        below: Below,
        target: Ino,
        kind: Kind,
    },
    /// A directory's entry is gone.
    Leave { ino: Ino, name: &'a Name, below: Below },
    /// A directory was moved into another.
    Parent { ino: Ino, parent: Ino },
    /// An extended attribute's value, or its removal.
    Xattr {
        ino: Ino,
        name: &'a [u8],
        value: Option<&'a [u8]>,
    },
    /// An inode without names was forgotten by the kernel: its data is free.
    Forget { ino: Ino },
    /// What follows says all of an inode of the image: it starts as it is there, but without extended attributes. One that
    /// the container made starts with another [`Change::Make`].
    Reset { ino: Ino },
    /// A name that the image does not have, and its place in listings.
    Place {
        ino: Ino,
        name: &'a Name,
        place: u64,
        target: Ino,
        kind: Kind,
    },
    /// How many names a directory shows, and the last place that was given.
    Names { ino: Ino, count: u64, last: u64 },
    /// Inode numbers up to this were given.
    Given { ino: Ino },
    /// A request from before the checkpoint, which may not be answered yet: its record, and the inode that it made (or 0).
    Done { ino: Ino, sequence: u64, unique: u64 },
}

impl Change<'_> {
    /// The inode that it changes.
    pub(crate) fn ino(&self) -> Ino {
        match *self {
            Change::Make { ino, .. }
            | Change::Meta { ino, .. }
            | Change::Touch { ino, .. }
            | Change::Linked { ino, .. }
            | Change::Wrote { ino, .. }
            | Change::Resize { ino, .. }
            | Change::Map { ino, .. }
            | Change::Hole { ino, .. }
            | Change::Enter { ino, .. }
            | Change::Leave { ino, .. }
            | Change::Parent { ino, .. }
            | Change::Xattr { ino, .. }
            | Change::Forget { ino }
            | Change::Reset { ino }
            | Change::Place { ino, .. }
            | Change::Names { ino, .. }
            | Change::Given { ino }
            | Change::Done { ino, .. } => ino,
        }
    }

    /// Appends its bytes: a tag, the inode number, then the fields in order.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut put = Put(out);
        match *self {
            Change::Make {
                ino,
                kind,
                meta,
                target,
                parent,
            } => {
                put.start(1, ino)
                    .u8(kind as u8)
                    .meta(&meta)
                    .u64(parent.0)
                    .bytes(target);
            }
            Change::Meta { ino, meta } => put.start(2, ino).meta(&meta).end(),
            Change::Touch { ino, nlink, time } => put.start(3, ino).u32(nlink).time(time).end(),
            Change::Linked { ino, nlink, ctime } => put.start(4, ino).u32(nlink).time(ctime).end(),
            Change::Wrote { ino, size, time } => put.start(5, ino).u64(size).time(time).end(),
            Change::Resize { ino, size } => put.start(6, ino).u64(size).end(),
            Change::Map { ino, page, count, at } => put.start(7, ino).u64(page).u64(count).u64(at).end(),
            Change::Hole { ino, page, count } => put.start(8, ino).u64(page).u64(count).end(),
            Change::Enter {
                ino,
                name,
                below,
                target,
                kind,
            } => put
                .start(9, ino)
                .u8(below_code(below))
                .u64(target.0)
                .u8(kind as u8)
                .bytes(name.as_bytes())
                .end(),
            Change::Leave { ino, name, below } => {
                put.start(10, ino)
                    .u8(below_code(below))
                    .bytes(name.as_bytes())
                    .end();
            }
            Change::Parent { ino, parent } => put.start(11, ino).u64(parent.0).end(),
            Change::Xattr {
                ino,
                name,
                value: Some(value),
            } => {
                put.start(12, ino).bytes(name).bytes(value).end();
            }
            Change::Xattr {
                ino,
                name,
                value: None,
            } => put.start(13, ino).bytes(name).end(),
            Change::Forget { ino } => put.start(14, ino).end(),
            Change::Reset { ino } => put.start(15, ino).end(),
            Change::Place {
                ino,
                name,
                place,
                target,
                kind,
            } => put
                .start(16, ino)
                .u64(place)
                .u64(target.0)
                .u8(kind as u8)
                .bytes(name.as_bytes())
                .end(),
            Change::Names { ino, count, last } => put.start(17, ino).u64(count).u64(last).end(),
            Change::Given { ino } => put.start(18, ino).end(),
            Change::Done {
                ino,
                sequence,
                unique,
            } => put.start(19, ino).u64(sequence).u64(unique).end(),
        }
    }

    /// Reads one change from the front of `input`; `None` if the bytes are none.
    pub(crate) fn decode<'a>(input: &mut &'a [u8]) -> Option<Change<'a>> {
        let mut get = Get(input);
        let tag = get.u8()?;
        let ino = Ino(get.u64()?);
        Some(match tag {
            1 => {
                let kind = Kind::from_dtype(get.u8()?)?;
                let meta = get.meta()?;
                let parent = Ino(get.u64()?);
                Change::Make {
                    ino,
                    kind,
                    meta,
                    target: get.bytes()?,
                    parent,
                }
            }
            2 => Change::Meta {
                ino,
                meta: get.meta()?,
            },
            3 => Change::Touch {
                ino,
                nlink: get.u32()?,
                time: get.time()?,
            },
            4 => Change::Linked {
                ino,
                nlink: get.u32()?,
                ctime: get.time()?,
            },
            5 => Change::Wrote {
                ino,
                size: get.size()?,
                time: get.time()?,
            },
            6 => Change::Resize {
                ino,
                size: get.size()?,
            },
            7 => {
                let (page, count) = get.run()?;
                let at = get.u64()?;
                at.checked_add(count).filter(|end| *end <= MAX_FILE / PAGE)?;
                Change::Map { ino, page, count, at }
            }
            8 => {
                let (page, count) = get.run()?;
                Change::Hole { ino, page, count }
            }
            9 => {
                let below = below_from(get.u8()?)?;
                let target = Ino(get.u64()?);
                let kind = Kind::from_dtype(get.u8()?)?;
                Change::Enter {
                    ino,
                    below,
                    target,
                    kind,
                    name: get.name()?,
                }
            }
            10 => Change::Leave {
                ino,
                below: below_from(get.u8()?)?,
                name: get.name()?,
            },
            11 => Change::Parent {
                ino,
                parent: Ino(get.u64()?),
            },
            12 => Change::Xattr {
                ino,
                name: get.bytes()?,
                value: Some(get.bytes()?),
            },
            13 => Change::Xattr {
                ino,
                name: get.bytes()?,
                value: None,
            },
            14 => Change::Forget { ino },
            15 => Change::Reset { ino },
            16 => {
                let (place, target) = (get.place()?, Ino(get.u64()?));
                let kind = Kind::from_dtype(get.u8()?)?;
                Change::Place {
                    ino,
                    place,
                    target,
                    kind,
                    name: get.name()?,
                }
            }
            17 => Change::Names {
                ino,
                count: get.place()?,
                last: get.place()?,
            },
            18 => Change::Given { ino },
            19 => Change::Done {
                ino,
                sequence: get.u64()?,
                unique: get.u64()?,
            },
            _ => return None,
        })
    }
}

fn below_code(below: Below) -> u8 {
    match below {
        Below::Absent => 0,
        Below::Hidden => 1,
    }
}

fn below_from(code: u8) -> Option<Below> {
    match code {
        0 => Some(Below::Absent),
        1 => Some(Below::Hidden),
        _ => None,
    }
}

/// Writes little-endian fields.
struct Put<'a>(&'a mut Vec<u8>);

impl Put<'_> {
    fn start(&mut self, tag: u8, ino: Ino) -> &mut Self {
        self.u8(tag).u64(ino.0)
    }
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    fn time(&mut self, time: Time) -> &mut Self {
        self.u64(time.sec as u64).u32(time.nsec)
    }
    fn meta(&mut self, meta: &Meta) -> &mut Self {
        self.u32(meta.perm.into())
            .u32(meta.uid)
            .u32(meta.gid)
            .u32(meta.nlink)
            .u32(meta.rdev);
        self.time(meta.atime).time(meta.mtime).time(meta.ctime)
    }
    /// A length as u32, then the bytes. Everything put here is limited far below 4 GiB.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }
    fn end(&mut self) {}
}

/// Reads what [`Put`] wrote, checking every length.
struct Get<'i, 'a>(&'i mut &'a [u8]);

impl<'a> Get<'_, 'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        *self.0 = rest;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    /// Up to what `off_t` can say: an image indexed by an earlier version may have a file that ends within a page there.
    fn size(&mut self) -> Option<u64> {
        self.u64().filter(|size| i64::try_from(*size).is_ok())
    }
    /// A run of pages inside a file.
    fn run(&mut self) -> Option<(u64, u64)> {
        let (page, count) = (self.u64()?, self.u64()?);
        page.checked_add(count)
            .filter(|end| count > 0 && *end <= MAX_FILE / PAGE)?;
        Some((page, count))
    }
    /// A place in a listing, or a number of names: far more than any directory can have had.
    fn place(&mut self) -> Option<u64> {
        self.u64().filter(|place| *place < MOST_PLACES)
    }
    fn time(&mut self) -> Option<Time> {
        let (sec, nsec) = (self.u64()? as i64, self.u32()?);
        (nsec < 1_000_000_000).then_some(Time { sec, nsec })
    }
    fn meta(&mut self) -> Option<Meta> {
        Some(Meta {
            perm: u16::try_from(self.u32()?).ok().filter(|perm| *perm <= 0o7777)?,
            uid: self.u32()?,
            gid: self.u32()?,
            nlink: self.u32()?,
            rdev: self.u32()?,
            atime: self.time()?,
            mtime: self.time()?,
            ctime: self.time()?,
        })
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
    fn name(&mut self) -> Option<&'a Name> {
        Name::new(self.bytes()?).ok()
    }
}

/// Appends a whole record to `out`, padded to [`ALIGN`].
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    salt: u32,
    stamp: Stamp,
    operation: Operation,
    changes: &[Change<'_>],
) {
    encode(out, salt, stamp, operation, |out| {
        changes.iter().for_each(|change| change.encode(out));
    });
}

/// The same of numbers, whose meaning is the operation's.
pub(crate) fn encode_words(out: &mut Vec<u8>, salt: u32, stamp: Stamp, operation: Operation, words: &[u64]) {
    encode(out, salt, stamp, operation, |out| {
        words
            .iter()
            .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    });
}

fn encode(
    out: &mut Vec<u8>,
    salt: u32,
    stamp: Stamp,
    operation: Operation,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.resize(start + RECORD_HEADER, 0);
    payload(out);
    let mut header = RecordHeader {
        length: ((out.len() - start) as u32).into(),
        crc: 0.into(),
        sequence: stamp.sequence.into(),
        unique: stamp.unique.into(),
        operation: (operation as u16).into(),
        check: 0.into(),
        pending: stamp.pending.into(),
    };
    header.check = header_check(salt, &header).into();
    let payload = out.get(start + RECORD_HEADER..).unwrap_or_default();
    header.crc = record_sum(salt, &header, payload).into();
    if let Some(place) = out.get_mut(start..start + RECORD_HEADER) {
        place.copy_from_slice(header.as_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// Can the changes be read again as they were written? Asked in debug builds: a record that cannot be replayed would be
/// noticed only when the layer is opened again.
pub(crate) fn can_be_read(mut payload: &[u8], changes: &[Change<'_>]) -> bool {
    let mut same = |change: &Change<'_>| Change::decode(&mut payload).as_ref() == Some(change);
    changes.iter().all(&mut same)
}

/// What tells a record from all others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub sequence: u64,
    pub unique: u64,
    pub pending: u32,
}

/// What [`RecordHeader::crc`] should be.
pub(crate) fn record_sum(salt: u32, header: &RecordHeader, payload: &[u8]) -> u32 {
    let tail = header.as_bytes().get(8..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(salt, tail), payload)
}

/// What [`RecordHeader::check`] should be.
pub(crate) fn header_check(salt: u32, header: &RecordHeader) -> u16 {
    let bare = RecordHeader {
        crc: 0.into(),
        check: 0.into(),
        ..*header
    };
    crc32c::crc32c_append(salt, bare.as_bytes()) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_that_the_kernel_knows_can_be_read_again() {
        let change = |size| Change::Resize { ino: Ino(9), size };
        for (size, good) in [
            (0, true),
            (MAX_FILE, true),
            (i64::MAX as u64, true),
            (1 << 63, false),
        ] {
            let mut bytes = Vec::new();
            change(size).encode(&mut bytes);
            assert_eq!(can_be_read(&bytes, &[change(size)]), good, "{size}");
        }
    }
}
