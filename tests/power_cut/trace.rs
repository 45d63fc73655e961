//! What a command does to files below a directory: strace(1) watches the real binary, and its lines become [`Event`]s.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::common::Done;
use super::common::sandbox::within;

/// What was done, by absolute paths.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Opened; made, emptied or for appending, as the flags say.
    Opened {
        path: PathBuf,
        creates: bool,
        empties: bool,
        appends: bool,
    },
    /// Written there, or where the last write ended.
    Wrote {
        path: PathBuf,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Resized(PathBuf, usize),
    Directory(PathBuf),
    Symlink(PathBuf, Vec<u8>),
    Renamed(PathBuf, PathBuf),
    Exchanged(PathBuf, PathBuf),
    Removed(PathBuf),
    /// A flush begins; what was done by then is on the disk when [`Event::Flushed`] says so, of the same number.
    Flushing(PathBuf, usize),
    Flushed(usize),
}

/// System calls that change files. Any other way to write would be missed, so those that this cannot follow fail at once:
/// programs then write instead.
const CALLS: &str = "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,mkdir,mkdirat,rmdir,\
                     symlink,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync,syncfs,sync";
const REFUSED: &str = "copy_file_range,sendfile,splice";

/// Runs a command of the tool, and gives what it did below `root`.
pub(crate) fn watch(tool: &Command, root: &Path, log: &Path) -> (Done, Vec<Event>) {
    let trace = format!("trace={CALLS},{REFUSED}");
    let refuse = format!("inject={REFUSED}:error=ENOSYS");
    let log_name = log.to_str().unwrap();
    let strace = [
        "strace",
        "-f",
        "-q",
        "-y",
        "-xx",
        "-s",
        "100000000",
        "-e",
        "signal=none",
        "-e",
        &trace,
        "-e",
        &refuse,
        "-o",
        log_name,
    ];
    let done = Done::of(&mut within(&strace, tool));
    let lines = fs::read_to_string(log).unwrap();
    let mut reader = Reader {
        root,
        begun: HashMap::new(),
        flushes: HashMap::new(),
        events: Vec::new(),
    };
    lines.lines().for_each(|line| reader.read(line));
    (done, reader.events)
}

/// Puts the lines of all threads together.
struct Reader<'a> {
    root: &'a Path,
    /// The beginning of a call that is under way, by thread.
    begun: HashMap<String, String>,
    /// The number of its flush.
    flushes: HashMap<String, usize>,
    events: Vec<Event>,
}

