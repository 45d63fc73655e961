//! Who hears a container beside the one who started it, and speaks to it? The supervisor's side of `attach`: a queue for each,
//! so that none holds up the container, or another.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use parking_lot::{Condvar, Mutex};

use super::frame::{Asked, Ended, Told};
use crate::containers::log::Stream;
use crate::containers::spec::TerminalSize;

/// Bytes that wait for one tool at most.
const MOST_WAITING: usize = 1 << 20;

/// Tools at once.
const MOST_GUESTS: usize = 64;

/// How long tools may take to hear the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a tool may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);

/// What guests may do to the container.
pub(in crate::containers) trait Host: Send + Sync + 'static {
    /// Takes input.
    fn input(&self, bytes: &[u8]);
    /// The input has ended.
    fn end_input(&self);
    /// The terminal of whoever attached last has this size now; `redraw`: even if the container's has it already.
    fn resize(&self, size: TerminalSize, redraw: bool);
}

/// All who listen.
#[derive(Debug, Default)]
pub(in crate::containers) struct Audience {
    guests: Mutex<Guests>,
    /// Something happened to a queue.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Guests {
    list: Vec<Guest>,
    /// Those that came, ever.
    count: u64,
}

#[derive(Debug)]
struct Guest {
    number: u64,
    waiting: VecDeque<Told>,
    bytes: usize,
    left_out: u64,
}

impl Guest {
    fn push(&mut self, told: Told, length: usize) {
        if self.bytes + length > MOST_WAITING {
            self.left_out += length as u64;
            return;
        }
        if self.left_out > 0 {
            self.waiting
                .push_back(Told::LeftOut(std::mem::take(&mut self.left_out)));
        }
        self.bytes += length;
        self.waiting.push_back(told);
    }

    fn next(&mut self) -> Option<Told> {
        let told = self.waiting.pop_front()?;
        if let Told::Output(_, bytes) = &told {
            self.bytes -= bytes.len();
        }
        Some(told)
    }
}

impl Audience {
    /// Tells all what the container wrote. Waits for nobody.
    pub(in crate::containers) fn tell(&self, stream: Stream, bytes: &[u8]) {
        let mut guests = self.guests.lock();
        if guests.list.is_empty() {
            return;
        }
        for guest in &mut guests.list {
            guest.push(Told::Output(stream, bytes.to_vec()), bytes.len());
        }
        self.changed.notify_all();
    }

