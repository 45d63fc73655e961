//! Which namespaces does a container share with the host, or with another container, by flags, and which kernel parameters does it set in its own?

use std::collections::HashMap;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::mounts::entry;
use super::{Request, SpecError};
use crate::containers::runtime::HANDED;
use crate::containers::runtime::plan::is_own_sysctl;

/// Where memory lies that processes share by name.
pub(in crate::containers) const SHM: &str = "/dev/shm";

/// `--ipc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ipc {
    /// One of its own.
    #[default]
    Private,
    /// One of its own, which other containers may join.
    Shareable,
    /// One of its own, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
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
            _ => match other(text) {
                Some(name) => Ok(Ipc::Container(name)),
                None => Err("private, shareable, none, host or container:NAME".into()),
            },
        }
    }

    /// As Docker's HostConfig has it.
    pub fn name(&self) -> String {
        match self {
            Ipc::Private => "private".into(),
            Ipc::Shareable => "shareable".into(),
            Ipc::None => "none".into(),
            Ipc::Host => "host".into(),
            Ipc::Container(id) => format!("{CONTAINER}{id}"),
        }
    }
}

/// `--pid`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pids {
    /// A namespace of its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
}

impl Pids {
    /// Reads the flag.
    ///
    /// # Errors
    /// One line: what it may be.
    pub fn parse(text: &str) -> Result<Pids, String> {
        match text {
            "" | "private" => Ok(Pids::Private),
            "host" => Ok(Pids::Host),
            _ => match other(text) {
                Some(name) => Ok(Pids::Container(name)),
                None => Err("private, host or container:NAME".into()),
            },
        }
    }

    /// As Docker's HostConfig has it.
    pub fn name(&self) -> String {
        match self {
            Pids::Private => String::new(),
            Pids::Host => "host".into(),
            Pids::Container(id) => format!("{CONTAINER}{id}"),
        }
    }
}

/// What stands before another container's name or id.
pub const CONTAINER: &str = "container:";

fn other(text: &str) -> Option<String> {
    let name = text.strip_prefix(CONTAINER)?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// What is the host's, or another container's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shared {
    /// `--ipc`.
    pub ipc: Ipc,
    /// `--pid`.
    pub pids: Pids,
    /// `--uts host`.
    pub uts: bool,
    /// `--cgroupns host`.
    pub cgroups: bool,
}

impl Shared {
    /// Is there a namespace of the container's own, or one of another container's? Of which, the start says.
    pub(super) fn has(&self, kind: LinuxNamespaceType) -> bool {
        match kind {
            LinuxNamespaceType::Ipc => self.ipc != Ipc::Host,
            LinuxNamespaceType::Pid => self.pids != Pids::Host,
            LinuxNamespaceType::Uts => !self.uts,
            LinuxNamespaceType::Cgroup => !self.cgroups,
            _ => true,
        }
    }

    /// What of the mounts follows from it. `has_queues`: the host shows its message queues.
    pub(super) fn change(&self, mounts: &mut Vec<Mount>, has_queues: bool) -> Result<(), SpecError> {
        let is_at = |mount: &Mount, place: &str| mount.destination().as_os_str() == place;
        match &self.ipc {
            Ipc::Private | Ipc::Shareable => {}
            Ipc::None => mounts.retain(|mount| !is_at(mount, SHM)),
            Ipc::Container(_) => {
                mounts.retain(|mount| !is_at(mount, SHM));
                mounts.push(entry(HANDED, "", SHM, &[])?);
            }
            Ipc::Host => {
                mounts.retain(|mount| !is_at(mount, SHM) && !is_at(mount, "/dev/mqueue"));
                let places = [Some(SHM), has_queues.then_some("/dev/mqueue")];
                for place in places.into_iter().flatten() {
                    let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"];
                    mounts.push(entry("bind", place, place, &options)?);
                }
            }
        }
        Ok(())
    }
}

/// `--sysctl`: only what is the container's own.
pub(super) fn sysctls(request: &Request) -> Result<Option<HashMap<String, String>>, SpecError> {
    let mut own = CloneFlags::empty();
    own.set(CloneFlags::CLONE_NEWNET, request.network.is_own());
    let has_queues = matches!(request.shared.ipc, Ipc::Private | Ipc::Shareable | Ipc::None);
    own.set(CloneFlags::CLONE_NEWIPC, has_queues);
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

    #[test]
    fn namespaces_by_name() {
        for text in ["private", "shareable", "none", "host", "container:x"] {
            assert_eq!(Ipc::parse(text).unwrap().name(), text);
        }
        for text in ["", "host", "container:x"] {
            assert_eq!(Pids::parse(text).unwrap().name(), text);
        }
        for text in ["container:", "container", "ns:/proc/1/ns/ipc", "shareable:x"] {
            assert!(Ipc::parse(text).is_err() && Pids::parse(text).is_err(), "{text}");
        }
    }

    fn sysctls_of(request: &Request) -> bool {
        sysctls(request).is_ok()
    }
}
