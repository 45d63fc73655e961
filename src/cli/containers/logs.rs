//! `logs`: what did a container write?

use std::io::{self, BufWriter, ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

use super::super::output::is_heard;
use super::super::report::Failure;
use super::details;
use super::end::load;
use crate::containers::Error;
use crate::containers::log::{Driver, Entry, Reader, Stream, Wait};
use crate::containers::record::{self, Record, shown};
use crate::moment::moment;
use crate::store::Store;

/// Bytes of output held back before they are written.
const HELD: usize = 256 << 10;

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only what came since then: a time, or an age such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what came before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only this many lines from the end; all
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: String,
    /// Show when each line came
    #[arg(short, long)]
    timestamps: bool,
    /// Show what --log-opt tag, labels and env tell of the container, before each line
    #[arg(long)]
    details: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Logs {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        // As Docker: what is no number means all.
        let lines = self.tail.parse().ok();
        let record = load(store, &self.container)?;
        if record.settings.log.driver == Driver::None {
            return Err(Failure::new(format!(
                "container {} keeps no log: it was made with --log-driver none",
                self.container
            )));
        }
        let mut printer = self.printer()?;
        if self.details {
            let spec = record::read_spec(&store.container(&record.id))?;
            printer.details = Some(details::shown(&record, &spec)? + " ");
        }
        match self.print(store, &record, lines, &mut printer) {
            // Whoever reads has enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            Err(error) if printer.failed => {
                Err(Failure::new(format!("cannot write to standard output: {error}")))
            }
            done => done.map(|()| ExitCode::SUCCESS).map_err(|source| {
                Error::Io {
                    action: "read the log of",
                    path: self.container.into(),
                    source,
                }
                .into()
            }),
        }
    }

    fn print(
        &self,
        store: &Store,
        record: &Record,
        lines: Option<u64>,
        printer: &mut Printer,
    ) -> io::Result<()> {
        let directory = store.container(&record.id);
        let mut reader = Reader::new(&directory, lines)?;
        let wait = match record.life.supervisor() {
            Some(supervisor) if self.follow => Wait::of(supervisor, &directory)?,
            _ => None,
        };
        if wait.is_none() {
            reader.end_here()?;
        }
        loop {
            reader.read(|entry| printer.entry(entry))?;
            printer.flush()?;
            match &wait {
                Some(wait) if !printer.is_over() => {
                    if !wait.more()? {
                        break;
                    }
                }
                _ => return Ok(()),
            }
        }
        reader.read(|entry| printer.entry(entry))?;
        printer.flush()
    }

    fn printer(&self) -> Result<Printer, Failure> {
        let now = jiff::Timestamp::now();
        let time = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match moment(text, now) {
                Some(time) => Ok(Some(shown(time))),
                None => Err(
                    Failure::new(format!("invalid value for {flag:?}: {text:?} is no time")).hint(Some(
                        "a time is 2026-11-26T13:00:00, 1764162000, or an age such as 10m",
                    )),
                ),
            },
        };
        Ok(Printer {
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            timestamps: self.timestamps,
            details: None,
            middle: [false; 2],
            out: BufWriter::with_capacity(HELD, Box::new(stdout().lock())),
            errors: BufWriter::with_capacity(HELD, Box::new(stderr().lock())),
            over: false,
            failed: false,
        })
    }
}

/// Prints entries, each to its stream.
struct Printer {
    since: Option<String>,
    until: Option<String>,
    timestamps: bool,
    /// What stands before each line.
    details: Option<String>,
    /// Of stdout and stderr: whether a line has begun and not ended.
    middle: [bool; 2],
    out: BufWriter<Box<dyn Write>>,
    errors: BufWriter<Box<dyn Write>>,
    over: bool,
    /// It was not the log that failed.
    failed: bool,
}

impl Printer {
    fn entry(&mut self, entry: Entry<'_>) -> io::Result<()> {
        let printed = self.print(entry);
        self.failed |= printed.is_err();
        printed
    }

    fn print(&mut self, entry: Entry<'_>) -> io::Result<()> {
        if self
            .since
            .as_ref()
            .is_some_and(|since| entry.time < since.as_bytes())
        {
            return Ok(());
        }
        if self
            .until
            .as_ref()
            .is_some_and(|until| entry.time > until.as_bytes())
        {
            self.over = true;
            return Ok(());
        }
        let (to, other, middle) = match entry.stream {
            Stream::Stdout => (&mut self.out, &mut self.errors, &mut self.middle[0]),
            Stream::Stderr => (&mut self.errors, &mut self.out, &mut self.middle[1]),
        };
        // Both may be one terminal.
        other.flush()?;
        if !*middle {
            if self.timestamps {
                to.write_all(entry.time)?;
                to.write_all(b" ")?;
            }
            if let Some(details) = &self.details {
                to.write_all(details.as_bytes())?;
            }
        }
        *middle = !entry.whole;
        to.write_all(entry.content)?;
        if entry.whole { to.write_all(b"\n") } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush().and_then(|()| self.errors.flush());
        self.failed |= flushed.is_err();
        flushed
    }

    /// Has all been printed that was asked for, or does nobody read any more?
    fn is_over(&self) -> bool {
        self.over
            || !is_heard()
            || self
                .until
                .as_ref()
                .is_some_and(|until| shown(jiff::Timestamp::now()) > *until)
    }
}
