//! When is a container asked how it is? A process beside its supervisor keeps the time. It ends when the container does; the
//! supervisor starts another if it is killed, and that goes on from the file.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::state::{Health, Probe};
use super::{Check, Status, probe};
use crate::containers::cgroup;
use crate::containers::process::{Process, ends};
use crate::containers::record::{self, Life, Record, now};
use crate::containers::{Error, events, notify, role};
use crate::line::chain;
use crate::store::Store;

/// The name under which it is started; the container's id is its argument.
pub const NAME: &str = "bryo-health";

/// What this process was started for, if it is to ask a container: its whole life, and its exit code.
pub fn beside() -> Option<u8> {
    let id = role::arguments(NAME)?.next()?;
    // The supervisor holds back what is said to it. Cannot fail with a valid set.
    let _ = SigSet::all().thread_unblock();
    let _ = nix::sys::prctl::set_name(c"bryo-health");
    let watched = Store::open()
        .map_err(Error::from)
        .and_then(|store| Watch::of(&store, &id)?.map_or(Ok(()), Watch::run));
    Some(u8::from(watched.is_err()))
}

struct Watch<'a> {
    store: &'a Store,
    record: Record,
    check: Check,
    init: OwnedFd,
    /// When the container was started.
    begun: Instant,
    health: Health,
}

impl Watch<'_> {
    /// `None`: it does not run any more.
    fn of<'a>(store: &'a Store, id: &str) -> Result<Option<Watch<'a>>, Error> {
        let io = |source| Error::Io {
            action: "watch container",
            path: id.into(),
            source,
        };
        let Some(record) = record::read(store, id)? else {
            return Ok(None);
        };
        let (Some(check), Life::Running { init, started, .. }) =
            (record.settings.upkeep.health.clone(), &record.life)
        else {
            return Ok(None);
        };
        let Some(pidfd) = init.open().map_err(io)? else {
            return Ok(None);
        };
        let begun = Instant::now().checked_sub(age(*init).map_err(io)?);
        let health = Health::read(&store.container(id)).of_run(started);
        Ok(Some(Watch {
            store,
            check,
            init: pidfd,
            begun: begun.unwrap_or_else(Instant::now),
            health,
            record,
        }))
    }

    fn run(mut self) -> Result<(), Error> {
        let io = |source| Error::Io {
            action: "wait for the next check of",
            path: "a container".into(),
            source,
        };
        loop {
            let pause = self.health.pause(&self.check, self.begun.elapsed());
            if ends(&self.init, Some(pause)).map_err(io)? {
                return Ok(());
            }
            if self.is_paused() {
                continue;
            }
            let age = self.begun.elapsed();
            let probe = self.probe();
            // One that its end has ended says nothing.
            if ends(&self.init, Some(Duration::ZERO)).map_err(io)? {
                return Ok(());
            }
            // Nor does one that was stopped on the way.
            if self.is_paused() {
                continue;
            }
            let before = self.health.status;
            self.health.add(probe, &self.check, age);
            if let Err(error) = self.health.write(&self.store.container(&self.record.id)) {
                // A full disk: what is found next may be written.
                tracing::warn!(
                    "the health of container {} is not kept: {}",
                    self.record.id,
                    chain(&error)
                );
            }
            if self.health.status != before {
                if self.health.status == Status::Healthy
                    && let Err(error) = notify::healthy(&self.record.settings.upkeep)
                {
                    tracing::warn!(
                        "systemd cannot be told that container {} is ready: {error}",
                        self.record.id
                    );
                }
                self.tell(self.health.status);
            }
        }
    }

    fn is_paused(&self) -> bool {
        cgroup::is_frozen(&self.store.container(&self.record.id))
    }

    fn tell(&self, status: Status) {
        // It may have another name by now.
        let record = record::read(self.store, &self.record.id).ok().flatten();
        let record = record.as_ref().unwrap_or(&self.record);
        let action = format!("health_status: {}", status.name());
        events::happened(self.store.state(), record, &action, &[]);
    }

    /// Asks once, by a process of its own.
    fn probe(&self) -> Probe {
        let start = now();
        let (exit_code, output) = probe::begin(&self.record.id)
            .unwrap_or_else(|error| (-1, format!("the check cannot be run: {error}")));
        Probe {
            start,
            end: now(),
            exit_code,
            output,
        }
    }
}

/// How long a process has been there, by a clock that nobody sets.
fn age(process: Process) -> io::Result<Duration> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok());
    let ticks = ticks.filter(|ticks| *ticks > 0).unwrap_or(100);
    let start = Duration::from_millis(process.start.saturating_mul(1000) / ticks);
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(now.saturating_sub(start))
}
