//! How are stages built side by side? Each by a worker: a process forked from the builder, since whoever starts containers
//! has one thread. A worker does what the builder would, tells it what happens, and leaves its steps in the cache. Then the
//! builder goes through the stage itself, unheard, and finds them there. So there is one way of building a stage, and a step
//! that the cache has lost meanwhile is made again.
//!
//! It is told the steps with their layers, so nothing is hashed, fetched or looked at twice, and what it takes over is what
//! the worker built on: the cache may have another layer by then, of an equal step that was made beside it (`--no-cache`).
//!
//! A RUN that failed ends the build, and the other workers. What went wrong otherwise, a killed worker included, the builder
//! finds out once more by itself, alone: it has the error then, with all that belongs to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::dockerfile::{Dockerfile, Place};
use super::solve::Build;
use super::telling::{Ear, Ended, Message, Voice};
use super::{Error, Progress, pace};
use crate::images::steps::Step;
use crate::store::lease;
use crate::sys;

/// How long an ended worker has to take its container down.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ends a build. Not SIGHUP, which may be ignored (nohup) and would be heard all the same.
fn ending_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}

/// A stage under way.
struct Worker<'a> {
    number: usize,
    pid: Pid,
    ear: Ear,
    shown: Box<dyn Progress + 'a>,
    /// Its steps, in order.
    steps: Vec<Step>,
    /// How it ended, if it was well or the end of all: of anything else the builder wants the error itself.
    ended: Option<Ended>,
}

/// Those at work. They end with this.
#[derive(Default)]
struct Workers<'a>(Vec<Worker<'a>>);

