//! What is a volume? A directory of the user's data that outlives containers, and what of the host or of images is seen in
//! them. `record`: what is on disk; `options`: what the driver is told; `attach`: flags and image → a list; `prepare`:
//! made and filled; `fill`, `copy`: from the image's index, without a mount; `mounted`: what a container has of all this;
//! `remove`: who uses one, and the end; `sweep`, `empty`: of what was removed or never came to be.

use std::path::PathBuf;

mod attach;
mod copy;
mod empty;
mod fill;
mod mounted;
mod options;
mod prepare;
mod record;
mod remove;
mod sweep;

pub use attach::{Attached, Wanted};
pub(super) use mounted::of_spec as mounted_of;
pub use mounted::{Kind, Mounted};
pub use prepare::finish;
pub(super) use prepare::{For, Ready};
pub use record::{ANONYMOUS, New, Record, all, create, find, new_name};
pub(super) use remove::release;
pub use remove::{Pruned, User, Users, bytes, prune, remove};
pub(super) use sweep::sweep;
pub use sweep::{sweeper, wipe};

/// Why work on a volume failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Nothing of that name.
    #[error("no such volume: {0}")]
    NoSuchVolume(String),
    /// `volume create` of a name against the grammar; Docker's words.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
    )]
    Name(String),
    /// It is there, and something else.
    #[error("volume {name} is there already, with other {what}: remove it first, or leave them out")]
    Differs {
        /// The volume.
        name: String,
        /// Labels or options.
        what: &'static str,
    },
    /// Docker's words.
    #[error("remove {name}: volume is in use - [{}]", users.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Ids of containers.
        users: Vec<String>,
    },
    /// Whose volumes it uses cannot be known.
    #[error("{} is damaged, so it cannot be known which volumes are in use: remove that container first", .0.display())]
    DamagedUser(PathBuf),
    /// `--opt`.
    #[error("volume option {option:?}: {why}")]
    Option {
        /// `KEY=VALUE`.
        option: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// `--driver`.
    #[error("volume driver {0:?} is not there: the only one is local")]
    Driver(String),
    /// `--volumes-from`.
    #[error("--volumes-from {text:?}: {why}")]
    From {
        /// As given.
        text: String,
        /// Why not.
        why: &'static str,
    },
    /// The image has a file where a volume is to be.
    #[error("cannot mount volume over existing file, file exists {0}")]
    OverFile(String),
    /// `image-subpath`.
    #[error("image {image} has no directory {subpath:?}")]
    NoSubpath {
        /// The image.
        image: String,
        /// The path.
        subpath: String,
    },
    /// It was removed while a container was made.
    #[error("volume {0} was removed and made again without end: try once more")]
    Restless(String),
    /// A volume cannot be filled, given to others, or emptied.
    #[error("volume {name}: {why}")]
    Work {
        /// The volume.
        name: String,
        /// What and why.
        why: String,
    },
}
