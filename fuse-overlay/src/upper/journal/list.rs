//! Where does each inode's state stand? The *list* of a checkpoint during which nothing happened: who opens the journal then
//! reads what follows it, and an inode's state when it is first asked for.
//!
//! It is derived from the states, and stands behind the checkpoint in records of its own: one [`Operation::Places`] for each
//! [`Block`] of inode numbers, then [`Operation::List`], which says all else. When they are on the disk, a [`Pointer`] in the
//! header's block says where the last of them is. Whatever is wrong with them, the whole journal is read instead.

use std::cmp::Ordering;
use std::io;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{ALIGN, Change, HEADER_SIZE, MAX_RECORD, Operation, PAGE, RECORD_HEADER};
use super::reader::Reader;
use crate::attr::{Ino, MAX_FILE};

/// Where the pointer lies in the file: in a sector of its own, behind those of the starts.
const PLACE: u64 = 1536;

/// Inode numbers of a block.
pub(crate) const BLOCK: u64 = 512;
/// Words of its bits.
const WORDS: usize = 8;
const _: () = assert!(WORDS as u64 * 64 == BLOCK);

/// Where the list lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Pointer {
    /// That of the start ([`super::start`]) whose checkpoint it lists.
    pub generation: U64,
    /// Where the record lies that ends the checkpoint, in bytes.
    pub checkpoint: U64,
    /// Where the list's last record lies.
    pub list: U64,
    /// Its sequence.
    pub sequence: U64,
    /// CRC32C of all above, begun with the header's salt.
    pub crc: U32,
}

const _: () = assert!(size_of::<Pointer>() == 36);
const _: () = assert!(offset_of!(Pointer, crc) == size_of::<Pointer>() - 4);

impl Pointer {
    /// The one in the header's block, if it is whole.
    pub(crate) fn of(block: &[u8], salt: u32) -> Option<Pointer> {
        let (pointer, _) = Pointer::read_from_prefix(block.get(PLACE as usize..)?).ok()?;
        let places = [pointer.checkpoint.get(), pointer.list.get()];
        let is_whole = pointer.crc.get() == pointer.sum(salt)
            && pointer.generation.get() > 0
            && places.is_sorted()
            && places
                .iter()
                .all(|place| *place >= HEADER_SIZE && place.is_multiple_of(ALIGN as u64));
        is_whole.then_some(pointer)
    }

    /// With its checksum, as it is written; and where to.
    pub(crate) fn sealed(mut self, salt: u32) -> (Pointer, u64) {
        self.crc = self.sum(salt).into();
        (self, PLACE)
    }

    fn sum(&self, salt: u32) -> u32 {
        let covered = self
            .as_bytes()
            .get(..offset_of!(Pointer, crc))
            .unwrap_or_default();
        crc32c::crc32c_append(salt, covered)
    }
}

/// [`BLOCK`] inode numbers side by side, some of which the list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first number is this many blocks behind 0.
    pub number: u64,
    /// Where the record lies that says which, and where their states are.
    pub places: u64,
}

/// What that record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// A bit for each number of the block.
    pub listed: Bits,
    /// Where the states of the listed ones stand, in their order, and after them where the last ends.
    pub offsets: Vec<u64>,
}

/// A bit for each number of a block.
pub(crate) type Bits = [u64; WORDS];

impl Block {
    /// The block of an inode number, and the number's place in it.
    pub(crate) fn of(ino: Ino) -> (u64, usize) {
        (ino.0 / BLOCK, (ino.0 % BLOCK) as usize)
    }

    /// Which of its numbers are listed, and where. `None` if the record is damaged.
    pub(crate) fn read(&self, reader: &mut Reader<'_>, salt: u32) -> io::Result<Option<Places>> {
        let words = words(reader, salt, self.places, Operation::Places)?;
        Ok(words.and_then(|words| Places::decode(&words)))
    }

    /// The same, found by going through the states that stand in `from..end`. `None` if one is damaged.
    pub(crate) fn find(
        &self,
        reader: &mut Reader<'_>,
        salt: u32,
        from: u64,
        end: u64,
    ) -> io::Result<Option<Places>> {
        let (mut at, mut last, mut found) = (from, None, Places::default());
        while at < end {
            let Some(record) = reader.record(at, salt)? else {
                return Ok(None);
            };
            if record.operation == Operation::State as u16 {
                let ino = Change::decode(&mut reader.payload(at, &record)?).map(|change| change.ino());
                let (number, place) = ino.map_or((u64::MAX, 0), Block::of);
                if number > self.number {
                    break;
                }
                if number == self.number && ino != last {
                    found.add(place, at);
                }
                last = ino;
            }
            at += record.length.next_multiple_of(ALIGN) as u64;
        }
        found.offsets.push(at);
        Ok(Some(found).filter(Places::could_be))
    }
}

impl Places {
    /// One more, which stands behind the others.
    pub(crate) fn add(&mut self, place: usize, offset: u64) {
        if let Some(word) = self.listed.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
        self.offsets.push(offset);
    }

