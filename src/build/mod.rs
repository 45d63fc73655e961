//! How does a Dockerfile become an image? `dockerfile`: text → typed instructions; `order`: what is wanted; `solve`: which stages are needed, and what
//! each is made of; `workers`: several at once; `step`: what an instruction does to a stage; `copy`, `contents`, `download`,
//! `run`: how a layer comes to be; `key`: when an earlier one is used again; `lint`: what is probably not meant; `turn`: who makes one that several
//! want; `output`: where the result goes; `cache`: steps from other stores, and for them; `history`: what is kept of the last builds.
//!
//! A stage is a stack of stored layers and a config. A step that changes files makes one more layer: in a writable layer
//! over the stack, whose changes are then stored as a tar with its index, in one pass; the bytes of a COPY come straight from
//! their source.

pub mod dockerfile;
pub mod patterns;

mod archive;
mod attest;
mod base;
mod cache;
mod carry;
mod chmod;
mod commit;
mod config;
mod contents;
mod copy;
mod describe;
mod download;
mod extract;
mod git;
mod hashes;
mod history;
mod key;
mod lint;
mod mount;
mod order;
mod output;
mod owner;
mod prune;
mod remote;
mod run;
mod solve;
mod source;
mod squash;
mod step;
mod telling;
mod tree;
mod turn;
mod urls;
mod usage;
mod variables;
mod workers;
mod workspace;

use std::path::PathBuf;
use std::time::Duration;

pub use archive::begins_archive;
pub use attest::{Attests, Detail, Hash, Material, Provenance, Sbom, Version};
pub use cache::{CacheTo, Mode, OnFailure};
pub use commit::{Commit, commit};
pub use copy::CopyError;
pub use describe::{Argument, Location, Outline, Targets, Wanted, base64, outline, targets};
pub use git::{Address, AddressError, GitError};
pub use history::{Asked, Begun, Event, Known, Outcome, What, events, records, remove as remove_record};
pub use lint::{Checked, Extent, Finding, Rule, check, is_fatal};
pub use mount::Secret;
pub use order::{Agent, Cache, Fetch, Named, OnError, Order, Origin, Squash};
pub use output::{Built, Output, Trust};
pub use prune::{Filters, Prune, Pruned};
pub use remote::{Fetched, Remote};
pub use solve::build;
pub use source::Context;
pub use tree::Times;
pub use usage::{Kept, Kind, Total, kept};

use nix::poll::PollTimeout;

use dockerfile::{ExpandError, ParseError, Place};
use workspace::Workspace;

use crate::images::manifest::Platform;
use crate::store::Store;

/// Removes what killed builders left: what their steps had, and their hold of their records.
///
/// # Errors
/// Something cannot be looked at or removed.
pub fn remove_orphans(store: &Store) -> Result<(), Error> {
    workspace::remove_orphans(store)?;
    history::let_go(store)
}

/// Hears how a build goes.
pub trait Progress: Sync {
    /// A step begins: `[2/7] RUN make`.
    fn begins(&self, title: &str);
    /// It was made before.
    fn cached(&self);
    /// Its command wrote this.
    fn output(&self, bytes: &[u8]);
    /// It is done.
    fn done(&self);
    /// Its command failed, and the user gets to work on it: nothing is shown until the next event.
    fn fails(&self) {}
    /// Something that the user should know.
    fn warning(&self, text: &str);
    /// A step that the cache had is used.
    fn found(&self, _step: &crate::images::steps::Step) {}
    /// A step was made by this build.
    fn made(&self, _step: &crate::images::steps::Step) {}
    /// Something from outside is used.
    fn uses(&self, _material: &Material) {}
    /// How often who waits tells that it does, by [`Progress::tick`].
    fn pace(&self) -> Option<Duration> {
        None
    }
    /// Time has passed.
    fn tick(&self) {}
    /// For a stage that is built beside others: its steps come in between theirs.
    fn beside(&self) -> Box<dyn Progress + '_>;
}

