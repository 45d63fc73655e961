//! What do `-v`, `--mount`, `--tmpfs` and `--device` mean, and what is mounted without being asked?

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::SpecError;

mod keys;
mod short;
mod wish;

pub use keys::mount;
pub use short::volume;
pub use wish::{Image, Volume, What, Wish};

/// A mount that the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A file or directory of the host.
    Bind(Bind),
    /// An empty filesystem in memory.
    Tmpfs {
        /// Where, an absolute path in the container.
        target: String,
        /// Mount options, Docker's defaults included.
        options: Vec<String>,
    },
    /// A device of the host: a bind of its node, since an ordinary user can make none.
    Device {
        /// An absolute path of the host.
        source: PathBuf,
        /// An absolute path in the container.
        target: String,
    },
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// An absolute path of the host.
    pub source: PathBuf,
    /// An absolute path in the container.
    pub target: String,
    /// Mount options: `ro` or `rw`, `rbind` or `bind`, a propagation.
    pub options: Vec<String>,
    /// What to do when the source is missing.
    pub missing: Missing,
}

/// What to do when a bind mount's source is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Make a directory, as `-v` does.
    Create,
    /// Refuse, as `--mount` does.
    Refuse,
}

impl Asked {
    /// Where it is mounted, without `.` and doubled slashes.
    pub fn target(&self) -> &str {
        match self {
            Asked::Bind(bind) => &bind.target,
            Asked::Tmpfs { target, .. } | Asked::Device { target, .. } => target,
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes; `/` itself cannot be mounted over.
pub(in crate::containers) fn target(text: &str) -> Result<String, SpecError> {
    let refuse = |why| {
        Err(SpecError::Mount {
            text: text.into(),
            why,
        })
    };
    if !text.starts_with('/') {
        return refuse("the path in the container must be absolute");
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match clean.to_str() {
        Some("/") => refuse("the container's root cannot be mounted over"),
        Some(clean) => Ok(clean.into()),
        None => refuse("not UTF-8"),
    }
}

/// `--tmpfs TARGET[:OPTIONS]`, options as `mount(8)` takes them for tmpfs.
///
/// # Errors
/// Refuses a relative target and unknown options.
pub fn tmpfs(text: &str) -> Result<Asked, SpecError> {
    let (place, given) = text.split_once(':').unwrap_or((text, ""));
    let mut options = default_tmpfs();
    for option in given.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let known = match key {
            "ro" | "rw" | "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev" | "noatime"
            | "relatime" => true,
            "size" => value.trim_end_matches('%').parse::<u64>().is_ok() || bytes(value).is_some(),
            "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
            "uid" | "gid" | "nr_inodes" | "nr_blocks" => value.parse::<u64>().is_ok(),
            _ => false,
        };
        if !known {
            return Err(SpecError::Mount {
                text: text.into(),
                why: "unknown tmpfs option",
            });
        }
        // The last one wins, so that `exec` undoes the default `noexec`.
        let base = key.trim_start_matches("no");
        options.retain(|o| o.split('=').next().unwrap_or(o).trim_start_matches("no") != base);
        options.push(option.into());
    }
    Ok(Asked::Tmpfs {
        target: target(place)?,
        options,
    })
}

/// Mount options of a device's node.
const DEVICE: [&str; 5] = ["bind", "rprivate", "nosuid", "noexec", "rw"];

/// The host's device `source` at `target`.
pub(super) fn device_node(source: impl Into<PathBuf>, target: &str) -> Result<Mount, SpecError> {
    entry("bind", source, target, &DEVICE)
}

pub(super) fn default_tmpfs() -> Vec<String> {
    ["noexec", "nosuid", "nodev"].map(String::from).into()
}

/// `--device HOST[:TARGET][:rwm]`. Without a cgroup of devices nothing can be taken from it: a read-only mount does not
/// stop writes to a node, and what the node's mode denies the host denies already.
///
/// # Errors
/// Refuses bad paths and permissions.
pub fn device(text: &str) -> Result<Asked, SpecError> {
    let refuse = |why| {
        Err(SpecError::Device {
            text: text.into(),
            why,
        })
    };
    let Some([host, place, permission]) = device_parts(text) else {
        return refuse("expected HOST[:TARGET][:rwm]");
    };
    if !(permission.contains('r') && permission.contains('w')) {
        return refuse(
            "a device is readable and writable as its mode allows (rwm); less cannot be enforced without root",
        );
    }
    if !host.starts_with('/') {
        return refuse("the host's path must be absolute");
    }
    Ok(Asked::Device {
        source: host.into(),
        target: target(place)?,
    })
}

/// Where the device of `--device` is on the host and in the container, and what may be done with it.
pub fn device_parts(text: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_permission = |p: &str| !p.is_empty() && p.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    match parts[..] {
        [host] => Some([host, host, "rwm"]),
        [host, second] if is_permission(second) => Some([host, host, second]),
        [host, place] => Some([host, place, "rwm"]),
        [host, place, permission] if is_permission(permission) => Some([host, place, permission]),
        _ => None,
    }
}

/// Docker's sizes: a number with `b`, `k`, `m`, `g`, `t` (powers of 1024), any case, an optional `b` or `ib` behind.
pub fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.bytes().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = lower.split_at_checked(digits)?;
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

pub(super) fn entry(
    kind: &str,
    source: impl Into<PathBuf>,
    destination: &str,
    options: &[&str],
) -> Result<Mount, SpecError> {
    Ok(MountBuilder::default()
        .typ(kind)
        .source(source.into())
        .destination(destination)
        .options(options.iter().map(|o| o.to_string()).collect::<Vec<_>>())
        .build()?)
}

/// Docker's mounts. With the host's network namespace no sysfs can be mounted, so the host's is bound, read-only.
pub(super) fn defaults(shm_size: u64, own_network: bool, sys: &'static str) -> Result<Vec<Mount>, SpecError> {
    let shm = format!("size={shm_size}");
    let sysfs = if own_network {
        entry("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", sys])?
    } else {
        entry(
            "bind",
            "/sys",
            "/sys",
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", sys],
        )?
    };
    Ok(vec![
        entry("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"])?,
        entry(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        entry(
            "devpts",
            "devpts",
            "/dev/pts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        sysfs,
        entry(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        )?,
        entry("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"])?,
        entry(
            "tmpfs",
            "shm",
            "/dev/shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        )?,
    ])
}

/// Can all this be mounted? A target given twice is refused.
pub(in crate::containers) fn check<'a>(targets: impl Iterator<Item = &'a str>) -> Result<(), SpecError> {
    let mut seen = BTreeSet::new();
    for target in targets {
        if !seen.insert(target) {
            return Err(SpecError::DuplicateMount(target.into()));
        }
        // The runtime mounts over these; allowing others there would let an image's or a volume's content pass for the
        // kernel's (CVE-2019-16884, CVE-2023-27561).
        if Path::new(target).starts_with("/proc") {
            return Err(SpecError::Mount {
                text: target.into(),
                why: "nothing can be mounted below /proc",
            });
        }
    }
    Ok(())
}

/// Adds what was asked for; what is mounted by default at its place is replaced.
pub(super) fn add(mounts: &mut Vec<Mount>, asked: &[Asked]) -> Result<(), SpecError> {
    check(asked.iter().map(Asked::target))?;
    for one in asked {
        let place = Path::new(one.target());
        mounts.retain(|mount| mount.destination() != place);
        mounts.push(match one {
            Asked::Bind(bind) => MountBuilder::default()
                .typ("bind")
                .source(&bind.source)
                .destination(place)
                .options(bind.options.clone())
                .build()?,
            Asked::Tmpfs { options, .. } => MountBuilder::default()
                .typ("tmpfs")
                .source("tmpfs")
                .destination(place)
                .options(options.clone())
                .build()?,
            Asked::Device { source, target } => device_node(source, target)?,
        });
    }
    // A parent is mounted before what lies in it; the sort is stable, so equals keep their order.
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(target: &str) -> Asked {
        Asked::Bind(Bind {
            source: "/x".into(),
            target: target.into(),
            options: Vec::new(),
            missing: Missing::Create,
        })
    }

    #[test]
    fn targets_are_clean() {
        for (text, clean) in [("/b//c/./d/", "/b/c/d"), ("/b/../../c", "/c")] {
            assert_eq!(target(text).ok().as_deref(), Some(clean));
        }
        for bad in ["", "b", "/", "/b/.."] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tmpfs_options_undo_defaults() {
        let options = |text| match tmpfs(text) {
            Ok(Asked::Tmpfs { options, .. }) => options.join(","),
            other => format!("{other:?}"),
        };
        assert_eq!(options("/t"), "noexec,nosuid,nodev");
        assert_eq!(
            options("/t:exec,size=64m,mode=1770"),
            "nosuid,nodev,exec,size=64m,mode=1770"
        );
        assert!(tmpfs("t").is_err() && tmpfs("/t:bogus").is_err() && tmpfs("/t:mode=9").is_err());
    }

    #[test]
    fn devices_are_binds_with_all_rights() {
        let is = |source: &str, target: &str| {
            Some(Asked::Device {
                source: source.into(),
                target: target.into(),
            })
        };
        for (text, source, target) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse"),
            ("/dev/fuse:rwm", "/dev/fuse", "/dev/fuse"),
            ("/dev/a:/dev/b", "/dev/a", "/dev/b"),
            ("/dev/a:/dev/b:rw", "/dev/a", "/dev/b"),
            ("/dev/a:/dev/b:mwr", "/dev/a", "/dev/b"),
        ] {
            assert_eq!(device(text).ok(), is(source, target), "{text}");
        }
        for bad in [
            "fuse",
            "/a:/b:x",
            "/a:/b:r:w",
            "/a:r",
            "/a:/b:r",
            "/a:/b:w",
            "/a:/b:m",
            "/a:wm",
        ] {
            assert!(matches!(device(bad), Err(SpecError::Device { .. })), "{bad}");
        }
        let mut mounts = Vec::new();
        assert!(add(&mut mounts, &[device("/dev/fuse").unwrap()]).is_ok());
        let options = mounts[0].options().clone().unwrap_or_default().join(",");
        assert_eq!(options, "bind,rprivate,nosuid,noexec,rw");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("64m"), Some(64 << 20));
        assert_eq!(bytes("1GiB"), Some(1 << 30));
        assert_eq!(bytes("123"), Some(123));
        for bad in ["", "m", "-1", "1x", "99999999999t"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_target_replaces_the_default_and_parents_come_first() {
        let mut mounts = defaults(1, true, "ro").unwrap_or_default();
        let asked = ["/a/b", "/a", "/dev/shm"].map(bind);
        assert!(add(&mut mounts, &asked).is_ok());
        let order: Vec<String> = mounts
            .iter()
            .map(|m| m.destination().display().to_string())
            .collect();
        let at = |path: &str| order.iter().position(|p| p == path);
        assert!(at("/a") < at("/a/b") && at("/dev") < at("/dev/shm"), "{order:?}");
        assert_eq!(order.iter().filter(|p| *p == "/dev/shm").count(), 1);
    }

    #[test]
    fn twice_the_same_and_proc_are_refused() {
        assert!(matches!(
            add(&mut vec![], &[bind("/a"), bind("/a")]),
            Err(SpecError::DuplicateMount(_))
        ));
        assert!(add(&mut vec![], &[bind("/proc")]).is_err());
        assert!(add(&mut vec![], &[bind("/proc/self")]).is_err());
    }
}
