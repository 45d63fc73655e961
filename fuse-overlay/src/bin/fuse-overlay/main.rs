//! `fuse-overlay`: mounts tars and directories with a writable layer above, without a container. Flags → one call → exit
//! code: 0, 1 for a failure (of `check` also: for a finding), 2 for a command line that says nothing.

mod check;
mod diff;
mod mount;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;

const USAGE: &str = "\
usage: fuse-overlay mount --layer PATH... --upper DIR [OPTION]... MOUNTPOINT
       fuse-overlay diff  --layer PATH... --upper DIR [--tar FILE]
       fuse-overlay check --layer PATH... [--upper DIR]

A layer is an uncompressed tar or a plain directory; the lowest comes first. The
upper holds what is changed, and belongs to its layers.

  mount   serves until it is unmounted, or SIGTERM or SIGINT comes; by mount(2)
          as root of a user namespace (unshare -rm), else by fusermount3
  diff    prints A, C or D and a path for each change; to be used unmounted or
          mounted
  check   reads everything: tars, indexes, the directories' files, the journal

  --layer PATH     one more layer
  --upper DIR      the writable layer, made if it is missing
  --indexes DIR    where the tars' indexes are kept (default: UPPER.indexes, or
                   without an upper a temporary place)
  --tar FILE       diff: write the changes as a layer's tar instead; - is stdout
  --threads N      mount: how many requests are served at once (default 2)
  --allow-other    mount: with fusermount3, other users may use the mount, too
  --help, --version

RUST_LOG=warn, info, debug or trace says more.
";

/// What the command line says.
#[derive(Default)]
struct Options {
    layers: Vec<PathBuf>,
    upper: Option<PathBuf>,
    indexes: Option<PathBuf>,
    tar: Option<PathBuf>,
    threads: Option<usize>,
    allow_other: bool,
    target: Option<PathBuf>,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let (command, options) = match parse(lexopt::Parser::from_env()) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuse-overlay: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Asked::Mount => mount::run(&options),
        Asked::Diff => diff::run(&options),
        Asked::Check => check::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuse-overlay: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Asked {
    Mount,
    Diff,
    Check,
}

/// `None`: all that was asked is printed.
fn parse(mut parser: lexopt::Parser) -> Result<Option<(Asked, Options)>, lexopt::Error> {
    let (mut command, mut options) = (None, Options::default());
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => {
                print!("{USAGE}");
                return Ok(None);
            }
            Long("version") => {
                println!("fuse-overlay {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            Long("layer") => options.layers.push(parser.value()?.into()),
            Long("upper") => options.upper = Some(parser.value()?.into()),
            Long("indexes") => options.indexes = Some(parser.value()?.into()),
            Long("tar") => options.tar = Some(parser.value()?.into()),
            Long("threads") => options.threads = Some(parser.value()?.parse()?),
            Long("allow-other") => options.allow_other = true,
            Value(name) if command.is_none() => command = Some(asked(name)?),
            Value(target) if options.target.is_none() => options.target = Some(target.into()),
            _ => return Err(arg.unexpected()),
        }
    }
    let command = command.ok_or("a command is missing")?;
    options.suit(&command)?;
    Ok(Some((command, options)))
}

fn asked(name: OsString) -> Result<Asked, lexopt::Error> {
    match name.to_str() {
        Some("mount") => Ok(Asked::Mount),
        Some("diff") => Ok(Asked::Diff),
        Some("check") => Ok(Asked::Check),
        _ => Err(format!("no such command: {}", name.display()).into()),
    }
}

impl Options {
    /// Is all there that the command needs, and nothing that it would not heed?
    fn suit(&self, command: &Asked) -> Result<(), lexopt::Error> {
        let is_mount = matches!(command, Asked::Mount);
        let complaints = [
            (self.layers.is_empty(), "--layer is missing"),
            (
                self.upper.is_none() && !matches!(command, Asked::Check),
                "--upper is missing",
            ),
            (is_mount && self.target.is_none(), "MOUNTPOINT is missing"),
            (!is_mount && self.target.is_some(), "one argument too many"),
            (!is_mount && self.threads.is_some(), "--threads is for mount"),
            (!is_mount && self.allow_other, "--allow-other is for mount"),
            (
                !matches!(command, Asked::Diff) && self.tar.is_some(),
                "--tar is for diff",
            ),
            (self.threads == Some(0), "--threads 0 would serve nobody"),
        ];
        match complaints.iter().find(|(wrong, _)| *wrong) {
            Some((_, complaint)) => Err((*complaint).into()),
            None => Ok(()),
        }
    }

    fn upper(&self) -> Result<&PathBuf, Box<dyn Error>> {
        self.upper.as_ref().ok_or_else(|| "--upper is missing".into())
    }

    /// Where indexes are kept, if they are.
    fn indexes(&self) -> Option<PathBuf> {
        let beside = |upper: &PathBuf| {
            let mut path = upper.clone().into_os_string();
            path.push(".indexes");
            path.into()
        };
        self.indexes.clone().or_else(|| self.upper.as_ref().map(beside))
    }
}
