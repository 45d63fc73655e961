//! Who holds an object where `flock` does not work? A lease: an exclusively created file that names its holder, whose
//! modification time the holder moves on. NFS and Lustre keep exclusive creation and rename atomic.
//!
//! A lease is dead when its holder is known to be gone (same host, boot and pid namespace), else when it was not
//! touched for [`DEAD_AFTER`] by the file server's clock.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::Error;
use super::failpoint::{self, Stepped};
use crate::host::process;

/// How often a holder touches its lease.
const BEAT: Duration = Duration::from_secs(10);
/// How long one goes on believing in a holder of another host that does not touch its lease.
const DEAD_AFTER: Duration = Duration::from_secs(90);

/// A held lease; dropping it lets go.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    holder: Holder,
    pulse: Arc<Pulse>,
    /// A child has it now.
    left: bool,
}

/// What touches a lease. All of a process are on a list: a fork must still them together, since only a process with one
/// thread may do that.
#[derive(Debug)]
struct Pulse {
    path: PathBuf,
    heart: Mutex<Option<Heart>>,
}

static PULSES: Mutex<Vec<Weak<Pulse>>> = Mutex::new(Vec::new());

/// The leases of this process that nobody touches for now, until this is dropped. They are believed for [`DEAD_AFTER`],
/// far longer than a start takes.
#[derive(Debug)]
pub struct Stilled(Vec<Arc<Pulse>>);

/// Ends all threads that touch leases.
pub fn still_all() -> Stilled {
    let mut pulses = PULSES.lock();
    pulses.retain(|pulse| pulse.strong_count() > 0);
    let beating = pulses
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|pulse| pulse.still());
    Stilled(beating.collect())
}

impl Drop for Stilled {
    fn drop(&mut self) {
        for pulse in &self.0 {
            // One that nobody holds any more, or that a child has now, needs no touch.
            if Arc::strong_count(pulse) > 1 {
                pulse.beat();
            }
        }
    }
}

impl Pulse {
    fn of(path: &Path) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            path: path.to_owned(),
            heart: Mutex::default(),
        });
        PULSES.lock().push(Arc::downgrade(&pulse));
        pulse
    }

    fn beat(&self) {
        let mut heart = self.heart.lock();
        if heart.is_some() {
            return;
        }
        let stop = Arc::new(Stop::default());
        let thread = std::thread::spawn({
            let (path, stop) = (self.path.clone(), stop.clone());
            move || {
                let mut stopped = stop.stopped.lock();
                while !*stopped {
                    stop.changed.wait_for(&mut stopped, BEAT);
                    // A beat that fails shows as a lease that ages; the next may succeed.
                    // "Now" is the server's then.
                    let now = TimeSpec::UTIME_NOW;
                    let _ = utimensat(AT_FDCWD, &path, &now, &now, UtimensatFlags::NoFollowSymlink);
                }
            }
        });
        *heart = Some(Heart { stop, thread });
    }

    /// Says whether it was beating.
    fn still(&self) -> bool {
        let Some(Heart { stop, thread }) = self.heart.lock().take() else {
            return false;
        };
        *stop.stopped.lock() = true;
        stop.changed.notify_all();
        // A panic there is of no consequence here.
        let _ = thread.join();
        true
    }
}

#[derive(Debug)]
struct Heart {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// A process, named so that no later one is taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    host: String,
    boot: String,
    pid_namespace: String,
    pid: u32,
    /// In clock ticks since boot, field 22 of `/proc/PID/stat`.
    start: u64,
    /// Tells the leases of one process apart.
    number: u64,
}

impl Lease {
    /// Takes the lease, a dead one too; `None` if someone alive holds it.
    pub(super) fn attempt(path: &Path) -> Result<Option<Lease>, Error> {
        let holder = Holder::me()?;
        if !write_new(path, &holder)? {
            match Holder::read(path)? {
                Some(found) if !is_dead(&found, path)? => return Ok(None),
                Some(found) => break_lease(path, &found)?,
                None => {}
            }
            if !write_new(path, &holder)? {
                return Ok(None);
            }
        }
        let pulse = Pulse::of(path);
        pulse.beat();
        let path = path.to_owned();
        let left = false;
        Ok(Some(Lease {
            path,
            holder,
            pulse,
            left,
        }))
    }

    /// The lease that this very process took before it executed this program, still; `None` if it has none.
    pub(super) fn adopt(path: &Path) -> Result<Option<Lease>, Error> {
        let me = Holder::me()?;
        let found = Holder::read(path)?.filter(|found| {
            let number = me.number;
            Holder {
                number,
                ..found.clone()
            } == me
        });
        Ok(found.map(|holder| Lease {
            path: path.to_owned(),
            holder,
            pulse: Pulse::of(path),
            left: false,
        }))
    }

    /// Touches the lease from now on, in a thread.
    pub(super) fn beat(&mut self) {
        self.pulse.beat();
    }

    /// Ends the thread.
    pub(super) fn still(&mut self) {
        self.pulse.still();
    }

    /// Puts this process, a forked child of a holder whose leases were stilled ([`still_all`]), in the holder's place; still, too.
    pub(super) fn take_over(&mut self) -> Result<(), Error> {
        let holder = Holder::me()?;
        let aside = unique(&self.path, &holder);
        write_new(&aside, &holder)?;
        let renamed = failpoint::step().and_then(|()| fs::rename(&aside, &self.path));
        renamed.map_err(Error::io("take over", &self.path))?;
        self.holder = holder;
        Ok(())
    }

