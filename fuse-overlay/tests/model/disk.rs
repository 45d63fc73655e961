//! A disk in memory that loses power and fails on demand.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fuse_overlay::disk::Disk;
use fuse_overlay::union::Storage;
use nix::errno::Errno;
use parking_lot::Mutex;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Errno(Errno),
    /// A read or write moves half of the bytes.
    Short,
    /// A write stops half way, and cannot go on for this reason.
    Torn(Errno),
}

/// Shared by the two files: which of the next calls fail.
#[derive(Debug, Default)]
pub struct Plan {
    /// Calls so far.
    pub calls: usize,
    /// Do those count, too, that change nothing?
    pub looks: bool,
    /// How many bytes were read.
    pub read: usize,
    /// Those that fail.
    pub faults: Vec<(usize, Fault)>,
    /// No file can get longer.
    pub full: bool,
    /// How many have failed.
    pub fired: usize,
    /// Has a flush failed since the plan was reset?
    pub flush_failed: bool,
    /// What the journal and the data held before each of the calls, if that is to be kept.
    pub moments: Option<Vec<[Bytes; 2]>>,
    files: Vec<Arc<Mutex<Bytes>>>,
}

impl Plan {
    fn look(&mut self) -> Option<Fault> {
        if self.looks { self.next() } else { None }
    }

    fn next(&mut self) -> Option<Fault> {
        if let (Some(moments), [journal, data]) = (&mut self.moments, &*self.files) {
            moments.push([journal, data].map(|bytes| bytes.lock().clone()));
        }
        let call = self.calls;
        self.calls += 1;
        let fault = self.faults.iter().find(|(n, _)| *n == call)?.1;
        self.fired += 1;
        Some(fault)
    }
}

/// What a file holds: as the page cache has it, and as the disk has it.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    pub cache: Vec<u8>,
    pub disk: Vec<u8>,
}

/// What was done to a file.
#[derive(Clone, Debug)]
pub enum Event {
    /// These bytes were written; none: the file reaches to there.
    Wrote(usize, Vec<u8>),
    /// What was written before has reached the disk.
    Flushed,
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Journal,
    Data,
}

/// What was done to both, in order.
pub type Events = Arc<Mutex<Vec<(Which, Event)>>>;

#[derive(Clone, Debug)]
pub struct MemoryFile {
    pub bytes: Arc<Mutex<Bytes>>,
    plan: Arc<Mutex<Plan>>,
    slow: bool,
    which: Which,
    recorded: Option<Events>,
}

/// Where the journal says where its list lies.
pub const LIST: u64 = 1536;

/// The two files of a writable layer.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    pub journal: MemoryFile,
    pub data: MemoryFile,
    pub plan: Arc<Mutex<Plan>>,
    /// The host's boot.
    pub boot: [u8; 16],
    /// Writes and punches take a moment, in which other threads come to run.
    pub slow: bool,
}

impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        MemoryDisk::holding(Vec::new(), Vec::new())
    }

    /// Empty files, and what is done to them from now on.
    pub fn recording() -> (MemoryDisk, Events) {
        let (mut disk, events) = (MemoryDisk::new(), Events::default());
        disk.journal.recorded = Some(Arc::clone(&events));
        disk.data.recorded = Some(Arc::clone(&events));
        (disk, events)
    }

    /// Files that lie on the disk as given.
    pub fn holding(journal: Vec<u8>, data: Vec<u8>) -> MemoryDisk {
        let bytes = |bytes: Vec<u8>| Bytes {
            cache: bytes.clone(),
            disk: bytes,
        };
        MemoryDisk::at([bytes(journal), bytes(data)])
    }

    /// The two files as they were at a moment.
    pub fn at(moment: [Bytes; 2]) -> MemoryDisk {
        let plan = Arc::new(Mutex::new(Plan::default()));
        let file = |which, bytes| MemoryFile {
            which,
            recorded: None,
            bytes: Arc::new(Mutex::new(bytes)),
            plan: Arc::clone(&plan),
            slow: false,
        };
        let [journal, data] = moment;
        let (journal, data) = (file(Which::Journal, journal), file(Which::Data, data));
        plan.lock().files = vec![Arc::clone(&journal.bytes), Arc::clone(&data.bytes)];
        MemoryDisk {
            journal,
            data,
            plan: Arc::clone(&plan),
            boot: [1; 16],
            slow: false,
        }
    }

    /// The same files once more, as they are now, without faults.
    pub fn copy(&self) -> MemoryDisk {
        let bytes = |file: &MemoryFile| file.bytes.lock().cache.clone();
        MemoryDisk {
            boot: self.boot,
            ..MemoryDisk::holding(bytes(&self.journal), bytes(&self.data))
        }
    }

    /// The same after the host lost power and was started again. `written` picks what reaches the disk of each file.
    pub fn after_power_loss(&self, mut written: impl FnMut() -> bool) -> MemoryDisk {
        let journal = self.journal.after_power_loss(&mut written);
        let data = self.data.after_power_loss(&mut written);
        MemoryDisk {
            boot: self.boot.map(|byte| byte + 1),
            ..MemoryDisk::holding(journal, data)
        }
    }

    /// Puts zeros where the journal says where its list lies.
    pub fn lose_list(&self) {
        let Bytes { cache, disk } = &mut *self.journal.bytes.lock();
        for file in [cache, disk] {
            let place = file.get_mut(LIST as usize..LIST as usize + 512);
            place.into_iter().for_each(|place| place.fill(0));
        }
    }

    pub fn storage(&self) -> Storage {
        let file = |file: &MemoryFile| MemoryFile {
            slow: self.slow,
            ..file.clone()
        };
        Storage {
            journal: Box::new(file(&self.journal)),
            data: Box::new(file(&self.data)),
            path: PathBuf::from("memory"),
            boot: self.boot,
        }
    }
}

