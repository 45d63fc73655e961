//! How do bytes travel between the user's streams and the container's? Pipes without `-t`, so that the streams stay
//! apart; a pty with it. A thread each, so that a slow reader holds up nothing but its own stream.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2, read, write};

use parking_lot::Mutex;

use super::inlet::{Inlet, Input};
use crate::containers::attach::Keys;
use crate::containers::attach::audience::{Audience, Host as _};
use crate::containers::attach::keys::{Typed, Watch};
use crate::containers::log::{Log, Stream};
use crate::containers::runtime::Stdio;

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;

/// Bytes that a pipe can hold, at most (`fs.pipe-max-size`, as it is set without privileges).
const LARGEST_PIPE: usize = 1 << 20;

/// What the user's streams are to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// Nothing: `-d`.
    Detached,
    /// What it writes is shown.
    Output,
    /// That, and it reads the user's input: `-i`.
    InputAndOutput,
}

/// The supervisor's ends.
pub(in crate::containers) struct Outside {
    attach: Attach,
    pipes: Option<Pipes>,
}

struct Pipes {
    /// None: the container reads /dev/null.
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Threads that move what the container wrote.
#[derive(Debug)]
pub(in crate::containers) struct Relay {
    outputs: Vec<JoinHandle<()>>,
    log: Arc<Mutex<Log>>,
    /// Tells them to end when there is nothing to read.
    over: Arc<EventFd>,
    inlet: Arc<Inlet>,
    /// Told when the user has typed the keys that leave the terminal.
    left: Arc<EventFd>,
}

/// Who else hears the container, and how its user leaves it.
#[derive(Debug, Default)]
pub(in crate::containers) struct Beside {
    /// Those who attach.
    pub(in crate::containers) audience: Arc<Audience>,
    /// What leaves a terminal.
    pub(in crate::containers) keys: Keys,
    /// What of its output is not shown.
    pub(in crate::containers) hidden: Option<Stream>,
}

/// Pipes between the container and us. `open_stdin`: `-i`, also of a detached container.
pub(in crate::containers) fn pipes(attach: Attach, open_stdin: bool) -> io::Result<(Stdio, Outside)> {
    let (out, to_out) = pipe2(OFlag::O_CLOEXEC)?;
    let (err, to_err) = pipe2(OFlag::O_CLOEXEC)?;
    let (inside, stdin) = if open_stdin {
        let (inside, outside) = pipe2(OFlag::O_CLOEXEC)?;
        (inside, Some(outside))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let pipes = Pipes {
        stdin,
        stdout: out,
        stderr: err,
    };
    Ok((
        Stdio::Fds([inside, to_out, to_err]),
        Outside {
            attach,
            pipes: Some(pipes),
        },
    ))
}

/// The container makes its own pty; see [`Outside::start`].
pub(in crate::containers) fn terminal(attach: Attach) -> (Stdio, Outside) {
    (Stdio::Terminal, Outside { attach, pipes: None })
}

impl Outside {
    /// Starts the threads. `master` is the pty's, if there is one.
    pub(in crate::containers) fn start(
        self,
        master: Option<OwnedFd>,
        log: Log,
        beside: Beside,
    ) -> io::Result<Relay> {
        let (log, over) = (Arc::new(Mutex::new(log)), Arc::new(EventFd::new()?));
        let shown = self.attach != Attach::Detached;
        let once = self.attach == Attach::InputAndOutput;
        let mut keys = None;
        let (inlet, outputs) = match (self.pipes, master) {
            (Some(pipes), _) => (
                Inlet::new(pipes.stdin.map(Input::Pipe), Weak::new(), once),
                vec![
                    (Arc::new(pipes.stdout), Stream::Stdout),
                    (Arc::new(pipes.stderr), Stream::Stderr),
                ],
            ),
            (None, Some(master)) => {
                let master = Arc::new(master);
                keys = Some(beside.keys);
                let weak = Arc::downgrade(&master);
                let input = Some(Input::Terminal(weak.clone()));
                (Inlet::new(input, weak, once), vec![(master, Stream::Stdout)])
            }
            (None, None) => return Err(io::Error::other("the container's terminal is missing")),
        };
        let mut relay = Relay {
            outputs: Vec::new(),
            log: Arc::clone(&log),
            over: Arc::clone(&over),
            inlet: Arc::new(inlet),
            left: Arc::new(EventFd::new()?),
        };
        for (from, stream) in outputs {
            let to = To {
                shown: shown && beside.hidden != Some(stream),
                log: Arc::clone(&log),
                audience: Arc::clone(&beside.audience),
                over: Arc::clone(&over),
                stream,
            };
            relay
                .outputs
                .push(std::thread::Builder::new().spawn(move || output(&from, &to))?);
        }
        if once {
            let (inlet, left) = (Arc::clone(&relay.inlet), Arc::clone(&relay.left));
            // Never joined: it ends with the process, or when either side closes.
            drop(std::thread::Builder::new().spawn(move || input_to(&inlet, keys.map(Watch::new), &left))?);
        }
        Ok(relay)
    }
}

impl Relay {
    /// Gives the container's terminal the size of the user's.
    pub(in crate::containers) fn resize(&self, rows: u16, columns: u16) {
        self.inlet.set_size(rows, columns);
    }

    /// The way in for others.
    pub(super) fn inlet(&self) -> &Arc<Inlet> {
        &self.inlet
    }

    /// Readable when the user has left the terminal.
    pub(in crate::containers) fn left(&self) -> &EventFd {
        &self.left
    }

    /// Passes on what has been written, and no more: a command within the container has ended, but what it left running
    /// may have its streams still.
    pub(in crate::containers) fn end(self) {
        // Full it is written to already.
        let _ = self.over.write(1);
        self.drain();
    }

    /// Waits until everything that the container wrote has been passed on. To be called when no process of it is left.
    /// Gives the log.
    pub(super) fn drain(self) -> Arc<Mutex<Log>> {
        for thread in self.outputs {
            // A panic there has been printed; the exit code matters more.
            let _ = thread.join();
        }
        self.log
    }
}

/// Where one of the container's streams goes.
struct To {
    /// Whether the user sees it.
    shown: bool,
    log: Arc<Mutex<Log>>,
    audience: Arc<Audience>,
    over: Arc<EventFd>,
    stream: Stream,
}

impl To {
    /// Waits until there is something to read, or nothing more is waited for. Says which of it is so.
    fn wait(&self, from: &OwnedFd) -> [bool; 2] {
        let mut fds = [
            PollFd::new(from.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.over.as_fd(), PollFlags::POLLIN),
        ];
        while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
        fds.map(|fd| fd.any().unwrap_or(false))
    }
}

/// Moves bytes until the container closes its side. When the user's side is closed, so is ours: the container's next
/// write gets SIGPIPE, as it would without a container between, or SIGHUP and EIO from a terminal.
fn output(from: &OwnedFd, to: &To) {
    let mut buffer = vec![0; CHUNK];
    // Once it is over: what may be in the pipe still.
    let mut last = None;
    loop {
        let [readable, over] = to.wait(from);
        if over && (!readable || *last.get_or_insert(LARGEST_PIPE) == 0) {
            return;
        }
        // A pty whose last user is gone answers EIO.
        let length = match read(from, &mut buffer) {
            Err(Errno::EINTR) => continue,
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if let Some(last) = &mut last {
            *last = last.saturating_sub(length);
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        // First, since the user may be slow to read.
        to.log.lock().add(to.stream, bytes);
        to.audience.tell(to.stream, bytes);
        let done = match to.shown {
            true if to.stream == Stream::Stdout => write_all(stdout().as_fd(), bytes),
            true => write_all(stderr().as_fd(), bytes),
            false => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}

fn input_to(to: &Inlet, mut watch: Option<Watch>, left: &EventFd) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let typed = match read(stdin(), &mut buffer) {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                wait_readable(stdin().as_fd());
                continue;
            }
            Ok(0) | Err(_) => return to.end_input(),
            Ok(length) => buffer.get(..length).unwrap_or_default(),
        };
        let (bytes, leaves) = match watch.as_mut().map(|watch| watch.typed(typed)) {
            None => (Cow::Borrowed(typed), false),
            Some(Typed::Pass(bytes)) => (Cow::Owned(bytes), false),
            Some(Typed::Leave(bytes)) => (Cow::Owned(bytes), true),
        };
        if to.write(&bytes).is_err() {
            return;
        }
        if leaves {
            // Full it is written to already.
            let _ = left.write(1);
            return;
        }
    }
}

pub(super) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody else made the user's stream non-blocking.
            Err(Errno::EAGAIN) => wait(to, PollFlags::POLLOUT),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait(on: BorrowedFd<'_>, event: PollFlags) {
    // Interrupted or refused, the caller's own call tells.
    let _ = poll(&mut [PollFd::new(on, event)], PollTimeout::NONE);
}

/// Waits until a descriptor has something to say.
pub(super) fn wait_readable(on: BorrowedFd<'_>) {
    let mut fds = [PollFd::new(on, PollFlags::POLLIN)];
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// The same for at most this time (`None` for ever): says whether it came.
pub(super) fn becomes_readable(on: BorrowedFd<'_>, within: Option<Duration>) -> bool {
    let timeout = within.map_or(PollTimeout::NONE, |time| {
        PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
    });
    loop {
        match poll(&mut [PollFd::new(on, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            found => return found.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Puts /dev/null in place of the user's streams, for a process that has no business with them.
pub(in crate::containers) fn forget_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        // On failure the stream stays, which costs nothing but a terminal that is held a little longer.
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
}

/// Puts `log` in place of the user's output.
pub(super) fn write_to(log: OwnedFd) {
    // Neither fails for descriptors that are open.
    let _ = dup2_stdout(&log);
    let _ = dup2_stderr(&log);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_reader_stops_the_relay() {
        let (out, to_out) = pipe2(OFlag::O_CLOEXEC).unwrap_or_else(|e| panic!("{e}"));
        let to = To {
            shown: false,
            log: Arc::new(Mutex::new(Log::nothing())),
            audience: Arc::default(),
            over: Arc::new(EventFd::new().unwrap_or_else(|e| panic!("{e}"))),
            stream: Stream::Stdout,
        };
        let thread = std::thread::spawn(move || output(&out, &to));
        assert_eq!(write_all(to_out.as_fd(), &[7; 3 * CHUNK]), Ok(()));
        drop(to_out);
        assert!(thread.join().is_ok());
    }
}
