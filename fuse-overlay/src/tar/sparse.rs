//! Sparse files: which parts of a file are stored, and where? GNU tar's manual, "Storing Sparse Files", has four ways to
//! say it: in the header itself (old), and in PAX records 0.0, 0.1 and 1.0. All end as pairs of offset and length.

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::number;
use super::read::Fault;
use super::source::{Source, StreamError};
use super::{BLOCK, MAX_SPECIAL};

/// A run of a file's bytes: offset in the file, length above 0, offset in the tar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Where in the file.
    pub file_offset: u64,
    /// Bytes, at least one.
    pub length: u64,
    /// Where in the tar.
    pub tar_offset: u64,
}

/// The runs of a file whose bytes all are in the tar, at `tar_offset`.
pub(crate) fn whole(size: u64, tar_offset: u64) -> Vec<Run> {
    match size {
        0 => Vec::new(),
        length => vec![Run {
            file_offset: 0,
            length,
            tar_offset,
        }],
    }
}

/// The runs that `map`, offsets and lengths by turns, describes. `stored` bytes lie at `tar_offset`, `real_size` is the
/// file's size with its holes.
pub(crate) fn runs(map: &[u64], real_size: u64, stored: u64, tar_offset: u64) -> Result<Vec<Run>, Fault> {
    let mut runs: Vec<Run> = Vec::new();
    let mut file_end = 0;
    let mut used = 0u64;
    for pair in map.chunks(2) {
        let &[offset, length] = pair else {
            return Err("a sparse map of odd length");
        };
        let end = offset
            .checked_add(length)
            .filter(|&end| end <= real_size && offset >= file_end);
        file_end = end.ok_or("a sparse map out of order or beyond the file's size")?;
        if length > 0 {
            let tar_offset = tar_offset
                .checked_add(used)
                .ok_or("a sparse map beyond all sizes")?;
            // No overflow: the runs do not overlap and end within `real_size`.
            used += length;
            runs.push(Run {
                file_offset: offset,
                length,
                tar_offset,
            });
        }
    }
    if used == stored {
        Ok(runs)
    } else {
        Err("a sparse map that does not fit the bytes stored")
    }
}

/// The map of an old GNU sparse entry: four pairs in its header, more in the blocks behind it.
pub(crate) fn old_map(
    header: &GnuHeader,
    source: &mut Source<'_>,
) -> Result<Result<Vec<u64>, Fault>, StreamError> {
    let mut map = Vec::new();
    let mut more = header.is_extended();
    if let Err(fault) = old_pairs(&header.sparse, &mut map) {
        return Ok(Err(fault));
    }
    while more {
        let block = source.block()?.ok_or(StreamError::Truncated)?;
        let mut extended = GnuExtSparseHeader::new();
        extended.as_mut_bytes().copy_from_slice(&block);
        if map.len() as u64 * size_of::<u64>() as u64 > MAX_SPECIAL {
            return Ok(Err(TOO_LONG));
        }
        if let Err(fault) = old_pairs(extended.sparse(), &mut map) {
            return Ok(Err(fault));
        }
        more = extended.is_extended();
    }
    Ok(Ok(map))
}

const TOO_LONG: Fault = "a sparse map of more than 1 MiB";

fn old_pairs(pairs: &[GnuSparseHeader], map: &mut Vec<u64>) -> Result<(), Fault> {
    for pair in pairs {
        // The first empty pair ends the map, as GNU tar and Go read it.
        if pair.offset.first() == Some(&0) || pair.numbytes.first() == Some(&0) {
            break;
        }
        let number = |field: &[u8]| number::unsigned(field).ok_or("a broken number in a sparse map");
        map.push(number(&pair.offset)?);
        map.push(number(&pair.numbytes)?);
    }
    Ok(())
}

/// The map of format 1.0, decimal lines at the start of the `stored` bytes: their count, then offsets and lengths.
/// Gives the map and how many bytes it took, whole blocks.
pub(crate) fn stored_map(
    source: &mut Source<'_>,
    stored: u64,
) -> Result<Result<(Vec<u64>, u64), Fault>, StreamError> {
    let mut line = Vec::new();
    let mut expected = None;
    let mut map = Vec::new();
    let mut taken = 0;
    loop {
        if taken + BLOCK as u64 > stored {
            return Ok(Err("a sparse map beyond its entry"));
        }
        let block = source.block()?.ok_or(StreamError::Truncated)?;
        taken += BLOCK as u64;
        if taken > MAX_SPECIAL {
            return Ok(Err(TOO_LONG));
        }
        for &byte in &block {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let Some(number) = number::decimal(&line) else {
                return Ok(Err("a broken number in a sparse map"));
            };
            line.clear();
            match expected {
                None => expected = Some(number),
                Some(_) => map.push(number),
            }
            if expected.and_then(|count| count.checked_mul(2)) == Some(map.len() as u64) {
                return Ok(Ok((map, taken)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_fit_in_order() {
        let run = |file_offset, length, tar_offset| Run {
            file_offset,
            length,
            tar_offset,
        };
        assert_eq!(
            runs(&[0, 10, 100, 5, 200, 0], 200, 15, 512),
            Ok(vec![run(0, 10, 512), run(100, 5, 522)])
        );
        for (map, real_size, stored) in [
            (&[0, 10, 5, 5][..], 100, 15),
            (&[0, 10], 5, 10),
            (&[0, 10], 100, 9),
            (&[0, 10], 100, 11),
            (&[0], 100, 0),
            (&[u64::MAX, 2], u64::MAX, 2),
        ] {
            assert!(runs(map, real_size, stored, 0).is_err(), "{map:?}");
        }
    }

    #[test]
    fn a_stored_map_ends_inside_its_entry() {
        let mut block = [b'\0'; 1024];
        block[..13].copy_from_slice(b"2\n0\n10\n20\n30\n");
        let parse = |mut bytes: &[u8], stored| {
            let mut observer = |_: &[u8]| Ok(());
            stored_map(&mut Source::new(&mut bytes, &mut observer), stored)
        };
        let map = parse(&block, 1024).unwrap();
        assert_eq!(map, Ok((vec![0, 10, 20, 30], 512)));
        assert!(parse(&block, 511).unwrap().is_err());
        assert!(parse(b"9\n", 512).is_err(), "truncated");
        assert!(parse(&[b'1'; 2 << 20], 2 << 20).unwrap().is_err(), "too long");
        assert!(parse(&[b'\n'; 512], 512).unwrap().is_err());
    }
}
