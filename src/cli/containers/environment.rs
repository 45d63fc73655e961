//! `-e` and `--env-file` of `run`, `create` and `exec`.

use std::path::PathBuf;

use crate::containers::spec::env;
use crate::containers::{Error, life};

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Environment {
    /// Set an environment variable; without a value, the host's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

impl Environment {
    /// What they set; files first, so that single variables win.
    pub(super) fn read(&self) -> Result<Vec<String>, Error> {
        let host = |name: &str| std::env::var_os(name);
        let mut environment = Vec::new();
        for file in &self.env_file {
            environment.extend(env::file(&life::read_file(file)?, host)?);
        }
        for argument in &self.env {
            environment.push(env::argument(argument, host)?);
        }
        Ok(environment)
    }
}
