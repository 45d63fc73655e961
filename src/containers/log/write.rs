//! How is the log written? By the supervisor's threads, each piece of output as it comes. A log that cannot be written
//! (full disk) holds nothing up: when it goes on, it says how much is missing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Driver, HEAD, NAME, Settings, Stream};
use crate::containers::record::now;

/// Bytes of the longest entry, and more.
const TORN: usize = 1 << 17;

/// The log of a container that runs. Its file is made with the first output.
#[derive(Debug)]
pub(in crate::containers) struct Log {
    directory: PathBuf,
    settings: Settings,
    open: Option<Open>,
    /// Entries on their way to the file.
    entries: Vec<u8>,
    /// Bytes of output that could not be written, and why.
    lost: Option<(u64, String)>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
}

impl Log {
    /// `directory` is the container's.
    pub(in crate::containers) fn new(directory: &Path, settings: Settings) -> Log {
        Log {
            directory: directory.to_owned(),
            settings,
            open: None,
            entries: Vec::new(),
            lost: None,
        }
    }

    /// Keeps nothing.
    pub(in crate::containers) fn nothing() -> Log {
        let settings = Settings {
            driver: Driver::None,
            ..Settings::default()
        };
        Log::new(Path::new("/"), settings)
    }

    /// Adds output of a stream.
    pub(in crate::containers) fn add(&mut self, stream: Stream, output: &[u8]) {
        if self.settings.driver == Driver::None {
            return;
        }
        let time = now();
        self.entries.clear();
        if let Some((bytes, why)) = &self.lost {
            let text = format!("bryo: {bytes} bytes of output are missing in this log: {why}\n");
            push(&mut self.entries, &time, Stream::Stderr, text.as_bytes());
        }
        push(&mut self.entries, &time, stream, output);
        match self.write() {
            Ok(()) => self.lost = None,
            Err(error) => {
                let before = self.lost.take().map_or(0, |(bytes, _)| bytes);
                self.lost = Some((before + output.len() as u64, error.to_string()));
            }
        }
    }

    /// Flushes it to the disk.
    pub(in crate::containers) fn sync(&mut self) -> io::Result<()> {
        match &self.open {
            Some(open) => open.file.sync_data(),
            None => Ok(()),
        }
    }

    /// Writes the entries, as many of them into one file as it has room for; one that is longer has a file of its own.
    fn write(&mut self) -> io::Result<()> {
        let mut open = match self.open.take() {
            // Somebody removed it: begun anew, it is found again.
            Some(open) if open.file.metadata()?.nlink() > 0 => open,
            _ => Open::at(&self.directory.join(NAME))?,
        };
        let most = self.settings.max_size.unwrap_or(u64::MAX);
        let mut rest = self.entries.as_slice();
        while !rest.is_empty() {
            let room = usize::try_from(most.saturating_sub(open.size)).unwrap_or(usize::MAX);
            let fitting = match (fitting(rest, room), open.size) {
                (0, 0) => first(rest),
                (0, _) => {
                    self.rotate()?;
                    open = Open::at(&self.directory.join(NAME))?;
                    continue;
                }
                (fitting, _) => fitting,
            };
            let (now, later) = rest.split_at_checked(fitting).unwrap_or((rest, &[]));
            if let Err(error) = open.add(now) {
                self.open = Some(open);
                return Err(error);
            }
            rest = later;
        }
        self.open = Some(open);
        Ok(())
    }

    /// `log` → `log.1` → `log.2` …
    fn rotate(&self) -> io::Result<()> {
        let path = |number: u32| match number {
            0 => self.directory.join(NAME),
            number => self.directory.join(format!("{NAME}.{number}")),
        };
        let present = |done: io::Result<()>| match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let oldest = self.settings.max_file - 1;
        present(fs::remove_file(path(oldest)))?;
        for number in (0..oldest).rev() {
            present(fs::rename(path(number), path(number + 1)))?;
        }
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut open = Open {
            size: file.metadata()?.len(),
            file,
        };
        open.cut_torn()?;
        Ok(open)
    }

    /// Takes away the beginning of an entry that a killed supervisor left: what follows would be taken for its content.
    fn cut_torn(&mut self) -> io::Result<()> {
        let mut block = vec![0; TORN];
        let from = self.size.saturating_sub(TORN as u64);
        let length = self.file.read_at(&mut block, from)?;
        let whole = block.iter().take(length).rposition(|byte| *byte == b'\n');
        let end = from + whole.map_or(0, |at| at as u64 + 1);
        if end < self.size {
            self.file.set_len(end)?;
            self.size = end;
        }
        Ok(())
    }

