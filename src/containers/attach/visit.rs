//! The tool's side of `attach`: what the container writes is shown, what is typed goes to it, until it ends or is left.

use std::io::{self, Write as _, stdin};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;
use parking_lot::Mutex;

use super::frame::{Asked, Ended, Hello, LONGEST, Told, VERSION};
use super::keys::{Keys, Typed, Watch};
use super::over;
use crate::containers::log::Stream;
use crate::containers::record::{self, Life, Record};
use crate::containers::supervisor::terminal::{self, Raw};
use crate::containers::supervisor::tool::passed_signals;
use crate::containers::{Error, end};
use crate::store::Store;

/// How one wants to attach.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Whether the user's input goes to the container.
    pub input: bool,
    /// Whether signals go to it.
    pub proxy: bool,
    /// What leaves its terminal.
    pub keys: Keys,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// The container has ended.
    Ended {
        /// As Docker has it.
        code: i32,
        /// What went wrong.
        trouble: Option<String>,
    },
    /// The keys were typed.
    Keys,
    /// This signal came, which was not for the container.
    Signal(i32),
}

/// A container that one has attached to.
#[derive(Debug)]
pub struct Visit {
    store: Store,
    record: Record,
    connection: UnixStream,
    terminal: bool,
    visitor: Visitor,
    /// Bytes that were not heard, since they were not taken in time.
    pub left_out: u64,
}

impl Visit {
    /// Attaches to a container that runs.
    ///
    /// # Errors
    /// [`Error::NotAttachable`], [`Error::Unreached`].
    pub fn begin(store: &Store, record: Record, visitor: Visitor) -> Result<Visit, Error> {
        match record.life {
            Life::Running { .. } if record.paused => return Err(Error::AttachPaused(record.name)),
            Life::Running { .. } => {}
            Life::Restarting { .. } => return Err(Error::AttachRestarting(record.name)),
            Life::Created | Life::Exited { .. } => return Err(Error::NotAttachable(record.name)),
        }
        let spec = record::read_spec(&store.container(&record.id))?;
        let process = spec.process().as_ref();
        let terminal = process.and_then(|process| process.terminal()).unwrap_or(false);
        let input = visitor.input && record.settings.open_stdin;
        let unreached = |source| Error::Unreached {
            name: record.name.clone(),
            source,
        };
        let mut connection = super::connect(store.run(), &record.id).map_err(unreached)?;
        let size = terminal.then(terminal::size).flatten();
        let hello = Hello {
            version: VERSION,
            input,
            size: size.map(|size| (size.rows, size.columns)),
        };
        match Asked::Hello(hello).send(&mut connection) {
            // It has turned us away, and said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            sent => sent.map_err(unreached)?,
        }
        Ok(Visit {
            store: store.clone(),
            record,
            connection,
            terminal,
            visitor: Visitor { input, ..visitor },
            left_out: 0,
        })
    }

    /// Stays until it ends or is left.
    ///
    /// # Errors
    /// The supervisor cannot be heard.
    pub fn stay(&mut self, store: &Store) -> Result<Left, Error> {
        let name = self.record.name.clone();
        let raw = (self.terminal && self.visitor.input).then(Raw::enter).flatten();
        let unreached = |source| Error::Unreached {
            name: name.clone(),
            source,
        };
        let passed = passed_signals();
        passed.thread_block().map_err(|errno| unreached(errno.into()))?;
        let signals = match SignalFd::with_flags(&passed, SfdFlags::SFD_CLOEXEC) {
            Ok(signals) => signals,
            Err(errno) => return Err(unreached(errno.into())),
        };
        let left = self.listen(&signals);
        drop(raw);
        match left {
            Ok(Some(left)) => Ok(left),
            // It was killed, and the container with it; or it has no more to say than the record.
            Ok(None) => over::seen(store, &self.record, &signals),
            Err(source) => Err(unreached(source)),
        }
    }

