//! Which namespaces does a container share with the host, by flags, and which kernel parameters does it set in its own?

use std::collections::HashMap;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::mounts::entry;
use super::{Request, SpecError};
use crate::containers::runtime::plan::is_own_sysctl;

/// `--ipc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ipc {
    /// One of its own.
    #[default]
    Private,
    /// The same: nothing here joins it, whatever it is called.
    Shareable,
    /// One of its own, without /dev/shm.
    None,
    /// The host's.
    Host,
}

impl Ipc {
    /// Reads the flag.
    ///
    /// # Errors
    /// One line: what it may be.
    pub fn parse(text: &str) -> Result<Ipc, String> {
        match text {
            "" | "private" => Ok(Ipc::Private),
            "shareable" => Ok(Ipc::Shareable),
            "none" => Ok(Ipc::None),
            "host" => Ok(Ipc::Host),
            _ if text.starts_with("container:") || text.starts_with("ns:") => {
                Err("another container's cannot be joined: a volume or --ipc host shares memory".into())
            }
            _ => Err("private, shareable, none or host".into()),
        }
    }

    /// As Docker's HostConfig has it.
    pub fn name(self) -> &'static str {
        match self {
            Ipc::Private => "private",
            Ipc::Shareable => "shareable",
            Ipc::None => "none",
            Ipc::Host => "host",
        }
    }
}

/// What is the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// `--ipc`.
    pub ipc: Ipc,
    /// `--uts host`.
    pub uts: bool,
    /// `--cgroupns host`.
    pub cgroups: bool,
}

impl Shared {
    /// Is there a namespace of the container's own?
    pub(super) fn has_own(self, kind: LinuxNamespaceType) -> bool {
        match kind {
            LinuxNamespaceType::Ipc => self.ipc != Ipc::Host,
            LinuxNamespaceType::Uts => !self.uts,
            LinuxNamespaceType::Cgroup => !self.cgroups,
            _ => true,
        }
    }

    /// What of the mounts follows from it. `has_queues`: the host shows its message queues.
    pub(super) fn change(self, mounts: &mut Vec<Mount>, has_queues: bool) -> Result<(), SpecError> {
        let is_at = |mount: &Mount, place: &str| mount.destination().as_os_str() == place;
        if matches!(self.ipc, Ipc::None | Ipc::Host) {
            mounts.retain(|mount| !is_at(mount, "/dev/shm"));
        }
        if self.ipc != Ipc::Host {
            return Ok(());
        }
        mounts.retain(|mount| !is_at(mount, "/dev/mqueue"));
        let places = [Some("/dev/shm"), has_queues.then_some("/dev/mqueue")];
        for place in places.into_iter().flatten() {
            let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"];
            mounts.push(entry("bind", place, place, &options)?);
        }
        Ok(())
    }
}

/// `--sysctl`: only what is the container's own.
pub(super) fn sysctls(request: &Request) -> Result<Option<HashMap<String, String>>, SpecError> {
    let mut own = CloneFlags::empty();
    own.set(CloneFlags::CLONE_NEWNET, request.network.is_own());
    own.set(
        CloneFlags::CLONE_NEWIPC,
        request.shared.has_own(LinuxNamespaceType::Ipc),
    );
    own.set(CloneFlags::CLONE_NEWUTS, !request.shared.uts);
    for name in request.sysctls.keys() {
        if !is_own_sysctl(&name.replace('/', "."), own) {
            return Err(SpecError::Sysctl(name.clone()));
        }
    }
    let all = request.sysctls.clone().into_iter().collect();
    Ok((!request.sysctls.is_empty()).then_some(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spec::Network;

    #[test]
    fn parameters_of_other_namespaces_are_refused() {
        let asked = |name: &str, network, shared| {
            let sysctls = [(name.to_owned(), "1".to_owned())].into();
            let request = Request {
                network,
                shared,
                sysctls,
                ..Request::default()
            };
            sysctls_of(&request)
        };
        let host_ipc = Shared {
            ipc: Ipc::Host,
            ..Shared::default()
        };
        assert!(asked("net.ipv4.ip_forward", Network::Private, Shared::default()));
        assert!(asked("kernel/msgmax", Network::Host, Shared::default()));
        assert!(!asked("net.ipv4.ip_forward", Network::Host, Shared::default()));
        assert!(!asked("kernel.msgmax", Network::Private, host_ipc));
        assert!(!asked("vm.swappiness", Network::Private, Shared::default()));
    }

    fn sysctls_of(request: &Request) -> bool {
        sysctls(request).is_ok()
    }
}