    /// Takes in who waits at the door. `false`: there is no descriptor for it, and it goes on waiting.
    pub(in crate::containers) fn welcome(
        self: &Arc<Self>,
        door: &UnixListener,
        host: &Arc<impl Host>,
    ) -> bool {
        match door.accept() {
            Ok((connection, _)) => self.take_in(connection, host),
            // It may have left already.
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted);
            }
        }
        true
    }

    fn take_in(self: &Arc<Self>, connection: UnixStream, host: &Arc<impl Host>) {
        let own = nix::unistd::geteuid().as_raw();
        let is_own = getsockopt(&connection, PeerCredentials).is_ok_and(|peer| peer.uid() == own);
        if !is_own || connection.set_nonblocking(false).is_err() {
            return;
        }
        if self.guests.lock().list.len() >= MOST_GUESTS {
            return refuse(
                connection,
                format!("{MOST_GUESTS} are attached, which is the most"),
            );
        }
        let (audience, host) = (Arc::clone(self), Arc::clone(host));
        let Ok(other) = connection.try_clone() else { return };
        // Without a thread there is no guest; the container goes on.
        if let Err(error) = std::thread::Builder::new().spawn(move || audience.hear(connection, &*host)) {
            refuse(other, format!("its supervisor has no thread for it: {error}"));
        }
    }

    /// The life of a connection: what it asks.
    fn hear(self: Arc<Self>, mut connection: UnixStream, host: &impl Host) {
        let hello = greeted(&mut connection);
        let Ok(Some(Asked::Hello(hello))) = hello else {
            return;
        };
        let Ok(other) = connection.try_clone() else { return };
        let number = self.enter();
        let audience = Arc::clone(&self);
        let spoken = std::thread::Builder::new().spawn(move || audience.speak(number, other));
        if spoken.is_ok() {
            if let Some((rows, columns)) = hello.size {
                host.resize(TerminalSize { rows, columns }, true);
            }
            while let Ok(Some(asked)) = Asked::receive(&mut connection) {
                match asked {
                    Asked::Input(bytes) if hello.input => host.input(&bytes),
                    Asked::InputEnd if hello.input => host.end_input(),
                    Asked::Size(size) if self.is_last(number) => host.resize(size, false),
                    Asked::Input(_) | Asked::InputEnd | Asked::Size(_) | Asked::Hello(_) => {}
                }
            }
        }
        self.leave(number);
    }

    /// Says to a connection what is in its queue, until it is gone.
    fn speak(&self, number: u64, mut connection: UnixStream) {
        loop {
            let mut guests = self.guests.lock();
            let Some(guest) = guests.find(number) else { return };
            let Some(told) = guest.next() else {
                self.changed.wait(&mut guests);
                continue;
            };
            drop(guests);
            let is_last = matches!(told, Told::Ended(_));
            if told.send(&mut connection).is_err() || is_last {
                // Its other thread hears that, too.
                let _ = connection.shutdown(std::net::Shutdown::Both);
                self.leave(number);
                return;
            }
        }
    }

    fn enter(&self) -> u64 {
        let mut guests = self.guests.lock();
        guests.count += 1;
        let number = guests.count;
        guests.list.push(Guest {
            number,
            waiting: VecDeque::new(),
            bytes: 0,
            left_out: 0,
        });
        number
    }

    fn leave(&self, number: u64) {
        self.guests.lock().list.retain(|guest| guest.number != number);
        self.changed.notify_all();
    }

    fn is_last(&self, number: u64) -> bool {
        self.guests
            .lock()
            .list
            .last()
            .is_some_and(|guest| guest.number == number)
    }

    /// Does nobody listen?
    pub(in crate::containers) fn is_empty(&self) -> bool {
        self.guests.lock().list.is_empty()
    }

    /// Tells all that the container has ended, and gives them a moment to hear it.
    pub(in crate::containers) fn end(&self, code: i32, error: Option<&str>) {
        let mut guests = self.guests.lock();
        let ended = Ended {
            code,
            error: error.map(Into::into),
        };
        for guest in &mut guests.list {
            guest.push(Told::Ended(ended.clone()), 0);
        }
        self.changed.notify_all();
        let until = Instant::now() + PATIENCE;
        while !guests.list.is_empty() && !self.changed.wait_until(&mut guests, until).timed_out() {}
    }
}

impl Guests {
    fn find(&mut self, number: u64) -> Option<&mut Guest> {
        self.list.iter_mut().find(|guest| guest.number == number)
    }
}

/// Turns somebody away. Never waits: nothing was sent before, so there is room.
fn refuse(mut connection: UnixStream, why: String) {
    // Who has left already need not know.
    let _ = Told::Refused(why).send(&mut connection);
}

/// What a connection says first, which it may not put off for ever.
fn greeted(connection: &mut UnixStream) -> io::Result<Option<Asked>> {
    connection.set_read_timeout(Some(GREETING))?;
    let hello = Asked::receive(connection);
    connection.set_read_timeout(None)?;
    hello
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_loses_what_is_new_and_is_told() {
        let audience = Audience::default();
        let number = audience.enter();
        let piece = vec![7; 64 << 10];
        for _ in 0..20 {
            audience.tell(Stream::Stdout, &piece);
        }
        let mut guests = audience.guests.lock();
        let guest = guests.find(number).unwrap();
        assert_eq!(guest.waiting.len(), 16);
        assert_eq!(guest.next(), Some(Told::Output(Stream::Stdout, piece.clone())));
        drop(guests);
        audience.tell(Stream::Stderr, b"new");
        let mut guests = audience.guests.lock();
        let guest = guests.find(number).unwrap();
        let last: Vec<Told> = guest.waiting.drain(15..).collect();
        assert_eq!(
            last,
            [
                Told::LeftOut(4 * (64 << 10)),
                Told::Output(Stream::Stderr, b"new".to_vec())
            ]
        );
    }
}