    /// Ends the heartbeat and lets the file stand for a child that takes over.
    pub(super) fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pulse.still();
        // Best effort: one that stays is dead once this process is.
        if !self.left && Holder::read(&self.path).is_ok_and(|found| found.as_ref() == Some(&self.holder)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Holder {
    fn me() -> Result<Holder, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let boot = Path::new("/proc/sys/kernel/random/boot_id");
        let namespace = Path::new("/proc/self/ns/pid");
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        Ok(Holder {
            host: hostname.to_string_lossy().into_owned(),
            boot: fs::read_to_string(boot)
                .map_err(Error::io("read", boot))?
                .trim()
                .to_owned(),
            pid_namespace: fs::read_link(namespace)
                .map_err(Error::io("read", namespace))?
                .to_string_lossy()
                .into_owned(),
            pid,
            start: process::own_start().map_err(Error::io("read", Path::new("/proc/self/stat")))?,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// `None`: the file is gone. One that cannot be parsed is being written, or was left by a crash: nobody's.
    fn read(path: &Path) -> Result<Option<Holder>, Error> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).unwrap_or_else(|_| Holder::nobody()),
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    fn nobody() -> Holder {
        let empty = String::new;
        Holder {
            host: empty(),
            boot: empty(),
            pid_namespace: empty(),
            pid: 0,
            start: 0,
            number: 0,
        }
    }
}

fn is_dead(holder: &Holder, path: &Path) -> Result<bool, Error> {
    let me = Holder::me()?;
    let here = holder.host == me.host && holder.pid_namespace == me.pid_namespace;
    if here && holder.boot != me.boot {
        return Ok(true);
    }
    if here {
        let start = process::start(holder.pid.cast_signed());
        let start = start.map_err(Error::io("look at the holder of", path))?;
        return Ok(start != Some(holder.start));
    }
    // The server's clock decides, read from a file written now: hosts' clocks differ.
    let probe = unique(path, &me);
    write_new(&probe, &me)?;
    let now = modified(&probe);
    fs::remove_file(&probe).map_err(Error::io("remove", &probe))?;
    let (Some(now), Some(touched)) = (now?, modified(path)?) else {
        return Ok(false);
    };
    Ok(now.duration_since(touched).is_ok_and(|age| age > DEAD_AFTER))
}

fn modified(path: &Path) -> Result<Option<SystemTime>, Error> {
    match fs::metadata(path).and_then(|found| found.modified()) {
        Ok(time) => Ok(Some(time)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

/// Moves a dead lease away; only one of several can. If another took it in the meantime, its lease is put back.
fn break_lease(path: &Path, dead: &Holder) -> Result<(), Error> {
    let away = unique(path, &Holder::me()?);
    match failpoint::step().and_then(|()| fs::rename(path, &away)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("break the lease", path))?,
    }
    let result = match Holder::read(&away)? {
        Some(moved) if moved != *dead => fs::rename(&away, path),
        _ => fs::remove_file(&away),
    };
    result.map_err(Error::io("break the lease", path))
}

fn write_new(path: &Path, holder: &Holder) -> Result<bool, Error> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match file {
        Ok(file) => {
            let text = serde_json::to_vec(holder).map_err(|error| Error::io("write", path)(error.into()))?;
            Stepped(&file)
                .write_all(&text)
                .map_err(Error::io("write", path))?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::io("create", path)(error)),
    }
}

fn unique(path: &Path, holder: &Holder) -> PathBuf {
    path.with_extension(format!("{}-{}-{}.lease", holder.host, holder.pid, holder.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object.lease");
        (dir, path)
    }

    fn alone(dir: &tempfile::TempDir) -> bool {
        fs::read_dir(dir.path()).unwrap().count() == 1
    }

    #[test]
    fn a_lease_is_one_holders_until_dropped() {
        let (_dir, path) = place();
        let first = Lease::attempt(&path).unwrap();
        assert!(first.is_some());
        assert!(Lease::attempt(&path).unwrap().is_none());
        drop(first);
        assert!(Lease::attempt(&path).unwrap().is_some());
    }

    #[test]
    fn one_of_a_dead_process_or_another_boot_is_taken() {
        let (dir, path) = place();
        let me = Holder::me().unwrap();
        for dead in [
            Holder {
                start: me.start + 1,
                ..me.clone()
            },
            Holder {
                boot: "other".into(),
                ..me.clone()
            },
        ] {
            write_new(&path, &dead).unwrap();
            let taken = Lease::attempt(&path).unwrap();
            assert!(taken.is_some(), "{dead:?}");
            assert!(alone(&dir));
        }
    }

    #[test]
    fn one_of_another_host_counts_while_its_heart_beats() {
        let (dir, path) = place();
        let other = Holder {
            host: "node7".into(),
            boot: "other".into(),
            ..Holder::me().unwrap()
        };
        write_new(&path, &other).unwrap();
        assert!(Lease::attempt(&path).unwrap().is_none());
        let long_ago = SystemTime::now() - DEAD_AFTER - BEAT;
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        assert!(Lease::attempt(&path).unwrap().is_some());
        assert!(alone(&dir) || fs::read_dir(dir.path()).unwrap().count() == 0);
    }

    #[test]
    fn a_new_holder_in_place_of_a_dead_one_is_not_broken() {
        let (_dir, path) = place();
        let me = Holder::me().unwrap();
        let dead = Holder {
            start: me.start + 1,
            ..me.clone()
        };
        write_new(&path, &me).unwrap();
        break_lease(&path, &dead).unwrap();
        assert_eq!(Holder::read(&path).unwrap(), Some(me));
    }

    #[test]
    fn what_a_child_took_over_its_parent_does_not_remove() {
        let (_dir, path) = place();
        let mut parent = Lease::attempt(&path).unwrap().unwrap();
        let before = parent.holder.clone();
        parent.take_over().unwrap();
        assert_ne!(parent.holder, before);
        let path = parent.path.clone();
        parent.leave();
        assert!(path.exists());
    }
}
