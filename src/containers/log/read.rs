//! How is the log read? File by file, oldest first; a reader that has come to the end waits there for more. Files that are
//! renamed meanwhile are known by their inodes.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{HEAD, NAME, Stream, TIME};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Numbers that may be missing before another file: one while files are renamed, more if that was killed.
const GAPS: u32 = 4;

/// One entry, where it lies in the reader's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// RFC 3339, of a fixed length: times are in the order of their bytes.
    pub time: &'a [u8],
    /// Where the container wrote it to.
    pub stream: Stream,
    /// Whether the line ends here.
    pub whole: bool,
    /// What it wrote, without the line's end.
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads an entry; `None` if it is none, as a foreign or damaged file may have.
    fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let (head, content) = line.split_at_checked(HEAD)?;
        let (time, rest) = head.split_at_checked(TIME)?;
        let stream = match rest.get(1..7)? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let whole = match rest.get(7..)? {
            b" F " => true,
            b" P " => false,
            _ => return None,
        };
        Some(Entry {
            time,
            stream,
            whole,
            content,
        })
    }
}

/// Reads a container's log, and goes on with what comes.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    now: Option<Reading>,
    line: Vec<u8>,
    /// Nothing behind this is read: a file, and a place in it.
    end: Option<(Inode, u64)>,
}

/// A file of the log, open: it may be renamed meanwhile.
struct Found {
    inode: Inode,
    file: File,
}

/// Device and number.
type Inode = (u64, u64);

impl Found {
    fn open(path: &Path) -> io::Result<Option<Found>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        Ok(Some(Found { inode, file }))
    }

    /// Reads it from there on.
    fn read_from(mut self, at: u64) -> io::Result<Reading> {
        self.file.seek(SeekFrom::Start(at))?;
        Ok(Reading {
            inode: self.inode,
            file: BufReader::with_capacity(CHUNK, self.file),
            at,
        })
    }
}

#[derive(Debug)]
struct Reading {
    inode: Inode,
    file: BufReader<File>,
    /// Where in it the reading is.
    at: u64,
}

impl Reader {
    /// Reads the log of the container that lies in `directory`: its last `lines` lines, all of them without a number.
    ///
    /// # Errors
    /// It is there, but cannot be read.
    pub fn new(directory: &Path, lines: Option<u64>) -> io::Result<Reader> {
        let mut reader = Reader {
            directory: directory.to_owned(),
            now: None,
            line: Vec::new(),
            end: None,
        };
        match lines {
            Some(lines) => reader.go_back(lines)?,
            None => reader.now = reader.oldest()?,
        }
        Ok(reader)
    }

    /// Reads no further than what is there now, however fast the container writes.
    ///
    /// # Errors
    /// The log is there, but cannot be looked at.
    pub fn end_here(&mut self) -> io::Result<()> {
        self.end = self
            .newest()?
            .map(|newest| ((newest.dev(), newest.ino()), newest.len()));
        Ok(())
    }

    fn newest(&self) -> io::Result<Option<Metadata>> {
        match fs::metadata(self.directory.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            newest => newest.map(Some),
        }
    }

    fn oldest(&self) -> io::Result<Option<Reading>> {
        let oldest = self.files()?.into_iter().next();
        oldest.map(|oldest| oldest.read_from(0)).transpose()
    }

