//! File I/O of the writable layer behind one trait, so that a test can fail the n-th write or flush.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::off_t;
use parking_lot::Mutex;

/// One file of the writable layer. Offsets and lengths are bytes. Calls may come from many threads at once; one that fails
/// with EINTR is made again.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Reads at `offset`; fewer bytes than asked only at the end of the file or when interrupted.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, possibly fewer bytes than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Returns when everything written before the call survives a loss of power.
    fn flush(&self) -> io::Result<()>;
    /// Starts writing a range back without waiting for it: a later flush then has less to do. Only a hint.
    fn start_writeback(&self, offset: u64, length: u64);
    /// The file's size.
    fn size(&self) -> io::Result<u64>;
    /// Reserves disk space for a range; what was not written there reads as zeros.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives the space of a range back; it reads as zeros from then on.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Lets the file end at `size`, where it is longer. What lay behind is zeros if the file grows again.
    fn shorten(&self, size: u64) -> io::Result<()>;
    /// Blocks of 4096 bytes on the filesystem: all, free, free for ordinary users.
    fn space(&self) -> io::Result<[u64; 3]>;
    /// Keeps those out who look at the file and want it to stay as it is; `false`: one of them is there. Each `true` wants a
    /// [`Disk::let_in`].
    fn keep_out(&self) -> bool {
        true
    }
    /// Lets them in again.
    fn let_in(&self) {}
    /// Does one of them wait to be let in? Asked before each [`Disk::keep_out`], and by those who would join one.
    fn is_awaited(&self) -> bool {
        false
    }
    /// May another process be writing it? Then what looks torn may just be on its way.
    fn is_live(&self) -> bool {
        false
    }
}

/// Where Linux says which start of the host this is.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which start of the host this is: a UUID, in text with hyphens.
///
/// # Errors
/// The kernel does not say.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID)?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16)
        .map(u128::to_be_bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Makes a system call again as often as a signal interrupts it: a server that is stopped and goes on, or frozen with its
/// job, must not tell a container of it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Reads until `out` is full or the file ends; what lies beyond its end reads as zeros.
pub(crate) fn read_full(disk: &dyn Disk, out: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < out.len() {
        let rest = out.get_mut(done..).unwrap_or_default();
        match uninterrupted(|| disk.read_at(rest, offset + done as u64))? {
            0 => {
                rest.fill(0);
                return Ok(());
            }
            n => done += n,
        }
    }
    Ok(())
}

/// Writes all of `bytes`.
pub(crate) fn write_full(disk: &dyn Disk, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = uninterrupted(|| disk.write_at(bytes, offset))?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
        offset += n as u64;
    }
    Ok(())
}

/// Zeros for writing them out.
const ZEROS: &[u8] = &[0; 64 * 1024];

/// Writes zeros over a range.
pub(crate) fn write_zeros(disk: &dyn Disk, mut offset: u64, mut length: u64) -> io::Result<()> {
    while length > 0 {
        let part = ZEROS
            .get(..length.min(ZEROS.len() as u64) as usize)
            .unwrap_or(ZEROS);
        write_full(disk, part, offset)?;
        offset += part.len() as u64;
        length -= part.len() as u64;
    }
    Ok(())
}

/// Bytes given back in one call: a few milliseconds at most.
const PUNCHED_AT_ONCE: u64 = 8 << 20;

/// `f_type` of filesystems on which a lock is a question to another machine (statfs(2)): NFS, SMB, Lustre, GPFS, BeeGFS, Ceph,
/// AFS, 9P, FUSE. The bytes of a file are not kept from changing there while somebody looks.
const REMOTE: [i64; 10] = [
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x0bd0_0bd0,
    0x4750_4653,
    0x1983_0326,
    0x00c3_6400,
    0x5346_414f,
    0x0102_1997,
    0x6573_5546,
];

/// How long one who waits to look may not be seen.
const UNSEEN: Duration = Duration::from_millis(20);

/// A file in a directory of the host.
#[derive(Debug)]
pub(crate) struct HostFile {
    file: File,
    /// Where locks cost no more than a system call: its directory, which is locked by who waits for the file, and when
    /// that was last looked for in vain.
    entrance: Option<(File, Mutex<Instant>)>,
    /// A directory whose names are not known to be on the disk.
    unsynced: Mutex<Option<File>>,
}

impl HostFile {
    /// Opens `dir/name` for reading and writing, made empty and readable only to its owner if it is missing.
    pub(crate) fn open(dir: &Path, name: &str) -> io::Result<HostFile> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(name))?;
        let entrance = is_local(&file).then(|| File::open(dir)).transpose()?;
        Ok(HostFile {
            file,
            entrance: entrance.map(|dir| (dir, Mutex::new(Instant::now()))),
            unsynced: Mutex::new(None),
        })
    }

    /// The same, whose first flush brings the names in `dir` to the disk, too: another process may have made them, and been
    /// killed before it had synced anything.
    pub(crate) fn with_names(mut self, dir: &Path) -> io::Result<HostFile> {
        self.unsynced = Mutex::new(Some(File::open(dir)?));
        Ok(self)
    }

    fn punch_part(&self, offset: u64, length: u64) -> io::Result<()> {
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, how, signed(offset)?, signed(length)?) {
            Ok(()) => Ok(()),
            // NFS before 4.2 and others cannot punch: the space stays taken, but it must read as zeros.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => {
                let end = self.size()?;
                write_zeros(self, offset, end.saturating_sub(offset).min(length))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the file for this process. True unless another process has it; where the filesystem knows no locks
    /// (Lustre without `flock`), the caller's own lock must do.
    pub(crate) fn try_own(&self) -> bool {
        !is_locked(&self.file)
    }
}

