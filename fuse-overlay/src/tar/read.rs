//! Headers → members. A member is a sound entry of known kind whose bytes were all in the stream; whether its name may
//! enter a tree is for the tree to say.

use tar::Header;

use super::pax::{self, Pax, Xattr};
use super::source::{self, Source, StreamError};
use super::sparse::{self, Run};
use super::{BLOCK, MAX_PATH, MAX_SPECIAL, number};
use crate::attr::{Kind, MAX_FILE, Time};

/// The rule that an entry breaks.
pub type Fault = &'static str;

/// An entry of a tar, its metadata from all its headers together.
#[derive(Debug)]
pub struct Member {
    /// As spelled, at most 4095 bytes.
    pub path: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of its content.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// What it is.
    pub body: Body,
}

/// What an entry is and holds.
#[derive(Debug)]
pub enum Body {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// In bytes, holes included.
        size: u64,
        /// Where its bytes are in the tar; all else is holes.
        runs: Vec<Run>,
    },
    /// A symlink, and where it leads.
    Symlink(Vec<u8>),
    /// The path of the file that gets one more name.
    HardLink(Vec<u8>),
    /// A device, fifo or socket with its number.
    Special(Kind, u32),
}

/// Why there is no next member.
#[derive(Debug)]
pub(crate) enum ReadError {
    Stream(StreamError),
    /// A broken rule, and where: the entry's path, or its header's offset.
    Fault {
        place: String,
        reason: Fault,
    },
}

/// The members of a tar, in order.
pub(crate) struct Reader<'a> {
    source: Source<'a>,
    /// Bytes of the last member that are still to be passed over.
    left: u64,
}

/// What special entries say of the one that follows them.
#[derive(Default)]
struct Ahead {
    pax: Pax,
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

/// Type flags, of which `tar::EntryType` lacks some.
mod flag {
    pub(super) const OLD_REGULAR: u8 = 0;
    pub(super) const REGULAR: u8 = b'0';
    pub(super) const HARD_LINK: u8 = b'1';
    pub(super) const SYMLINK: u8 = b'2';
    pub(super) const CHAR_DEVICE: u8 = b'3';
    pub(super) const BLOCK_DEVICE: u8 = b'4';
    pub(super) const DIRECTORY: u8 = b'5';
    pub(super) const FIFO: u8 = b'6';
    pub(super) const CONTIGUOUS: u8 = b'7';
    pub(super) const GNU_SPARSE: u8 = b'S';
    pub(super) const GNU_NAME: u8 = b'L';
    pub(super) const GNU_LINK: u8 = b'K';
    pub(super) const PAX: u8 = b'x';
    pub(super) const PAX_GLOBAL: u8 = b'g';
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: Source<'a>) -> Reader<'a> {
        Reader { source, left: 0 }
    }

    /// The next member; `None` at the end of the archive, after which the rest of the stream was passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, ReadError> {
        let member = self.next_open()?;
        if let Some(member) = &member {
            self.pass(&member.path)?;
        }
        Ok(member)
    }

    /// The same; its bytes are the stream's next, for [`Reader::bytes`], until [`Reader::pass`] is called.
    pub(crate) fn next_open(&mut self) -> Result<Option<Member>, ReadError> {
        let mut ahead = Ahead::default();
        loop {
            let offset = self.source.offset();
            let here = |stream| match stream {
                StreamError::Truncated => truncated(format!("at byte {offset}")),
                other => ReadError::Stream(other),
            };
            let Some(block) = self.source.block().map_err(here)? else {
                return Ok(None);
            };
            if block == [0; BLOCK] {
                return self.end(offset);
            }
            let header = Header::from_byte_slice(&block);
            let fault = |reason| ReadError::Fault {
                place: format!("at byte {offset}"),
                reason,
            };
            verify_header(header).map_err(fault)?;
            let type_flag = header.as_old().linkflag[0];
            if !matches!(
                type_flag,
                flag::PAX | flag::PAX_GLOBAL | flag::GNU_NAME | flag::GNU_LINK
            ) {
                return self.member(header, ahead).map(Some);
            }
            let size = number::unsigned(&header.as_old().size).ok_or(fault(BAD_SIZE))?;
            if size > MAX_SPECIAL {
                return Err(fault("an extended header of more than 1 MiB"));
            }
            let bytes = self.source.padded(size).map_err(here)?;
            match type_flag {
                flag::PAX_GLOBAL => {
                    pax::check_global(&bytes).map_err(fault)?;
                    // To Go it is an entry, so it is what was spoken of.
                    ahead = Ahead::default();
                }
                flag::GNU_NAME => ahead.gnu_name = Some(until_nul(bytes)),
                flag::GNU_LINK => ahead.gnu_link = Some(until_nul(bytes)),
                _ => ahead.pax = pax::parse(&bytes).map_err(fault)?,
            }
        }
    }