/// A call that moves no bytes: a short one is whole.
fn done(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None | Some(Fault::Short) => Ok(()),
        Some(Fault::Errno(errno) | Fault::Torn(errno)) => Err(errno.into()),
    }
}

impl MemoryFile {
    fn change(&self) -> io::Result<()> {
        done(self.plan.lock().next())
    }

    fn has_room(&self, end: usize) -> io::Result<()> {
        match self.plan.lock().full && self.bytes.lock().cache.len() < end {
            true => Err(Errno::ENOSPC.into()),
            false => Ok(()),
        }
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.recorded {
            events.lock().push((self.which, event()));
        }
    }

    /// What a loss of power leaves: the disk, and those sectors of 512 bytes changed since that `written` picks.
    fn after_power_loss(&self, mut written: impl FnMut() -> bool) -> Vec<u8> {
        let bytes = self.bytes.lock();
        let mut left = bytes.disk.clone();
        left.resize(bytes.cache.len(), 0);
        for (old, new) in left.chunks_mut(512).zip(bytes.cache.chunks(512)) {
            if old != new && written() {
                old.copy_from_slice(new);
            }
        }
        left
    }
}

impl Disk for MemoryFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let fault = self.plan.lock().look();
        done(fault)?;
        let bytes = self.bytes.lock();
        let rest = bytes.cache.get(offset as usize..).unwrap_or_default();
        let mut n = rest.len().min(out.len());
        if fault == Some(Fault::Short) {
            n = n.div_ceil(2);
        }
        out[..n].copy_from_slice(&rest[..n]);
        self.plan.lock().read += n;
        Ok(n)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        if self.slow {
            // Some 60 µs, as the kernel's timers are.
            std::thread::sleep(Duration::from_nanos(1));
        }
        let fault = self.plan.lock().next();
        let n = match fault {
            None => data.len(),
            Some(Fault::Short) => data.len().div_ceil(2),
            // The caller goes on where the first half ended.
            Some(Fault::Torn(errno)) if data.len() > 1 => {
                let mut plan = self.plan.lock();
                let call = plan.calls;
                plan.faults.push((call, Fault::Errno(errno)));
                data.len() / 2
            }
            Some(Fault::Errno(errno) | Fault::Torn(errno)) => return Err(errno.into()),
        };
        let end = offset as usize + n;
        self.has_room(end)?;
        let mut bytes = self.bytes.lock();
        if bytes.cache.len() < end {
            bytes.cache.resize(end, 0);
        }
        bytes.cache[offset as usize..end].copy_from_slice(&data[..n]);
        self.record(|| Event::Wrote(offset as usize, data[..n].to_vec()));
        Ok(n)
    }

    fn flush(&self) -> io::Result<()> {
        if let Err(error) = self.change() {
            self.plan.lock().flush_failed |= error.kind() != io::ErrorKind::Interrupted;
            return Err(error);
        }
        let mut bytes = self.bytes.lock();
        bytes.disk = bytes.cache.clone();
        self.record(|| Event::Flushed);
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _length: u64) {}

    fn size(&self) -> io::Result<u64> {
        done(self.plan.lock().look())?;
        Ok(self.bytes.lock().cache.len() as u64)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.change()?;
        let end = (offset + length) as usize;
        self.has_room(end)?;
        let mut bytes = self.bytes.lock();
        if bytes.cache.len() < end {
            bytes.cache.resize(end, 0);
            self.record(|| Event::Wrote(end, Vec::new()));
        }
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        if self.slow {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.change()?;
        let mut bytes = self.bytes.lock();
        let size = bytes.cache.len();
        let range = size.min(offset as usize)..size.min((offset + length) as usize);
        bytes.cache[range.clone()].fill(0);
        self.record(|| Event::Wrote(range.start, vec![0; range.len()]));
        Ok(())
    }

    fn shorten(&self, size: u64) -> io::Result<()> {
        self.change()?;
        // Only zeros go, so that nobody who looks at what was written need know.
        self.bytes.lock().cache.truncate(size as usize);
        Ok(())
    }

    fn space(&self) -> io::Result<[u64; 3]> {
        done(self.plan.lock().look())?;
        Ok([1 << 20, 1 << 19, 1 << 19])
    }
}
