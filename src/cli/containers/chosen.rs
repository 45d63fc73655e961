//! Which containers is a command about? Those that are named; or, as podman has it, all, the latest, those of files or filters.

use std::path::{Path, PathBuf};

use super::super::report::Failure;
use crate::containers::record::{Life, Record};
use crate::store::Store;

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Chosen {
    /// All that this can be done to
    #[arg(short, long, conflicts_with_all = ["containers", "latest", "cidfile", "filter"])]
    all: bool,
    /// The one that was made last
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile", "filter"])]
    latest: bool,
    /// The one whose id this file has
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Those for which this holds, as of ps
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["containers", "cidfile"])]
    filter: Vec<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest", "cidfile", "filter"])]
    containers: Vec<String>,
}

/// Does its command run?
pub(super) fn runs(record: &Record) -> bool {
    matches!(record.life, Life::Running { .. })
}

impl Chosen {
    /// Their names; ids, where none was named. Of all and of those of filters only such as `fits` accepts. `lenient`: a file that
    /// is missing names nobody.
    pub(super) fn names(
        &self,
        store: &Store,
        fits: impl Fn(&Record) -> bool,
        lenient: bool,
    ) -> Result<Vec<String>, Failure> {
        if self.latest {
            let last = super::ps::chosen(store, &[])?.into_iter().next();
            let last = last.ok_or_else(|| Failure::new("there is no container"))?;
            return Ok(vec![last.id]);
        }
        if self.all || !self.filter.is_empty() {
            let chosen = super::ps::chosen(store, &self.filter)?;
            return Ok(chosen.into_iter().filter(fits).map(|record| record.id).collect());
        }
        let mut names = self.containers.clone();
        for file in &self.cidfile {
            names.extend(id_of(file, lenient)?);
        }
        Ok(names)
    }
}

fn id_of(file: &Path, lenient: bool) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned())),
        Err(error) if lenient && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("cannot read {}: {error}", file.display()))),
    }
}
