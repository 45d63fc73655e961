//! What else was asked for, as it was written? The Spec says what became of it; `inspect` tells it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::spec::Users;
use super::spec::mounts::device_parts;

/// Flags of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--device`.
    pub devices: Vec<String>,
    /// `--tmpfs`.
    pub tmpfs: Vec<String>,
    /// `--cidfile`.
    pub id_file: String,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--domainname`.
    pub domain: String,
    /// `--ipc`, another container by its id; empty: an older program's.
    pub ipc: String,
    /// `--pid`.
    pub pid: String,
    /// `--uts`.
    pub uts: String,
    /// `--cgroupns`.
    pub cgroupns: String,
    /// `--userns`.
    pub userns: String,
    /// `--log-driver`, if it was said.
    pub log_driver: String,
    /// What of `--log-opt` is about `logs --details`.
    pub log_options: BTreeMap<String, String>,
    /// Which streams the tool stays with: input, output, errors. `None`: an older program's.
    pub attached: Option<[bool; 3]>,
}

impl Asked {
    /// `--userns`, read. What an older program took means nothing else.
    pub fn users(&self) -> Users {
        Users::parse(&self.userns).unwrap_or_default()
    }

    /// The devices: where on the host, where in the container, and what may be done with them.
    pub fn devices(&self) -> impl Iterator<Item = [&str; 3]> {
        self.devices.iter().filter_map(|text| device_parts(text))
    }

    /// Where tmpfs are, and their options.
    pub fn tmpfs(&self) -> BTreeMap<&str, &str> {
        let all = self.tmpfs.iter();
        all.map(|text| text.split_once(':').unwrap_or((text, "")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_written() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let asked = Asked {
            devices: words(&["/dev/a", "/dev/a:/dev/b", "/dev/a:rw", "/dev/a:/dev/b:rwm"]),
            tmpfs: words(&["/a", "/b:size=1m,exec"]),
            ..Asked::default()
        };
        let devices = [
            ["/dev/a", "/dev/a", "rwm"],
            ["/dev/a", "/dev/b", "rwm"],
            ["/dev/a", "/dev/a", "rw"],
            ["/dev/a", "/dev/b", "rwm"],
        ];
        assert_eq!(asked.devices().collect::<Vec<_>>(), devices);
        assert_eq!(
            asked.tmpfs(),
            BTreeMap::from([("/a", ""), ("/b", "size=1m,exec")])
        );
    }
}
