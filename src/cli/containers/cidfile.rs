//! `--cidfile`: where does a script find the id of the container that it made?

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::super::report::Failure;

/// The file, empty until the container is made; dropped before, it is removed, or it would be in the way of the next try.
pub(super) struct CidFile {
    path: PathBuf,
    file: Option<File>,
}

impl CidFile {
    /// Makes the file. It must be new, so that no two containers share one.
    pub(super) fn new(path: &Path) -> Result<CidFile, Failure> {
        match File::options().write(true).create_new(true).open(path) {
            Ok(file) => Ok(CidFile {
                path: path.to_owned(),
                file: Some(file),
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))),
            Err(error) => Err(Failure::new(format!("cannot create {}: {error}", path.display()))),
        }
    }

    /// Writes the id; from here on the file stays.
    pub(super) fn keep(mut self, id: &str) -> Result<(), Failure> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        file.write_all(id.as_bytes())
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", self.path.display())))
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The command has failed already, and says why.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
