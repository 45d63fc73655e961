//! What do programs touch first? The names that they look up, and what they read of them: who knows it from one start can have it
//! in the kernel's caches at the next, before the program asks.
//!
//! The server notes it in a file, a line per request, until it has enough; whoever gave it the file reads it afterwards ([`read`]):
//!
//! ```text
//! n PARENT INODE NAME     a name was looked up (INODE 0: it is not there)
//! l INODE                 a symbolic link was read
//! r INODE OFFSET LENGTH   bytes were read
//! ```
//! Names that are not UTF-8, or hold a line break, are left out. The notes are those of a server that a hostile image may have
//! taken over: nothing is taken from them but names below the root.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::attr::Ino;
use crate::name::Name;

/// What is touched later is not first.
const LONG: Duration = Duration::from_secs(1);
/// Bytes of notes at most.
pub const MOST_NOTES: usize = 64 << 10;
/// Bytes that programs read, at most: more is work rather than a start.
const MOST_READ: u64 = 16 << 20;
/// Bytes of a path at most (PATH_MAX).
const MOST_PATH: usize = 4096;
/// The kernel reads no more bytes ahead at once, however many it is told of (`force_page_cache_ra`); so far apart two reads may be
/// to be one.
pub const PIECE: u64 = 128 << 10;

/// One name below the root, and what of it was touched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// From the root, without a leading `/`.
    pub path: PathBuf,
    /// It is a symbolic link that was read.
    pub link: bool,
    /// Bytes of it that were read: in order, and apart from each other.
    pub reads: Vec<Range<u64>>,
}

/// Where a server notes it; nowhere, most of the time.
#[derive(Default)]
pub(super) struct Notes {
    open: AtomicBool,
    book: Mutex<Option<Book>>,
}

struct Book {
    file: File,
    until: Instant,
    written: usize,
    read: u64,
}

impl Notes {
    pub(super) fn new(file: Option<File>) -> Notes {
        Notes {
            open: AtomicBool::new(file.is_some()),
            book: Mutex::new(file.map(|file| Book {
                file,
                until: Instant::now() + LONG,
                written: 0,
                read: 0,
            })),
        }
    }

    /// A name was looked up.
    pub(super) fn name(&self, parent: Ino, name: &Name, ino: Option<Ino>) {
        if self.open.load(Ordering::Relaxed)
            && let Ok(name) = std::str::from_utf8(name.as_bytes())
            && !name.contains('\n')
        {
            let ino = ino.map_or(0, |ino| ino.0);
            self.note(format_args!("n {} {ino} {name}\n", parent.0), 0);
        }
    }

    /// A symbolic link was read.
    pub(super) fn link(&self, ino: Ino) {
        if self.open.load(Ordering::Relaxed) {
            self.note(format_args!("l {}\n", ino.0), 0);
        }
    }

    /// Bytes were read.
    pub(super) fn read(&self, ino: Ino, offset: u64, size: u32) {
        if self.open.load(Ordering::Relaxed) {
            self.note(format_args!("r {} {offset} {size}\n", ino.0), size.into());
        }
    }

    fn note(&self, line: std::fmt::Arguments<'_>, bytes: u64) {
        let mut held = self.book.lock();
        let Some(book) = held.as_mut() else { return };
        let line = line.to_string();
        book.written += line.len();
        book.read += bytes;
        let goes_on = book.written <= MOST_NOTES && book.read <= MOST_READ && Instant::now() < book.until;
        // Notes that cannot be written end here; nothing depends on them.
        if !goes_on || (&book.file).write_all(line.as_bytes()).is_err() {
            *held = None;
            self.open.store(false, Ordering::Relaxed);
        }
    }
}

/// What notes say, in the order of the first touch. What cannot be read of them is left out, and what would be too much.
pub fn read(notes: &[u8]) -> Vec<Touched> {
    let mut found: Vec<Touched> = Vec::new();
    // Where each inode is in `found`, by its first name.
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut missing: HashSet<PathBuf> = HashSet::new();
    for line in notes.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        match line.split_once(' ') {
            Some(("n", rest)) => {
                let Some((path, ino)) = named(rest, &found, &places) else {
                    continue;
                };
                let is_new = match ino {
                    0 => missing.insert(path.clone()),
                    ino => !places.contains_key(&ino),
                };
                if is_new {
                    if ino != 0 {
                        places.insert(ino, found.len());
                    }
                    found.push(Touched {
                        path,
                        ..Touched::default()
                    });
                }
            }
            Some(("l", ino)) => {
                if let Some(touched) = at(ino, &mut found, &places) {
                    touched.link = true;
                }
            }
            Some(("r", rest)) => {
                let mut words = rest.splitn(3, ' ');
                let touched = words.next().and_then(|ino| at(ino, &mut found, &places));
                let mut number = || words.next()?.parse::<u64>().ok();
                if let (Some(touched), Some(offset), Some(length)) = (touched, number(), number()) {
                    touched.reads.push(offset..offset.saturating_add(length));
                }
            }
            _ => {}
        }
    }
    let mut left = MOST_READ;
    for touched in &mut found {
        touched.reads = joined(std::mem::take(&mut touched.reads));
        touched.reads.retain(|read| {
            let length = read.end - read.start;
            let is_room = length <= left;
            left -= if is_room { length } else { 0 };
            is_room
        });
    }
    found
}

