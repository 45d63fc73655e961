//! What does a call mean that waits for an answer? Arguments in the caller's memory are copied, what they go by is opened:
//! its root, its working directory, its files. Only then is it certain that the caller still waited, so that all of it was
//! the caller's: a thread's number is used again. From there on nothing is asked of the caller any more, which may be killed,
//! or changed by other threads, as it likes.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use caps::{CapSet, CapsHashSet};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};

use crate::sys::Notified;

/// A call, all of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) what: What,
    /// What the caller is capable of, in the container's user namespace.
    pub(super) capabilities: CapsHashSet,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum What {
    /// chown(2) and its like.
    Own { place: Place, uid: u32, gid: u32 },
    /// mknod(2) of a device.
    Make {
        place: Place,
        mode: u32,
        rdev: u32,
        umask: u32,
    },
}

/// Where.
#[derive(Debug)]
pub(super) enum Place {
    /// At an open file.
    Open(OwnedFd),
    /// At a path of the caller's.
    Path(Way),
}

/// A path, and what it is to be followed from.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) root: OwnedFd,
    pub(super) start: OwnedFd,
    path: CString,
    pub(super) last: Last,
}

/// What becomes of a symbolic link at a path's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Followed,
    Itself,
}

/// Longest path with its zero byte (`PATH_MAX`).
const LONGEST: usize = 4096;
/// The smallest page of any machine.
const PAGE: u64 = 4096;

/// The caller, by its files in /proc.
struct Caller<'a> {
    proc: BorrowedFd<'a>,
    thread: i32,
}

/// Reads a call. None is not for us to answer, or cannot be read: the kernel will say why.
pub(super) fn read(proc: BorrowedFd<'_>, notified: &Notified) -> Option<Call> {
    let thread = notified.thread;
    let caller = Caller { proc, thread };
    // In a user namespace within the container, ids are others and capabilities count for less.
    if thread <= 0 || !caller.is_of_our_namespace().ok()? {
        return None;
    }
    let what = caller.what(notified).ok()??;
    // By capget(2), which takes threads, too.
    let capabilities = caps::read(Some(thread), CapSet::Effective).ok()?;
    Some(Call { what, capabilities })
}