impl Drop for Workers<'_> {
    fn drop(&mut self) {
        let pids: Vec<Pid> = self.0.drain(..).map(|worker| worker.pid).collect();
        // By now nobody listens to them. One that is dead is not reaped yet, so its pid is nobody else's.
        for pid in &pids {
            let _ = kill(*pid, Signal::SIGTERM);
        }
        let end = Instant::now() + PATIENCE;
        for pid in pids {
            while let Ok(WaitStatus::StillAlive) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                if Instant::now() > end {
                    let _ = kill(pid, Signal::SIGKILL);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl<'a> Build<'a> {
    /// Builds these stages and what each needs of them, as many at once as were ordered. A trigger of a base, which is known
    /// when that is there, may bring in more of them.
    pub(super) fn stages(&mut self, text: &Dockerfile, mut left: BTreeSet<usize>) -> Result<(), Error> {
        let mut workers = Workers::default();
        // What was named by triggers.
        let mut named: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        while let Some(first) = left.first().copied() {
            let mut ready = Vec::new();
            for &number in &left {
                let at_work = workers.0.iter().any(|worker| worker.number == number);
                let mut used = self.uses(text, number)?;
                used.extend(named.get(&number).into_iter().flatten());
                if !at_work && used.iter().all(|used| self.done.contains_key(used)) {
                    ready.push(number);
                }
            }
            // One alone needs no worker. (Beside workers nothing is built here: one could hold a lock, and wait to be heard.)
            let (number, waits_for) = if workers.0.is_empty() && (ready.len() < 2 || self.order.jobs < 2) {
                let number = ready.first().copied().unwrap_or(first);
                (number, self.tried(text, number)?)
            } else {
                for number in &ready {
                    self.have_base(text, *number)?;
                }
                let free = self.order.jobs.saturating_sub(workers.0.len());
                for number in ready.into_iter().take(free) {
                    workers.0.push(self.start(text, number)?);
                }
                let worker = self.wait(&mut workers)?;
                (worker.number, self.after(text, worker, &mut workers)?)
            };
            match waits_for {
                Some(earlier) => {
                    self.need(text, earlier, &mut left)?;
                    named.entry(number).or_default().insert(earlier);
                }
                None => drop(left.remove(&number)),
            }
        }
        Ok(())
    }

    /// Builds a stage here. Gives the stage that must be built before, if a trigger has named one.
    fn tried(&mut self, text: &Dockerfile, number: usize) -> Result<Option<usize>, Error> {
        match self.here(text, number) {
            Ok(()) => Ok(None),
            Err(error) => match ended(&error) {
                Some(Ended::Waits(earlier)) => Ok(Some(earlier)),
                _ => Err(error),
            },
        }
    }

    /// The same for one that a worker has built, or has not.
    fn after(
        &mut self,
        text: &Dockerfile,
        worker: Worker<'_>,
        workers: &mut Workers<'_>,
    ) -> Result<Option<usize>, Error> {
        match worker.ended {
            Some(Ended::Built) => self.take_over(text, worker, workers).map(|()| None),
            Some(Ended::Waits(earlier)) => Ok(Some(earlier)),
            Some(failed) => Err(failed.error()),
            None => {
                // The others might hold what it needs, and wait to be heard. They come back, to what they have done.
                drop(std::mem::take(workers));
                self.tried(text, worker.number)
            }
        }
    }

    /// Goes through a stage that a worker has built.
    fn take_over(
        &mut self,
        text: &Dockerfile,
        worker: Worker<'_>,
        workers: &mut Workers<'_>,
    ) -> Result<(), Error> {
        let progress = std::mem::replace(&mut self.progress, &Unheard);
        self.told = Some(worker.steps.into());
        let built = self.here(text, worker.number);
        self.told = None;
        self.progress = progress;
        match built {
            Err(Error::Step { source, .. }) if matches!(*source, Error::Lost) => {
                drop(std::mem::take(workers));
                self.here(text, worker.number)
            }
            built => built,
        }
    }

    fn here(&mut self, text: &Dockerfile, number: usize) -> Result<(), Error> {
        if let Some(stage) = text.stages.get(number) {
            let built = self.one(stage, number)?;
            self.done.insert(number, built);
        }
        Ok(())
    }

    fn start(&mut self, text: &Dockerfile, number: usize) -> Result<Worker<'a>, Error> {
        let (ear, voice) = io::pipe().map_err(trouble("make a pipe for"))?;
        // The fork wants a process of one thread.
        let stilled = lease::still_all();
        let builder = getpid();
        let pid = sys::fork(|| {
            // Dies with the builder, also if that died just now.
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            if getppid() != builder {
                return 1;
            }
            let Ok(pipe) = voice.try_clone() else { return 1 };
            self.work(text, number, Voice::new(File::from(OwnedFd::from(pipe))));
            0
        });
        drop(stilled);
        Ok(Worker {
            number,
            pid: pid.map_err(trouble("start"))?,
            ear: Ear::new(File::from(OwnedFd::from(ear))),
            shown: self.progress.beside(),
            steps: Vec::new(),
            ended: None,
        })
    }

    /// A worker's life.
    fn work(&mut self, text: &Dockerfile, number: usize, voice: Voice) {
        // This process ends before anything of it could be missed.
        self.progress = Box::leak(Box::new(voice.clone()));
        self.hashes.forget_use();
        let built = self.here(text, number);
        voice.say(&Message::Hashes(self.hashes.used()));
        match built {
            Ok(()) => voice.say(&Message::Ended(Ended::Built)),
            Err(error) => ended(&error)
                .into_iter()
                .for_each(|ended| voice.say(&Message::Ended(ended))),
        }
        // The claim of what it made. The builder makes its own when it goes through the stage; what a prune takes before
        // that, it makes again.
        self.done.remove(&number);
    }

    /// Hears all workers until one has ended, which is reaped then.
    fn wait<'w>(&mut self, workers: &mut Workers<'w>) -> Result<Worker<'w>, Error> {
        let signals = Blocked::new()?;
        let pace = pace(self.progress);
        let ended = loop {
            let mut fds = vec![PollFd::new(signals.heard.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                workers
                    .0
                    .iter()
                    .map(|worker| PollFd::new(worker.ear.pipe.as_fd(), PollFlags::POLLIN)),
            );
            match poll(&mut fds, pace) {
                Err(Errno::EINTR) => continue,
                Ok(0) => {
                    self.progress.tick();
                    continue;
                }
                polled => drop(polled.map_err(trouble("hear"))?),
            }
            let ready: Vec<bool> = fds.iter().skip(1).map(|fd| fd.any().unwrap_or(false)).collect();
            if let Ok(Some(signal)) = signals.heard.read_signal() {
                return Err(Error::Interrupted(signal.ssi_signo.cast_signed()));
            }
            let mut ended = None;
            for (place, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                let Some(worker) = workers.0.get_mut(place) else {
                    continue;
                };
                match worker.ear.hear().map_err(trouble("hear"))? {
                    Some(messages) => messages
                        .into_iter()
                        .for_each(|message| self.heard(worker, message)),
                    None => ended = Some(place),
                }
            }
            if let Some(place) = ended {
                break place;
            }
        };
        let mut worker = workers.0.remove(ended);
        match waitpid(worker.pid, None) {
            Ok(WaitStatus::Signaled(_, signal, _)) if ending_signals().contains(signal) => {
                worker.ended = Some(Ended::Interrupted(signal as i32));
            }
            _ => {}
        }
        Ok(worker)
    }

    fn heard(&mut self, worker: &mut Worker<'_>, message: Message) {
        match message {
            Message::Begins(title) => worker.shown.begins(&title),
            Message::Cached => worker.shown.cached(),
            Message::Output(bytes) => worker.shown.output(&bytes),
            Message::Done => worker.shown.done(),
            Message::Warning(text) => worker.shown.warning(&text),
            Message::Hashes(bytes) => self.hashes.take_in(&bytes),
            Message::Found(step) => worker.steps.push(step),
            Message::Made(step) => {
                self.made.borrow_mut().insert(step.key(), step.clone());
                worker.steps.push(step);
            }
            Message::Uses(material) => self.note(material),
            Message::Ended(ended) => worker.ended = Some(ended),
        }
    }
}

/// What the builder need not find out by itself.
fn ended(error: &Error) -> Option<Ended> {
    let Error::Step { place, text, source } = error else {
        return None;
    };
    match &**source {
        Error::Command { command, code } => Some(Ended::Command {
            lines: (place.first, place.last),
            text: text.clone(),
            command: command.clone(),
            code: *code,
        }),
        Error::Interrupted(signal) => Some(Ended::Interrupted(*signal)),
        Error::Unplanned(earlier) => Some(Ended::Waits(*earlier)),
        _ => None,
    }
}

impl Ended {
    /// Of one that ends the build.
    fn error(self) -> Error {
        match self {
            Ended::Built | Ended::Waits(_) => Error::Lost,
            Ended::Interrupted(signal) => Error::Interrupted(signal),
            Ended::Command {
                lines: (first, last),
                text,
                command,
                code,
            } => Error::Step {
                place: Place { first, last },
                text,
                source: Box::new(Error::Command { command, code }),
            },
        }
    }
}

/// What ends a build is heard, while this is there, instead of ending it at once.
struct Blocked {
    heard: SignalFd,
}

impl Blocked {
    fn new() -> Result<Blocked, Error> {
        let signals = ending_signals();
        let heard = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let heard = heard.map_err(trouble("hear signals beside"))?;
        signals.thread_block().map_err(trouble("hear signals beside"))?;
        Ok(Blocked { heard })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Cannot fail with a valid set.
        let _ = ending_signals().thread_unblock();
    }
}

fn trouble<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Io {
        action,
        path: "a stage's builder".into(),
        source: error.into(),
    }
}

/// Nobody is told: somebody was.
struct Unheard;

impl Progress for Unheard {
    fn begins(&self, _title: &str) {}
    fn cached(&self) {}
    fn output(&self, _bytes: &[u8]) {}
    fn done(&self) {}
    fn warning(&self, _text: &str) {}
    fn beside(&self) -> Box<dyn Progress + '_> {
        Box::new(Unheard)
    }
}
