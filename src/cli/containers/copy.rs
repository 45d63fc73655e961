//! `cp`: files come into a container, out of it, or from one into another. `export`: a container's whole tree, as a tar.

use std::io::{IsTerminal as _, stderr, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use super::super::output::human_size;
use super::super::report::Failure;
use super::end::load;
use super::exec::go_on_sealed;
use super::start::warn;
use crate::containers::Error;
use crate::containers::copy::{self, End, Order, Owners};
use crate::store::{Given, Store};

/// Flags of `cp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Cp {
    /// Keep the numbers of owners: without it, copies in a container are its root's
    #[arg(short, long)]
    archive: bool,
    /// Follow SOURCE if it is a symlink
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing, on a terminal too
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of the host, or - for a tar on standard input
    #[arg(value_name = "SOURCE", allow_hyphen_values = true)]
    from: String,
    /// CONTAINER:PATH, a path of the host, or - for a tar on standard output
    #[arg(value_name = "DESTINATION", allow_hyphen_values = true)]
    to: String,
}

/// Docker's rule of what names a container: what stands before a colon, unless that begins as paths do.
fn end(text: &str) -> End {
    if text == "-" {
        return End::Stream;
    }
    match text.split_once(':') {
        Some((name, path)) if !text.starts_with(['/', '.']) => End::Container {
            name: name.into(),
            path: path.into(),
        },
        _ => End::Host(text.into()),
    }
}

impl Cp {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let order = Order {
            from: end(&self.from),
            to: end(&self.to),
            owners: match self.archive {
                true => Owners::Kept,
                false => Owners::Own,
            },
            follow: self.follow_link,
        };
        check(&order)?;
        if copy::enters(store, &order)? {
            go_on_sealed()?;
        }
        let copied = copy::copy(store, &order)?;
        copied.warnings.iter().for_each(|warning| warn(warning));
        if !self.quiet && order.to != End::Stream && stdout().is_terminal() && stderr().is_terminal() {
            crate::line::say!("Successfully copied {} to {}", human_size(copied.bytes), self.to);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn check(order: &Order) -> Result<(), Failure> {
    for end in [&order.from, &order.to] {
        match end {
            End::Host(path) if path.as_os_str().is_empty() => {
                return Err(Failure::new("a path of the host cannot be empty"));
            }
            End::Container { path, .. } if path.is_empty() => {
                return Err(Failure::new("a path in a container cannot be empty"));
            }
            End::Container { name, .. } if name.is_empty() => {
                return Err(Failure::new("the container's name is missing before the colon"));
            }
            _ => {}
        }
    }
    let is_container = |end: &End| matches!(end, End::Container { .. });
    if !is_container(&order.from) && !is_container(&order.to) {
        let why = "must specify at least one container source: CONTAINER:PATH";
        return Err(Failure::new(why));
    }
    if order.from == End::Stream && stdin().is_terminal() {
        return Err(Failure::new(
            "standard input is a terminal, and no archive: redirect one, or name a source",
        ));
    }
    if order.to == End::Stream && stdout().is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to write an archive to a terminal. Redirect standard output",
        ));
    }
    Ok(())
}

/// Flags of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Write to this file; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Export {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let record = load(store, &self.container)?;
        match &self.output {
            Some(path) => {
                let failed = |source| Error::Io {
                    action: "write",
                    path: path.clone(),
                    source,
                };
                let given = Given::create(store, path).map_err(failed)?;
                copy::export(store, &record, &mut given.file())?;
                given.commit().map_err(failed)?;
            }
            None if stdout().is_terminal() => {
                let why = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
                return Err(Failure::new(why));
            }
            None => copy::export(store, &record, &mut stdout().lock())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container_but_in_paths() {
        let container = |name: &str, path: &str| End::Container {
            name: name.into(),
            path: path.into(),
        };
        assert_eq!(end("web:/etc"), container("web", "/etc"));
        assert_eq!(end("web:a:b"), container("web", "a:b"));
        for path in ["./a:b", "/a:b", "../a:b", "a", ".a:b"] {
            assert_eq!(end(path), End::Host(path.into()), "{path}");
        }
        assert_eq!(end("-"), End::Stream);
    }
}
