//! Where does the journal begin? At its first record, until a checkpoint has said all that the records before it said.
//!
//! The header's block has two places for a [`Start`], each in a sector of its own. A new one is written over the older,
//! when all that it names is on the disk; what lies before it is given back when it is itself on the disk. So whichever of
//! the two is whole and newest, what it names is there.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::{ALIGN, BootId, HEADER_SIZE};

/// Where the two places lie in the file.
const PLACES: [u64; 2] = [512, 1024];

/// What is read instead of all records from the first on: those from a checkpoint's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Start {
    /// One more than the start before.
    pub generation: U64,
    /// Where the first record lies, in bytes.
    pub offset: U64,
    /// Its sequence.
    pub sequence: U64,
    /// Sequence of the record that ends the checkpoint.
    pub end: U64,
    /// From here on the file may not have been given back yet, up to `offset`.
    pub freed: U64,
    /// The boot of the host under which the first record was written.
    pub boot: BootId,
    /// CRC32C of all above, begun with the header's salt.
    pub crc: U32,
}

const _: () = assert!(size_of::<Start>() == 60);
const _: () = assert!(offset_of!(Start, crc) == size_of::<Start>() - 4);

impl Start {
    /// That of a journal without a checkpoint.
    pub(crate) fn first() -> Start {
        Start {
            generation: 0.into(),
            offset: HEADER_SIZE.into(),
            sequence: 1.into(),
            end: 0.into(),
            freed: HEADER_SIZE.into(),
            boot: [0; 16],
            crc: 0.into(),
        }
    }

    /// The newest that is whole in the header's block.
    pub(crate) fn newest(block: &[u8], salt: u32) -> Start {
        let read = |place: &u64| {
            let bytes = block.get(*place as usize..)?;
            let (start, _) = Start::read_from_prefix(bytes).ok()?;
            start.is_whole(salt).then_some(start)
        };
        PLACES
            .iter()
            .filter_map(read)
            .max_by_key(|start| start.generation.get())
            .unwrap_or(Start::first())
    }

    /// With its checksum, as it is written.
    pub(crate) fn sealed(mut self, salt: u32) -> Start {
        self.crc = self.sum(salt).into();
        self
    }

    /// Where it is to be written: over the one before the last.
    pub(crate) fn place(&self) -> u64 {
        let [even, odd] = PLACES;
        if self.generation.get().is_multiple_of(2) {
            even
        } else {
            odd
        }
    }

    fn sum(&self, salt: u32) -> u32 {
        let covered = self.as_bytes().get(..offset_of!(Start, crc)).unwrap_or_default();
        crc32c::crc32c_append(salt, covered)
    }

    fn is_whole(&self, salt: u32) -> bool {
        let (offset, sequence) = (self.offset.get(), self.sequence.get());
        self.crc.get() == self.sum(salt)
            && self.generation.get() > 0
            && (HEADER_SIZE..=offset).contains(&self.freed.get())
            && offset.is_multiple_of(ALIGN as u64)
            && (1..=self.end.get()).contains(&sequence)
            // Counting on does not overflow.
            && self.end.get() < u64::MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(generation: u64) -> Start {
        Start {
            generation: generation.into(),
            offset: (8192 + 8 * generation).into(),
            sequence: 7.into(),
            end: 9.into(),
            ..Start::first()
        }
    }

    fn write(block: &mut [u8], start: &Start) {
        let at = start.place() as usize;
        block[at..at + size_of::<Start>()].copy_from_slice(start.sealed(5).as_bytes());
    }

    #[test]
    fn the_newest_whole_start_counts() {
        let mut block = vec![0; HEADER_SIZE as usize];
        assert_eq!(Start::newest(&block, 5), Start::first());
        for generation in 1..5 {
            write(&mut block, &start(generation));
            assert_eq!(Start::newest(&block, 5), start(generation).sealed(5));
        }
        // Torn: the one before is there.
        let place = start(4).place() as usize;
        block[place + 20] ^= 1;
        assert_eq!(Start::newest(&block, 5), start(3).sealed(5));
        assert_eq!(Start::newest(&block, 6), Start::first());
    }

    #[test]
    fn what_no_journal_says_is_none() {
        for wrong in [
            Start {
                offset: 4097.into(),
                ..start(1)
            },
            Start {
                offset: 8.into(),
                ..start(1)
            },
            Start {
                freed: 9000.into(),
                offset: 8192.into(),
                ..start(1)
            },
            Start {
                sequence: 0.into(),
                ..start(1)
            },
            Start {
                end: 6.into(),
                ..start(1)
            },
            Start {
                end: u64::MAX.into(),
                ..start(1)
            },
            Start {
                generation: 0.into(),
                ..start(1)
            },
        ] {
            let mut block = vec![0; HEADER_SIZE as usize];
            write(&mut block, &wrong);
            assert_eq!(Start::newest(&block, 5), Start::first(), "{wrong:?}");
        }
    }
}
