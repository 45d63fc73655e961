//! `diff`: what did a container change?

use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use fuse_overlay::union::Difference;

use super::super::output;
use super::super::report::Failure;
use crate::containers::changes;
use crate::store::Store;

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Diff {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let mut text = Vec::new();
        for (how, path) in changes::changes(store, &super::end::load(store, &self.container)?)? {
            let letter = match how {
                Difference::Added => b'A',
                Difference::Changed => b'C',
                Difference::Deleted => b'D',
            };
            text.extend_from_slice(&[letter, b' ']);
            text.extend_from_slice(path.as_os_str().as_bytes());
            text.push(b'\n');
        }
        output::put(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
