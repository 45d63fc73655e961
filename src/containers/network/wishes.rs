//! Which networks do `--network` and its kin ask for? One that is there by itself, or any number of the user's own, the built-in
//! one among them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Mode, NetworkError};
use crate::containers::bridge::Endpoint;

/// As they are given.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--network`.
    pub networks: Vec<String>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--ip`.
    pub v4: Option<String>,
    /// `--ip6`.
    pub v6: Option<String>,
}

/// What they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What kind of network it is; none if nothing was asked.
    pub mode: Option<Mode>,
    /// The networks of the user's own.
    pub endpoints: Vec<Endpoint>,
    /// The built-in one is among them.
    pub on_bridge: bool,
}

impl Wishes {
    /// Reads them.
    ///
    /// # Errors
    /// They contradict each other, or are none; Docker's words.
    pub fn read(&self) -> Result<Wanted, NetworkError> {
        let mut wanted = Wanted::default();
        let mut modes = Vec::new();
        for (at, text) in self.networks.iter().enumerate() {
            let (mut endpoint, is_own_form) = endpoint(text)?;
            if at == 0 {
                self.complete(&mut endpoint, is_own_form)?;
            }
            match Mode::parse(&endpoint.network) {
                Err(NetworkError::Unknown(name)) if !name.contains(':') => {
                    if wanted.endpoints.iter().any(|one| one.network == name) {
                        return Err(NetworkError::Repeated(name));
                    }
                    wanted.endpoints.push(endpoint);
                }
                mode => {
                    refuse_details(&endpoint)?;
                    modes.push(mode?);
                }
            }
        }
        if self.networks.is_empty() {
            let mut none = Endpoint::default();
            self.complete(&mut none, false)?;
            refuse_details(&none)?;
        }
        wanted.on_bridge = modes.contains(&Mode::Private);
        if self.networks.len() > 1 && modes.iter().any(|mode| *mode != Mode::Private) {
            return Err(NetworkError::Conflict(
                "cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        wanted.mode = modes
            .pop()
            .or((!wanted.endpoints.is_empty()).then_some(Mode::Private));
        Ok(wanted)
    }

    /// `--network-alias`, `--ip` and `--ip6` are about the first network.
    fn complete(&self, endpoint: &mut Endpoint, is_own_form: bool) -> Result<(), NetworkError> {
        let here = !self.aliases.is_empty() || self.v4.is_some() || self.v6.is_some();
        if is_own_form && here {
            return Err(NetworkError::Conflict(
                "--network-alias, --ip and --ip6 cannot be used with what --network name=… says itself",
            ));
        }
        endpoint.aliases.extend(self.aliases.iter().cloned());
        if let Some(v4) = &self.v4 {
            endpoint.v4 = Some(address(v4)?);
        }
        if let Some(v6) = &self.v6 {
            endpoint.v6 = Some(address_v6(v6)?);
        }
        Ok(())
    }
}

/// `NAME`, or Docker's `name=NAME,alias=…,ip=…,ip6=…`.
fn endpoint(text: &str) -> Result<(Endpoint, bool), NetworkError> {
    let mut endpoint = Endpoint::default();
    // Others, `container:a=b` too, have no such key.
    if !text.starts_with("name=") && !text.contains(",name=") {
        endpoint.network = text.into();
        return Ok((endpoint, false));
    }
    let refuse = |why: &str| NetworkError::Keys {
        text: text.into(),
        why: why.into(),
    };
    for pair in text.split(',') {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| refuse("each part is KEY=VALUE"))?;
        match key {
            "name" => endpoint.network = value.into(),
            "alias" => endpoint.aliases.push(value.into()),
            "ip" => endpoint.v4 = Some(address(value)?),
            "ip6" => endpoint.v6 = Some(address_v6(value)?),
            _ => return Err(refuse("name, alias, ip and ip6 work here")),
        }
    }
    Ok((endpoint, true))
}

/// Only networks of the user's own have names and addresses to choose.
fn refuse_details(endpoint: &Endpoint) -> Result<(), NetworkError> {
    if endpoint.v4.is_some() || endpoint.v6.is_some() {
        return Err(NetworkError::OwnAddress);
    }
    match endpoint.aliases.is_empty() {
        true => Ok(()),
        false => Err(NetworkError::OwnAlias),
    }
}

/// An address for `--ip`.
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> Result<Ipv4Addr, NetworkError> {
    text.parse().map_err(|_| NetworkError::Address(text.into()))
}

/// One for `--ip6`.
///
/// # Errors
/// It is none.
pub fn address_v6(text: &str) -> Result<Ipv6Addr, NetworkError> {
    text.parse().map_err(|_| NetworkError::Address(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(networks: &[&str]) -> Wishes {
        Wishes {
            networks: networks.iter().map(|text| (*text).to_owned()).collect(),
            ..Wishes::default()
        }
    }

    fn read(networks: &[&str]) -> Wanted {
        wishes(networks).read().unwrap()
    }

    #[test]
    fn networks_of_ones_own_and_those_that_are_there() {
        assert_eq!(read(&[]), Wanted::default());
        assert_eq!(read(&["none"]).mode, Some(Mode::None));
        assert!(matches!(
            read(&["pasta:-t,80,--mtu=1500"]).mode,
            Some(Mode::Program(_))
        ));
        let one = read(&["front"]);
        assert_eq!((one.mode, one.on_bridge), (Some(Mode::Private), false));
        let both = read(&["front", "bridge", "name=back,alias=db,ip=10.9.0.5,alias=sql"]);
        assert!(both.on_bridge);
        let [front, back] = both.endpoints.as_slice() else {
            panic!()
        };
        assert_eq!(front.network, "front");
        assert_eq!(back.aliases, ["db", "sql"]);
        assert_eq!(back.v4, Some("10.9.0.5".parse().unwrap()));
        let first = Wishes {
            aliases: vec!["web".into()],
            v4: Some("10.9.0.6".into()),
            ..wishes(&["front", "back"])
        };
        let first = first.read().unwrap();
        assert_eq!(first.endpoints[0].aliases, ["web"]);
        assert_eq!(
            first.endpoints[1],
            Endpoint {
                network: "back".into(),
                ..Endpoint::default()
            }
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |wishes: Wishes| wishes.read().unwrap_err().to_string();
        for (networks, why) in [
            (vec!["front", "host"], "cannot attach both"),
            (vec!["none", "bridge"], "cannot attach both"),
            (vec!["front", "front"], "specified multiple times"),
            (vec!["name=front,mac=1"], "alias, ip and ip6 work here"),
            (vec!["name=front,ip=x"], "invalid"),
            (vec!["name=bridge,alias=x"], "user defined networks"),
            (vec!["pasta:-f"], "no option of pasta's"),
            (vec!["pasta", "front"], "cannot attach both"),
            (vec!["ns:/proc/1/ns/net"], "not found"),
        ] {
            let error = refused(wishes(&networks));
            assert!(error.contains(why), "{networks:?}: {error}");
        }
        for networks in [vec![], vec!["bridge"], vec!["host"]] {
            let alias = Wishes {
                aliases: vec!["web".into()],
                ..wishes(&networks)
            };
            assert!(refused(alias).contains("user defined networks"));
            let ip = Wishes {
                v4: Some("10.9.0.5".into()),
                ..wishes(&networks)
            };
            assert!(refused(ip).contains("user defined networks"));
        }
        let twice = Wishes {
            aliases: vec!["a".into()],
            ..wishes(&["name=front,alias=b"])
        };
        assert!(refused(twice).contains("cannot be used with"));
    }
}
