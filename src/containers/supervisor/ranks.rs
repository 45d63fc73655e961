//! Who is in a container that lives as long as somebody is in it (`run --join`)? Each is a connection of its tool's, so that
//! one who is killed has left, too. The supervisor takes them in, and ends the container when the last has gone.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use crate::containers::attach;
use crate::containers::joining::{WELCOME, door};

/// How long a container waits for the first: who made it was killed before it came in.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those who are in, and where they come in.
#[derive(Debug)]
pub(super) struct Ranks {
    door: UnixListener,
    seats: Vec<UnixStream>,
    /// Until somebody has come.
    timer: Option<TimerFd>,
    epoll: Epoll,
    /// Whether somebody waits at the door for whom there is no descriptor: until another leaves, nobody looks there.
    full: bool,
    run: PathBuf,
    name: String,
}

impl Ranks {
    /// Opens the door.
    pub(super) fn new(run: &Path, id: &str) -> io::Result<Ranks> {
        let name = door(id);
        let mut ranks = Ranks {
            door: attach::listen(run, &name)?,
            seats: Vec::new(),
            timer: None,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            full: false,
            run: run.to_owned(),
            name,
        };
        ranks.watch(&ranks.door)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let once = Expiration::OneShot(TimeSpec::from_duration(PATIENCE));
        timer.set(once, TimerSetTimeFlags::empty())?;
        ranks.watch(&timer)?;
        ranks.timer = Some(timer);
        Ok(ranks)
    }

    fn watch(&self, what: impl AsFd) -> nix::Result<()> {
        self.epoll.add(what, EpollEvent::new(EpollFlags::EPOLLIN, 0))
    }

    /// Takes in who came, lets go who left. Is the container to end, since nobody is in it any more?
    pub(super) fn look(&mut self) -> bool {
        self.welcome();
        if let Some(timer) = &self.timer {
            return timer.get().is_ok_and(|rest| rest.is_none());
        }
        let stays: Vec<bool> = self.seats.iter_mut().map(stays).collect();
        if !stays.contains(&true) {
            // The last waits until all of the container is gone.
            return true;
        }
        let left = stays.contains(&false);
        let mut stays = stays.into_iter();
        self.seats.retain(|_| stays.next() == Some(true));
        if left && std::mem::take(&mut self.full) {
            // It was watched before.
            let _ = self.watch(&self.door);
        }
        false
    }

    fn welcome(&mut self) {
        while !self.full {
            match self.door.accept() {
                // Who has left already, or cannot be watched, hears the end of its connection.
                Ok((connection, _)) => {
                    if self.take_in(&connection).is_ok() {
                        self.timer = None;
                        self.seats.push(connection);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    // Only fails for what is not watched.
                    let _ = self.epoll.delete(&self.door);
                    self.full = true;
                }
            }
        }
    }

    fn take_in(&self, connection: &UnixStream) -> io::Result<()> {
        connection.set_nonblocking(true)?;
        self.watch(connection)?;
        (&*connection).write_all(&[WELCOME])
    }

    /// Nobody comes in any more. Those who are in hear the end of their connections with that of this process.
    pub(super) fn close(mut self) {
        std::mem::forget(std::mem::take(&mut self.seats));
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        attach::unlisten(&self.run, &self.name);
    }
}

/// Is it still there? It says nothing.
fn stays(seat: &mut UnixStream) -> bool {
    let mut byte = [0];
    matches!(seat.read(&mut byte), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
}

impl AsFd for Ranks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
