//! What do `-v`, `--mount`, `--tmpfs` and `--device` mean, and what is mounted without being asked?

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::SpecError;

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
fn target(text: &str) -> Result<String, SpecError> {
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

/// The host's side of `-v`: an absolute path, or `.`/`./x`/`../x` below `cwd`; everything else names a volume.
fn host_path(text: &str, cwd: &Path) -> Result<PathBuf, SpecError> {
    let relative = text == "." || text == ".." || text.starts_with("./") || text.starts_with("../");
    if text.starts_with('/') {
        return Ok(text.into());
    }
    if relative {
        // `./x` becomes `cwd/x`; `..` stays for the kernel, which knows the symlinks.
        return Ok(cwd.join(text).components().collect());
    }
    let mut bytes = text.bytes();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if bytes.next().is_some_and(|b| b.is_ascii_alphanumeric()) && text.len() > 1 && bytes.all(plain) {
        return Err(SpecError::NamedVolume(text.into()));
    }
    Err(SpecError::VolumeName(text.into()))
}

/// `-v SOURCE:TARGET[:OPTIONS]`.
///
/// # Errors
/// Refuses volumes without a host path (they come with a later version), bad paths and unknown options.
pub fn volume(text: &str, cwd: &Path) -> Result<Asked, SpecError> {
    let refuse = |why| {
        Err(SpecError::Mount {
            text: text.into(),
            why,
        })
    };
    let mut parts = text.split(':');
    let (source, place, flags) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(only), None, ..) => {
            target(only)?;
            return Err(SpecError::AnonymousVolume(only.into()));
        }
        (Some(source), Some(place), flags, None) => (source, place, flags.unwrap_or("")),
        _ => return refuse("expected SOURCE:TARGET[:OPTIONS]"),
    };
    if source.is_empty() {
        return refuse("empty host path");
    }
    let (mut access, mut recursion, mut propagation) = ("rw", "rbind", "rprivate");
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        match flag {
            "ro" | "rw" => access = flag,
            "bind" | "rbind" => recursion = flag,
            "private" | "rprivate" | "slave" | "rslave" => propagation = flag,
            // SELinux labels are not set on hosts of ordinary users' files; the others only matter to Docker Desktop
            // and to named volumes.
            "z" | "Z" | "cached" | "delegated" | "consistent" | "nocopy" => {}
            "U" => return refuse("option U (change of owner) is not supported"),
            "O" => return refuse("option O (overlay) is not supported"),
            "shared" | "rshared" => {
                return refuse(
                    "shared propagation needs rights on the host's mounts that an ordinary user lacks",
                );
            }
            _ => return refuse("unknown option"),
        }
    }
    Ok(Asked::Bind(Bind {
        source: host_path(source, cwd)?,
        target: target(place)?,
        options: [recursion, propagation, access].map(String::from).into(),
        missing: Missing::Create,
    }))
}