/// The path of a name that was looked up, and its inode.
fn named(line: &str, found: &[Touched], places: &HashMap<u64, usize>) -> Option<(PathBuf, u64)> {
    let mut words = line.splitn(3, ' ');
    let parent: u64 = words.next()?.parse().ok()?;
    let ino = words.next()?.parse().ok()?;
    let name = words.next().filter(|name| Name::new(name.as_bytes()).is_ok())?;
    let above = match parent == Ino::ROOT.0 {
        true => PathBuf::new(),
        false => found.get(*places.get(&parent)?)?.path.clone(),
    };
    let path = above.join(name);
    (path.as_os_str().len() <= MOST_PATH).then_some((path, ino))
}

fn at<'a>(ino: &str, found: &'a mut [Touched], places: &HashMap<u64, usize>) -> Option<&'a mut Touched> {
    found.get_mut(*places.get(&ino.parse().ok()?)?)
}

/// In order, and those that lie close to each other as one.
fn joined(mut reads: Vec<Range<u64>>) -> Vec<Range<u64>> {
    reads.sort_by_key(|read| read.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for read in reads {
        match joined.last_mut() {
            Some(last) if read.start <= last.end.saturating_add(PIECE) => last.end = last.end.max(read.end),
            _ => joined.push(read),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    fn touched(path: &str, reads: &[Range<u64>]) -> Touched {
        Touched {
            path: path.into(),
            link: false,
            reads: reads.to_vec(),
        }
    }

    fn name(name: &str) -> &Name {
        Name::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_noted_is_read() {
        let mut file = tempfile::tempfile().unwrap();
        let notes = Notes::new(Some(file.try_clone().unwrap()));
        notes.name(Ino::ROOT, name("bin"), Some(Ino(5)));
        notes.link(Ino(5));
        notes.name(Ino::ROOT, name("usr"), Some(Ino(6)));
        notes.name(Ino(6), name("a name"), Some(Ino(7)));
        notes.name(Ino(6), name("none"), None);
        notes.name(Ino(6), name("none"), None);
        notes.name(Ino(6), name("two\nlines"), Some(Ino(8)));
        notes.read(Ino(7), 1 << 20, 4096);
        notes.read(Ino(7), 0, 4096);
        notes.read(Ino(7), 8192, 100);
        notes.read(Ino(8), 0, 4096);
        notes.read(Ino(99), 0, 4096);
        let mut text = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        let link = Touched {
            link: true,
            ..touched("bin", &[])
        };
        let file = touched("usr/a name", &[0..8292, 1 << 20..(1 << 20) + 4096]);
        assert_eq!(
            read(&text),
            [link, touched("usr", &[]), file, touched("usr/none", &[])]
        );
    }

    #[test]
    fn it_has_enough_at_some_point() {
        let file = tempfile::tempfile().unwrap();
        let notes = Notes::new(Some(file.try_clone().unwrap()));
        for number in 0..10_000 {
            notes.name(Ino::ROOT, name("a"), Some(Ino(number + 2)));
        }
        let len = file.metadata().unwrap().len() as usize;
        assert!((MOST_NOTES - 64..=MOST_NOTES).contains(&len), "{len}");
        let notes = Notes::new(Some(file.try_clone().unwrap()));
        for _ in 0..200 {
            notes.read(Ino(2), 0, 1 << 20);
        }
        assert!(!notes.open.load(Ordering::Relaxed));
    }

    #[test]
    fn nothing_of_notes_leads_out_or_harms() {
        for notes in [
            "n 1 2 ..\nn 1 3 .\nn 1 4 a/b\nn 1 5 \n",
            "n 9 2 orphan\n",
            "n 1\nn\nr 1 2\nr x y z\nl\nn 1 2",
        ] {
            assert_eq!(read(notes.as_bytes()), []);
        }
        let far = format!("n 1 2 a\nr 2 {} {}\n", u64::MAX, u64::MAX);
        let end = u64::MAX..u64::MAX;
        assert_eq!(read(far.as_bytes()), [touched("a", std::slice::from_ref(&end))]);
        assert_eq!(read(b"n 1 2 a\nr 2 0 99999999999\n"), [touched("a", &[])]);
        let deep: String = (1..9000).map(|ino| format!("n {ino} {} a\n", ino + 1)).collect();
        assert_eq!(read(deep.as_bytes()).len(), MOST_PATH.div_ceil(2));
        // An inode below itself.
        assert_eq!(read(b"n 1 2 a\nn 2 2 b\n"), [touched("a", &[])]);
        let _ = read(&[0xff, b'\n', b'n', b' ', 0xfe]);
    }
}