    /// Where the state of a listed one stands.
    pub(crate) fn range(&self, place: usize) -> Option<Range<u64>> {
        let before = |(word, bits): (usize, &u64)| match (place / 64).cmp(&word) {
            Ordering::Less => 0,
            Ordering::Equal => (bits & ((1 << (place % 64)) - 1)).count_ones(),
            Ordering::Greater => bits.count_ones(),
        };
        let rank = self.listed.iter().enumerate().map(before).sum::<u32>() as usize;
        let [start, end] = self.offsets.get(rank..rank + 2)?.first_chunk()?;
        bit(&self.listed, place).then_some(*start..*end)
    }

    /// As it is recorded.
    pub(crate) fn encode(&self) -> Vec<u64> {
        [&self.listed[..], &self.offsets].concat()
    }

    fn decode(words: &[u64]) -> Option<Places> {
        let (listed, offsets) = words.split_first_chunk::<WORDS>()?;
        let places = Places {
            listed: *listed,
            offsets: offsets.to_vec(),
        };
        Some(places).filter(Places::could_be)
    }

    fn could_be(&self) -> bool {
        let count = self.listed.iter().map(|word| word.count_ones()).sum::<u32>();
        self.offsets.len() == count as usize + 1 && self.offsets.is_sorted()
    }
}

/// Is the bit set?
pub(crate) fn bit(words: &[u64], at: usize) -> bool {
    words
        .get(at / 64)
        .is_some_and(|word| word & (1 << (at % 64)) != 0)
}

/// The bits that are set.
pub(crate) fn set(words: &Bits) -> impl Iterator<Item = usize> + '_ {
    (0..BLOCK as usize).filter(|at| bit(words, *at))
}

/// What a list says, but for the places.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// Where the checkpoint's first record lies, and the one that ends it.
    pub first: u64,
    pub checkpoint: u64,
    /// Where the list's last record lies, its sequence, and where it ends.
    pub offset: u64,
    pub sequence: u64,
    pub end: u64,
    /// The journal's, and its length.
    pub salt: u32,
    pub size: u64,
    /// How many inodes that the image has not have a name.
    pub named: u64,
    /// The highest number listed.
    pub last: Ino,
    /// Inodes without names, which may have been open.
    pub nameless: Vec<Ino>,
    /// Pages of the data file that belong to files, in order.
    pub used: Vec<Range<u64>>,
    /// In order.
    pub blocks: Vec<Block>,
}

impl List {
    /// Reads what a pointer points to; `None` if that is not whole, or cannot be read.
    ///
    /// `first`: where the checkpoint begins.
    pub(crate) fn read(reader: &mut Reader<'_>, salt: u32, first: u64, pointer: &Pointer) -> Option<List> {
        let at = pointer.list.get();
        let found = reader.record(at, salt).ok()??;
        if found.sequence != pointer.sequence.get() {
            return None;
        }
        let words = words(reader, salt, at, Operation::List).ok()??;
        List::decode(&words).map(|list| List {
            first,
            checkpoint: pointer.checkpoint.get(),
            offset: at,
            sequence: found.sequence,
            end: at + found.length.next_multiple_of(ALIGN) as u64,
            salt,
            size: reader.size,
            ..list
        })
    }

    /// As it is recorded.
    pub(crate) fn encode(&self) -> Vec<u64> {
        let counts = [self.nameless.len(), self.used.len(), self.blocks.len()];
        let mut words = vec![self.named, self.last.0];
        words.extend(counts.map(|count| count as u64));
        words.extend(self.nameless.iter().map(|ino| ino.0));
        words.extend(self.used.iter().flat_map(|run| [run.start, run.end]));
        words.extend(self.blocks.iter().flat_map(|block| [block.number, block.places]));
        words
    }

    /// Would one of so many runs and blocks, and a few inodes without names, fit into a record?
    pub(crate) fn fits(runs: u64, blocks: u64) -> bool {
        let pairs = runs.saturating_add(blocks).saturating_mul(16);
        pairs.saturating_add(RECORD_HEADER as u64 + 4096) <= MAX_RECORD as u64
    }

