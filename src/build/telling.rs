//! How does a worker (see `workers`) tell its builder what happens? In messages on a pipe, each a byte that says which, the
//! length of what follows in four bytes of the machine's order, and that.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Material, Progress};
use crate::images::steps::Step;

/// What a builder hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// [`Progress::begins`].
    Begins(String),
    /// [`Progress::cached`].
    Cached,
    /// [`Progress::output`].
    Output(Vec<u8>),
    /// [`Progress::done`].
    Done,
    /// [`Progress::warning`].
    Warning(String),
    /// Hashes of the context's files, as `Hashes` writes them.
    Hashes(Vec<u8>),
    /// [`Progress::found`].
    Found(Step),
    /// [`Progress::made`].
    Made(Step),
    /// [`Progress::uses`].
    Uses(Material),
    /// The last message.
    Ended(Ended),
}

/// How a worker's stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ended {
    /// All its steps are in the cache.
    Built,
    /// A RUN failed.
    Command {
        /// Lines of the Dockerfile, first and last.
        lines: (u32, u32),
        /// The instruction.
        text: String,
        /// Program and arguments.
        command: String,
        /// As a container's.
        code: i32,
    },
    /// By a signal.
    Interrupted(i32),
    /// It needs this stage, and nobody knew.
    Waits(usize),
}

/// The longest message that is told: the hashes of three million files. Longer ones are left out.
const MOST: usize = 1 << 28;
const HEAD: usize = 5;

impl Message {
    fn parts(&self) -> io::Result<(u8, Vec<u8>)> {
        Ok(match self {
            Message::Begins(title) => (1, title.clone().into_bytes()),
            Message::Cached => (2, Vec::new()),
            Message::Output(bytes) => (3, bytes.clone()),
            Message::Done => (4, Vec::new()),
            Message::Warning(text) => (5, text.clone().into_bytes()),
            Message::Hashes(bytes) => (6, bytes.clone()),
            Message::Found(step) => (7, serde_json::to_vec(step)?),
            Message::Made(step) => (8, serde_json::to_vec(step)?),
            Message::Ended(ended) => (9, serde_json::to_vec(ended)?),
            Message::Uses(material) => (10, serde_json::to_vec(material)?),
        })
    }

    fn of(kind: u8, bytes: &[u8]) -> io::Result<Message> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        Ok(match kind {
            1 => Message::Begins(text()),
            2 => Message::Cached,
            3 => Message::Output(bytes.to_vec()),
            4 => Message::Done,
            5 => Message::Warning(text()),
            6 => Message::Hashes(bytes.to_vec()),
            7 => Message::Found(serde_json::from_slice(bytes)?),
            8 => Message::Made(serde_json::from_slice(bytes)?),
            9 => Message::Ended(serde_json::from_slice(bytes)?),
            10 => Message::Uses(serde_json::from_slice(bytes)?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// The worker's end. A builder that is gone has killed it.
#[derive(Debug, Clone)]
pub(super) struct Voice(Arc<Mutex<File>>);

impl Voice {
    pub(super) fn new(pipe: File) -> Voice {
        Voice(Arc::new(Mutex::new(pipe)))
    }

    pub(super) fn say(&self, message: &Message) {
        let Ok((kind, bytes)) = message.parts() else {
            return;
        };
        let Some(length) = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MOST) else {
            return;
        };
        let length = length.to_ne_bytes();
        // Who does not hear it has nobody to tell.
        let _ = self.0.lock().write_all(&[&[kind][..], &length, &bytes].concat());
    }
}

impl Progress for Voice {
    fn begins(&self, title: &str) {
        self.say(&Message::Begins(title.into()));
    }

    fn cached(&self) {
        self.say(&Message::Cached);
    }

    fn output(&self, bytes: &[u8]) {
        self.say(&Message::Output(bytes.to_vec()));
    }

    fn done(&self) {
        self.say(&Message::Done);
    }

    fn warning(&self, text: &str) {
        self.say(&Message::Warning(text.into()));
    }

    fn found(&self, step: &Step) {
        self.say(&Message::Found(step.clone()));
    }

    fn made(&self, step: &Step) {
        self.say(&Message::Made(step.clone()));
    }

    fn uses(&self, material: &Material) {
        self.say(&Message::Uses(material.clone()));
    }

    fn beside(&self) -> Box<dyn Progress + '_> {
        Box::new(self.clone())
    }
}

/// The builder's end.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) pipe: File,
    bytes: Vec<u8>,
}

impl Ear {
    pub(super) fn new(pipe: File) -> Ear {
        Ear {
            pipe,
            bytes: Vec::new(),
        }
    }

    /// Reads once; gives what is whole by now, `None` at the end.
    ///
    /// # Errors
    /// The pipe cannot be read, or its bytes are no messages.
    pub(super) fn hear(&mut self) -> io::Result<Option<Vec<Message>>> {
        let mut piece = vec![0; 1 << 16];
        let count = match self.pipe.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Some(Vec::new())),
            count => count?,
        };
        if count == 0 {
            return Ok(None);
        }
        self.bytes.extend(piece.get(..count).unwrap_or_default());
        let (mut messages, mut used) = (Vec::new(), 0);
        while let Some((kind, bytes)) = first(self.bytes.get(used..).unwrap_or_default())? {
            messages.push(Message::of(kind, bytes)?);
            used += HEAD + bytes.len();
        }
        self.bytes.drain(..used);
        Ok(Some(messages))
    }
}

/// The first message's kind and content, if all of it is there.
fn first(bytes: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some(([kind, length @ ..], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = u32::from_ne_bytes(*length) as usize;
    if length > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(rest.get(..length).map(|bytes| (*kind, bytes)))
}

#[cfg(test)]
mod tests {
    use fuse_overlay::index::DiffId;

    use super::*;
    use crate::store::Digest;

    #[test]
    fn what_is_said_is_heard() {
        let (ours, theirs) = io::pipe().unwrap();
        let voice = Voice::new(std::os::fd::OwnedFd::from(theirs).into());
        let step = Step::new(Digest([3; 32]), &[DiffId([4; 32])], "then", "RUN x");
        let said = vec![
            Message::Begins("[a 2/3] RUN x".into()),
            Message::Output(vec![0, 255, 10]),
            Message::Cached,
            Message::Done,
            Message::Warning("w".into()),
            Message::Hashes(vec![7; 30_000]),
            Message::Found(step.clone()),
            Message::Made(step),
            Message::Uses(Material::repository("https://h/r.git", "abc")),
            Message::Ended(Ended::Command {
                lines: (3, 4),
                text: "RUN x".into(),
                command: "sh -c x".into(),
                code: 3,
            }),
        ];
        said.iter().for_each(|message| voice.say(message));
        drop(voice);
        let mut ear = Ear::new(std::os::fd::OwnedFd::from(ours).into());
        let mut heard = Vec::new();
        while let Some(messages) = ear.hear().unwrap() {
            heard.extend(messages);
        }
        assert_eq!(heard, said);
    }

    #[test]
    fn a_message_may_come_in_parts() {
        let whole = [&[3][..], &5_u32.to_ne_bytes(), b"abcde"].concat();
        for at in 0..whole.len() {
            assert_eq!(first(&whole[..at]).unwrap(), None);
        }
        assert_eq!(first(&whole).unwrap(), Some((3, &b"abcde"[..])));
        assert!(first(&[3, 255, 255, 255, 255]).is_err());
    }
}
