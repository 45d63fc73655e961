//! `build`: flags → one build → BuildKit's lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::put;
use super::report::Failure;
use crate::build::dockerfile::Place;
use crate::build::{self, Cache, Error, Order, Output, Secret};
use crate::containers::files::{HostNames, add_host};
use crate::containers::spec::{Network, mounts};
use crate::images::manifest::Platform;
use crate::images::reference::Reference;
use crate::store::Store;

mod check;
mod context;
mod progress;
mod prune;

use context::{Found, Given, named};
use progress::{Lines, Quiet};
pub(super) use prune::Builder;

/// Flags of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// Name the image; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<String>,
    /// The Dockerfile, `-` for standard input; without it PATH/Dockerfile, then PATH/Containerfile
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Build this stage, not the last
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Set an ARG; without a value, it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Add a label to the image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Use no results of earlier builds
    #[arg(long)]
    no_cache: bool,
    /// Fetch the base images even if they are there
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pull: Option<bool>,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown: plain or quiet
    #[arg(long, value_name = "HOW")]
    progress: Option<Shown>,
    /// Put the tree into a directory or a tar instead of an image into the store: DIRECTORY, `-` for a tar on standard
    /// output, type=local,dest=DIRECTORY or type=tar,dest=FILE
    #[arg(short, long, value_name = "WHERE")]
    output: Option<String>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// What FROM and --from find under a name: a directory, or docker-image://IMAGE
    #[arg(long, value_name = "NAME=PLACE")]
    build_context: Vec<String>,
    /// A secret for RUN --mount=type=secret
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    secret: Vec<String>,
    /// The SSH agent for RUN --mount=type=ssh: `default`, or `default=SOCKET`
    #[arg(long, value_name = "default[=SOCKET]")]
    ssh: Option<String>,
    /// Build up to this many stages at once; without it, one per CPU, at least two
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
    /// The network of RUN: host or none
    #[arg(long, value_name = "NETWORK")]
    network: Option<NetworkFlag>,
    /// One more line of /etc/hosts for RUN
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = add_host)]
    add_host: Vec<(String, std::net::IpAddr)>,
    /// Size of /dev/shm for RUN
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Build for this platform; only this machine's is possible
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Check the Dockerfile, and build nothing
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    check: Option<bool>,
    /// What to do: build, or the same as --check
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "build",
        hide_default_value = true
    )]
    call: Call,
    /// Accepted for Docker's sake: images always go into the store
    #[arg(long, hide = true)]
    load: bool,
    /// The directory that COPY takes files from, or `-` for an archive of it, or a Dockerfile alone, on standard input
    #[arg(value_name = "PATH")]
    context: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shown {
    Auto,
    Plain,
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Call {
    Build,
    #[value(alias = "lint")]
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NetworkFlag {
    Default,
    Host,
    None,
}

impl Build {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        let given = Given {
            file: self.file.as_deref(),
            path: &self.context,
        };
        let found = given.find(&store)?;
        let name = found.name.clone();
        let order = self.order(found)?;
        if self.check == Some(true) || self.call == Call::Check {
            return check::check(&store, &order, &name);
        }
        check::allow(&store, &order, &name)?;
        let quiet = self.quiet || self.progress == Some(Shown::Quiet);
        let built = match quiet {
            true => build::build(&store, &order, &Quiet),
            false => build::build(&store, &order, &Lines::new()),
        };
        if !quiet {
            check::warn(&store, &order);
        }
        let image = built.map_err(|error| failed(&error, &name, &order.dockerfile))?;
        let Some(image) = image else {
            return Ok(ExitCode::SUCCESS);
        };
        if let Some(file) = &self.iidfile {
            fs::write(file, image.id.to_string())
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))?;
        }
        if self.quiet {
            put(&format!("{}\n", image.id))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn order(&self, found: Found) -> Result<Order, Failure> {
        if let Some(wanted) = &self.platform
            && !wanted.accepts(&Platform::host())
        {
            return Err(Failure::new("building for another platform is not supported yet").code(125));
        }
        let pairs = |list: &[String], env: bool| -> Vec<(String, String)> {
            list.iter()
                .filter_map(|text| match text.split_once('=') {
                    Some((name, value)) => Some((name.into(), value.into())),
                    None if env => Some((text.clone(), std::env::var(text).ok()?)),
                    None => Some((text.clone(), String::new())),
                })
                .collect()
        };
        let args = pairs(&self.build_arg, true);
        let mut names = Vec::new();
        for tag in &self.tag {
            let name = Reference::parse(tag).map_err(|error| {
                Failure::new(format!("invalid argument {tag:?} for \"-t, --tag\": {error}")).code(125)
            })?;
            if name.digest().is_some() {
                return Err(Failure::new(format!(
                    "invalid argument {tag:?} for \"-t, --tag\": a digest is no tag"
                ))
                .code(125));
            }
            names.push(name);
        }
        let shm_size = self.shm_size.as_ref().map(|text| {
            mounts::bytes(text).ok_or_else(|| {
                Failure::new(format!("invalid argument {text:?} for \"--shm-size\"")).code(125)
            })
        });
        Ok(Order {
            dockerfile: found.dockerfile,
            context: found.context,
            contexts: self
                .build_context
                .iter()
                .map(|text| named(text))
                .collect::<Result<_, _>>()?,
            target: self.target.clone(),
            epoch: epoch(&args)?,
            args,
            labels: pairs(&self.label, false),
            names,
            cache: if self.no_cache { Cache::Ignore } else { Cache::Use },
            pull: self.pull == Some(true),
            network: match self.network {
                None | Some(NetworkFlag::Default) => Network::Unasked,
                Some(NetworkFlag::Host) => Network::Host,
                Some(NetworkFlag::None) => Network::None,
            },
            host_names: HostNames {
                hosts: self.add_host.clone(),
                ..HostNames::default()
            },
            shm_size: shm_size.transpose()?,
            output: self.output.as_deref().map_or(Ok(Output::Image), output)?,
            // podman's 0 is no limit.
            jobs: match self.jobs {
                Some(0) => usize::MAX,
                Some(jobs) => jobs,
                None => std::thread::available_parallelism().map_or(2, |cpus| cpus.get().max(2)),
            },
            secrets: self
                .secret
                .iter()
                .map(|text| secret(text))
                .collect::<Result<_, _>>()?,
            agent: self.ssh.as_deref().map(agent).transpose()?,
        })
    }
}

/// `--output`, in BuildKit's and podman's words.
fn output(text: &str) -> Result<Output, Failure> {
    let invalid =
        |why: &str| Failure::new(format!("invalid argument {text:?} for \"-o, --output\": {why}")).code(125);
    let place = |dest: &str| (dest != "-").then(|| PathBuf::from(dest));
    if !text.contains('=') {
        return Ok(place(text).map_or(Output::Tar(None), Output::Directory));
    }
    let (mut kind, mut dest) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", value)) => dest = Some(value),
            _ => return Err(invalid("expected type=local|tar|image and dest=PATH")),
        }
    }
    match (kind, dest) {
        (Some("local"), Some(dest)) if dest != "-" => Ok(Output::Directory(dest.into())),
        (Some("tar"), dest) => Ok(Output::Tar(dest.and_then(place))),
        (Some("image"), None) => Ok(Output::Image),
        (Some("local"), _) => Err(invalid("a directory is missing (dest=PATH)")),
        (Some(other), _) => Err(invalid(&format!("type {other} is not supported yet"))),
        (None, _) => Err(invalid("the type is missing")),
    }
}