impl Caller<'_> {
    fn what(&self, notified: &Notified) -> io::Result<Option<What>> {
        // Ids, modes, descriptors and flags are 32 bits wide, whatever lies in the upper half of a register.
        let [first, second, third, fourth, fifth] =
            std::array::from_fn(|at| notified.arguments.get(at).map_or(0, |argument| *argument as u32));
        let [path, path_at] = [notified.arguments[0], notified.arguments[1]];
        let own = |place, uid, gid| Ok(Some(What::Own { place, uid, gid }));
        let name = syscalls::Sysno::new(notified.number as usize).map(|call| call.name());
        match name {
            Some("chown") => own(self.way(libc::AT_FDCWD, path, Last::Followed)?, second, third),
            Some("lchown") => own(self.way(libc::AT_FDCWD, path, Last::Itself)?, second, third),
            Some("fchown") => own(self.open_for_change(first.cast_signed())?, second, third),
            Some("fchownat") => {
                let place = self.place_at(first.cast_signed(), path_at, fifth.cast_signed())?;
                place.map_or(Ok(None), |place| own(place, third, fourth))
            }
            Some("mknod") => self.make(self.way(libc::AT_FDCWD, path, Last::Itself)?, second, third),
            Some("mknodat") => {
                let place = self.way(first.cast_signed(), path_at, Last::Itself)?;
                self.make(place, third, fourth)
            }
            _ => Ok(None),
        }
    }

    fn make(&self, place: Place, mode: u32, rdev: u32) -> io::Result<Option<What>> {
        Ok(Some(What::Make {
            place,
            mode,
            rdev,
            umask: self.umask()?,
        }))
    }

    /// fchownat(2)'s flags; none for those that are the kernel's to refuse.
    fn place_at(&self, directory: i32, path: u64, flags: i32) -> io::Result<Option<Place>> {
        if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Ok(None);
        }
        let last = match flags & libc::AT_SYMLINK_NOFOLLOW {
            0 => Last::Followed,
            _ => Last::Itself,
        };
        let place = self.way(directory, path, last)?;
        Ok(Some(match place {
            Place::Path(Way { start, path, .. }) if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 => {
                Place::Open(start)
            }
            place => place,
        }))
    }

    fn way(&self, directory: i32, path: u64, last: Last) -> io::Result<Place> {
        let path = self.path(path)?;
        let root = self.open("root")?;
        let start = match directory {
            _ if path.as_bytes().starts_with(b"/") => root.try_clone()?,
            libc::AT_FDCWD => self.open("cwd")?,
            directory => self.open(&format!("fd/{directory}"))?,
        };
        Ok(Place::Path(Way {
            root,
            start,
            path,
            last,
        }))
    }

    /// A file that is open there, and not merely as a path: of those fchown(2) is EBADF.
    fn open_for_change(&self, descriptor: i32) -> io::Result<Place> {
        let file = self.open(&format!("fd/{descriptor}"))?;
        let info = self.text(&format!("fdinfo/{descriptor}"))?;
        let flags = field(&info, "flags:").ok_or(io::ErrorKind::InvalidData)?;
        match flags & libc::O_PATH as u32 {
            0 => Ok(Place::Open(file)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn umask(&self) -> io::Result<u32> {
        Ok(field(&self.text("status")?, "Umask:").ok_or(io::ErrorKind::InvalidData)?)
    }

    fn is_of_our_namespace(&self) -> io::Result<bool> {
        let of = |process: &str| statat(self.proc, format!("{process}/ns/user"), AtFlags::empty());
        let (theirs, ours) = (of(&self.thread.to_string())?, of("self")?);
        Ok((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
    }

    fn name(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("{}/{file}", self.thread))
    }

    /// Opens what a link of the caller's in /proc leads to, to be gone on from.
    fn open(&self, link: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(openat(self.proc, self.name(link), flags, Mode::empty())?)
    }

    /// The first lines of a file in /proc: a program's name in it may be any bytes, and the rest of any length.
    fn text(&self, file: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mut text = Vec::new();
        let file = File::from(openat(self.proc, self.name(file), flags, Mode::empty())?);
        file.take(1024).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Copies a path out of the caller's memory, page by page: what lies behind its end may not be there.
    fn path(&self, address: u64) -> io::Result<CString> {
        let mut bytes = [0; LONGEST];
        let first = (PAGE - address % PAGE) as usize;
        let base = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
        let pieces = [
            RemoteIoVec { base, len: first },
            RemoteIoVec {
                base: base.checked_add(first).ok_or(io::ErrorKind::InvalidInput)?,
                len: LONGEST - first,
            },
        ];
        let read = process_vm_readv(
            Pid::from_raw(self.thread),
            &mut [IoSliceMut::new(&mut bytes)],
            &pieces,
        )?;
        let text = bytes.get(..read).unwrap_or_default();
        let end = text
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(io::ErrorKind::InvalidInput)?;
        CString::new(text.get(..end).unwrap_or_default()).map_err(io::Error::other)
    }
}

impl Way {
    /// All of it.
    pub(super) fn whole(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.as_bytes()))
    }

    /// The directory part, and the name at the end of it; none for what can be no new name.
    pub(super) fn split(&self) -> Option<(&Path, &Path)> {
        let path = self.path.as_bytes();
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (path.get(..=slash)?, path.get(slash + 1..)?),
            None => (&b"."[..], path),
        };
        let part = |bytes| Path::new(OsStr::from_bytes(bytes));
        (!matches!(name, b"" | b"." | b"..")).then(|| (part(directory), part(name)))
    }
}

/// An octal number of a file in /proc.
fn field(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use super::*;

    fn way(path: &str) -> Way {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        Way {
            root: null(),
            start: null(),
            path: CString::new(path).unwrap(),
            last: Last::Itself,
        }
    }

    #[test]
    fn a_new_name_is_the_last_part_of_its_path() {
        let parts = |path: &str| {
            let way = way(path);
            way.split()
                .map(|(directory, name)| (directory.to_owned(), name.to_owned()))
        };
        let expected = |directory: &str, name: &str| Some((directory.into(), name.into()));
        assert_eq!(parts("null"), expected(".", "null"));
        assert_eq!(parts("/null"), expected("/", "null"));
        assert_eq!(parts("a//b/null"), expected("a//b/", "null"));
        for none in ["", "/", "a/", "a/..", ".", "/."] {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_read_of_a_caller_is_what_it_has() {
        let proc = OwnedFd::from(File::open("/proc").unwrap());
        let thread = nix::unistd::gettid().as_raw();
        let caller = Caller {
            proc: proc.as_fd(),
            thread,
        };
        assert!(caller.is_of_our_namespace().unwrap());
        // Up to the last byte of a page that is followed by none, and from one page into the next.
        let text = CString::new("x".repeat(5000)).unwrap();
        let at = |back: usize| text.as_ptr() as u64 + (5000 - back) as u64;
        for length in [0, 1, 100, 4095] {
            assert_eq!(caller.path(at(length)).unwrap().as_bytes().len(), length);
        }
        assert!(caller.path(at(4096)).is_err(), "too long");
        assert!(caller.path(8).is_err(), "nothing is there");
        assert!(caller.path(u64::MAX).is_err());
        let file = File::open("/dev/null").unwrap();
        let descriptor = file.as_raw_fd();
        assert!(caller.open_for_change(descriptor).is_ok());
        let path = openat(rustix::fs::CWD, "/dev/null", OFlags::PATH, Mode::empty()).unwrap();
        let descriptor = path.as_raw_fd();
        assert!(caller.open_for_change(descriptor).is_err(), "only a path");
        assert!(caller.umask().unwrap() <= 0o777);
    }
}
