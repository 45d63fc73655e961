//! How does a process come into a container's cgroups, and out again?

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::hierarchy;
use super::place::write;

/// Puts this process, and so all that it starts, into the groups of these files `cgroup.procs`. `Err` has the file, too.
pub(in crate::containers) fn enter(entries: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    for entry in entries {
        write(entry, "0").map_err(|error| (entry.clone(), error))?;
    }
    Ok(())
}

/// The ways back to the groups that this process is in, as far as there are some: opened, since it may soon not see them.
pub(in crate::containers) fn doors() -> Vec<File> {
    let own = hierarchy::all().into_iter();
    own.filter_map(|one| {
        File::options()
            .write(true)
            .open(one.own.join("cgroup.procs"))
            .ok()
    })
    .collect()
}

/// Goes back. Where that is not allowed it stays.
pub(in crate::containers) fn leave(doors: &[File]) {
    for mut door in doors {
        let _ = door.write_all(b"0");
    }
}
