//! What do the Spec's names of resources and capabilities mean to the kernel?

use caps::{Capability, CapsHashSet};
use nix::sys::resource::Resource;
use oci_spec::runtime::{LinuxCapabilities, PosixRlimitType};

use super::plan::PlanError;
use super::step::Capabilities;

/// The kernel's resource of a Spec's limit.
pub(super) fn resource(kind: PosixRlimitType) -> Result<Resource, PlanError> {
    Ok(match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    })
}

/// The bounding set, and the other four. A Spec without capabilities grants none.
pub(super) fn capabilities(asked: Option<&LinuxCapabilities>) -> (CapsHashSet, Capabilities) {
    let Some(asked) = asked else {
        return Default::default();
    };
    let set =
        |names: &Option<oci_spec::runtime::Capabilities>| names.iter().flatten().filter_map(known).collect();
    let sets = Capabilities {
        effective: set(asked.effective()),
        permitted: set(asked.permitted()),
        inheritable: set(asked.inheritable()),
        ambient: set(asked.ambient()),
    };
    (set(asked.bounding()), sets)
}

/// Both crates know the same list; one that only the Spec's knew would be granted to nobody.
fn known(name: &oci_spec::runtime::Capability) -> Option<Capability> {
    format!("CAP_{name}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    #[test]
    fn every_capability_has_the_same_name_in_both_crates() {
        for capability in caps::all() {
            let name = capability.to_string();
            let spec = oci_spec::runtime::Capability::from_str(name.trim_start_matches("CAP_")).unwrap();
            assert_eq!(known(&spec), Some(capability), "{name}");
        }
    }
}