/// `--mount type=bind|tmpfs,KEY=VALUE,…`.
///
/// # Errors
/// Refuses other types, unknown keys and missing paths.
pub fn mount(text: &str, cwd: &Path) -> Result<Asked, SpecError> {
    let refuse = |why| {
        Err(SpecError::Mount {
            text: text.into(),
            why,
        })
    };
    let (mut kind, mut source, mut place) = ("volume", None, None);
    let (mut access, mut recursion, mut propagation) = ("rw", "rbind", "rprivate");
    let (mut size, mut mode) = (None, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let yes = matches!(value, "" | "true" | "1");
        match key {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "destination" | "dst" => place = Some(target(value)?),
            "readonly" | "ro" => access = if yes { "ro" } else { "rw" },
            "bind-propagation" => match value {
                "private" | "rprivate" | "slave" | "rslave" => propagation = value,
                "shared" | "rshared" => return refuse("shared propagation is not for ordinary users"),
                _ => return refuse("unknown bind-propagation"),
            },
            "bind-nonrecursive" => recursion = if yes { "bind" } else { "rbind" },
            "consistency" => {}
            "tmpfs-size" => size = Some(bytes(value).ok_or_else(|| SpecError::Size(value.into()))?),
            "tmpfs-mode" => match u32::from_str_radix(value, 8) {
                Ok(bits) if bits <= 0o7777 => mode = Some(bits),
                _ => return refuse("tmpfs-mode is not an octal mode"),
            },
            _ => return refuse("unknown key"),
        }
    }
    let Some(place) = place else {
        return refuse("target is required");
    };
    match kind {
        "bind" => {
            if size.is_some() || mode.is_some() {
                return refuse("tmpfs options on a bind mount");
            }
            let Some(source) = source.filter(|s| !s.is_empty()) else {
                return refuse("source is required");
            };
            Ok(Asked::Bind(Bind {
                source: cwd.join(source),
                target: place,
                options: [recursion, propagation, access].map(String::from).into(),
                missing: Missing::Refuse,
            }))
        }
        "tmpfs" if source.is_some() => refuse("a tmpfs has no source"),
        "tmpfs" => {
            let mut options = default_tmpfs();
            options.push(access.into());
            options.extend(size.map(|size| format!("size={size}")));
            options.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            Ok(Asked::Tmpfs {
                target: place,
                options,
            })
        }
        "volume" => Err(SpecError::NamedVolume(source.unwrap_or("").into())),
        _ => refuse("unknown type"),
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

fn default_tmpfs() -> Vec<String> {
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
    let parts: Vec<&str> = text.split(':').collect();
    let is_permission = |p: &str| !p.is_empty() && p.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    let (host, place, permission) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, second] if is_permission(second) => (host, host, second),
        [host, place] => (host, place, "rwm"),
        [host, place, permission] if is_permission(permission) => (host, place, permission),
        _ => return refuse("expected HOST[:TARGET][:rwm]"),
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

/// Adds what was asked for; a target given twice is refused, one that is mounted by default replaces that.
pub(super) fn add(mounts: &mut Vec<Mount>, asked: &[Asked]) -> Result<(), SpecError> {
    for (i, one) in asked.iter().enumerate() {
        let place = Path::new(one.target());
        if asked[..i].iter().any(|earlier| earlier.target() == one.target()) {
            return Err(SpecError::DuplicateMount(one.target().into()));
        }
        // The runtime mounts over these; allowing others there would let an image's or a volume's content pass for the
        // kernel's (CVE-2019-16884, CVE-2023-27561).
        if place.starts_with("/proc") {
            return Err(SpecError::Mount {
                text: one.target().into(),
                why: "nothing can be mounted below /proc",
            });
        }
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

    fn cwd() -> &'static Path {
        Path::new("/home/me")
    }
    fn bind(asked: Result<Asked, SpecError>) -> Option<(String, String, String)> {
        match asked.ok()? {
            Asked::Bind(b) => Some((b.source.display().to_string(), b.target, b.options.join(","))),
            Asked::Tmpfs { .. } | Asked::Device { .. } => None,
        }
    }
    fn is(source: &str, target: &str, options: &str) -> Option<(String, String, String)> {
        Some((source.into(), target.into(), options.into()))
    }

    #[test]
    fn volumes_with_host_paths() {
        assert_eq!(bind(volume("/a:/b", cwd())), is("/a", "/b", "rbind,rprivate,rw"));
        assert_eq!(
            bind(volume("/a:/b:ro", cwd())),
            is("/a", "/b", "rbind,rprivate,ro")
        );
        assert_eq!(
            bind(volume("/a:/b:ro,Z", cwd())),
            is("/a", "/b", "rbind,rprivate,ro")
        );
        assert_eq!(
            bind(volume("./x:/b//c/./d/", cwd())),
            is("/home/me/x", "/b/c/d", "rbind,rprivate,rw")
        );
        assert_eq!(
            bind(volume(".:/b", cwd())),
            is("/home/me", "/b", "rbind,rprivate,rw")
        );
        assert_eq!(
            bind(volume("/a:/b/../../c:z,rslave", cwd())),
            is("/a", "/c", "rbind,rslave,rw")
        );
    }

    #[test]
    fn volumes_without_are_refused_by_kind() {
        assert!(matches!(volume("data:/b", cwd()), Err(SpecError::NamedVolume(_))));
        assert!(matches!(volume("/b", cwd()), Err(SpecError::AnonymousVolume(_))));
        assert!(matches!(volume("a/b:/c", cwd()), Err(SpecError::VolumeName(_))));
        for bad in [
            "",
            ":/b",
            "/a:b",
            "/a:/",
            "/a:/b/..",
            "/a:/b:ro:rw",
            "/a:/b:bogus",
            "/a:/b:U",
            "/a:/b:shared",
        ] {
            assert!(
                matches!(volume(bad, cwd()), Err(SpecError::Mount { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn mounts() {
        let made = mount("type=bind,src=sub,dst=/b,readonly", cwd());
        assert_eq!(bind(made), is("/home/me/sub", "/b", "rbind,rprivate,ro"));
        let made = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700", cwd()).ok();
        let options = ["noexec", "nosuid", "nodev", "rw", "size=1048576", "mode=700"]
            .map(String::from)
            .into();
        assert_eq!(
            made,
            Some(Asked::Tmpfs {
                target: "/t".into(),
                options
            })
        );
        for bad in [
            "type=bind,dst=/b",
            "type=bind,src=/a",
            "type=npipe,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,bogus=1",
            "type=tmpfs,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,tmpfs-size=1",
        ] {
            assert!(matches!(mount(bad, cwd()), Err(SpecError::Mount { .. })), "{bad}");
        }
        assert!(matches!(
            mount("src=v,dst=/b", cwd()),
            Err(SpecError::NamedVolume(_))
        ));
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
        let asked = ["/a/b", "/a", "/dev/shm"].map(|t| volume(&format!("/x:{t}"), cwd()));
        let asked: Vec<Asked> = asked.into_iter().flatten().collect();
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
        let asked = |list: &[&str]| -> Vec<Asked> { list.iter().flat_map(|t| volume(t, cwd())).collect() };
        assert!(matches!(
            add(&mut vec![], &asked(&["/x:/a", "/y:/a/"])),
            Err(SpecError::DuplicateMount(_))
        ));
        assert!(add(&mut vec![], &asked(&["/x:/proc"])).is_err());
        assert!(add(&mut vec![], &asked(&["/x:/proc/self"])).is_err());
    }
}
