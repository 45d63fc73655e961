//! Which system calls may a container make?

use caps::CapsHashSet;
use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::plan::PlanError;

/// The Spec's annotation that asks for Bryo's default profile, as far as the container's capabilities allow; its value is
/// `default`. It stands for the same list in `linux.seccomp`, and spares writing, reading and compiling that at each start.
pub const SECCOMP: &str = "bryo.seccomp";

/// The filters to install, oldest first; none without a profile.
pub(super) fn programs(
    _spec: &Spec,
    profile: Option<&LinuxSeccomp>,
    _bounding: &CapsHashSet,
) -> Result<Vec<Vec<u8>>, PlanError> {
    match profile {
        None => Ok(Vec::new()),
        Some(_) => Err(PlanError::Unsupported("linux.seccomp".to_owned())),
    }
}