    /// The way to leave, `None` if the connection has ended.
    fn listen(&mut self, signals: &SignalFd) -> io::Result<Option<Left>> {
        let left = Arc::new(EventFd::new()?);
        let voice = Arc::new(Voice::new(self.connection.try_clone()?));
        if self.visitor.input {
            let watch = self.terminal.then(|| Watch::new(self.visitor.keys.clone()));
            let (voice, left) = (Arc::clone(&voice), Arc::clone(&left));
            // Never joined: it ends with the process.
            drop(std::thread::Builder::new().spawn(move || speak(&voice, watch, &left))?);
        }
        loop {
            let mut fds = [
                PollFd::new(self.connection.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(left.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let [heard, signalled, leaves] = fds.map(|fd| fd.any().unwrap_or(false));
            if leaves {
                return Ok(Some(Left::Keys));
            }
            if signalled
                && let Some(signal) = signals.read_signal()?
                && let Some(left) = self.signal(signal.ssi_signo.cast_signed(), &voice)
            {
                return Ok(Some(left));
            }
            if heard {
                match self.heard()? {
                    Heard::More => {}
                    Heard::End(left) => return Ok(left),
                }
            }
        }
    }

    fn heard(&mut self) -> io::Result<Heard> {
        match Told::receive(&mut self.connection) {
            Ok(Some(Told::Output(stream, bytes))) => {
                // Who has nobody to show it to has no more to do here.
                match show(stream, &bytes) {
                    Ok(()) => Ok(Heard::More),
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        Ok(Heard::End(Some(Left::Signal(Signal::SIGPIPE as i32))))
                    }
                    Err(error) => Err(error),
                }
            }
            Ok(Some(Told::LeftOut(bytes))) => {
                self.left_out += bytes;
                Ok(Heard::More)
            }
            Ok(Some(Told::Ended(Ended { code, error }))) => {
                let trouble = error;
                Ok(Heard::End(Some(Left::Ended { code, trouble })))
            }
            Ok(Some(Told::Refused(why))) => Err(io::Error::other(why)),
            Ok(None) => Ok(Heard::End(None)),
            // Cut, as a killed supervisor leaves it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(Heard::End(None))
            }
            Err(error) => Err(error),
        }
    }

    /// What a signal does: to a container without a terminal it goes, if wanted; else those that end a program end this one.
    fn signal(&self, number: i32, voice: &Voice) -> Option<Left> {
        let signal = Signal::try_from(number).ok();
        match signal {
            Some(Signal::SIGWINCH) => {
                if self.terminal {
                    voice.tell_size();
                }
                None
            }
            _ if self.visitor.proxy && !self.terminal => {
                // It may have ended in between.
                let _ = end::kill(&self.store, &self.record, number);
                None
            }
            Some(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT) => {
                Some(Left::Signal(number))
            }
            _ => None,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

enum Heard {
    More,
    End(Option<Left>),
}

fn show(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    }
}

/// What is said to the supervisor: by the thread that reads what is typed, and of the terminal's size by another, which waits
/// for nobody.
struct Voice {
    stream: Mutex<UnixStream>,
    /// A size that is not told yet.
    resized: AtomicBool,
}

impl Voice {
    fn new(stream: UnixStream) -> Voice {
        Voice {
            stream: Mutex::new(stream),
            resized: AtomicBool::new(false),
        }
    }

    /// Says something, and the size if it has changed meanwhile.
    fn say(&self, asked: &Asked) -> io::Result<()> {
        asked.send(&mut *self.stream.lock())?;
        // Looked at when the stream is free again: who found it taken has left the size to us.
        while self.resized.load(Ordering::Acquire) {
            self.send_size(&mut self.stream.lock())?;
        }
        Ok(())
    }

    /// Tells the terminal's size, now, or when who is speaking has spoken. A supervisor that is gone is noticed when it is heard.
    fn tell_size(&self) {
        self.resized.store(true, Ordering::Release);
        if let Some(mut stream) = self.stream.try_lock() {
            let _ = self.send_size(&mut stream);
        }
    }

    fn send_size(&self, stream: &mut UnixStream) -> io::Result<()> {
        match self
            .resized
            .swap(false, Ordering::AcqRel)
            .then(terminal::size)
            .flatten()
        {
            Some(size) => Asked::Size(size).send(stream),
            None => Ok(()),
        }
    }
}

/// Sends what is typed.
fn speak(voice: &Voice, mut watch: Option<Watch>, left: &EventFd) {
    let mut buffer = vec![0; LONGEST / 2];
    loop {
        let typed = match read(stdin(), &mut buffer) {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                let _ = poll(
                    &mut [PollFd::new(stdin().as_fd(), PollFlags::POLLIN)],
                    PollTimeout::NONE,
                );
                continue;
            }
            Ok(0) | Err(_) => {
                let _ = voice.say(&Asked::InputEnd);
                return;
            }
            Ok(length) => buffer.get(..length).unwrap_or_default(),
        };
        let (bytes, leaves) = match watch.as_mut().map(|watch| watch.typed(typed)) {
            None => (typed.to_vec(), false),
            Some(Typed::Pass(bytes)) => (bytes, false),
            Some(Typed::Leave(bytes)) => (bytes, true),
        };
        if !bytes.is_empty() && voice.say(&Asked::Input(bytes)).is_err() {
            return;
        }
        if leaves {
            let _ = left.write(1);
            return;
        }
    }
}
