//! Which network do the flags mean on this machine?

use std::collections::BTreeSet;
use std::fs::File;

use super::program::{Kind, Program};
use super::{Exposed, NetworkError, Published};
use crate::containers::Error;
use crate::containers::bridge::{self, Endpoint};
use crate::containers::files::HostNames;
use crate::containers::record;
use crate::containers::spec::{CONTAINER, Network};
use crate::net::NetError;
use crate::store::Store;

/// `--network`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// One of the container's own, with a way out.
    #[default]
    Private,
    /// One of its own, with nothing but a loopback device.
    None,
    /// The host's.
    Host,
    /// That of the container of this name or id.
    Container(String),
    /// One of its own, with a way out by this program.
    Program(Program),
}

impl Mode {
    /// As Docker has it: `default` and `bridge` are the built-in one, podman calls it `private`.
    ///
    /// # Errors
    /// There is no such network.
    pub fn parse(text: &str) -> Result<Mode, NetworkError> {
        if let Some(program) = Program::parse(text)? {
            return Ok(Mode::Program(program));
        }
        let kind = text.split_once(':').map_or(text, |(kind, _)| kind);
        match (text, kind) {
            ("" | "default" | "bridge" | "private", _) => Ok(Mode::Private),
            ("none", _) => Ok(Mode::None),
            ("host", _) => Ok(Mode::Host),
            (_, "container") => match text.split_once(':') {
                Some((_, name)) if !name.is_empty() => Ok(Mode::Container(name.into())),
                _ => Err(NetworkError::NoContainer),
            },
            _ => Err(NetworkError::Unknown(text.into())),
        }
    }
}

/// The flags about networks and ports.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--network`, none if it was not given.
    pub mode: Option<Mode>,
    /// `-p`.
    pub published: Vec<Published>,
    /// `-P`.
    pub publish_all: bool,
    /// `--expose`.
    pub exposed: BTreeSet<Exposed>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// Networks of the user's own.
    pub endpoints: Vec<Endpoint>,
    /// The built-in one beside them.
    pub on_bridge: bool,
}

/// What was chosen.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Of which kind.
    pub network: Network,
    /// Whose it is, if it is another container's.
    pub joined: Option<Joined>,
    /// What is to be told to the user.
    pub warning: Option<String>,
}

/// A container whose network another one joins.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its id.
    pub id: String,
    /// Its hostname, which is the other's, too.
    pub hostname: String,
}

/// What was asked of network and ports for a container to be made.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The flags.
    pub flags: Flags,
    /// Whose network it joins.
    pub joined: Option<Joined>,
}

impl Asked {
    /// The name of the network in the container's record.
    pub fn name(&self, network: Network) -> String {
        match (network, &self.joined) {
            (Network::Container, Some(joined)) => format!("{CONTAINER}{}", joined.id),
            (Network::None, _) => "none".into(),
            (Network::Program, _) => {
                let program = self.flags.program().map(Program::kind);
                program.map_or("none", Kind::name).into()
            }
            (Network::Private, _) => match self.flags.endpoints.first() {
                Some(first) if !self.flags.on_bridge => first.network.clone(),
                _ => "bridge".into(),
            },
            _ => "host".into(),
        }
    }
}

impl From<Network> for Choice {
    fn from(network: Network) -> Choice {
        Choice {
            network,
            ..Choice::default()
        }
    }
}

impl Flags {
    /// The program that carries the packets.
    pub fn program(&self) -> Option<&Program> {
        match &self.mode {
            Some(Mode::Program(program)) => Some(program),
            _ => None,
        }
    }

    fn publishes(&self) -> bool {
        self.publish_all || !self.published.is_empty()
    }

    /// Chooses the network.
    ///
    /// # Errors
    /// Flags that contradict each other, in Docker's words; no such container; ports on a machine that lacks the device for a
    /// network.
    pub fn choose(&mut self, store: &Store, names: &HostNames) -> Result<Choice, Error> {
        if !self.endpoints.is_empty() {
            return self.of_ones_own(store);
        }
        match &self.mode {
            None | Some(Mode::Private) => Ok(self.built_in()?),
            Some(Mode::Host) => {
                let warning = "published ports are discarded when using host network mode";
                Ok(Choice {
                    warning: self.publishes().then(|| warning.into()),
                    ..Network::Host.into()
                })
            }
            Some(Mode::None) if self.publishes() => {
                Err(NetworkError::Conflict("port publishing and the network mode none").into())
            }
            Some(Mode::None) => Ok(Network::None.into()),
            Some(Mode::Program(program)) => {
                program.find(std::env::var_os("PATH"))?;
                open_device().map_err(NetworkError::from)?;
                Ok(Network::Program.into())
            }
            Some(Mode::Container(name)) => {
                self.fits_another(names)?;
                join(store, name)
            }
        }
    }

