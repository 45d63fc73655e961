//! What do a mount's options mean? The runtime spec's list (config.md, "Linux mount options"), pure.

use std::path::PathBuf;

use crate::sys::Depth;

/// `X-mount.subdir=PATH`, as mount(8) has it: what of a bind mount's source is shown.
pub const SUBDIRECTORY: &str = "X-mount.subdir";

/// Read-only, but not what is mounted below.
pub const TOP_READ_ONLY: &str = "X-bryo.top-ro";

/// The type of a mount that the caller has made, and hands over: its source is `/proc/self/fd/N`.
pub const HANDED: &str = "bryo.handed";

/// A filesystem's own parameter: `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

/// What a mount is like, whatever lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub(super) set: u64,
    /// `MOUNT_ATTR_*` to clear: those of the access time are one field, cleared when another value is set.
    pub(super) clear: u64,
    /// `MOUNT_ATTR_*` to set at the top alone, of a bind mount that brings what is mounted below.
    pub(super) top: u64,
    /// `MS_PRIVATE` and the like.
    pub(super) propagation: u64,
    /// Whether a bind mount brings what is mounted below, and whether all that is read-only too.
    pub(super) depth: Depth,
}

/// A mount's options, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) attributes: Attributes,
    /// `bind` or `rbind` was among them.
    pub(super) bind: bool,
    /// What of a bind mount's source is shown, by a path that leads nowhere out of it (mount(8) has the option's name).
    pub(super) below: Option<PathBuf>,
    pub(super) parameters: Vec<Parameter>,
}

/// Sorts options. What the mount API does not know by these names is left to the filesystem, which refuses what it does
/// not know either.
///
/// A propagation that the Spec does not give is private: nothing mounted later on the host appears inside.
pub(super) fn parse(options: &[String]) -> Result<Options, String> {
    let mut attributes = Attributes {
        set: 0,
        clear: 0,
        top: 0,
        propagation: libc::MS_PRIVATE,
        depth: Depth::One,
    };
    let mut sorted = Options {
        attributes,
        bind: false,
        below: None,
        parameters: Vec::new(),
    };
    for option in options {
        match option.as_str() {
            // What a new mount is anyway. A bind mount keeps what its source's mount forbids: the kernel insists.
            "rw" | "suid" | "dev" | "exec" | "async" | "atime" | "diratime" | "defaults" | "symfollow"
            | "norelatime" => {}
            "ro" | "rro" => attributes.set |= libc::MOUNT_ATTR_RDONLY,
            "nosuid" => attributes.set |= libc::MOUNT_ATTR_NOSUID,
            "nodev" => attributes.set |= libc::MOUNT_ATTR_NODEV,
            "noexec" => attributes.set |= libc::MOUNT_ATTR_NOEXEC,
            "nosymfollow" => attributes.set |= libc::MOUNT_ATTR_NOSYMFOLLOW,
            "nodiratime" => attributes.set |= libc::MOUNT_ATTR_NODIRATIME,
            "relatime" => access_time(&mut attributes, libc::MOUNT_ATTR_RELATIME),
            "noatime" => access_time(&mut attributes, libc::MOUNT_ATTR_NOATIME),
            "strictatime" => access_time(&mut attributes, libc::MOUNT_ATTR_STRICTATIME),
            "bind" => sorted.bind = true,
            "rbind" => {
                sorted.bind = true;
                attributes.depth = Depth::Tree;
            }
            "private" | "rprivate" => attributes.propagation = libc::MS_PRIVATE,
            "slave" | "rslave" => attributes.propagation = libc::MS_SLAVE,
            "shared" | "rshared" => attributes.propagation = libc::MS_SHARED,
            "unbindable" | "runbindable" => attributes.propagation = libc::MS_UNBINDABLE,
            "remount" | "idmap" | "ridmap" | "tmpcopyup" | "copy-symlink" | "sync" | "dirsync" | "mand" => {
                return Err(format!("mount option \"{option}\""));
            }
            // Docker's `bind-recursive=writable`: what is mounted below the source stays as it is.
            TOP_READ_ONLY => attributes.top |= libc::MOUNT_ATTR_RDONLY,
            other => sorted.parameters.push(match other.split_once('=') {
                Some((SUBDIRECTORY, path)) => {
                    sorted.below = Some(path.into());
                    continue;
                }
                Some((key, value)) => Parameter {
                    key: key.to_owned(),
                    value: Some(value.to_owned()),
                },
                None => Parameter {
                    key: other.to_owned(),
                    value: None,
                },
            }),
        }
    }
    sorted.attributes = attributes;
    Ok(sorted)
}

fn access_time(attributes: &mut Attributes, value: u64) {
    attributes.set = attributes.set & !libc::MOUNT_ATTR__ATIME | value;
    attributes.clear |= libc::MOUNT_ATTR__ATIME;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(options: &[&str]) -> Result<Options, String> {
        parse(
            &options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn attributes_and_parameters_are_told_apart() {
        let options = parsed(&["nosuid", "strictatime", "mode=755", "size=65536k", "newinstance"]).unwrap();
        assert_eq!(
            options.attributes.set,
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME
        );
        assert_eq!(options.attributes.clear, libc::MOUNT_ATTR__ATIME);
        assert_eq!(options.parameters.len(), 3);
        assert_eq!(
            options.parameters[0],
            Parameter {
                key: "mode".into(),
                value: Some("755".into())
            }
        );
    }

    #[test]
    fn a_mount_is_private_unless_asked() {
        assert_eq!(
            parsed(&["rbind", "ro"]).unwrap().attributes.propagation,
            libc::MS_PRIVATE
        );
        let slave = parsed(&["rbind", "rslave"]).unwrap();
        assert_eq!((slave.bind, slave.attributes.propagation), (true, libc::MS_SLAVE));
        assert_eq!(slave.attributes.depth, Depth::Tree);
    }

    #[test]
    fn what_is_not_done_is_refused() {
        assert!(
            parsed(&["remount"]).is_err() && parsed(&["idmap"]).is_err() && parsed(&["tmpcopyup"]).is_err()
        );
    }
}