    /// Calls `each` with the entries up to the present end. What follows is for the next call.
    ///
    /// # Errors
    /// Reading fails, or `each` does.
    pub fn read(&mut self, mut each: impl FnMut(Entry<'_>) -> io::Result<()>) -> io::Result<()> {
        loop {
            if self.now.is_none() {
                self.now = self.oldest()?;
            }
            let Some(inode) = self.now.as_ref().map(|now| now.inode) else {
                return Ok(());
            };
            // Which file follows is looked up first: what is written to this one after it was renamed is none of it.
            let next = self.after(inode)?;
            let Some(now) = &mut self.now else { return Ok(()) };
            let end = self.end.filter(|(file, _)| *file == inode).map(|(_, end)| end);
            while end.is_none_or(|end| now.at < end) {
                match now.file.read_until(b'\n', &mut self.line)? {
                    0 => break,
                    length => now.at += length as u64,
                }
                // The rest of a line that is being written comes with the next call.
                let Some(line) = self.line.strip_suffix(b"\n") else {
                    break;
                };
                if let Some(entry) = Entry::parse(line) {
                    each(entry)?;
                }
                self.line.clear();
            }
            match next.filter(|_| end.is_none()) {
                Some(next) => {
                    self.line.clear();
                    self.now = Some(next);
                }
                None => return Ok(()),
            }
        }
    }

    /// The files that are there, oldest first.
    fn files(&self) -> io::Result<Vec<Found>> {
        // From the newest on: what is renamed meanwhile goes the same way, and is met again rather than missed.
        let mut files: Vec<Found> = Found::open(&self.directory.join(NAME))?.into_iter().collect();
        let mut missing = 0;
        for number in 1.. {
            match Found::open(&self.directory.join(format!("{NAME}.{number}")))? {
                Some(older) if files.iter().any(|file| file.inode == older.inode) => {}
                Some(older) => {
                    files.push(older);
                    missing = 0;
                }
                None if missing == GAPS => break,
                None => missing += 1,
            }
        }
        files.reverse();
        Ok(files)
    }

    /// The file after the one that is read now, if there is one; the oldest, if that one is gone.
    fn after(&self, inode: Inode) -> io::Result<Option<Reading>> {
        // The usual case: it is the newest.
        if self
            .newest()?
            .is_some_and(|newest| (newest.dev(), newest.ino()) == inode)
        {
            return Ok(None);
        }
        let files = self.files()?;
        let place = files.iter().position(|file| file.inode == inode);
        let next = files.into_iter().nth(place.map_or(0, |place| place + 1));
        next.map(|next| next.read_from(0)).transpose()
    }

    /// Begins `lines` lines before the end.
    fn go_back(&mut self, mut lines: u64) -> io::Result<()> {
        for found in self.files()?.into_iter().rev() {
            let start = last_lines(&found.file, &mut lines, self.now.is_none())?;
            self.now = Some(found.read_from(start)?);
            if lines == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Where the last `lines` lines of a file begin; takes off what the file has of them.
fn last_lines(file: &File, lines: &mut u64, is_newest: bool) -> io::Result<u64> {
    let mut begin = file.metadata()?.len();
    let mut is_last = is_newest;
    for entry in Backwards::new(file, begin) {
        let entry = entry?;
        // The last line may be unfinished.
        if is_last || is_whole(file, entry.start)? {
            if *lines == 0 {
                return Ok(if is_last { entry.end } else { begin });
            }
            *lines -= 1;
        }
        begin = entry.start;
        is_last = false;
    }
    Ok(begin)
}

/// The entries of a file from its last, by their places.
struct Backwards<'a> {
    file: &'a File,
    /// What is before this place was not looked at.
    rest: u64,
    /// Ends of lines in what was looked at, ascending.
    ends: Vec<u64>,
    /// The end of the entry that is next.
    end: Option<u64>,
}

impl Backwards<'_> {
    fn new(file: &File, rest: u64) -> Backwards<'_> {
        let (ends, end) = (Vec::new(), None);
        Backwards {
            file,
            rest,
            ends,
            end,
        }
    }

    fn previous_end(&mut self) -> io::Result<Option<u64>> {
        let mut block = Vec::new();
        while self.ends.is_empty() && self.rest > 0 {
            let length = self.rest.min(CHUNK as u64);
            self.rest -= length;
            block.resize(length as usize, 0);
            self.file.read_exact_at(&mut block, self.rest)?;
            let ends = (self.rest + 1..).zip(&block).filter(|(_, byte)| **byte == b'\n');
            self.ends.extend(ends.map(|(end, _)| end));
        }
        Ok(self.ends.pop())
    }
}

impl Iterator for Backwards<'_> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<io::Result<Range<u64>>> {
        let mut step = || {
            let end = match self.end.take() {
                Some(end) => Some(end),
                None => self.previous_end()?,
            };
            let Some(end) = end.filter(|end| *end > 0) else {
                return Ok(None);
            };
            let start = self.previous_end()?.unwrap_or(0);
            self.end = Some(start);
            Ok(Some(start..end))
        };
        step().transpose()
    }
}

fn is_whole(file: &File, entry: u64) -> io::Result<bool> {
    let mut head = [0; HEAD];
    let length = file.read_at(&mut head, entry)?;
    Ok(head
        .get(..length)
        .and_then(Entry::parse)
        .is_some_and(|entry| entry.whole))
}

