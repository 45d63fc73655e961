//! Who else is told that a container runs? Whoever reads the pid files. (systemd: `containers::notify`.)

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::containers::upkeep::Upkeep;

/// A pid file that cannot be written: whoever asked for it waits for it, so the container does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the pid file {}: {source}", path.display())]
pub(super) struct PidfileError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the file of `--conmon-pidfile`.
pub(super) fn supervisor(upkeep: &Upkeep) -> Result<(), PidfileError> {
    match Pidfile::open(upkeep.supervisor_pidfile.as_deref())? {
        Some(file) => file.write(std::process::id().cast_signed()),
        None => Ok(()),
    }
}

/// The file of `--pidfile`, to be opened before the command runs: once it does, it is late to say that it cannot be.
pub(super) fn init(upkeep: &Upkeep) -> Result<Option<Pidfile>, PidfileError> {
    Pidfile::open(upkeep.pidfile.as_deref())
}

/// One that is open, and empty.
pub(super) struct Pidfile {
    path: PathBuf,
    file: File,
}

impl Pidfile {
    fn open(path: Option<&Path>) -> Result<Option<Pidfile>, PidfileError> {
        let Some(path) = path.map(Path::to_owned) else {
            return Ok(None);
        };
        match File::create(&path) {
            Ok(file) => Ok(Some(Pidfile { path, file })),
            Err(source) => Err(PidfileError { path, source }),
        }
    }

    /// As Podman's: the number and no more.
    pub(super) fn write(self, pid: i32) -> Result<(), PidfileError> {
        let Pidfile { path, mut file } = self;
        let written = file.write_all(pid.to_string().as_bytes());
        written.map_err(|source| PidfileError { path, source })
    }
}
