//! What else was asked for, as it was written? The Spec says what became of it; `inspect` tells it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// `--ipc`; empty: it was not said.
    pub ipc: String,
    /// `--uts`.
    pub uts: String,
    /// `--cgroupns`.
    pub cgroupns: String,
    /// `--userns`.
    pub userns: String,
    /// Which streams the tool stays with: input, output, errors. `None`: an older program's.
    pub attached: Option<[bool; 3]>,
}

impl Asked {
    /// The devices: where on the host, where in the container, and what may be done with them.
    pub fn devices(&self) -> impl Iterator<Item = [&str; 3]> {
        let is_permission = |text: &str| text.bytes().all(|byte| b"rwm".contains(&byte));
        self.devices.iter().map(move |text| {
            let mut parts = text.split(':');
            let host = parts.next().unwrap_or_default();
            match (parts.next(), parts.next()) {
                (None, _) => [host, host, "rwm"],
                (Some(second), None) if is_permission(second) => [host, host, second],
                (Some(place), permission) => [host, place, permission.unwrap_or("rwm")],
            }
        })
    }

    /// Where tmpfs are, and their options.
    pub fn tmpfs(&self) -> BTreeMap<&str, &str> {
        let split = |text: &'_ str| text.find(':').unwrap_or(text.len());
        let split = self.tmpfs.iter().map(|text| text.split_at(split(text)));
        split
            .map(|(place, options)| (place, options.trim_start_matches(':')))
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
