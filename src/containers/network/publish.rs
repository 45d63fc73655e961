//! What do `-p` and `--expose` mean? Docker's grammar, ranges included; and which ports does an image expose?

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::NetworkError;
use crate::net::Protocol;

/// A port of a container, `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Exposed {
    /// Its number.
    pub port: u16,
    /// TCP's or UDP's.
    pub protocol: Protocol,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// A port of a container that the host is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Where on the host: all its addresses, if none is said.
    pub ip: Option<IpAddr>,
    /// The host's port: the first of these that is free; any free one, if none is said.
    pub host: Option<RangeInclusive<u16>>,
    /// The container's.
    #[serde(flatten)]
    pub container: Exposed,
}

impl Published {
    /// As Docker's `HostPort` has it; empty for any.
    pub fn host_port(&self) -> String {
        match &self.host {
            None => String::new(),
            Some(range) if range.start() == range.end() => range.start().to_string(),
            Some(range) => format!("{}-{}", range.start(), range.end()),
        }
    }
}

/// `-p [IP:][HOST:]CONTAINER[/PROTOCOL]`; a range of the container's ports gives as many.
///
/// # Errors
/// Says which part is none.
pub fn publish(text: &str) -> Result<Vec<Published>, NetworkError> {
    let refuse = |why: String| NetworkError::Publish {
        text: text.into(),
        why,
    };
    let (ports, protocol) = protocol(text).map_err(refuse)?;
    let (ip, host, container) = parts(ports);
    let ip = match ip {
        None | Some("") => None,
        Some(ip) => Some(
            ip.parse()
                .map_err(|_| refuse(format!("invalid IP address: {ip}")))?,
        ),
    };
    let container =
        range(container, 1).ok_or_else(|| refuse(format!("invalid containerPort: {container}")))?;
    let host = match host {
        None | Some("" | "0") => None,
        Some(host) => Some(range(host, 1).ok_or_else(|| refuse(format!("invalid hostPort: {host}")))?),
    };
    let one = |port: u16, host| Published {
        ip,
        host,
        container: Exposed { port, protocol },
    };
    match host {
        // One port of the container: the first of the range that is free.
        Some(host) if container.len() == 1 => Ok(vec![one(*container.start(), Some(host))]),
        Some(host) if host.len() != container.len() => Err(refuse(format!(
            "invalid ranges specified for container and host ports: {} and {}",
            shown(&container),
            shown(&host)
        ))),
        Some(host) => Ok(container
            .zip(host)
            .map(|(inside, outside)| one(inside, Some(outside..=outside)))
            .collect()),
        None => Ok(container.map(|inside| one(inside, None)).collect()),
    }
}

/// `--expose PORT[-PORT][/PROTOCOL]`, and an image's EXPOSE.
///
/// # Errors
/// It is no port.
pub fn expose(text: &str) -> Result<impl Iterator<Item = Exposed> + use<>, NetworkError> {
    let refuse = |why: String| NetworkError::Expose {
        text: text.into(),
        why,
    };
    let (ports, protocol) = protocol(text).map_err(refuse)?;
    let ports = range(ports, 1).ok_or_else(|| refuse(format!("invalid port: {ports}")))?;
    Ok(ports.map(move |port| Exposed { port, protocol }))
}

/// The ports that an image exposes. What is no port in there is passed over, with a warning: images come from anybody.
pub fn of_image(image: &ImageConfiguration) -> BTreeSet<Exposed> {
    let config = image.config().as_ref();
    let listed = config.and_then(|config| config.exposed_ports().as_ref());
    let mut ports = BTreeSet::new();
    for text in listed.into_iter().flatten() {
        match expose(text) {
            Ok(more) => ports.extend(more),
            Err(error) => tracing::warn!("the image: {error}"),
        }
    }
    ports
}

fn protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.rsplit_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((ports, name)) => match name.to_ascii_lowercase().as_str() {
            "tcp" => Ok((ports, Protocol::Tcp)),
            "udp" => Ok((ports, Protocol::Udp)),
            "sctp" => Err("sctp ports cannot be published".into()),
            _ => Err(format!("invalid proto: {name}")),
        },
    }
}

/// Address, host's port and container's, as far as there. An IPv6 address may stand in brackets.
fn parts(text: &str) -> (Option<&str>, Option<&str>, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else {
        return (None, None, text);
    };
    if rest.ends_with(']') {
        // `[::1]:80`: an address where the host's port belongs.
        return (None, Some(rest), container);
    }
    match rest.rsplit_once(':') {
        None => (None, Some(rest), container),
        Some((ip, host)) => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
            (Some(bare.unwrap_or(ip)), Some(host), container)
        }
    }
}

fn range(text: &str, least: u16) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (least <= first && first <= last).then_some(first..=last)
}

fn shown(range: &RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as `ip|host|container`.
    fn told(text: &str) -> Vec<String> {
        let told = |one: &Published| {
            let ip = one.ip.map(|ip| ip.to_string()).unwrap_or_default();
            format!("{ip}|{}|{}", one.host_port(), one.container)
        };
        publish(text).unwrap().iter().map(told).collect()
    }

    #[test]
    fn the_grammar_of_publish() {
        for (text, wanted) in [
            ("80", "||80/tcp"),
            ("0:80", "||80/tcp"),
            (":80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("8080:53/UDP", "|8080|53/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80/tcp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("[::]::80/tcp", "::||80/tcp"),
            ("::1:8080:80", "::1|8080|80/tcp"),
            ("8000-8010:80", "|8000-8010|80/tcp"),
        ] {
            assert_eq!(told(text), [wanted], "{text}");
        }
        assert_eq!(told("8000-8001:80-81"), ["|8000|80/tcp", "|8001|81/tcp"]);
        assert_eq!(told("80-81/udp"), ["||80/udp", "||81/udp"]);
    }

    #[test]
    fn what_is_no_port_is_refused_with_its_part() {
        for (text, why) in [
            ("", "invalid containerPort: "),
            ("0", "invalid containerPort: 0"),
            ("8080:", "invalid containerPort: "),
            ("65536", "invalid containerPort: 65536"),
            ("+80", "invalid containerPort: +80"),
            ("a:80", "invalid hostPort: a"),
            ("[::1]:80", "invalid hostPort: [::1]"),
            ("a.b:80:80", "invalid IP address: a.b"),
            ("80/sctp", "sctp ports cannot be published"),
            ("80/icmp", "invalid proto: icmp"),
            ("81-80", "invalid containerPort: 81-80"),
            (
                "8000-8001:80-82",
                "invalid ranges specified for container and host ports: 80-82 and 8000-8001",
            ),
        ] {
            let error = publish(text).unwrap_err().to_string();
            assert!(error.ends_with(why), "{text}: {error}");
        }
        assert!(expose("80:80").is_err() && expose("0").is_err());
        assert_eq!(expose("80-90/udp").unwrap().count(), 11);
    }
}
