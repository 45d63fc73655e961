//! Which devices of this machine may the user open? What `--privileged` shows besides those that each container has.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

/// A container has its own of these, or the like of them.
const NOT_SHOWN: [&str; 12] = [
    "console",
    "full",
    "hugepages",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "tty",
    "urandom",
    "zero",
];

/// The nodes below /dev that the caller may read and write, sorted. Others would be shown in vain.
pub fn usable_devices() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        let shown = |name: &str| !NOT_SHOWN.contains(&name) && !is_virtual_console(name);
        if entry.file_name().to_str().is_some_and(shown) {
            collect(&entry, &mut found);
        }
    }
    found.sort_unstable();
    found
}

/// Links are passed over: what they lead to is found by itself, or lies elsewhere. The directory's own word for a kind is
/// not taken: in a container, nodes are mounted over files.
fn collect(entry: &fs::DirEntry, found: &mut Vec<String>) {
    let path = entry.path();
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        for below in fs::read_dir(&path).into_iter().flatten().flatten() {
            collect(&below, found);
        }
    } else if (kind.is_char_device() || kind.is_block_device()) && is_usable(&path) {
        found.extend(path.to_str().map(str::to_owned));
    }
}

fn is_usable(node: &Path) -> bool {
    access(node, AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
}

/// As podman leaves them out: who sits at the machine types there.
fn is_virtual_console(name: &str) -> bool {
    let number = name.strip_prefix("tty").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_opened_and_is_no_containers_own() {
        let found = usable_devices();
        assert!(found.contains(&"/dev/fuse".to_owned()), "{found:?}");
        for device in &found {
            assert!(is_usable(Path::new(device)), "{device}");
            assert!(
                !device.starts_with("/dev/pts/") && device != "/dev/null",
                "{device}"
            );
        }
        assert!(is_virtual_console("tty12") && !is_virtual_console("ttyS0") && !is_virtual_console("tty"));
    }
}