#[cfg(test)]
mod tests {
    use super::super::{Log, Settings};
    use super::*;

    fn contents(reader: &mut Reader) -> String {
        let mut all = String::new();
        reader
            .read(|entry| {
                all += std::str::from_utf8(entry.content).unwrap();
                all += if entry.whole { "\n" } else { "|" };
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn a_reader_goes_on_through_renamed_files() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_size: Some(100),
            max_file: 4,
            ..Settings::default()
        };
        let mut log = Log::new(directory.path(), settings);
        let mut reader = Reader::new(directory.path(), None).unwrap();
        assert_eq!(contents(&mut reader), "");
        let mut add = |numbers: Range<usize>| {
            numbers.for_each(|n| log.add(Stream::Stdout, format!("0123{n}\n").as_bytes()));
        };
        add(0..1);
        assert_eq!(contents(&mut reader), "01230\n");
        // Two of these fill a file, so the reader's is renamed twice.
        add(1..5);
        assert_eq!(contents(&mut reader), "01231\n01232\n01233\n01234\n");
        assert_eq!(contents(&mut reader), "");
        // Eight more, and its file is gone: what is left of them is read.
        add(10..20);
        assert_eq!(contents(&mut reader).lines().count(), 8);
        add(20..21);
        assert_eq!(contents(&mut reader), "012320\n");
    }

    #[test]
    fn a_missing_number_hides_no_older_file() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_size: Some(100),
            max_file: 9,
            ..Settings::default()
        };
        let mut log = Log::new(directory.path(), settings);
        (0..8).for_each(|n| log.add(Stream::Stdout, format!("0123{n}\n").as_bytes()));
        // As a rotation has it at a moment, or one that was killed.
        std::fs::rename(directory.path().join("log.3"), directory.path().join("log.4")).unwrap();
        std::fs::rename(directory.path().join("log.1"), directory.path().join("kept")).unwrap();
        let shown = contents(&mut Reader::new(directory.path(), None).unwrap());
        assert_eq!(shown, "01230\n01231\n01232\n01233\n01236\n01237\n");
        let tail = contents(&mut Reader::new(directory.path(), Some(4)).unwrap());
        assert_eq!(tail, "01232\n01233\n01236\n01237\n");
    }

    #[test]
    fn a_reader_with_an_end_does_not_run_after_the_writer() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(directory.path(), Settings::default());
        log.add(Stream::Stdout, b"1\n2\n");
        let mut reader = Reader::new(directory.path(), None).unwrap();
        reader.end_here().unwrap();
        let mut seen = 0;
        let done = reader.read(|_| {
            seen += 1;
            log.add(Stream::Stdout, b"more\n");
            Ok(())
        });
        assert!(done.is_ok() && seen == 2, "{seen}");
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_size: Some(150),
            max_file: 9,
            ..Settings::default()
        };
        let mut log = Log::new(directory.path(), settings);
        let tail = |lines| contents(&mut Reader::new(directory.path(), Some(lines)).unwrap());
        assert_eq!(tail(5), "");
        for output in ["one\n", "t", "wo\n", "three\n", "four\n"] {
            log.add(Stream::Stdout, output.as_bytes());
        }
        let cases = [
            "",
            "four\n",
            "three\nfour\n",
            "t|wo\nthree\nfour\n",
            "one\nt|wo\nthree\nfour\n",
        ];
        for (lines, expected) in (0..).zip(cases) {
            assert_eq!(tail(lines), expected, "{lines}");
        }
        assert_eq!(tail(100), cases[4]);
        log.add(Stream::Stdout, b"fi");
        assert_eq!([tail(0), tail(1), tail(2)], ["", "fi|", "four\nfi|"]);
        // What is not ours is passed over.
        std::fs::write(directory.path().join(NAME), "x\n\nno entry at all\n").unwrap();
        assert_eq!(tail(1), "");
        assert_eq!(tail(2), "t|wo\n");
    }

    #[test]
    fn a_line_that_is_being_written_is_read_when_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let entry = "2026-11-26T13:05:00.123456789Z stderr F whole\n";
        std::fs::write(&path, &entry[..45]).unwrap();
        let mut reader = Reader::new(directory.path(), None).unwrap();
        assert_eq!(contents(&mut reader), "");
        std::fs::write(&path, entry).unwrap();
        assert_eq!(contents(&mut reader), "whole\n");
    }
}
