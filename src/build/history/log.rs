//! What was shown of a build? An event a line, as JSON. A builder that is killed may leave a last line that is none.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Steps;
use crate::build::workspace::io_error;
use crate::build::{Error, Material, Progress};
use crate::images::steps::Step;

/// Bytes of a log from which on nothing more of what commands write is kept, and twice as many from which on nothing is:
/// BuildKit's limit for a step.
const MOST: usize = 2 << 20;

/// One thing that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Which of the stages that are built side by side: each shows one step after the other.
    pub lane: u32,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// As [`Progress`] hears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", content = "text", rename_all = "lowercase")]
pub enum What {
    /// A step begins.
    Begins(String),
    /// The cache has it.
    Cached,
    /// Its command wrote this.
    Output(#[serde(serialize_with = "encoded", deserialize_with = "decoded")] Vec<u8>),
    /// It is done.
    Done,
    /// Something that the user should know.
    Warning(String),
}

fn encoded<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(bytes))
}

fn decoded<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct Log(Mutex<Writing>);

#[derive(Debug)]
struct Writing {
    /// `None` once it could not be written.
    file: Option<File>,
    bytes: usize,
    clipped: bool,
    lanes: u32,
    steps: Steps,
    materials: BTreeSet<Material>,
}

impl Log {
    /// A new one, in a file that is there.
    pub(super) fn at(path: &Path) -> Result<Log, Error> {
        let file = OpenOptions::new().append(true).open(path);
        Ok(Log(Mutex::new(Writing {
            file: Some(file.map_err(io_error("open", path))?),
            bytes: 0,
            clipped: false,
            lanes: 0,
            steps: Steps::default(),
            materials: BTreeSet::new(),
        })))
    }

    /// Counts of what was heard.
    pub(super) fn told(&self) -> (Steps, Vec<Material>) {
        let writing = self.0.lock();
        (writing.steps, writing.materials.iter().cloned().collect())
    }
}

impl Writing {
    fn add(&mut self, lane: u32, what: What) {
        count(&mut self.steps, &what);
        let what = match what {
            What::Output(_) if self.bytes >= MOST && self.clipped => return,
            What::Output(_) if self.bytes >= MOST => {
                self.clipped = true;
                What::Output(b"[output clipped, log limit 2MiB reached]\n".to_vec())
            }
            _ if self.bytes >= 2 * MOST => return,
            what => what,
        };
        let event = Event {
            at: now(),
            lane,
            what,
        };
        let Some(file) = &mut self.file else { return };
        let line = serde_json::to_vec(&event).map_err(io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            file.write_all(&line).map(|()| line.len())
        });
        match written {
            Ok(length) => self.bytes += length,
            Err(error) => {
                tracing::warn!(%error, "what this build shows is not kept any more");
                self.file = None;
            }
        }
    }
}

fn count(steps: &mut Steps, what: &What) {
    match what {
        What::Begins(_) => steps.total += 1,
        What::Done => steps.completed += 1,
        What::Cached => {
            steps.completed += 1;
            steps.cached += 1;
        }
        What::Output(_) | What::Warning(_) => {}
    }
}

pub(super) fn counted(events: &[Event]) -> Steps {
    let mut steps = Steps::default();
    events.iter().for_each(|event| count(&mut steps, &event.what));
    steps
}

pub(super) fn read(path: &Path) -> Result<Vec<Event>, Error> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(io_error("read", path))?,
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// Shows, and writes what is shown.
pub(super) struct Heard<'a> {
    log: Arc<Log>,
    lane: u32,
    shown: Box<dyn Progress + 'a>,
}

impl<'a> Heard<'a> {
    pub(super) fn new(log: Arc<Log>, shown: Box<dyn Progress + 'a>) -> Heard<'a> {
        let mut writing = log.0.lock();
        let lane = writing.lanes;
        writing.lanes += 1;
        drop(writing);
        Heard { log, lane, shown }
    }

    fn add(&self, what: What) {
        self.log.0.lock().add(self.lane, what);
    }
}

impl Progress for Heard<'_> {
    fn begins(&self, title: &str) {
        self.add(What::Begins(title.into()));
        self.shown.begins(title);
    }

    fn cached(&self) {
        self.add(What::Cached);
        self.shown.cached();
    }

    fn output(&self, bytes: &[u8]) {
        self.add(What::Output(bytes.into()));
        self.shown.output(bytes);
    }

    fn done(&self) {
        self.add(What::Done);
        self.shown.done();
    }

    fn fails(&self) {
        self.shown.fails();
    }

    fn warning(&self, text: &str) {
        self.add(What::Warning(text.into()));
        self.shown.warning(text);
    }

    fn found(&self, step: &Step) {
        self.shown.found(step);
    }

    fn made(&self, step: &Step) {
        self.shown.made(step);
    }

    fn uses(&self, material: &Material) {
        self.log.0.lock().materials.insert(material.clone());
        self.shown.uses(material);
    }

    fn pace(&self) -> Option<Duration> {
        self.shown.pace()
    }

    fn tick(&self) {
        self.shown.tick();
    }

    fn beside(&self) -> Box<dyn Progress + '_> {
        Box::new(Heard::new(Arc::clone(&self.log), self.shown.beside()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(whats: &[What]) -> (Vec<Event>, Steps) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap();
        let log = Log::at(&path).unwrap();
        whats.iter().for_each(|what| log.0.lock().add(1, what.clone()));
        (read(&path).unwrap(), log.told().0)
    }

    #[test]
    fn what_is_written_is_read() {
        let whats = [
            What::Begins("[1/2] RUN x".into()),
            What::Output(vec![0, 255, 10]),
            What::Done,
            What::Begins("[2/2] RUN y".into()),
            What::Cached,
            What::Warning("w".into()),
        ];
        let (events, steps) = written(&whats);
        let read: Vec<What> = events.iter().map(|event| event.what.clone()).collect();
        assert_eq!(read, whats);
        assert!(events.iter().all(|event| event.lane == 1));
        assert_eq!(counted(&events), steps);
        assert_eq!((steps.total, steps.completed, steps.cached), (2, 2, 1));
    }

    #[test]
    fn what_is_too_long_is_clipped() {
        let mut whats = vec![What::Output(vec![b'x'; 1 << 16]); 100];
        whats.push(What::Done);
        let (events, steps) = written(&whats);
        let output = |event: &Event| match &event.what {
            What::Output(bytes) => bytes.len(),
            _ => 0,
        };
        assert!(events.iter().map(output).sum::<usize>() <= MOST);
        assert!(
            matches!(&events[events.len() - 2].what, What::Output(bytes) if bytes.starts_with(b"[output clipped"))
        );
        assert_eq!(events.last().map(|event| &event.what), Some(&What::Done));
        assert_eq!(steps.completed, 1);
    }

    #[test]
    fn a_line_that_is_cut_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "{\"at\":1,\"lane\":0,\"what\":\"done\"}\n{\"at\":2,\"la").unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
        assert_eq!(read(&dir.path().join("none")).unwrap(), []);
    }
}
