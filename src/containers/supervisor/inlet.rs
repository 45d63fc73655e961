//! How does input come into a container, from whoever speaks to it? Into its pipe or terminal, one after the other.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Weak;

use nix::errno::Errno;
use parking_lot::Mutex;

use super::stdio::write_all;
use crate::containers::attach::audience::Host;
use crate::containers::spec::TerminalSize;
use crate::sys;

/// Where input goes.
#[derive(Debug)]
pub(super) enum Input {
    Pipe(OwnedFd),
    /// The master belongs to the thread that reads it: when that ends, the terminal is hung up.
    Terminal(Weak<OwnedFd>),
}

impl Input {
    fn write(&self, bytes: &[u8]) -> nix::Result<()> {
        match self {
            Input::Pipe(pipe) => write_all(pipe.as_fd(), bytes),
            Input::Terminal(master) => {
                let master = master.upgrade().ok_or(Errno::EIO)?;
                write_all(master.as_fd(), bytes)
            }
        }
    }
}

/// The container's input, and its terminal if it has one.
#[derive(Debug)]
pub(in crate::containers) struct Inlet {
    /// None: the container reads /dev/null, or its input has ended.
    input: Mutex<Option<Input>>,
    terminal: Weak<OwnedFd>,
    /// Whether an end of somebody's input is the end of a pipe: Docker's StdinOnce.
    once: bool,
}

impl Inlet {
    pub(super) fn new(input: Option<Input>, terminal: Weak<OwnedFd>, once: bool) -> Inlet {
        Inlet {
            input: Mutex::new(input),
            terminal,
            once,
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> nix::Result<()> {
        self.input.lock().as_ref().ok_or(Errno::EPIPE)?.write(bytes)
    }

    pub(super) fn set_size(&self, rows: u16, columns: u16) {
        if let Some(master) = self.terminal.upgrade() {
            // A pty that is gone has no size.
            let _ = sys::set_terminal_size(master.as_fd(), rows, columns);
        }
    }
}

impl Host for Inlet {
    fn input(&self, bytes: &[u8]) {
        // What the container does not take any more is lost, as it would be without us.
        let _ = self.write(bytes);
    }

    fn end_input(&self) {
        let mut input = self.input.lock();
        // A terminal has no end, it is hung up with the container: the next to attach speaks to it.
        if self.once && matches!(*input, Some(Input::Pipe(_))) {
            input.take();
        }
    }

    fn resize(&self, size: TerminalSize, redraw: bool) {
        if redraw {
            // Only a change makes programs draw what a new terminal does not show yet.
            self.set_size(size.rows, size.columns.saturating_add(1));
        }
        self.set_size(size.rows, size.columns);
    }
}