/// Has another process locked it? Else it is this one's now. (A filesystem that knows no locks lets nobody hold one.)
fn is_locked(file: &File) -> bool {
    matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}

fn is_local(file: &File) -> bool {
    let kind = nix::sys::statfs::fstatfs(file).map(|stat| stat.filesystem_type().0 & 0xffff_ffff);
    kind.is_ok_and(|kind| !REMOTE.contains(&kind))
}

/// A file of a writable layer that another process may be writing: only looked at. What it says of its length is what it
/// was at first; whatever is written here goes nowhere.
#[derive(Debug)]
pub(crate) struct Snapshot {
    file: Option<File>,
    size: u64,
}

impl Snapshot {
    /// Opens `dir/name` for reading; a file that is missing is empty.
    pub(crate) fn open(dir: &Path, name: &str) -> io::Result<Snapshot> {
        let file = match File::open(dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        let size = file
            .as_ref()
            .map_or(Ok(0), |file| Ok::<_, io::Error>(file.metadata()?.len()))?;
        Ok(Snapshot { file, size })
    }

    /// The same of the file that holds the bytes: where files can be locked, those that are used now stay as they are until
    /// this is dropped.
    pub(crate) fn hold(dir: &Path, name: &str) -> io::Result<Snapshot> {
        let mut held = Snapshot::open(dir, name)?;
        if let Some(file) = held.file.as_ref().filter(|file| is_local(file)) {
            // Who writes without a pause sees it there, and pauses.
            let entrance = File::open(dir)?;
            lock_shared(&entrance)?;
            lock_shared(file)?;
            held.size = file.metadata()?.len();
        }
        Ok(held)
    }
}

fn lock_shared(file: &File) -> io::Result<()> {
    match uninterrupted(|| file.lock_shared()) {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Filesystems that know no locks say so in several ways.
fn is_unsupported(error: &io::Error) -> bool {
    use nix::libc::{ENOLCK, ENOSYS, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(ENOSYS | EOPNOTSUPP | ENOLCK))
}

impl Disk for Snapshot {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.as_ref().map_or(Ok(0), |file| file.read_at(out, offset))
    }

    fn write_at(&self, bytes: &[u8], _offset: u64) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _length: u64) {}

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn allocate(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn punch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn shorten(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<[u64; 3]> {
        Ok([0; 3])
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// A file that may not grow (`ulimit -f`, the filesystem's largest) is a full disk to whoever writes in the tree.
fn full(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(nix::libc::EFBIG) => io::Error::from_raw_os_error(nix::libc::ENOSPC),
        _ => error,
    }
}

/// An offset or length as the system calls want it.
fn signed(value: u64) -> io::Result<off_t> {
    off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(nix::libc::EFBIG))
}

impl Disk for HostFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset).map_err(full)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()?;
        let mut unsynced = self.unsynced.lock();
        if let Some(dir) = unsynced.as_ref() {
            match dir.sync_all() {
                // A filesystem that cannot sync directories (SMB, some FUSE).
                Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {}
                synced => synced?,
            }
            *unsynced = None;
        }
        Ok(())
    }

    fn start_writeback(&self, offset: u64, length: u64) {
        crate::sys::start_writeback(&self.file, offset, length);
    }

    fn keep_out(&self) -> bool {
        self.entrance.is_none() || !is_locked(&self.file)
    }

    fn is_awaited(&self) -> bool {
        let Some((dir, unseen)) = &self.entrance else {
            return false;
        };
        let mut unseen = unseen.lock();
        if unseen.elapsed() < UNSEEN {
            return false;
        }
        if is_locked(dir) {
            return true;
        }
        *unseen = Instant::now();
        // It was locked just now.
        dir.unlock().is_err()
    }

    fn let_in(&self) {
        if self.entrance.is_some()
            && let Err(error) = self.file.unlock()
        {
            tracing::warn!(%error, "unlocking the writable layer's data");
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let (offset, length) = (signed(offset)?, signed(length)?);
        fallocate(&self.file, FallocateFlags::empty(), offset, length).map_err(|errno| full(errno.into()))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.saturating_add(length);
        let mut at = offset;
        // The host's filesystem lets nobody write to the file meanwhile, and forgets its pages one by one.
        while at < end {
            let part = PUNCHED_AT_ONCE.min(end - at);
            self.punch_part(at, part)?;
            at += part;
        }
        Ok(())
    }

    fn shorten(&self, size: u64) -> io::Result<()> {
        if size < self.size()? {
            self.file.set_len(size)?;
        }
        Ok(())
    }

    fn space(&self) -> io::Result<[u64; 3]> {
        let stat = nix::sys::statvfs::fstatvfs(&self.file)?;
        let scale = |blocks: u64| (u128::from(blocks) * u128::from(stat.fragment_size()) / 4096) as u64;
        Ok([
            scale(stat.blocks()),
            scale(stat.blocks_free()),
            scale(stat.blocks_available()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_flush_syncs_the_names_whoever_made_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("data"), "by a server that was killed").unwrap();
        let file = HostFile::open(dir.path(), "data").unwrap();
        let file = file.with_names(dir.path()).unwrap();
        assert!(file.unsynced.lock().is_some());
        file.flush().unwrap();
        assert!(file.unsynced.lock().is_none());
    }
}