    /// Passes over what is left of the member of this path.
    pub(crate) fn pass(&mut self, path: &[u8]) -> Result<(), ReadError> {
        let left = std::mem::take(&mut self.left);
        self.source.skip(left).map_err(|error| match error {
            StreamError::Truncated => truncated(printable(path)),
            other => ReadError::Stream(other),
        })
    }

    /// The next bytes of a member, at most `limit`.
    pub(crate) fn bytes(&mut self, limit: u64) -> Result<&[u8], StreamError> {
        let limit = usize::try_from(limit.min(self.left)).unwrap_or(usize::MAX);
        let bytes = self.source.some(limit)?;
        self.left -= bytes.len() as u64;
        match bytes.is_empty() && limit > 0 {
            true => Err(StreamError::Truncated),
            false => Ok(bytes),
        }
    }

    /// A block of zeros came: another one, or the stream's end, ends the archive. What follows belongs to the diff id.
    fn end(&mut self, offset: u64) -> Result<Option<Member>, ReadError> {
        match self.source.block() {
            Ok(None) => Ok(None),
            Err(StreamError::Truncated) => Err(truncated(format!("at byte {offset}"))),
            Ok(Some(block)) if block == [0; BLOCK] => {
                self.source.drain().map_err(ReadError::Stream)?;
                Ok(None)
            }
            Ok(Some(_)) => Err(ReadError::Fault {
                place: format!("at byte {offset}"),
                reason: "one block of zeros amid entries",
            }),
            Err(error) => Err(ReadError::Stream(error)),
        }
    }

    /// Reads a member's bytes after its header.
    fn member(&mut self, header: &Header, ahead: Ahead) -> Result<Member, ReadError> {
        let Ahead {
            mut pax,
            gnu_name,
            gnu_link,
        } = ahead;
        let filled = |name: Option<Vec<u8>>| name.filter(|name| !name.is_empty());
        let path = pax.sparse.name().or(filled(gnu_name)).or(pax.path.take());
        let path = path.unwrap_or_else(|| path_of(header));
        let place = || printable(&path);
        let fault = |reason| ReadError::Fault {
            place: place(),
            reason,
        };
        let stream = |error| match error {
            StreamError::Truncated => truncated(place()),
            other => ReadError::Stream(other),
        };
        if path.len() > MAX_PATH {
            return Err(fault("a path of more than 4095 bytes"));
        }

        let old = header.as_old();
        check_numbers(header).map_err(fault)?;
        let link = filled(gnu_link).or(pax.linkpath.take());
        let link = || {
            let link = link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
            match link.len() {
                0 => Err("a link without a target"),
                length if length > MAX_PATH => Err("a link target of more than 4095 bytes"),
                _ if link.contains(&0) => Err("a link target with a NUL"),
                _ => Ok(link),
            }
        };
        let type_flag = match old.linkflag[0] {
            flag::OLD_REGULAR if path.ends_with(b"/") => flag::DIRECTORY,
            other => other,
        };
        let body = match type_flag {
            flag::REGULAR | flag::OLD_REGULAR | flag::CONTIGUOUS | flag::GNU_SPARSE => {
                let layout = self.layout(header, &pax).map_err(stream)?.map_err(fault)?;
                self.left = layout.left;
                Body::Regular {
                    size: layout.size,
                    runs: layout.runs,
                }
            }
            _ if pax.sparse.is_some() => return Err(fault("a sparse map of what is no file")),
            // Go reads no bytes for the following kinds, whatever size their headers claim.
            flag::DIRECTORY => Body::Directory,
            flag::HARD_LINK => Body::HardLink(link().map_err(fault)?),
            flag::SYMLINK => Body::Symlink(link().map_err(fault)?),
            flag::CHAR_DEVICE => Body::Special(Kind::CharDevice, device(header).map_err(fault)?),
            flag::BLOCK_DEVICE => Body::Special(Kind::BlockDevice, device(header).map_err(fault)?),
            flag::FIFO => Body::Special(Kind::Fifo, 0),
            _ => return Err(fault("a type of entry that no container tool reads")),
        };
        let mode = number::field(&old.mode).ok_or(fault("a broken mode"))?;
        Ok(Member {
            perm: (mode & 0o7777) as u16,
            uid: owner(pax.uid, &old.uid).map_err(fault)?,
            gid: owner(pax.gid, &old.gid).map_err(fault)?,
            mtime: match pax.mtime {
                Some(time) => time,
                None => Time {
                    sec: number::field(&old.mtime).ok_or(fault("a broken time"))?,
                    nsec: 0,
                },
            },
            xattrs: pax.xattrs,
            body,
            path,
        })
    }

