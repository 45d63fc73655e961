//! Which steps make this Spec a container? Pure: each refusal and each missing ability is a unit test.

use std::path::PathBuf;

use oci_spec::runtime::Spec;

use crate::host::Probe;

/// Where the container's root comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A FUSE mount made over the Spec's `root.path`, an existing directory (nothing of it is shown).
    Fuse {
        /// How many descriptors of the connection [`super::Launch::devices`] is to give: one per server thread.
        devices: usize,
    },
    /// A directory.
    Path(PathBuf),
}

/// Ordered steps, ready to be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    _steps: (),
}

/// Why a Spec cannot be carried out here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The Spec asks for something that Bryo does not do (yet).
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The Spec contradicts itself or the runtime specification.
    #[error("bad container configuration: {0}")]
    Invalid(String),
}

/// Turns `spec` into steps for the machine that `host` describes.
///
/// # Errors
/// Refuses what cannot be done, rather than leaving it out.
pub fn plan(spec: &Spec, rootfs: RootSource, host: &Probe) -> Result<Plan, PlanError> {
    let _ = (spec, rootfs, host);
    todo!()
}
