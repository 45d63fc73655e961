//! What becomes of what the container wrote last? Its kernel holds it when its last process has ended, and the network process
//! carries it on. It is asked to end by the end of file of its channel, and closes its own end when nothing is under way.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Channel, Line, Network};
use crate::containers::supervisor::protocol::{Inquiry, Order};
use crate::containers::supervisor::told::Told;

/// A little longer than what the process allows itself.
const PATIENCE: Duration = Duration::from_secs(12);

/// Who may say that the container's end is not to wait any longer.
pub(in crate::containers::supervisor) struct Impatient<'a> {
    pub(in crate::containers::supervisor) tool: &'a Channel,
    pub(in crate::containers::supervisor) told: &'a mut Told,
}

impl Network {
    /// The container has ended: no more clients, and the process is to carry on what is under way, and to end.
    pub(in crate::containers::supervisor) fn finish(&mut self) {
        // None follows this process, and it has the device too.
        self.close();
        if let Some(Line::Channel(channel, _)) = self.current.as_ref().map(|current| &current.line) {
            // Fails only for one that has ended.
            let _ = channel.finish();
        }
    }

    /// Waits until nothing is under way any more, or somebody is impatient.
    pub(in crate::containers::supervisor) fn drain(mut self, mut impatient: Impatient<'_>) {
        if let Some(Line::Channel(channel, _)) = self.current.as_ref().map(|current| &current.line) {
            self.drained = impatient.wait(channel);
        }
    }
}

impl Impatient<'_> {
    /// Waits until the other end of this channel is closed: `false` if that is not to be waited for.
    fn wait(&mut self, channel: &Channel) -> bool {
        let end = Instant::now() + PATIENCE;
        let mut listening = true;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let tool = if listening {
                self.tool.as_fd()
            } else {
                channel.as_fd()
            };
            let mut fds =
                [channel.as_fd(), self.told.as_fd(), tool].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let timeout = PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX);
            if rest.is_zero() || poll(&mut fds, timeout) == Ok(0) {
                return false;
            }
            let [closed, told, tool] = fds.map(|fd| fd.any().unwrap_or(false));
            // A question that nobody waits for any more is no end.
            if closed && !matches!(channel.receive::<Inquiry>(), Ok(Some(_))) {
                return true;
            }
            if told && self.told.hear() {
                return false;
            }
            if tool && listening {
                match self.tool.receive() {
                    Ok(Some((Order::Signal(_), _))) => return false,
                    Ok(Some((Order::Resize { .. }, _))) => {}
                    Ok(None) | Err(_) => listening = false,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_no_end_and_a_closed_channel_is_one() {
        let (tool, other) = Channel::pair().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let mut told = Told::listen().unwrap();
        let mut impatient = Impatient {
            tool: &tool,
            told: &mut told,
        };
        let inquiry = Inquiry {
            question: 1,
            name: "peer".into(),
        };
        theirs.send_now(&inquiry).unwrap();
        other.send_now(&Order::Signal(libc::SIGTERM)).unwrap();
        assert!(!impatient.wait(&ours), "a question was taken for the end");
        theirs.send_now(&inquiry).unwrap();
        drop(theirs);
        assert!(impatient.wait(&ours));
    }
}
