//! What do /etc/hosts, /etc/hostname and /etc/resolv.conf say inside? Made for each container, bound over the image's.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::network::Program;
use super::spec::Network;
use crate::net::{Addresses, Resolvers};
use crate::store::failpoint::{self, Stepped};
use crate::store::{Durability, write};

/// The flags about names of hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostNames {
    /// `--add-host`: a name and its address.
    pub hosts: Vec<(String, HostAddress)>,
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
    /// `--no-hosts`: /etc/hosts is the image's.
    pub none: bool,
}

/// The address of `--add-host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAddress {
    /// This one.
    Of(IpAddr),
    /// The host's, as the container's network has it: `host-gateway`.
    Gateway,
}

impl HostNames {
    /// Was `--dns` or one of its kin given?
    pub(super) fn is_about_servers(&self) -> bool {
        !(self.servers.is_empty() && self.search.is_empty() && self.options.is_empty())
    }
}

/// `--add-host NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets.
///
/// # Errors
/// The text as it came, if it is neither.
pub fn add_host(text: &str) -> Result<(String, HostAddress), String> {
    let (name, address) = text.split_once(['=', ':']).ok_or_else(|| text.to_string())?;
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let address = match bare.unwrap_or(address) {
        "host-gateway" => Some(HostAddress::Gateway),
        address => address.parse().ok().map(HostAddress::Of),
    };
    let fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    match address {
        Some(address) if fits => Ok((name.into(), address)),
        _ => Err(text.into()),
    }
}

/// The one of names.
pub(super) const HOSTS: &str = "/etc/hosts";

/// The one of the container's own name.
pub(super) const HOSTNAME: &str = "/etc/hostname";

/// Where the files are bound.
const PLACES: [(&str, &str); 3] = [
    ("hosts", HOSTS),
    ("hostname", HOSTNAME),
    ("resolv.conf", "/etc/resolv.conf"),
];

/// The files of the container in `directory`, for one that joins its network.
pub(super) fn shared(directory: &Path) -> Vec<(PathBuf, &'static str)> {
    PLACES.map(|(name, place)| (directory.join(name), place)).into()
}

