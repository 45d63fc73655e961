//! How are stages built side by side? Each by a worker: a process forked from the builder, since whoever starts containers
//! has one thread. A worker does what the builder would, tells it what happens, and leaves its steps in the cache. Then the
//! builder goes through the stage itself, unheard, and finds them there. So there is one way of building a stage, and a step
//! that the cache has lost meanwhile is made again.
//!
//! A RUN that failed ends the build, and the other workers. What went wrong otherwise the builder finds out once more by
//! itself: it has the error then, with all that belongs to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::dockerfile::{Dockerfile, Place};
use super::solve::Build;
use super::step::makes_files;
use super::telling::{Ear, Ended, Message, Voice};
use super::{Error, Progress};
use crate::store::lease;
use crate::sys;

/// How long an ended worker has to take its container down.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ends a build.
fn ending_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

/// A stage under way.
struct Worker<'a> {
    number: usize,
    pid: Pid,
    ear: Ear,
    shown: Box<dyn Progress + 'a>,
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
    /// Builds these stages and what each needs of them, as many at once as were ordered.
    pub(super) fn stages(&mut self, text: &Dockerfile, mut left: BTreeSet<usize>) -> Result<(), Error> {
        let mut workers = Workers::default();
        // Those that must wait for all before them.
        let mut last = BTreeSet::new();
        while let Some(first) = left.first().copied() {
            let mut ready = Vec::new();
            for &number in left.difference(&last) {
                let at_work = workers.0.iter().any(|worker| worker.number == number);
                if !at_work
                    && self
                        .uses(text, number)?
                        .iter()
                        .all(|used| self.done.contains_key(used))
                {
                    ready.push(number);
                }
            }
            // What makes no files takes no time, and one alone needs no worker.
            let quick = ready.iter().find(|number| !makes_layers(text, **number));
            let alone = workers.0.is_empty() && (ready.len() < 2 || self.order.jobs < 2);
            if let Some(number) = quick.or(alone.then(|| ready.first().unwrap_or(&first))).copied() {
                self.here(text, number)?;
                left.remove(&number);
                continue;
            }
            for number in ready
                .into_iter()
                .take(self.order.jobs.saturating_sub(workers.0.len()))
            {
                workers.0.push(self.start(text, number)?);
            }
            let (number, ended) = self.wait(&mut workers)?;
            match ended {
                Ended::Built => {
                    let progress = std::mem::replace(&mut self.progress, &Unheard);
                    let built = self.here(text, number);
                    self.progress = progress;
                    built?;
                }
                Ended::Otherwise => self.here(text, number)?,
                Ended::Waits => {
                    last.insert(number);
                    continue;
                }
                Ended::Interrupted(signal) => return Err(Error::Interrupted(signal)),
                Ended::Command {
                    lines: (first, last),
                    text,
                    command,
                    code,
                } => {
                    return Err(Error::Step {
                        place: Place { first, last },
                        text,
                        source: Box::new(Error::Command { command, code }),
                    });
                }
            }
            left.remove(&number);
        }
        Ok(())
    }

    fn here(&mut self, text: &Dockerfile, number: usize) -> Result<(), Error> {
        if let Some(stage) = text.stages.get(number) {
            let built = self.one(stage, number)?;
            self.done.insert(number, built);
        }
        Ok(())
    }

    fn start(&mut self, text: &Dockerfile, number: usize) -> Result<Worker<'a>, Error> {
        // Once here, not once in each worker.
        self.have_base(text, number)?;
        let (ear, voice) = io::pipe().map_err(trouble("make a pipe for"))?;
        // The fork wants a process of one thread.
        let stilled = lease::still_all();
        let builder = getpid();
        let pid = sys::fork(|| {
            // Dies with the builder, also if that died just now.
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            if getppid() != builder || ending_signals().thread_unblock().is_err() {
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
            ended: None,
        })
    }

    /// A worker's life.
    fn work(&mut self, text: &Dockerfile, number: usize, voice: Voice) {
        // This process ends before anything of it could be missed.
        self.progress = Box::leak(Box::new(voice.clone()));
        let before = self.made.borrow().clone();
        self.hashes.forget_use();
        let built = self.here(text, number);
        voice.say(&Message::Hashes(self.hashes.used()));
        voice.say(&Message::Made(
            self.made.borrow().difference(&before).copied().collect(),
        ));
        voice.say(&Message::Ended(match built {
            Ok(()) => Ended::Built,
            Err(error) => ended(error),
        }));
        // The claim of what it made: the builder has its own as soon as it hears the end, or makes the step again.
        self.done.remove(&number);
    }

    /// Hears all workers until one has ended, which is reaped then.
    fn wait(&mut self, workers: &mut Workers<'_>) -> Result<(usize, Ended), Error> {
        // Whatever ran here meanwhile may have let them through.
        let signals = ending_signals();
        signals.thread_block().map_err(trouble("hear signals beside"))?;
        let heard = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let heard = heard.map_err(trouble("hear signals beside"))?;
        let ended = loop {
            let mut fds = vec![PollFd::new(heard.as_fd(), PollFlags::POLLIN)];
            fds.extend(
                workers
                    .0
                    .iter()
                    .map(|worker| PollFd::new(worker.ear.pipe.as_fd(), PollFlags::POLLIN)),
            );
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                polled => drop(polled.map_err(trouble("hear"))?),
            }
            let ready: Vec<bool> = fds.iter().skip(1).map(|fd| fd.any().unwrap_or(false)).collect();
            if let Ok(Some(signal)) = heard.read_signal() {
                return Err(Error::Interrupted(signal.ssi_signo.cast_signed()));
            }
            let mut ended = None;
            for (worker, _) in workers.0.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
                match worker.ear.hear().map_err(trouble("hear"))? {
                    Some(messages) => messages
                        .into_iter()
                        .for_each(|message| self.heard(worker, message)),
                    None => ended = Some(worker.number),
                }
            }
            if let Some(number) = ended {
                break number;
            }
        };
        let _ = signals.thread_unblock();
        let place = workers.0.iter().position(|worker| worker.number == ended);
        let Some(worker) = place.map(|place| workers.0.remove(place)) else {
            return Ok((ended, Ended::Otherwise));
        };
        let how = match (waitpid(worker.pid, None), worker.ended) {
            (Ok(WaitStatus::Signaled(_, signal, _)), None) if ending_signals().contains(signal) => {
                Ended::Interrupted(signal as i32)
            }
            (_, told) => told.unwrap_or(Ended::Otherwise),
        };
        Ok((ended, how))
    }

    fn heard(&mut self, worker: &mut Worker<'_>, message: Message) {
        match message {
            Message::Begins(title) => worker.shown.begins(&title),
            Message::Cached => worker.shown.cached(),
            Message::Output(bytes) => worker.shown.output(&bytes),
            Message::Done => worker.shown.done(),
            Message::Warning(text) => worker.shown.warning(&text),
            Message::Hashes(bytes) => self.hashes.take_in(&bytes),
            Message::Made(keys) => self.made.borrow_mut().extend(keys),
            Message::Ended(ended) => worker.ended = Some(ended),
        }
    }
}

fn makes_layers(text: &Dockerfile, number: usize) -> bool {
    let stage = text.stages.get(number);
    stage.is_some_and(|stage| stage.steps.iter().any(|step| makes_files(&step.instruction)))
}

fn ended(error: Error) -> Ended {
    match error {
        Error::Step { place, text, source } => match *source {
            Error::Command { command, code } => Ended::Command {
                lines: (place.first, place.last),
                text,
                command,
                code,
            },
            Error::Interrupted(signal) => Ended::Interrupted(signal),
            Error::UnplannedStage(_) => Ended::Waits,
            _ => Ended::Otherwise,
        },
        _ => Ended::Otherwise,
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