/// How long who waits may wait at once.
fn pace(progress: &dyn Progress) -> PollTimeout {
    let pace = progress.pace().and_then(|pace| pace.try_into().ok());
    pace.unwrap_or(PollTimeout::NONE)
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is none.
    #[error("dockerfile parse error on line {}", .0.place().first)]
    Parse(#[source] ParseError),
    /// A step failed.
    #[error("{text}")]
    Step {
        /// Where it stands.
        place: Place,
        /// The instruction.
        text: String,
        /// Why.
        source: Box<Error>,
    },
    /// `--target`.
    #[error("target stage {0:?} could not be found{1}")]
    NoTarget(String, String),
    /// An image that cannot be had, under a name that is nearly a stage's.
    #[error("there is no stage {name}{meant}, and no such image can be had")]
    NoStage {
        /// As given.
        name: String,
        /// What was probably meant.
        meant: String,
        /// Why the image is not there.
        source: Box<Error>,
    },
    /// `COPY --from` of a stage that comes later, or of itself.
    #[error("--from={0}: a stage can use only those before it")]
    LaterStage(String),
    /// ONBUILD of a base names a stage, by its number here, that nobody knew is needed: that one is built first.
    #[error("stage {0} is not built yet")]
    Unplanned(usize),
    /// A variable.
    #[error("cannot expand {word:?}")]
    Expand {
        /// The word.
        word: String,
        /// Why.
        source: ExpandError,
    },
    /// `--pull=never`.
    #[error("image {name} is here, but not for {platform}")]
    OtherPlatform {
        /// Its name.
        name: String,
        /// What was asked for.
        platform: Platform,
    },
    /// RUN in a stage for another processor.
    #[error(
        "cannot run programs for {0} on this machine: binfmt_misc has no interpreter for them that containers can use (an administrator can install qemu-user-static)"
    )]
    Foreign(Platform),
    /// A value that means nothing.
    #[error("invalid {what} {value:?}")]
    Value {
        /// "port", "mode" …
        what: &'static str,
        /// As given, variables replaced.
        value: String,
    },
    /// `--provenance`, `--sbom`.
    #[error("{wanted} cannot be had for this output: {why}")]
    Unattested {
        /// The flag.
        wanted: &'static str,
        /// Why, and what can.
        why: &'static str,
    },
    /// `--sbom`.
    #[error("no SBOM by the scanner {generator}: {why}")]
    Scanner {
        /// Its name.
        generator: String,
        /// Why.
        why: String,
    },
    /// Something that Bryo cannot do yet.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// An archive that ADD cannot unpack.
    #[error("cannot unpack {name}")]
    Archive {
        /// Its path in the context.
        name: String,
        /// Why.
        source: fuse_overlay::layer::LayerError,
    },
    /// A file by URL.
    #[error(transparent)]
    Download(#[from] crate::images::registry::DownloadError),
    /// An address of a git repository.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A git repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// `ADD --checksum`.
    #[error("{name} has another checksum: {found}")]
    Checksum {
        /// The file's name.
        name: String,
        /// What it has.
        found: crate::store::Digest,
    },
    /// A secret that a RUN requires.
    #[error("secret {0}: not found (give it by --secret id={0},src=FILE)")]
    NoSecret(String),
    /// An SSH agent that a RUN requires.
    #[error("no SSH agent {0} was given (--ssh {0}, with SSH_AUTH_SOCK set, or --ssh {0}=SOCKET)")]
    NoAgent(String),
    /// A mount of a RUN.
    #[error("invalid --mount")]
    Mount(#[from] dockerfile::MountError),
    /// `commit -c` of an instruction that is none of a config.
    #[error("{0:?} is no change of a config")]
    NoChange(String),
    /// COPY or ADD without a context.
    #[error("there is no build context to copy from: the Dockerfile came alone")]
    NoContext,
    /// COPY or ADD.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// RUN.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Command {
        /// Program and arguments.
        command: String,
        /// As a container's.
        code: i32,
    },
    /// A step's container broke.
    #[error("{0}")]
    Trouble(String),
    /// By a signal.
    #[error("interrupted")]
    Interrupted(i32),
    /// The cache has lost what a worker made a moment ago; the builder makes it again.
    #[error("the cache has lost a step")]
    Lost,
    /// `--cache-to`.
    #[error("cannot export the cache to {place}")]
    CacheExport {
        /// Where to.
        place: String,
        /// Why not.
        source: Box<crate::images::cache::ExportError>,
    },
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A step's writable layer.
    #[error("writable layer of a step")]
    Upper(#[source] fuse_overlay::union::OpenError),
    /// An image.
    #[error(transparent)]
    Image(#[from] crate::images::Error),
    /// An archive of the image.
    #[error(transparent)]
    Save(#[from] crate::images::save::SaveError),
    /// A registry that the image is sent to.
    #[error(transparent)]
    Push(#[from] crate::images::push::PushError),
    /// A base that is fetched.
    #[error(transparent)]
    Pull(#[from] crate::images::pull::PullError),
    /// A step's container.
    #[error(transparent)]
    Container(#[from] crate::containers::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}
