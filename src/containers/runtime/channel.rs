//! What do the supervisor and the container's first processes say to each other? One message, one packet.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recvmsg, sendmsg, shutdown,
    socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// From the child and init to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The child has made a user namespace: map ids into it.
    UserNamespace,
    /// A view is mounted; descriptors of its connection come along.
    View,
    /// The root is mounted, too; descriptors of the connection come along.
    Mounted,
    /// The mount namespace comes along, of a container that has no pid namespace of its own.
    Crowd,
    /// Init lives, by this pid of the supervisor's pid namespace.
    Forked(i32),
    /// Who touches first what the command will touch lives, by this pid.
    Warming(i32),
    /// The pty's master comes along.
    Terminal,
    /// The container's network namespace comes along, and its device, if it has been made.
    Network,
    /// Something was not done as asked; the container goes on.
    Warning(String),
    /// It went wrong; nothing follows.
    Failed(Failure),
}

/// From the supervisor to the child and init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The ids are mapped.
    Mapped,
    /// The command may start.
    Go,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) text: String,
}

/// Whose fault it is, as exit codes tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cause {
    NotFound,
    NotExecutable,
    Other,
}

/// One end. Closed by exec, which is how the supervisor learns that the command runs.
#[derive(Debug)]
pub(in crate::containers) struct Channel(OwnedFd);

/// Longest message in bytes; texts are cut to fit.
const LONGEST: usize = 8192;
/// Most descriptors that come with one message (the kernel's SCM_MAX_FD is 253).
pub(in crate::containers) const MOST_DESCRIPTORS: usize = 64;

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    /// An end that was made by [`Channel::pair`] in another process.
    fn from(end: OwnedFd) -> Channel {
        Channel(end)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

impl Channel {
    /// Two connected ends.
    pub(in crate::containers) fn pair() -> nix::Result<(Channel, Channel)> {
        let (one, other) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Channel(one), Channel(other)))
    }

    /// An end whose other is gone.
    pub(in crate::containers) fn deaf() -> nix::Result<Channel> {
        Ok(Channel::pair()?.0)
    }

    /// Sends a message with descriptors.
    pub(in crate::containers) fn send<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[impl AsFd],
    ) -> nix::Result<()> {
        self.send_so(message, descriptors, MsgFlags::empty())
    }

    /// Sends a message if there is room for it, without waiting.
    pub(in crate::containers) fn send_now<M: Serialize>(&self, message: &M) -> nix::Result<()> {
        self.send_so(message, &[] as &[OwnedFd], MsgFlags::MSG_DONTWAIT)
    }

    fn send_so<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[impl AsFd],
        flags: MsgFlags,
    ) -> nix::Result<()> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
        if bytes.len() > LONGEST || descriptors.len() > MOST_DESCRIPTORS {
            return Err(Errno::EMSGSIZE);
        }
        let raw: Vec<RawFd> = descriptors
            .iter()
            .map(|descriptor| descriptor.as_fd().as_raw_fd())
            .collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            flags | MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
    }

    /// Nothing more will be sent: the other side finds the end.
    pub(in crate::containers) fn finish(&self) -> nix::Result<()> {
        shutdown(self.0.as_raw_fd(), Shutdown::Write)
    }

    /// Is the other side gone?
    pub(in crate::containers) fn is_hung_up(&self) -> nix::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO)?;
        Ok(fds.iter().any(|fd| fd.any() == Some(true)))
    }

    /// Would [`Channel::receive`] not have to wait?
    pub(in crate::containers) fn has_word(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits for a message; none when the other side is gone.
    pub(in crate::containers) fn receive<M: DeserializeOwned>(
        &self,
    ) -> nix::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut bytes = [0; LONGEST];
        let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
        let (length, descriptors) = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                // ECONNRESET comes once, before what is still to be read, if the other side ended with unread orders.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(error) => return Err(error),
                Ok(message) => {
                    break (
                        message.bytes,
                        message.cmsgs()?.flat_map(crate::sys::received).collect(),
                    );
                }
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let message = bytes
            .get(..length)
            .and_then(|bytes| serde_json::from_slice(bytes).ok());
        message
            .map(|message| Some((message, descriptors)))
            .ok_or(Errno::EBADMSG)
    }
}

impl Failure {
    /// A failure of Bryo or the machine: what was done, on what, why.
    pub(super) fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Failure {
        let mut text = format!("{}: {why}", what.into());
        text.truncate(text.floor_char_boundary(LONGEST / 4)); // JSON may double it
        Failure {
            cause: Cause::Other,
            text,
        }
    }
}