    /// Networks of the user's own, each by its name from here on.
    fn of_ones_own(&mut self, store: &Store) -> Result<Choice, Error> {
        let mut leads_out = self.on_bridge;
        for endpoint in &mut self.endpoints {
            let network = bridge::find(store, &endpoint.network)?;
            endpoint.fits(&network)?;
            endpoint.network = network.name;
            leads_out |= !network.internal;
        }
        let mut choice = self.built_in()?;
        if !leads_out && self.publishes() {
            (self.published, self.publish_all) = (Vec::new(), false);
            let warning = "published ports are discarded: all networks of the container are internal";
            choice.warning = Some(warning.into());
        }
        Ok(choice)
    }

    /// What belongs to the other container cannot be asked for.
    fn fits_another(&self, names: &HostNames) -> Result<(), NetworkError> {
        let asked = [
            (
                self.publishes(),
                "port publishing and the container type network mode",
            ),
            (
                !self.exposed.is_empty(),
                "port exposing and the container type network mode",
            ),
            (self.hostname.is_some(), "hostname and the network mode"),
            (
                !names.hosts.is_empty(),
                "custom host-to-IP mapping and the network mode",
            ),
            (names.is_about_servers(), "dns and the network mode"),
        ];
        match asked.into_iter().find(|(asked, _)| *asked) {
            Some((_, what)) => Err(NetworkError::Conflict(what)),
            None => Ok(()),
        }
    }

    /// The built-in network, where the machine has what it needs.
    fn built_in(&self) -> Result<Choice, NetworkError> {
        match open_device() {
            Ok(()) => Ok(Network::Private.into()),
            Err(error) if self.publishes() || self.mode.is_some() => Err(error.into()),
            // Its name is its own, as it would be.
            Err(error) => Ok(Choice {
                warning: Some(format!(
                    "the container shares the host's network, as --network host does, loopback and abstract sockets among it: {error}"
                )),
                ..Network::Unasked.into()
            }),
        }
    }
}

fn join(store: &Store, name: &str) -> Result<Choice, Error> {
    let other = record::of_name(store, name)?;
    if other.settings.network == "host" {
        return Ok(Network::Host.into());
    }
    Ok(Choice {
        joined: Some(Joined {
            id: other.id,
            hostname: other.settings.hostname,
        }),
        ..Network::Container.into()
    })
}

/// Can the user make network devices at all?
fn open_device() -> Result<(), NetError> {
    let opened = File::options().read(true).write(true).open("/dev/net/tun");
    opened.map(drop).map_err(NetError::Tun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_by_name() {
        for name in ["default", "bridge", "private", ""] {
            assert_eq!(Mode::parse(name).unwrap(), Mode::Private);
        }
        assert_eq!(
            Mode::parse("container:web").unwrap(),
            Mode::Container("web".into())
        );
        for (name, why) in [
            ("pasta:sh", "sh is no option of pasta's"),
            ("slirp4netns:mtu=x", "a number from"),
            ("far", "network far not found"),
            ("ns:/proc/1/ns/net", "not found"),
            ("container:", "invalid container format"),
            ("container", "invalid container format"),
        ] {
            let error = Mode::parse(name).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_another_containers_cannot_be_asked_for() {
        let refused = |flags: Flags, names: HostNames| flags.fits_another(&names).unwrap_err().to_string();
        let all = Flags {
            publish_all: true,
            ..Flags::default()
        };
        let names = HostNames {
            search: vec!["corp".into()],
            ..HostNames::default()
        };
        assert_eq!(
            refused(all, HostNames::default()),
            "conflicting options: port publishing and the container type network mode"
        );
        assert_eq!(
            refused(Flags::default(), names),
            "conflicting options: dns and the network mode"
        );
        assert!(Flags::default().fits_another(&HostNames::default()).is_ok());
    }
}