    /// Where the bytes of a regular file lie. Sparse maps that stand in the data are read here.
    fn layout(&mut self, header: &Header, pax: &Pax) -> Result<Result<Layout, Fault>, StreamError> {
        let stored = pax.size.or_else(|| number::unsigned(&header.as_old().size));
        let Some(stored) = stored.filter(|&size| size <= MAX_FILE) else {
            return Ok(Err(BAD_SIZE));
        };
        let (map, size, taken) = if header.as_old().linkflag[0] == flag::GNU_SPARSE {
            let Some(gnu) = header.as_gnu() else {
                return Ok(Err("a GNU sparse file without a GNU header"));
            };
            match sparse::old_map(gnu, &mut self.source)? {
                Ok(map) => (map, number::unsigned(&gnu.realsize), 0),
                Err(fault) => return Ok(Err(fault)),
            }
        } else if (pax.sparse.major, pax.sparse.minor) == (Some(1), Some(0)) {
            match sparse::stored_map(&mut self.source, stored)? {
                Ok((map, taken)) => (map, pax.sparse.real_size, taken),
                Err(fault) => return Ok(Err(fault)),
            }
        } else if pax.sparse.is_some() {
            match pax.sparse.map_in_records() {
                // To Go that is none, and the file what is stored.
                Ok(map) if map.is_empty() && pax.sparse.real_size != Some(stored) => {
                    return Ok(Err("a sparse map without a piece"));
                }
                Ok(map) => (map, pax.sparse.real_size, 0),
                Err(fault) => return Ok(Err(fault)),
            }
        } else {
            let runs = sparse::whole(stored, self.source.offset());
            let left = stored + source::padding(stored);
            return Ok(Ok(Layout {
                size: stored,
                runs,
                left,
            }));
        };
        let Some(size) = size.filter(|&size| size <= MAX_FILE) else {
            return Ok(Err(BAD_SIZE));
        };
        let stored = stored - taken;
        let left = stored + source::padding(stored);
        let runs = sparse::runs(&map, size, stored, self.source.offset());
        Ok(runs.map(|runs| Layout { size, runs, left }))
    }
}

/// Where a file's bytes lie, and how many bytes of the stream are left to pass over.
struct Layout {
    size: u64,
    runs: Vec<Run>,
    left: u64,
}

/// How headers of star's end.
const STAR: &[u8] = b"tar\0";

const BAD_SIZE: Fault = "a size that is none";

fn truncated(place: String) -> ReadError {
    ReadError::Fault {
        place,
        reason: "the stream ends inside this entry",
    }
}

/// A path for messages: printable, of bounded length.
pub fn printable(path: &[u8]) -> String {
    const MOST: usize = 200;
    let shown = path.get(..MOST).unwrap_or(path).escape_ascii().to_string();
    if path.len() > MOST { shown + "…" } else { shown }
}

