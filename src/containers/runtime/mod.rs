//! The executor: carries out an OCI runtime Spec as an ordinary user, and knows nothing but the Spec.
//!
//! `plan`: Spec → ordered steps, pure; `start`: the processes and their talk; `apply`: carries steps out.

pub mod plan;
pub mod start;

pub use plan::{Plan, PlanError, RootSource, plan};
pub use start::{Init, Launch, StartError, Stdio, spawn};
