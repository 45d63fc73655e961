//! How is a build shown (`--progress`)? On a terminal by a view that is drawn anew (`live`), else in lines (`plain`), for
//! programs in JSON (`raw`), or not.

mod live;
mod plain;
mod raw;

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clap::ValueEnum as _;
use jiff::Timestamp;

use crate::build::Progress;
use crate::cli::report::Failure;

/// `--progress`, in buildx' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Shown {
    Auto,
    Plain,
    Tty,
    Rawjson,
    Quiet,
}

/// Says how, where no flag does.
const VARIABLE: &str = "BUILDKIT_PROGRESS";

impl Shown {
    /// What was asked for, by the flag or else by the environment, which asks for nothing that cannot be had.
    pub(super) fn asked(flag: Option<Shown>) -> Result<Shown, Failure> {
        let shown = match (flag, std::env::var(VARIABLE)) {
            (Some(shown), _) => shown,
            (None, Ok(text)) if !text.is_empty() => match Shown::from_str(&text, true) {
                Ok(Shown::Tty) => Shown::Auto,
                Ok(shown) => shown,
                Err(_) => {
                    let why = format!("{VARIABLE}: there is no progress {text:?}");
                    return Err(Failure::new(why).code(125));
                }
            },
            (None, _) => Shown::Auto,
        };
        let why = match shown {
            Shown::Tty | Shown::Auto if live::can_draw() => return Ok(Shown::Tty),
            Shown::Auto => return Ok(Shown::Plain),
            Shown::Tty if stderr().is_terminal() => "TERM is unset, or dumb",
            Shown::Tty => "standard error is none",
            other => return Ok(other),
        };
        let why = format!("--progress=tty needs a terminal, and {why} (auto takes what there is)");
        Err(Failure::new(why).code(125))
    }

    pub(super) fn progress(self) -> Box<dyn Progress> {
        match self {
            Shown::Quiet => Box::<Quiet>::default(),
            Shown::Rawjson => Box::new(raw::Documents::new(Clock::running())),
            Shown::Tty => Box::new(live::Live::new()),
            Shown::Auto | Shown::Plain => Box::new(plain::Lines::new(Clock::running())),
        }
    }

    /// Are people told what checks found?
    pub(super) fn is_for_people(self) -> bool {
        !matches!(self, Shown::Quiet | Shown::Rawjson)
    }
}

/// How what is over is shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Again {
    #[value(alias = "auto")]
    Plain,
    Rawjson,
}

impl Again {
    pub(super) fn progress(self, clock: Clock) -> Box<dyn Progress> {
        match self {
            Again::Plain => Box::new(plain::Lines::new(clock)),
            Again::Rawjson => Box::new(raw::Documents::new(clock)),
        }
    }
}

/// What time it is for who shows a build.
#[derive(Debug, Clone)]
pub(super) enum Clock {
    /// Now, by a clock that nobody sets.
    Running(Timestamp, Instant),
    /// When what is told again happened, in microseconds since 1970.
    Told(Arc<AtomicI64>),
}

impl Clock {
    fn running() -> Clock {
        Clock::Running(Timestamp::now(), Instant::now())
    }

    fn now(&self) -> Timestamp {
        match self {
            Clock::Running(began, since) => began.saturating_add(since.elapsed()).unwrap_or(*began),
            Clock::Told(at) => Timestamp::from_microsecond(at.load(Ordering::Relaxed)).unwrap_or_default(),
        }
    }

    fn seconds_since(&self, before: Timestamp) -> f64 {
        self.now().duration_since(before).as_secs_f64().max(0.0)
    }
}

/// `-q`: nothing, but what the user should know, and of a step that fails what it wrote last.
#[derive(Default)]
struct Quiet(Mutex<Vec<u8>>);

impl Quiet {
    fn last(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        show(&self.last());
    }
}

impl Progress for Quiet {
    fn begins(&self, _title: &str) {
        self.last().clear();
    }
    fn cached(&self) {
        self.last().clear();
    }
    fn output(&self, bytes: &[u8]) {
        let mut last = self.last();
        last.extend_from_slice(bytes);
        let more = last.len().saturating_sub(LONGEST);
        last.drain(..more);
    }
    fn done(&self) {
        self.last().clear();
    }
    fn fails(&self) {
        show(&std::mem::take(&mut *self.last()));
    }
    fn warning(&self, text: &str) {
        crate::line::say!("bryo: {text}");
    }
    fn beside(&self) -> Box<dyn Progress + '_> {
        Box::<Quiet>::default()
    }
}

/// A line that does not end is shown in parts of this many bytes.
const LONGEST: usize = 64 << 10;

/// Progress that nobody can read any more is no reason to stop.
fn show(bytes: &[u8]) {
    let _ = stderr().lock().write_all(bytes);
}

/// Adds what a command wrote to what it wrote of a line without an end; gives the lines that have one now.
fn lines(unfinished: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        unfinished.extend_from_slice(part);
        if unfinished.last() == Some(&b'\n') || unfinished.len() >= LONGEST {
            let line = std::mem::take(unfinished);
            lines.push(line.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(line));
        }
    }
    lines
}