/// The path that a header has itself.
fn path_of(header: &Header) -> Vec<u8> {
    let until_nul = |field: &[u8]| until_nul(field.to_vec());
    let name = until_nul(&header.as_old().name);
    let prefix = match (header.as_ustar(), header.as_gnu()) {
        // star's own, whose times lie in the prefix's end.
        (Some(ustar), _) if header.as_bytes().ends_with(STAR) => ustar.prefix.get(..131).map(until_nul),
        (Some(ustar), _) => Some(until_nul(&ustar.prefix)),
        // Go before 1.8 wrote a prefix where the times are, and reads it still (`readHeader`); so there are layers of it.
        (None, Some(gnu)) if [&gnu.atime, &gnu.ctime].iter().any(|time| is_no_time(&time[..])) => {
            let prefix = header.as_bytes().get(345..500).map(until_nul);
            prefix.filter(|prefix| prefix.is_ascii())
        }
        _ => None,
    };
    match prefix {
        Some(prefix) if !prefix.is_empty() => [&prefix[..], b"/", &name].concat(),
        _ => name,
    }
}

fn is_no_time(field: &[u8]) -> bool {
    field.first() != Some(&0) && number::field(field).is_none()
}

/// Go takes no header with a number that is none, whether it needs it or not.
fn check_numbers(header: &Header) -> Result<(), Fault> {
    let old = header.as_old();
    number::unsigned(&old.size).ok_or(BAD_SIZE)?;
    let numbers = [&old.mode[..], &old.uid, &old.gid, &old.mtime];
    if numbers.iter().any(|field| number::field(field).is_none()) {
        return Err("a broken mode, owner or time");
    }
    let is_star = header.as_ustar().is_some() && header.as_bytes().ends_with(STAR);
    let mut times = [476..488, 488..500].into_iter();
    let is_time = |place| {
        header
            .as_bytes()
            .get(place)
            .is_some_and(|field| number::field(field).is_some())
    };
    if is_star && !times.all(is_time) {
        return Err("a broken time");
    }
    let mut fields = device_fields(header).into_iter().flatten();
    let are_numbers = fields.all(|field| number::field(field).is_some());
    are_numbers.then_some(()).ok_or("a device number that is none")
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// A header's checksum is the sum of its bytes, its own field as spaces. Old tars summed signed bytes.
fn verify_header(header: &Header) -> Result<(), Fault> {
    let field = &header.as_old().cksum;
    let expected = number::field(field).ok_or("not a tar header")?;
    let spaces = 8 * i64::from(b' ');
    let sum = |value: fn(u8) -> i64| {
        let all: i64 = header.as_bytes().iter().map(|&byte| value(byte)).sum();
        all - field.iter().map(|&byte| value(byte)).sum::<i64>() + spaces
    };
    let sums = [sum(i64::from), sum(|byte| i64::from(byte as i8))];
    if !sums.contains(&expected) {
        return Err("not a tar header, or a damaged one: its checksum differs");
    }
    // Readers differ in whether such a header has a prefix of its name.
    let claims_ustar = header.as_bytes().get(257..263) == Some(b"ustar\0");
    if claims_ustar && header.as_ustar().is_none() {
        Err("a ustar header of unknown version")
    } else {
        Ok(())
    }
}

fn owner(pax: Option<u64>, field: &[u8]) -> Result<u32, Fault> {
    let id = pax.or_else(|| number::unsigned(field));
    // The last value means "leave as it is" to chown(2).
    id.and_then(|id| u32::try_from(id).ok())
        .filter(|&id| id != u32::MAX)
        .ok_or("an owner that is no 32-bit id")
}

/// Major and minor number, where the format has them.
fn device_fields(header: &Header) -> Option<[&[u8]; 2]> {
    match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some([&ustar.dev_major, &ustar.dev_minor]),
        (None, Some(gnu)) => Some([&gnu.dev_major, &gnu.dev_minor]),
        (None, None) => None,
    }
}

/// The device number of a header as Linux encodes it in 32 bits (`new_encode_dev`).
fn device(header: &Header) -> Result<u32, Fault> {
    let [major, minor] = device_fields(header).ok_or("a device without a number")?;
    let number = |field: &[u8], most: u32| {
        let number = number::unsigned(field).and_then(|number| u32::try_from(number).ok());
        number
            .filter(|&number| number <= most)
            .ok_or("a device number that Linux cannot have")
    };
    let (major, minor) = (number(major, 0xfff)?, number(minor, 0xf_ffff)?);
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}
