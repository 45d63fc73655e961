//! How are events read, through files that are renamed?

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Event, old, path};

/// Which events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// All that are kept, and those that come.
    Beginning,
    /// Those that come.
    Now,
}

/// Reads events, oldest first.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    now: Option<Reading>,
    line: Vec<u8>,
}

#[derive(Debug)]
struct Reading {
    file: BufReader<File>,
    inode: (u64, u64),
}

impl Reader {
    /// Reads what is kept below `$BRYO_STATE`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(state: &Path, from: From) -> io::Result<Reader> {
        let path = path(state);
        let now = match from {
            From::Beginning => Reading::open(&old(&path))?,
            From::Now => match Reading::open(&path)? {
                None => None,
                Some(mut reading) => {
                    reading.file.seek(SeekFrom::End(0))?;
                    Some(reading)
                }
            },
        };
        let line = Vec::new();
        Ok(Reader { path, now, line })
    }

    /// Gives what there is by now. A line that is being written comes with the next call.
    ///
    /// # Errors
    /// It cannot be read, or `each` fails.
    pub fn read(&mut self, mut each: impl FnMut(Event) -> io::Result<()>) -> io::Result<()> {
        loop {
            // What follows is looked up first: nothing is added to a file that has its other name.
            let newest = Reading::open(&self.path)?;
            if let Some(now) = &mut self.now {
                while now.file.read_until(b'\n', &mut self.line)? > 0 && self.line.ends_with(b"\n") {
                    // What a killed writer left, or somebody else wrote, is no event.
                    if let Ok(event) = serde_json::from_slice(&self.line) {
                        each(event)?;
                    }
                    self.line.clear();
                }
            }
            let is_newest = |newest: &Reading| self.now.as_ref().is_some_and(|now| now.inode == newest.inode);
            match newest {
                Some(newest) if !is_newest(&newest) => {
                    self.line.clear();
                    self.now = Some(newest);
                }
                _ => return Ok(()),
            }
        }
    }
}

impl Reading {
    fn open(path: &Path) -> io::Result<Option<Reading>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let found = file.metadata()?;
        Ok(Some(Reading {
            file: BufReader::new(file),
            inode: (found.dev(), found.ino()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::super::write::add;
    use super::super::{Event, Kind};
    use super::*;

    fn event(action: &str) -> Event {
        Event::now(Kind::Container, action, "id").with("name", "one")
    }

    fn actions(reader: &mut Reader) -> Vec<String> {
        let mut all = Vec::new();
        reader
            .read(|event| {
                all.push(event.action);
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn a_reader_goes_on_through_renamed_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        let mut early = Reader::new(directory.path(), From::Beginning).unwrap();
        assert_eq!(actions(&mut early), [""; 0]);
        let mut seen = Vec::new();
        for number in 0..40 {
            add(&path, &event(&number.to_string()), 300).unwrap();
            if number % 2 == 1 {
                seen.extend(actions(&mut early));
            }
        }
        let expected: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        assert_eq!(seen, expected);
        assert!(old(&path).exists() && fs::metadata(&path).unwrap().len() < 600);
        // Who comes late sees what is kept, or nothing before.
        let mut late = Reader::new(directory.path(), From::Beginning).unwrap();
        let kept = actions(&mut late);
        assert!(kept.len() > 2 && expected.ends_with(&kept), "{kept:?}");
        let mut later = Reader::new(directory.path(), From::Now).unwrap();
        assert_eq!(actions(&mut later), [""; 0]);
        add(&path, &event("new"), 300).unwrap();
        assert_eq!(actions(&mut later), ["new"]);
    }

    #[test]
    fn what_a_killed_writer_left_costs_its_own_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        add(&path, &event("one"), 1 << 20).unwrap();
        let mut reader = Reader::new(directory.path(), From::Beginning).unwrap();
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"time\": 7, \"ty").unwrap();
        assert_eq!(actions(&mut reader), ["one"]);
        add(&path, &event("two"), 1 << 20).unwrap();
        file.write_all(b"nonsense\n\n[]\n").unwrap();
        add(&path, &event("three"), 1 << 20).unwrap();
        assert_eq!(actions(&mut reader), ["two", "three"]);
        // A line that comes in pieces is read when it is there.
        let line = serde_json::to_string(&event("four")).unwrap();
        file.write_all(&line.as_bytes()[..9]).unwrap();
        assert_eq!(actions(&mut reader), [""; 0]);
        file.write_all(&line.as_bytes()[9..]).unwrap();
        file.write_all(b"\n").unwrap();
        assert_eq!(actions(&mut reader), ["four"]);
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..100 {
                        // Both files together have room for all.
                        add(path, &event(&format!("{writer}.{number}")), 30_000).unwrap();
                    }
                });
            }
        });
        let mut reader = Reader::new(directory.path(), From::Beginning).unwrap();
        let seen = actions(&mut reader);
        assert!(old(&path).exists());
        for writer in 0..4 {
            let of: Vec<u32> = seen
                .iter()
                .filter_map(|action| action.strip_prefix(&format!("{writer}."))?.parse().ok())
                .collect();
            assert_eq!(of, (0..100).collect::<Vec<_>>());
        }
    }

    /// One that was stopped with the lock in its hands.
    #[test]
    fn a_held_lock_holds_nobody_up_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path());
        add(&path, &event("one"), 1 << 20).unwrap();
        let held = fs::File::open(&path).unwrap();
        held.lock().unwrap();
        add(&path, &event("two"), 10).unwrap();
        assert_eq!(
            actions(&mut Reader::new(directory.path(), From::Beginning).unwrap()),
            ["one", "two"]
        );
    }
}
