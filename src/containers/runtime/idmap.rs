//! How do ids come into a user namespace? One's own id each process may map itself; ranges are newuidmap's to write.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::{Pid, gettid};

use super::channel::Failure;
use super::cores;
use crate::host::{IdMaps, IdRange, Probe};

/// Writes the caller's own map, from inside its new namespace: one user, one group. The kernel wants setgroups(2) shut
/// first (user_namespaces(7)), or a group could be dropped that a file denies. An error comes with the file's name.
pub(super) fn map_oneself(maps: &IdMaps) -> Result<(), (&'static str, io::Error)> {
    let write = |file: &'static str, text: String| fs::write(file, text).map_err(|error| (file, error));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", lines(&maps.uids))?;
    write("/proc/self/gid_map", lines(&maps.gids))
}

/// Maps ranges into the namespace of `child` with newuidmap(1) and newgidmap(1), both at once: on two threads, since who
/// starts a program waits until it runs, and the scheduler may let it run to its end first.
pub(super) fn map_child(child: Pid, maps: &IdMaps, host: &Probe) -> Result<(), Failure> {
    let Some([for_users, for_groups]) = &host.map_tools else {
        return Err(Failure::new("map ids", host.why_one_id().unwrap_or_default()));
    };
    let (users, groups) = std::thread::scope(|scope| {
        let groups = std::thread::Builder::new().spawn_scoped(scope, || {
            cores::spread(gettid());
            map(for_groups, child, &maps.gids)
        });
        let users = map(for_users, child, &maps.uids);
        let groups = match groups.map(|thread| thread.join()) {
            Ok(Ok(groups)) => groups,
            Ok(Err(_)) => Err(failed(for_groups.display(), "its thread panicked")),
            Err(_) => map(for_groups, child, &maps.gids),
        };
        (users, groups)
    });
    groups.and(users)
}

fn map(tool: &Path, child: Pid, ids: &[IdRange]) -> Result<(), Failure> {
    let numbers = ids.iter().flat_map(|id| [id.inside, id.outside, id.count]);
    let started = Command::new(tool)
        .arg(child.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    finish(
        started.map_err(|error| failed(tool.display(), error))?,
        tool.display(),
    )
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
