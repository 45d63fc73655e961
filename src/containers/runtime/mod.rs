//! The executor: carries out an OCI runtime Spec as an ordinary user, and knows nothing but the Spec.
//!
//! `plan`: Spec → ordered steps, pure; `start`: the processes and their talk; `apply`: carries the steps out.

mod ahead;
mod apply;
pub(super) mod channel;
mod confine;
pub(super) mod cores;
mod crowd;
mod devices;
mod errand;
mod exec;
mod holder;
mod idmap;
mod inside;
mod keeper;
mod limits;
mod mounts;
mod namespaces;
mod options;
mod owners;
pub mod plan;
mod rootfs;
mod sealed;
pub mod seccomp;
pub mod start;
mod step;
mod warm;
mod within;

pub use ahead::{Ahead, Maker};
pub use crowd::{Crowd, mark};
pub use errand::{as_root, as_root_of, as_root_of_process};
pub use inside::{Helper, help, mount_of};
pub use keeper::keep;
pub use options::{HANDED, SUBDIRECTORY, TOP_READ_ONLY};
pub use plan::{Plan, PlanError, RootSource, plan};
pub use sealed::ensure_sealed;
pub(super) use sealed::is_sealed;
pub use start::{Init, Launch, MOUNT, NetworkEnds, StartError, Stdio, spawn};
pub use within::{Within, enter, plan_within, read_texts};
