//! How is a tar taken as it comes? Each member is given out while its bytes pass, by the rules of [`super::read`].

use std::io::{self, Read};

use super::{Body, Member, ReadError, Reader, Source, StreamError, printable};

/// Why a tar could not be taken to its end.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The stream cannot be read.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// It breaks a rule; the entry's path says where.
    #[error("tar entry \"{place}\": {reason}")]
    Broken {
        /// The entry's path as the tar spells it, or the place of its header.
        place: String,
        /// The rule.
        reason: &'static str,
    },
    /// Whoever takes it could not take this one.
    #[error("{path}")]
    Member {
        /// As the tar spells it.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl From<ReadError> for MembersError {
    fn from(error: ReadError) -> MembersError {
        match error {
            ReadError::Stream(error) => MembersError::Read(io_error(error)),
            ReadError::Fault { place, reason } => MembersError::Broken { place, reason },
        }
    }
}

fn io_error(error: StreamError) -> io::Error {
    match error {
        StreamError::Read(error) | StreamError::Write(error) => error,
        StreamError::Truncated => io::ErrorKind::UnexpectedEof.into(),
    }
}

/// The bytes of a regular file that pass now.
pub struct Content<'r, 's>(&'r mut Reader<'s>);

impl Content<'_, '_> {
    /// Gives all that is stored of a file, as [`Body::Regular`] has its runs, each piece with its place in the file.
    ///
    /// # Errors
    /// The stream ends or fails, or `put` does.
    pub fn each(&mut self, body: &Body, put: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let Body::Regular { runs, .. } = body else {
            return Ok(());
        };
        for run in runs {
            let mut done = 0;
            while done < run.length {
                let piece = self.0.bytes(run.length - done).map_err(io_error)?;
                put(run.file_offset + done, piece)?;
                done += piece.len() as u64;
            }
        }
        Ok(())
    }
}

/// Takes an uncompressed tar to the stream's end, `each` member in order.
///
/// # Errors
/// The stream breaks a rule or cannot be read, or `each` fails.
pub fn members(
    stream: &mut dyn Read,
    each: &mut dyn FnMut(&Member, &mut Content<'_, '_>) -> io::Result<()>,
) -> Result<(), MembersError> {
    let mut observer = |_: &[u8]| Ok(());
    let mut reader = Reader::new(Source::new(stream, &mut observer));
    while let Some(member) = reader.next_open()? {
        each(&member, &mut Content(&mut reader)).map_err(|source| MembersError::Member {
            path: printable(&member.path),
            source,
        })?;
        reader.pass(&member.path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = ::tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o640);
            tar.append_data(&mut header, path, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn take(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, MembersError> {
        let mut taken = Vec::new();
        members(&mut &*bytes, &mut |member, content| {
            let mut text = Vec::new();
            // What is not asked for is passed over.
            if member.path != b"b" {
                content.each(&member.body, &mut |at, piece| {
                    assert_eq!(at, text.len() as u64);
                    text.extend_from_slice(piece);
                    Ok(())
                })?;
            }
            taken.push((printable(&member.path), text));
            Ok(())
        })?;
        Ok(taken)
    }

    #[test]
    fn members_come_with_their_bytes() {
        let bytes = tar(&[("a", b"one"), ("b", &[7; 2000]), ("c", &[8; 513])]);
        let taken = take(&bytes).unwrap();
        let expected = [
            ("a".into(), b"one".to_vec()),
            ("b".into(), vec![]),
            ("c".into(), vec![8; 513]),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_cut_tar_is_an_error_wherever_it_is_cut() {
        let bytes = tar(&[("a", b"one"), ("b", &[7; 2000])]);
        let whole = bytes.len() - 1024;
        for cut in 1..whole {
            // Between two members nothing tells that more was meant; the tools' tars end with zeros.
            if cut == 1024 {
                continue;
            }
            assert!(take(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    /// Go before 1.8 wrote names over 100 bytes so, in headers of GNU's, and Docker's layers of then are of it.
    #[test]
    fn a_prefix_where_gnu_has_times_is_one() {
        let paths = |there: &[u8], trailer: &[u8], magic: &[u8]| {
            let mut header = ::tar::Header::new_gnu();
            header.set_path("a").unwrap();
            header.set_size(0);
            header.set_mode(0o644);
            let bytes = header.as_mut_bytes();
            bytes[257..265].copy_from_slice(magic);
            bytes[345..345 + there.len()].copy_from_slice(there);
            bytes[508..508 + trailer.len()].copy_from_slice(trailer);
            header.set_cksum();
            let taken = take(&[&header.as_bytes()[..], &[0; 1024]].concat()).unwrap();
            taken.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
        };
        let (gnu, ustar) = (b"ustar  \0", b"ustar\x0000");
        assert_eq!(paths(b"pre/fix", b"", gnu), ["pre/fix/a"]);
        assert_eq!(paths(b"00000000001\0", b"", gnu), ["a"]);
        assert_eq!(paths("prä".as_bytes(), b"", gnu), ["a"]);
        assert_eq!(paths(b"pre/fix", b"", ustar), ["pre/fix/a"]);
        // star has times in the end of the prefix.
        let times = [&[b'p'; 131][..], b"00000000001 "].concat();
        assert_eq!(paths(&times, b"tar\0", ustar), [format!("{}/a", "p".repeat(131))]);
    }
}
