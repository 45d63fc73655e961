//! What do /etc/hosts, /etc/hostname and /etc/resolv.conf say inside? Made for each container, bound over the image's.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Error;
use super::spec::Network;
use crate::store::failpoint;

/// The flags about names of hosts.
#[derive(Debug, Clone, Default)]
pub struct HostNames {
    /// `--add-host`: a name and its address.
    pub hosts: Vec<(String, IpAddr)>,
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// `--add-host NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may stand in brackets. `host-gateway` is the loopback
/// address while containers share the host's network.
///
/// # Errors
/// The text as it came, if it is neither.
pub fn add_host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once(['=', ':']).ok_or_else(|| text.to_string())?;
    let address = match address {
        "host-gateway" => "127.0.0.1",
        address => address
            .strip_prefix('[')
            .and_then(|a| a.strip_suffix(']'))
            .unwrap_or(address),
    };
    let fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    match address.parse() {
        Ok(address) if fits => Ok((name.into(), address)),
        _ => Err(text.into()),
    }
}

/// Writes the files below `directory`; gives each with the place where it is bound.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    directory: &Path,
    hostname: &str,
    network: Network,
    names: &HostNames,
) -> Result<Vec<(PathBuf, &'static str)>, Error> {
    // What cannot be read on the host is taken as empty: a container without names is better than none.
    let host = |file| fs::read_to_string(file).unwrap_or_default();
    let (host_hosts, host_resolv) = match network {
        Network::None => (String::new(), String::new()),
        Network::Host | Network::Unasked => (host("/etc/hosts"), host("/etc/resolv.conf")),
    };
    let files = [
        ("hosts", "/etc/hosts", hosts(&host_hosts, hostname, names)),
        ("hostname", "/etc/hostname", format!("{hostname}\n")),
        (
            "resolv.conf",
            "/etc/resolv.conf",
            resolv_conf(&host_resolv, names),
        ),
    ];
    let mut written = Vec::with_capacity(files.len());
    for (name, place, text) in files {
        let path = directory.join(name);
        failpoint::step();
        fs::write(&path, text).map_err(|source| Error::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
        written.push((path, place));
    }
    Ok(written)
}

fn hosts(host: &str, hostname: &str, names: &HostNames) -> String {
    let mut text = if host.is_empty() {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_string()
    } else {
        host.to_string()
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &names.hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    let known = |line: &str| {
        line.split('#')
            .next()
            .is_some_and(|l| l.split_whitespace().skip(1).any(|n| n == hostname))
    };
    if !text.lines().any(known) {
        text.push_str(&format!("127.0.1.1\t{hostname}\n"));
    }
    text
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
        let names = HostNames {
            hosts: add_host("db:10.0.0.5").into_iter().collect(),
            ..Default::default()
        };
        let text = hosts("127.0.0.1 localhost", "abc", &names);
        assert_eq!(text, "127.0.0.1 localhost\n10.0.0.5\tdb\n127.0.1.1\tabc\n");
        assert!(!hosts("127.0.0.1 abc # me\n", "abc", &names).contains("127.0.1.1"));
        assert!(hosts("", "abc", &names).starts_with("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn add_host_spellings() {
        assert_eq!(add_host("a=::1").map(|(_, ip)| ip.to_string()), Ok("::1".into()));
        assert_eq!(
            add_host("a:[fe80::1]").map(|(_, ip)| ip.to_string()),
            Ok("fe80::1".into())
        );
        assert_eq!(
            add_host("a:host-gateway").map(|(_, ip)| ip.to_string()),
            Ok("127.0.0.1".into())
        );
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