    /// Adds entries, all or none.
    fn add(&mut self, entries: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(entries) {
            // What a full disk took of them would be a torn line.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += entries.len() as u64;
        Ok(())
    }
}

/// Bytes of the whole entries at the beginning that `room` has place for.
fn fitting(entries: &[u8], room: usize) -> usize {
    match entries.get(..room) {
        None => entries.len(),
        Some(fitting) => fitting
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1),
    }
}

/// Bytes of the first entry.
fn first(entries: &[u8]) -> usize {
    entries
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(entries.len(), |at| at + 1)
}

/// Makes entries of a piece of output, one a line.
fn push(entries: &mut Vec<u8>, time: &str, stream: Stream, output: &[u8]) {
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        let (line, flag) = match line.strip_suffix(b"\n") {
            Some(whole) => (whole, "F"),
            None => (line, "P"),
        };
        entries.reserve(HEAD + line.len() + 1);
        for part in [time, " ", stream.name(), " ", flag, " "] {
            entries.extend_from_slice(part.as_bytes());
        }
        entries.extend_from_slice(line);
        entries.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> Vec<(String, u64)> {
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    entry.metadata().unwrap().len(),
                )
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_full_log_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_size: Some(100),
            max_file: 3,
            ..Settings::default()
        };
        let mut log = Log::new(directory.path(), settings);
        assert_eq!(files(directory.path()), [], "nothing was written");
        for _ in 0..9 {
            log.add(Stream::Stdout, b"0123456\n");
        }
        let expected = ["log", "log.1", "log.2"].map(|name| (name.to_string(), 2 * (HEAD as u64 + 8)));
        assert_eq!(files(directory.path())[1..], expected[1..]);
        // What is longer than a file still has one.
        log.add(Stream::Stdout, &[b'x'; 300]);
        assert_eq!(files(directory.path())[0].1, 341);
        let one = Settings {
            max_file: 1,
            ..settings
        };
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(directory.path(), one);
        for _ in 0..5 {
            log.add(Stream::Stderr, b"0123456\n");
        }
        assert_eq!(files(directory.path()), [("log".to_string(), HEAD as u64 + 8)]);
    }

    #[test]
    fn a_piece_of_output_is_spread_over_files() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            max_size: Some(200),
            max_file: 100,
            ..Settings::default()
        };
        let mut log = Log::new(directory.path(), settings);
        log.add(Stream::Stdout, &b"0123456\n".repeat(50));
        let files = files(directory.path());
        assert!(files.iter().all(|(_, size)| *size <= 200), "{files:?}");
        let all: u64 = files.iter().map(|(_, size)| size).sum();
        assert_eq!(all, 50 * (HEAD as u64 + 8));
    }

    #[test]
    fn what_a_killed_supervisor_left_unfinished_is_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let entry = "2026-11-26T13:05:00.123456789Z stdout F whole\n";
        for torn in ["", "2026-11-26T13:05:00.12", "x"] {
            fs::write(&path, format!("{entry}{torn}")).unwrap();
            Log::new(directory.path(), Settings::default()).add(Stream::Stdout, b"next\n");
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                text.starts_with(entry) && text.ends_with("Z stdout F next\n"),
                "{text}"
            );
            assert_eq!(text.lines().count(), 2, "{torn}");
        }
        fs::write(&path, "torn from the start").unwrap();
        Log::new(directory.path(), Settings::default()).add(Stream::Stdout, b"next\n");
        assert!(fs::read_to_string(&path).unwrap().starts_with("20"));
    }

    #[test]
    fn a_removed_log_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(directory.path(), Settings::default());
        log.add(Stream::Stdout, b"one\n");
        fs::remove_file(directory.path().join(NAME)).unwrap();
        log.add(Stream::Stdout, b"two\n");
        let text = fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert!(
            text.ends_with("stdout F two\n") && !text.contains("one"),
            "{text}"
        );
    }

    #[test]
    fn what_could_not_be_written_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let mut log = Log::new(directory.path(), Settings::default());
        fs::create_dir(&path).unwrap();
        log.add(Stream::Stdout, b"one\n");
        log.add(Stream::Stdout, b"two\n");
        fs::remove_dir(&path).unwrap();
        log.add(Stream::Stdout, b"three\n");
        log.add(Stream::Stdout, b"four\n");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[super::super::TIME..]).collect();
        assert!(
            lines[0].starts_with(" stderr F bryo: 8 bytes of output are missing"),
            "{text}"
        );
        assert_eq!(lines[1..], [" stdout F three", " stdout F four"]);
    }
}