impl Reader<'_> {
    fn read(&mut self, line: &str) {
        let (thread, call) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (thread, call) = (thread.to_owned(), call.trim_start());
        if call.starts_with("+++") || call.starts_with("---") {
            return;
        }
        if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            self.flush(&thread, first);
            self.begun.insert(thread, first.to_owned());
            return;
        }
        let call = match call
            .strip_prefix("<... ")
            .and_then(|rest| rest.split_once(" resumed>"))
        {
            Some((_, rest)) => {
                // One that was killed in it, or began before we looked.
                let Some(first) = self.begun.remove(&thread) else {
                    return;
                };
                first + rest
            }
            None => call.to_owned(),
        };
        let Some((call, result)) = call.rsplit_once(" = ") else {
            return;
        };
        if result.starts_with('-') || result.starts_with('?') {
            self.flushes.remove(&thread);
            return;
        }
        let (name, arguments) = call
            .trim_end()
            .split_once('(')
            .unwrap_or_else(|| panic!("{line}"));
        let arguments = split(arguments.strip_suffix(')').unwrap_or_else(|| panic!("{line}")));
        self.flush(&thread, call);
        self.done(&thread, name, &arguments, result);
    }

    /// Notes that a flush begins, once.
    fn flush(&mut self, thread: &str, call: &str) {
        let Some((name, arguments)) = call.split_once('(') else {
            return;
        };
        assert!(!matches!(name, "sync" | "syncfs"), "not followed: {call}");
        if !matches!(name, "fsync" | "fdatasync") || self.flushes.contains_key(thread) {
            return;
        }
        if let Some(path) = self.of_descriptor(arguments.trim_end_matches(')')) {
            let number = self.events.len();
            self.flushes.insert(thread.to_owned(), number);
            self.events.push(Event::Flushing(path, number));
        }
    }

    fn done(&mut self, thread: &str, name: &str, arguments: &[&str], result: &str) {
        let argument = |n: usize| *arguments.get(n).unwrap_or_else(|| panic!("{name} {arguments:?}"));
        let number = |n: usize| argument(n).parse::<usize>().unwrap();
        let below = |path: PathBuf| self.is_ours(&path).then_some(path);
        // The path that an argument names, below the directory that the one before it is.
        let at = |n: usize| below(place(argument(n), argument(n + 1)));
        let bare = |n: usize| below(place("AT_FDCWD", argument(n)));
        let event = match name {
            "openat" => at(0).map(|path| Event::Opened {
                path,
                creates: argument(2).contains("O_CREAT"),
                empties: argument(2).contains("O_TRUNC"),
                appends: argument(2).contains("O_APPEND"),
            }),
            "write" | "pwrite64" => self.of_descriptor(argument(0)).map(|path| {
                let mut bytes = text(argument(1));
                bytes.truncate(result.parse().unwrap());
                let at = (name == "pwrite64").then(|| number(3));
                Event::Wrote { path, at, bytes }
            }),
            "ftruncate" => self
                .of_descriptor(argument(0))
                .map(|path| Event::Resized(path, number(1))),
            "mkdir" => bare(0).map(Event::Directory),
            "mkdirat" => at(0).map(Event::Directory),
            "symlink" => bare(1).map(|path| Event::Symlink(path, text(argument(0)))),
            "symlinkat" => at(1).map(|path| Event::Symlink(path, text(argument(0)))),
            "rename" => bare(0).zip(bare(1)).map(|(from, to)| Event::Renamed(from, to)),
            "renameat" | "renameat2" => at(0).zip(at(2)).map(|(from, to)| match arguments.get(4) {
                Some(&"RENAME_EXCHANGE") => Event::Exchanged(from, to),
                _ => Event::Renamed(from, to),
            }),
            "unlink" | "rmdir" => bare(0).map(Event::Removed),
            "unlinkat" => at(0).map(Event::Removed),
            "fsync" | "fdatasync" => self.flushes.remove(thread).map(Event::Flushed),
            // Of a file elsewhere, such as a pipe, it is none of ours.
            _ => {
                let is_ours = arguments.iter().any(|one| self.of_descriptor(one).is_some());
                assert!(!is_ours, "not followed: {name}({arguments:?})");
                None
            }
        };
        self.events.extend(event);
    }

    /// The file below the root that a descriptor is open on, as `5</path>` says.
    fn of_descriptor(&self, shown: &str) -> Option<PathBuf> {
        let path = described(shown)?;
        // A file that has no name any more can hold what it wants.
        let is_gone =
            shown.contains("(deleted)") || path.to_str().is_some_and(|path| path.ends_with(" (deleted)"));
        (!is_gone && self.is_ours(&path)).then_some(path)
    }

    /// In the root, or the directory that has its name.
    fn is_ours(&self, path: &Path) -> bool {
        path.starts_with(self.root) || Some(path) == self.root.parent()
    }
}

/// The path in `5</path>`, whose bytes may be written in hexadecimal.
fn described(shown: &str) -> Option<PathBuf> {
    let (_, path) = shown.split_once('<')?;
    let (path, _) = path.rsplit_once('>')?;
    let path = PathBuf::from(String::from_utf8(unescaped(path)).ok()?);
    path.is_absolute().then_some(path)
}

/// A path below a directory's descriptor, or the working directory.
fn place(directory: &str, path: &str) -> PathBuf {
    let path = PathBuf::from(String::from_utf8(text(path)).unwrap());
    let whole = match described(directory) {
        Some(directory) => directory.join(path),
        None => path,
    };
    assert!(
        !whole.components().any(|part| part == Component::ParentDir),
        "{whole:?}"
    );
    whole
}

/// The bytes of `"\x61"`.
fn text(shown: &str) -> Vec<u8> {
    assert!(shown.ends_with('"'), "a string was cut: {shown}");
    unescaped(shown.trim_matches('"'))
}

fn unescaped(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some(first) = rest.chars().next() {
        match rest.strip_prefix("\\x") {
            Some(hex) => {
                bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                rest = &hex[2..];
            }
            None => {
                bytes.extend(first.to_string().as_bytes());
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    bytes
}

/// A call's arguments. No comma is within any: strings and paths are in hexadecimal, and no structs are shown.
fn split(arguments: &str) -> Vec<&str> {
    arguments.split(", ").map(str::trim).collect()
}