/// SOURCE_DATE_EPOCH, by `--build-arg`, else of the environment (reproducible-builds.org).
fn epoch(args: &[(String, String)]) -> Result<Option<i64>, Failure> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let given = args
        .iter()
        .find(|(name, _)| name == NAME)
        .map(|(_, value)| value.clone());
    let Some(text) = given
        .or_else(|| std::env::var(NAME).ok())
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let seconds = text.parse::<i64>();
    seconds
        .map(Some)
        .map_err(|_| Failure::new(format!("invalid {NAME} {text:?}: expected seconds since 1970")))
}

/// `--secret id=ID[,src=FILE|,env=NAME]`: without either the variable ID if there is one, else the file ID.
fn secret(text: &str) -> Result<Secret, Failure> {
    let invalid =
        |why: &str| Failure::new(format!("invalid argument {text:?} for \"--secret\": {why}")).code(125);
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_string()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_string()),
            Some(("type", "file" | "env")) => {}
            _ => return Err(invalid("expected id=ID[,src=FILE|,env=NAME]")),
        }
    }
    let id = id.ok_or_else(|| invalid("the id is missing"))?;
    let of_env = |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    let value = match (file, variable) {
        (Some(file), None) => read_secret(&file)?,
        (None, Some(name)) => of_env(&name).ok_or_else(|| invalid("there is no such variable"))?,
        (None, None) => match of_env(&id) {
            Some(value) => value,
            None => read_secret(Path::new(&id))?,
        },
        (Some(_), Some(_)) => return Err(invalid("either a file or a variable")),
    };
    Ok(Secret { id, value })
}

fn read_secret(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file)
        .map_err(|error| Failure::new(format!("cannot read the secret {}: {error}", file.display())))
}

fn agent(text: &str) -> Result<PathBuf, Failure> {
    let socket = match text.split_once('=') {
        None if text == "default" => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        Some(("default", socket)) => Some(socket.into()),
        _ => return Err(Failure::new("only the agent `default` is supported for --ssh").code(125)),
    };
    socket.ok_or_else(|| Failure::new("no SSH agent: SSH_AUTH_SOCK is not set").code(125))
}

/// Lines shown before and after those of a failed step.
const AROUND: u32 = 2;

/// The line, after those of the Dockerfile where it happened.
fn failed(error: &Error, name: &str, dockerfile: &str) -> Failure {
    let (place, cause): (Option<Place>, &(dyn std::error::Error + 'static)) = match error {
        Error::Parse(parse) => (Some(parse.place()), error),
        Error::Step { place, source, .. } => (Some(*place), &**source),
        other => (None, other),
    };
    if let Error::Interrupted(signal) = cause_of(error) {
        let code = u8::try_from(128 + signal).unwrap_or(1);
        return Failure::new("the build was interrupted; finished steps are kept").code(code);
    }
    if let Some(place) = place {
        eprint!(
            "{}",
            excerpt(name, &dockerfile.lines().collect::<Vec<_>>(), place)
        );
    }
    let failure = Failure::of(cause);
    Failure {
        message: format!("failed to build: failed to solve: {}", failure.message),
        ..failure
    }
}

/// What went wrong in a step.
fn cause_of(error: &Error) -> &Error {
    match error {
        Error::Step { source, .. } => source,
        other => other,
    }
}

fn excerpt(name: &str, lines: &[&str], place: Place) -> String {
    let rule = "-".repeat(20);
    let mut text = format!("{name}:{}\n{rule}\n", place.first);
    let first = place.first.saturating_sub(AROUND).max(1);
    let shown = lines.iter().skip(first as usize - 1);
    for (number, line) in (first..=place.last.saturating_add(AROUND)).zip(shown) {
        let mark = if (place.first..=place.last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        text.push_str(format!("{number:4} | {mark} {line}").trim_end());
        text.push('\n');
    }
    text + &rule + "\n"
}
