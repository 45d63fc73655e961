//! By which name does a container know who runs it? Where that one is who they are outside (`keep-id`), the image's lists of users
//! and groups get a line each, unless they have the name or the number: podman's lines, in the writable layer.

use std::path::Path;

use fuse_overlay::attr::Kind;
use fuse_overlay::error::{Error as TreeError, Result as TreeResult};
use fuse_overlay::union::{Limits, Lower, Tree};
use nix::errno::Errno;

use super::Error;
use super::growing::{Growing, Missing};
use crate::host::Account;
use crate::store::write::Durability;

pub(super) const PASSWD: &str = "/etc/passwd";
pub(super) const GROUP: &str = "/etc/group";

/// What a container's list lacks: the file, and what is to be put at its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addition {
    pub(super) path: &'static str,
    pub(super) text: String,
}

/// A line of passwd(5) for the caller, whose ids inside are these; `home` as they have it there.
pub(super) fn of_passwd(
    caller: &Account,
    (uid, gid): (u32, u32),
    home: &str,
    passwd: &str,
) -> Option<Addition> {
    let Account { name, full_name, .. } = caller;
    let line = format!("{name}:*:{uid}:{gid}:{full_name}:{home}:/bin/sh\n");
    addition(PASSWD, passwd, (name, uid), line)
}

/// A line of group(5) for the caller's group.
pub(super) fn of_group(caller: &Account, gid: u32, group: &str) -> Option<Addition> {
    let name = caller.group.as_ref()?;
    let line = format!("{name}:x:{gid}:{}\n", caller.name);
    addition(GROUP, group, (name, gid), line)
}

fn addition(path: &'static str, list: &str, (name, id): (&str, u32), line: String) -> Option<Addition> {
    let id = id.to_string();
    let has = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(&id)
    };
    let ended = if list.is_empty() || list.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    (!list.lines().any(has)).then(|| Addition {
        path,
        text: format!("{ended}{line}"),
    })
}

/// The home directory inside: the caller's own, where it or what holds it is mounted; else the directory that is worked in.
pub(super) fn home<'a>(caller: &'a Account, workdir: &'a str, mounted: &[&str]) -> &'a str {
    let above = Path::new(&caller.home).ancestors();
    let mut above = above.filter(|directory| directory.parent().is_some());
    let is_there = above.any(|directory| mounted.iter().any(|target| Path::new(target) == directory));
    let home = if is_there { &caller.home } else { workdir };
    match home.contains(|c: char| c == ':' || c.is_control()) {
        true => "/",
        false => home,
    }
}

/// Puts lines at the ends of files in a container's writable layer. A list that the image has not is not begun.
///
/// # Errors
/// The writable layer cannot be made, or written to.
pub(super) fn add(
    lower: Lower,
    upper: &Path,
    limits: Limits,
    additions: &[Addition],
    durability: Durability,
) -> Result<(), Error> {
    let tree = Tree::open(lower, upper, limits)?;
    let failed = |path: &str| {
        let path = path.into();
        move |error: TreeError| Error::Io {
            action: "add the caller to",
            path,
            source: error.0.into(),
        }
    };
    for addition in additions {
        append(&tree, addition).map_err(failed(addition.path))?;
    }
    match durability {
        Durability::Durable => tree.sync().map(drop).map_err(failed("the writable layer")),
        _ => Ok(()),
    }
}

fn append(tree: &Tree, addition: &Addition) -> TreeResult<()> {
    let growing = Growing(tree);
    let found = match growing.find(addition.path.as_bytes(), Missing::Refuse) {
        Err(TreeError(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(()),
        place => place?.now,
    };
    match found.filter(|now| now.kind == Kind::Regular) {
        Some(now) => growing.write(now.ino, now.size, addition.text.as_bytes()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Account {
        Account {
            name: "ann".into(),
            full_name: "Ann B".into(),
            home: "/home/ann".into(),
            group: Some("users".into()),
        }
    }

    #[test]
    fn who_is_listed_is_not_listed_again() {
        let added = |list: &str| of_passwd(&ann(), (1000, 100), "/w", list).map(|added| added.text);
        let line = "ann:*:1000:100:Ann B:/w:/bin/sh\n";
        assert_eq!(added("root:x:0:0::/root:/bin/sh\n").as_deref(), Some(line));
        assert_eq!(added("root:x:0:0::/root:/bin/sh"), Some(format!("\n{line}")));
        assert_eq!(added("ann:x:7:7::/:/bin/sh\n"), None);
        assert_eq!(added("node:x:1000:1000::/:/bin/sh\n"), None);
        let added = |list: &str| of_group(&ann(), 100, list).map(|added| added.text);
        assert_eq!(added("").as_deref(), Some("users:x:100:ann\n"));
        assert_eq!(added("users:x:7:\n"), None);
        assert_eq!(added("x:x:100:\n"), None);
        let nameless = Account { group: None, ..ann() };
        assert_eq!(of_group(&nameless, 100, ""), None);
    }

    #[test]
    fn home_is_where_it_is_mounted() {
        let caller = ann();
        assert_eq!(home(&caller, "/w", &["/data", "/home/ann/x"]), "/w");
        for mounted in ["/home/ann", "/home"] {
            assert_eq!(home(&caller, "/w", &[mounted]), "/home/ann");
        }
        assert_eq!(home(&caller, "/a:b", &[]), "/");
    }
}