    fn decode(words: &[u64]) -> Option<List> {
        let ([named, last, nameless, used, blocks], mut rest) = words.split_first_chunk::<5>()?;
        let mut take = |count: u64, each: usize| {
            let length = usize::try_from(count).ok()?.checked_mul(each)?;
            let (taken, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(taken)
        };
        let nameless = take(*nameless, 1)?.iter().map(|ino| Ino(*ino)).collect();
        let (runs, _) = take(*used, 2)?.as_chunks::<2>();
        let (blocks, _) = take(*blocks, 2)?.as_chunks::<2>();
        let block = |[number, places]: &[u64; 2]| Block {
            number: *number,
            places: *places,
        };
        let list = List {
            named: *named,
            last: Ino(*last),
            nameless,
            used: runs.iter().map(|[start, end]| *start..*end).collect(),
            blocks: blocks.iter().map(block).collect(),
            ..List::default()
        };
        (rest.is_empty() && list.could_be()).then_some(list)
    }

    fn could_be(&self) -> bool {
        let is_run = |run: &Range<u64>| run.start < run.end && run.end <= MAX_FILE / PAGE;
        let last = self.blocks.last().map(|block| block.number);
        self.used.iter().all(is_run)
            && self.used.is_sorted_by(|run, next| run.end <= next.start)
            && self
                .blocks
                .is_sorted_by(|block, next| block.number < next.number)
            && last.is_none_or(|last| last == Block::of(self.last).0)
            // Counting on does not overflow.
            && self.last.0 < u64::MAX / 4
    }
}

impl Default for List {
    fn default() -> List {
        List {
            first: 0,
            checkpoint: 0,
            offset: 0,
            sequence: 0,
            end: 0,
            salt: 0,
            size: 0,
            named: 0,
            last: Ino(0),
            nameless: Vec::new(),
            used: Vec::new(),
            blocks: Vec::new(),
        }
    }
}

/// The numbers of a record of a list; `None` if it is damaged, or another.
fn words(
    reader: &mut Reader<'_>,
    salt: u32,
    offset: u64,
    operation: Operation,
) -> io::Result<Option<Vec<u64>>> {
    let Some(found) = reader
        .record(offset, salt)?
        .filter(|found| found.operation == operation as u16)
    else {
        return Ok(None);
    };
    let (words, rest) = reader.payload(offset, &found)?.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    Ok(rest.is_empty().then_some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let block = |number| Block { number, places: 8192 };
        List {
            named: 3,
            last: Ino(7 * BLOCK + 5),
            nameless: vec![Ino(5)],
            used: vec![0..4, 4..5, 9..10],
            blocks: vec![block(0), block(7)],
            ..List::default()
        }
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        assert_eq!(List::decode(&list().encode()), Some(list()));
        let mut words = list().encode();
        words.push(0);
        assert_eq!(List::decode(&words), None, "more than it says");
        for length in 0..words.len() - 1 {
            assert_eq!(List::decode(&words[..length]), None, "{length} words");
        }
    }

    #[test]
    fn what_no_list_says_is_none() {
        for wrong in [
            List {
                used: vec![4..5, 0..4],
                ..list()
            },
            List {
                used: vec![0..1, 4..4],
                ..list()
            },
            List {
                used: vec![0..1, 4..u64::MAX],
                ..list()
            },
            List {
                blocks: list().blocks.into_iter().rev().collect(),
                ..list()
            },
            List {
                last: Ino(9 * BLOCK),
                ..list()
            },
            List {
                last: Ino(u64::MAX),
                blocks: vec![Block {
                    number: u64::MAX / BLOCK,
                    ..list().blocks[0]
                }],
                ..list()
            },
        ] {
            assert_eq!(List::decode(&wrong.encode()), None, "{wrong:?}");
        }
        let mut words = list().encode();
        words[2] = u64::MAX;
        assert_eq!(List::decode(&words), None);
    }

    #[test]
    fn places_are_found_by_their_numbers() {
        let numbers = [1, 5, 63, 64, 128, 511];
        let mut places = Places::default();
        for number in numbers {
            places.add(number, 8 * number as u64);
        }
        assert_eq!(Places::decode(&places.encode()), None, "no end");
        places.offsets.push(9000);
        assert_eq!(Places::decode(&places.encode()), Some(places.clone()));
        assert!(set(&places.listed).eq(numbers));
        assert_eq!(places.range(1), Some(8..40));
        assert_eq!(places.range(64), Some(512..1024));
        assert_eq!(places.range(511), Some(4088..9000));
        assert_eq!([0, 62, 127, 512].map(|at| places.range(at)), [const { None }; 4]);
        places.offsets.swap(0, 1);
        assert_eq!(Places::decode(&places.encode()), None, "not in order");
    }

    #[test]
    fn a_pointer_is_whole_or_none() {
        let pointer = Pointer {
            generation: 3.into(),
            checkpoint: 8192.into(),
            list: 9000.into(),
            sequence: 20.into(),
            crc: 0.into(),
        };
        let read = |pointer: Pointer| {
            let (pointer, place) = pointer.sealed(5);
            let mut block = vec![0; HEADER_SIZE as usize];
            block[place as usize..][..size_of::<Pointer>()].copy_from_slice(pointer.as_bytes());
            (Pointer::of(&block, 5), Pointer::of(&block, 6), pointer)
        };
        let (whole, of_another, sealed) = read(pointer);
        assert_eq!((whole, of_another), (Some(sealed), None));
        for wrong in [
            Pointer {
                generation: 0.into(),
                ..pointer
            },
            Pointer {
                checkpoint: 9008.into(),
                ..pointer
            },
            Pointer {
                checkpoint: 8.into(),
                ..pointer
            },
            Pointer {
                list: 9001.into(),
                ..pointer
            },
        ] {
            assert_eq!(read(wrong).0, None, "{wrong:?}");
        }
    }
}
