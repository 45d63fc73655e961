//! What do the options of the driver `local` mean? Docker hands them to mount(2): what an ordinary user can mount is done.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::spec::mounts::{Asked, tmpfs};
use super::VolumeError;

/// Where a volume's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing {
    /// In a directory of the store's.
    Directory,
    /// In memory, anew for each container: mount options.
    Memory(Vec<String>),
    /// In a directory of the host's, as it is.
    Host(PathBuf, Vec<String>),
}

impl Backing {
    /// `type=tmpfs` with `o=size=…`, or `type=none,o=bind,device=DIR`.
    pub(super) fn of(options: &BTreeMap<String, String>) -> Result<Backing, VolumeError> {
        let refuse = |key: &str, why| {
            let value = options.get(key).map_or("", String::as_str);
            let option = format!("{key}={value}");
            Err(VolumeError::Option { option, why })
        };
        if let Some(key) = options
            .keys()
            .find(|key| !matches!(key.as_str(), "type" | "device" | "o"))
        {
            let why = match key.as_str() {
                "size" => "a quota of a directory needs root; type=tmpfs takes o=size=BYTES",
                _ => "the driver local knows type, device and o",
            };
            return refuse(key, why);
        }
        let get = |key| options.get(key).map_or("", String::as_str);
        let words: Vec<&str> = get("o").split(',').filter(|word| !word.is_empty()).collect();
        let is_bind = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
        match get("type") {
            "" if options.is_empty() => Ok(Backing::Directory),
            "tmpfs" => match tmpfs(&format!("/x:{}", get("o"))) {
                // What Docker mounts has none of the defaults of `--tmpfs`.
                Ok(Asked::Tmpfs { .. }) => Ok(Backing::Memory(words.into_iter().map(String::from).collect())),
                _ => refuse("o", "unknown tmpfs option"),
            },
            "" | "none" | "bind" if is_bind => {
                if !get("device").starts_with('/') {
                    return refuse("device", "an absolute path of the host is wanted");
                }
                let known = |word: &&str| matches!(*word, "bind" | "rbind" | "ro" | "rw");
                if !words.iter().all(known) {
                    return refuse("o", "bind, rbind, ro and rw are known here");
                }
                let kept = words.into_iter().filter(|word| *word != "rw");
                Ok(Backing::Host(
                    get("device").into(),
                    kept.map(String::from).collect(),
                ))
            }
            "" | "none" | "bind" => refuse("o", "without a filesystem's type, bind is wanted"),
            _ => refuse(
                "type",
                "an ordinary user can mount tmpfs and bind; others are an administrator's to mount, and then to be bound",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<Backing, VolumeError> {
        let options = options
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        Backing::of(&options.collect())
    }

    #[test]
    fn what_an_ordinary_user_can_mount() {
        assert_eq!(of(&[]).ok(), Some(Backing::Directory));
        let memory = of(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=700")]);
        assert_eq!(
            memory.ok(),
            Some(Backing::Memory(vec!["size=1m".into(), "mode=700".into()]))
        );
        let host = of(&[("type", "none"), ("device", "/srv"), ("o", "bind,ro")]);
        assert_eq!(
            host.ok(),
            Some(Backing::Host("/srv".into(), vec!["bind".into(), "ro".into()]))
        );
    }

    #[test]
    fn what_not_is_refused_with_a_reason() {
        for bad in [
            &[("type", "nfs"), ("device", ":/x"), ("o", "addr=1.2.3.4")][..],
            &[("size", "1m")],
            &[("type", "none"), ("device", "srv"), ("o", "bind")],
            &[("type", "none"), ("device", "/srv")],
            &[("type", "tmpfs"), ("o", "bogus")],
            &[("colour", "red")],
        ] {
            assert!(matches!(of(bad), Err(VolumeError::Option { .. })), "{bad:?}");
        }
    }
}
