//! How do ids come into a user namespace? One's own id each process may map itself; ranges are newuidmap's to write.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _};
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

use super::channel::Failure;
use crate::host::{IdMaps, IdRange, Probe};

/// Writes the caller's own map, from inside its new namespace: one user, one group. The kernel wants setgroups(2) shut
/// first (user_namespaces(7)), or a group could be dropped that a file denies. An error comes with the file's name.
pub(super) fn map_oneself(maps: &IdMaps) -> Result<(), (&'static str, io::Error)> {
    let write = |file: &'static str, text: String| fs::write(file, text).map_err(|error| (file, error));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", lines(&maps.uids))?;
    write("/proc/self/gid_map", lines(&maps.gids))
}

/// Maps ranges into the namespace of `child` with newuidmap(1) and newgidmap(1), both at once.
pub(super) fn map_child(child: Pid, maps: &IdMaps, host: &Probe) -> Result<(), Failure> {
    let Some([for_users, for_groups]) = &host.map_tools else {
        return Err(Failure::new("map ids", host.why_one_id().unwrap_or_default()));
    };
    let start = |tool: &std::path::Path, ids: &[IdRange]| {
        let numbers = ids.iter().flat_map(|id| [id.inside, id.outside, id.count]);
        Command::new(tool)
            .args(
                [child.to_string()]
                    .into_iter()
                    .chain(numbers.map(|number| number.to_string())),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(tool.display(), error))
    };
    let users = start(for_users, &maps.uids)?;
    let groups = start(for_groups, &maps.gids);
    let users = finish(users, for_users.display());
    finish(groups?, for_groups.display()).and(users)
}

fn finish(mut tool: Child, name: impl Display) -> Result<(), Failure> {
    let mut said = String::new();
    if let Some(stderr) = &mut tool.stderr {
        // Read for the message alone; the exit status decides.
        let _ = stderr.take(1024).read_to_string(&mut said);
    }
    match tool.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) if said.trim().is_empty() => Err(failed(name, status)),
        Ok(_) => Err(failed(name, said.trim())),
        Err(error) => Err(failed(name, error)),
    }
}

fn failed(tool: impl Display, why: impl Display) -> Failure {
    Failure::new(
        format!("map ids with {tool}"),
        format!(
            "{why} (an administrator can check that it is setuid root and that /etc/subuid and /etc/subgid agree; in a \
             container without CAP_SYS_ADMIN it needs file capabilities instead)"
        ),
    )
}

fn lines(ids: &[IdRange]) -> String {
    ids.iter()
        .map(|id| format!("{} {} {}\n", id.inside, id.outside, id.count))
        .collect()
}