/// Writes the files below `directory`; gives each with the place where it is bound. `addresses` are those of a network of
/// its own that has a way out.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    directory: &Path,
    hostname: &str,
    network: Network,
    (addresses, program): (Option<&Addresses>, Option<&Program>),
    names: &HostNames,
    durability: Durability,
) -> Result<Vec<(PathBuf, &'static str)>, Error> {
    // What cannot be read on the host is taken as empty: a container without names is better than none.
    let host = |file| fs::read_to_string(file).unwrap_or_default();
    let (known, resolv) = match (addresses, program, network.is_own()) {
        (Some(addresses), ..) => (
            own_hosts(Some(addresses.v4.gateway)),
            own_resolv_conf(&[addresses.v4.dns.into()], &Resolvers::read()),
        ),
        (None, Some(program), _) => {
            let host = Resolvers::read();
            (
                own_hosts(program.host()),
                own_resolv_conf(&program.name_servers(&host), &host),
            )
        }
        (None, None, true) => (LOCALHOST.into(), String::new()),
        (None, None, false) => (host("/etc/hosts"), host("/etc/resolv.conf")),
    };
    let mut own = addresses.map_or(Vec::new(), |addresses| {
        let v6 = addresses.v6.map(|v6| v6.address.into());
        [addresses.v4.address.into()].into_iter().chain(v6).collect()
    });
    own.extend(program.iter().flat_map(|program| program.addresses()));
    if own.is_empty() {
        own.push(IpAddr::from([127, 0, 1, 1]));
    }
    let gateway = addresses.map(|addresses| addresses.v4.gateway);
    let gateway = gateway.or_else(|| program?.host()).unwrap_or(Ipv4Addr::LOCALHOST);
    let texts = [
        hosts(&known, hostname, &own, gateway, names),
        format!("{hostname}\n"),
        resolv_conf(&resolv, names),
    ];
    let mut written = Vec::with_capacity(texts.len());
    for ((name, place), text) in PLACES.into_iter().zip(texts) {
        let path = directory.join(name);
        let made = File::create(&path);
        let wrote = made.and_then(|file| Stepped(&file).write_all(text.as_bytes()).map(|()| file));
        let file = wrote.map_err(|source| Error::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
        keep(&file, &path, durability)?;
        written.push((path, place));
    }
    Ok(written)
}

/// Brings a file of a container that must last to the disk. Its name gets there with that of the Spec, which is written later.
fn keep(file: &File, path: &Path, durability: Durability) -> Result<(), Error> {
    match durability {
        Durability::Durable | Durability::Whole => Ok(write::flush(file, path)?),
        Durability::Volatile => Ok(()),
    }
}

/// Where the host keeps time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// The host's file of a time zone, by its name; `local` is its own.
///
/// # Errors
/// One line: there is none.
pub fn zone(name: &str) -> Result<PathBuf, String> {
    let path = match name {
        "local" => PathBuf::from("/etc/localtime"),
        _ => Path::new(ZONES).join(name),
    };
    let is_plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    match is_plain && path.is_file() {
        true => Ok(path),
        false => Err(format!("there is no {} on this machine", path.display())),
    }
}

/// Copies a time zone of the host's for the container; gives the copy, and where it is bound.
///
/// # Errors
/// It cannot be read or written.
pub(super) fn time_zone(
    directory: &Path,
    zone: &Path,
    durability: Durability,
) -> Result<(PathBuf, &'static str), Error> {
    let path = directory.join("localtime");
    let copied = failpoint::step().and_then(|()| fs::copy(zone, &path));
    let file = copied.and_then(|_| File::open(&path));
    let file = file.map_err(|source| Error::Io {
        action: "copy",
        path: zone.to_owned(),
        source,
    })?;
    keep(&file, &path, durability)?;
    Ok((path, "/etc/localtime"))
}

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The host, where it can be reached, goes by the names that Docker Desktop and podman give it.
fn own_hosts(gateway: Option<Ipv4Addr>) -> String {
    let host = gateway.map(|gateway| format!("{gateway}\thost.docker.internal host.containers.internal\n"));
    format!("{LOCALHOST}{}", host.unwrap_or_default())
}

/// Names are asked for where the container's packets go; the host's servers may be out of its reach.
fn own_resolv_conf(servers: &[IpAddr], host: &Resolvers) -> String {
    let mut text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    for (keyword, words) in [("search", &host.search), ("options", &host.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

fn hosts(known: &str, hostname: &str, own: &[IpAddr], gateway: Ipv4Addr, names: &HostNames) -> String {
    let mut text = if known.is_empty() { LOCALHOST } else { known }.to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &names.hosts {
        let address = match address {
            HostAddress::Of(address) => *address,
            HostAddress::Gateway => gateway.into(),
        };
        text.push_str(&format!("{address}\t{name}\n"));
    }
    let known = |line: &str| {
        line.split('#')
            .next()
            .is_some_and(|l| l.split_whitespace().skip(1).any(|n| n == hostname))
    };
    if !text.lines().any(known) {
        own.iter()
            .for_each(|address| text.push_str(&format!("{address}\t{hostname}\n")));
    }
    text
}

/// Has the container's hostname mean these addresses, in the file that is bound, or about to be.
///
/// # Errors
/// The file cannot be read or written.
pub(super) fn set_own(directory: &Path, hostname: &str, own: &[IpAddr]) -> Result<(), Error> {
    let path = directory.join("hosts");
    let io = |action| {
        let path = path.clone();
        move |source| Error::Io { action, path, source }
    };
    let text = fs::read_to_string(&path).map_err(io("read"))?;
    let is_own = |line: &&str| line.split_once('\t').is_some_and(|(_, name)| name == hostname);
    let mut text: String = text
        .lines()
        .filter(|line| !is_own(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    own.iter()
        .for_each(|address| text.push_str(&format!("{address}\t{hostname}\n")));
    let wrote = failpoint::step().and_then(|()| fs::write(&path, text));
    wrote.map_err(io("write"))
}

fn resolv_conf(host: &str, names: &HostNames) -> String {
    let asked = |keyword: &str| match keyword {
        "nameserver" => !names.servers.is_empty(),
        "search" | "domain" => !names.search.is_empty(),
        "options" => !names.options.is_empty(),
        _ => false,
    };
    let kept = host
        .lines()
        .filter(|line| !asked(line.split_whitespace().next().unwrap_or("")));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    for server in &names.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    // Docker: `--dns-search .` means no search domain.
    let search: Vec<&str> = names
        .search
        .iter()
        .map(String::as_str)
        .filter(|domain| *domain != ".")
        .collect();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !names.options.is_empty() {
        text.push_str(&format!("options {}\n", names.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_and_the_own_name() {
        let of = |known: &str, names: &HostNames| {
            hosts(
                known,
                "abc",
                &[[127, 0, 1, 1].into()],
                Ipv4Addr::new(10, 0, 2, 2),
                names,
            )
        };
        let names = HostNames {
            hosts: ["db:10.0.0.5", "up:host-gateway"]
                .map(|text| add_host(text).unwrap())
                .into(),
            ..Default::default()
        };
        assert_eq!(
            of("127.0.0.1 localhost", &names),
            "127.0.0.1 localhost\n10.0.0.5\tdb\n10.0.2.2\tup\n127.0.1.1\tabc\n"
        );
        let none = HostNames::default();
        assert!(!of("127.0.0.1 abc # me\n", &none).contains("127.0.1.1"));
        assert!(of("", &none).starts_with("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn add_host_spellings() {
        let is = |text: &str, address: &str| {
            assert_eq!(
                add_host(text).unwrap().1,
                HostAddress::Of(address.parse().unwrap())
            );
        };
        is("a=::1", "::1");
        is("a:[fe80::1]", "fe80::1");
        is("a:10.0.0.1", "10.0.0.1");
        assert_eq!(add_host("a:host-gateway").unwrap().1, HostAddress::Gateway);
        for bad in ["", "a", "a:", ":1.2.3.4", "a b:1.2.3.4", "a:1.2.3", "a\n:1.2.3.4"] {
            assert!(add_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dns_flags_replace_the_hosts_lines() {
        let host = "search corp\nnameserver 1.1.1.1\noptions ndots:2\n";
        assert_eq!(resolv_conf(host, &HostNames::default()), host);
        let names = HostNames {
            servers: "9.9.9.9".parse().into_iter().collect(),
            search: vec![".".into()],
            ..Default::default()
        };
        assert_eq!(resolv_conf(host, &names), "options ndots:2\nnameserver 9.9.9.9\n");
    }
}
