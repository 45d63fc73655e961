//! What do tool, supervisor and server say to each other? One enum per direction, one packet per message.

use serde::{Deserialize, Serialize};

use crate::containers::storage::Storage;

use crate::net::{Addresses, Known, Port, Reach, Resolvers};

/// From the supervisor to the tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Notice {
    /// Something could not be done as asked; the container goes on.
    Warning(String),
    /// The command is about to run, and may speak before [`Notice::Started`]: signals are its own from now on.
    Starting,
    /// The command runs.
    Started,
    /// The user has typed the keys that leave its terminal; it goes on.
    Left,
    /// It never ran: one line, and Docker's exit code.
    Failed {
        /// 125, 126 or 127.
        code: u8,
        /// What failed, on what, why, what would help.
        message: String,
    },
    /// It ended, and all that is left of it is on disk or removed.
    Ended {
        /// As Docker has it: 128 + n after signal n.
        code: i32,
        /// What went wrong in ending it.
        error: Option<String>,
        /// The supervisor stays, to start it again.
        stays: bool,
    },
}

/// From the tool to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Pass this signal to the command.
    Signal(i32),
    /// The user's terminal has changed its size, in characters.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// From the filesystem server to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Image and writable layer are open.
    Open,
    /// They are not, and why.
    Failed(String),
}

/// How a server holds an image's indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Indexes {
    /// Mapped.
    Mapped,
    /// Read into memory.
    Read,
}

/// How a server died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Death {
    /// By itself, perhaps of a request.
    Crash,
    /// By a signal that somebody sent.
    Killed,
}

/// What becomes of a writable layer when its container has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum After {
    /// It is read once: a build step's, whose changes become a layer.
    #[default]
    Read,
    /// It is kept, to be opened again.
    Kept,
    /// It is removed.
    Removed,
}

/// From the supervisor to the filesystem server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// To a successor: take over under the ledger that comes along.
    Inherit {
        /// The bytes of the writable layer's path.
        upper: Vec<u8>,
        /// Its limits.
        storage: Storage,
        /// How many descriptors of the image follow.
        descriptors: usize,
        /// How its indexes are held.
        indexes: Indexes,
        /// How the dead server died.
        death: Death,
    },
    /// Descriptors of the image come along.
    Image,
    /// Answer on the descriptors that come along, in a user namespace of these ids: (first, end) each.
    Serve {
        /// Mapped user ids.
        uids: Vec<(u32, u32)>,
        /// Mapped group ids.
        gids: Vec<(u32, u32)>,
        /// What becomes of the writable layer when the container has ended.
        #[serde(default)]
        after: After,
        /// The last of the descriptors is a file in which to note what programs touch first.
        #[serde(default)]
        notes: bool,
    },
    /// The container's init, as the pidfd that comes along: to be killed when the supervisor is gone.
    Guard,
}

/// From the supervisor to the network process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Errand {
    /// Carry the packets of the device that comes along.
    Begin {
        /// The container's addresses, and those of the way out.
        addresses: Addresses,
        /// Who answers for names.
        resolvers: Resolvers,
        /// How many listeners follow.
        listeners: usize,
        /// How far the container reaches.
        reach: Reach,
    },
    /// Listeners come along, of these ports.
    Listeners(Vec<Port>),
    /// How far the container reaches from now on.
    Reach(Reach),
    /// What is known about the name of an [`Inquiry`]; `None`: no container that is known has it.
    Answer {
        /// Its number.
        question: u64,
        /// Their addresses, or its names.
        known: Option<Known>,
    },
}

/// From the network process to the supervisor: who has this name?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inquiry {
    /// Its number.
    pub(super) question: u64,
    /// As it was asked.
    pub(super) name: String,
}
