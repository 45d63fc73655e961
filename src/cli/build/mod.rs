//! `build`: flags → one build → BuildKit's lines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::output::put;
use super::report::Failure;
use crate::build::dockerfile::Place;
use crate::build::{self, Begun, Built, Error, Order, Outcome, Output, Progress};
use crate::containers::files::{HostAddress, add_host};
use crate::images::manifest::Platform;
use crate::store::{Store, given};

mod attest;
mod builder;
mod cache;
mod call;
mod check;
mod context;
mod foreign;
mod history;
mod order;
mod outputs;
mod progress;
mod prune;

pub(super) use builder::Builder;
use call::{Call, Method};
use context::{Given, named};
use history::History;
use progress::Shown;
pub(super) use prune::tell_kept;

/// `build`, or what is kept of builds. A context that is called as that command is `./history`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub(crate) struct Command {
    #[command(subcommand)]
    kept: Option<Kept>,
    #[command(flatten)]
    build: Build,
}

#[derive(Debug, clap::Subcommand)]
enum Kept {
    /// Work on records of builds (a context of this name is ./history)
    #[command(subcommand)]
    History(History),
}

impl Command {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.kept {
            Some(Kept::History(history)) => history.run(),
            None => self.build.run(),
        }
    }
}

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
    /// Add an annotation to the image's manifest
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Set a variable in all stages and in the image; without a value, it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Take a variable out of the image
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Do not take this label from base images
    #[arg(long, value_name = "NAME")]
    unsetlabel: Vec<String>,
    /// Whose media types the image has
    #[arg(long, value_name = "FORMAT", default_value = "oci")]
    format: FormatFlag,
    /// Say that image and files of new layers were made at this time, in seconds since 1970
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "source_date_epoch",
        allow_negative_numbers = true
    )]
    timestamp: Option<i64>,
    /// Say that the image was made at this time, in seconds since 1970: like SOURCE_DATE_EPOCH in the environment
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    source_date_epoch: Option<i64>,
    /// Give files of new layers no later time than SOURCE_DATE_EPOCH: like rewrite-timestamp=true of --output
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    rewrite_timestamp: Option<bool>,
    /// Make one layer of all that is built, above those of the base image
    #[arg(long)]
    squash: bool,
    /// Make one layer of all, the base image's too
    #[arg(long, conflicts_with = "squash")]
    squash_all: bool,
    /// Have a layer for each step, kept for later builds; false is --no-cache and --squash together
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    layers: Option<bool>,
    /// Use no results of earlier builds
    #[arg(long)]
    no_cache: bool,
    /// Use results of earlier builds from there: NAME, type=registry,ref=NAME or type=local,src=DIRECTORY
    #[arg(long, value_name = "WHERE")]
    cache_from: Vec<String>,
    /// Put results there for other builds: type=registry,ref=NAME, type=local,dest=DIRECTORY or type=inline; mode=max for
    /// all stages
    #[arg(long, value_name = "WHERE")]
    cache_to: Vec<String>,
    /// Use no results of earlier builds for these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// When base images are fetched: even if they are there (without a value), if they are not (missing), or never
    #[arg(long, value_name = "WHEN", num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pull: Option<PullFlag>,
    /// The base image, instead of what the first FROM names
    #[arg(long, value_name = "IMAGE")]
    from: Option<String>,
    /// What the context leaves out stands in this file, not in .dockerignore
    #[arg(long, value_name = "FILE")]
    ignorefile: Option<PathBuf>,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown: in a live view (tty), in lines (plain), in JSON (rawjson), not (quiet), or as there is a
    /// terminal or not (auto)
    #[arg(long, value_name = "HOW")]
    progress: Option<Shown>,
    /// Where the result goes instead of into the store; may be given several times. DIRECTORY, or `-` for a tar of the
    /// tree on standard output; type=local,dest=DIRECTORY; type=tar|oci|docker,dest=FILE; type=image,name=NAME;
    /// type=registry
    #[arg(short, long, value_name = "WHERE")]
    output: Vec<String>,
    /// Send the image to the registries of its names: like --output type=registry
    #[arg(long)]
    push: bool,
    /// Put the image into the store, beside other outputs: like --output type=docker
    #[arg(long)]
    load: bool,
    /// Require HTTPS and verify certificates of registries; false is for those that have neither
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_verify: Option<bool>,
    /// Say beside the image where it comes from (type=provenance,mode=min|max) or what is in it
    /// (type=sbom,generator=IMAGE), for outputs that have a list of images: --push, --output type=oci
    #[arg(long, value_name = "type=TYPE,…")]
    attest: Vec<String>,
    /// Say where the image comes from: true, false, mode=min, mode=max …, like --attest type=provenance
    #[arg(long, value_name = "WHAT")]
    provenance: Option<String>,
    /// Say what is in the image: true, false, generator=IMAGE …, like --attest type=sbom
    #[arg(long, value_name = "WHAT")]
    sbom: Option<String>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write the digests of image and manifest, and the names, to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// What FROM and --from find under a name: a directory, docker-image://IMAGE, oci-layout://DIRECTORY[:TAG][@DIGEST], a
    /// git repository, or an archive by URL
    #[arg(long, value_name = "NAME=PLACE")]
    build_context: Vec<String>,
    /// A secret for RUN --mount=type=secret
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    secret: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh, and `default` for git: without SOCKET that of $SSH_AUTH_SOCK
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Build up to this many stages at once; without it, one per CPU, at least two
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
    /// When a RUN fails, give a shell in its tree, on the terminal, before the build ends; stages are built one by one
    #[arg(long, value_name = "WHAT", conflicts_with = "jobs")]
    on_error: Option<OnErrorFlag>,
    /// The network of RUN: host or none
    #[arg(long, value_name = "NETWORK")]
    network: Option<NetworkFlag>,
    /// One more line of /etc/hosts for RUN
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = add_host)]
    add_host: Vec<(String, HostAddress)>,
    /// Size of /dev/shm for RUN
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Mount a directory of the host for RUN
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Limits of processes for RUN
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Build for this platform, or for several (--push, or --output type=oci); programs for another processor run where
    /// binfmt_misc has an interpreter for them
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Check the Dockerfile, and build nothing
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    check: Option<bool>,
    /// What to do: build; check, as --check; outline, to tell what can be given to the target; targets, to list the
    /// stages. With `,format=json` behind it, the answer is JSON
    #[arg(
        long,
        alias = "print",
        value_name = "METHOD",
        default_value = "build",
        hide_default_value = true
    )]
    call: Call,
    #[command(flatten)]
    foreign: foreign::Flags,
    /// The directory that COPY takes files from; a git repository, REPOSITORY#REF:DIRECTORY; the URL of an archive or of
    /// a Dockerfile alone; or `-` for either on standard input
    // Always there: a command alone goes without.
    #[arg(value_name = "PATH|URL|-", required = true)]
    context: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NetworkFlag {
    Default,
    Host,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnErrorFlag {
    Shell,
}

/// Docker's words and podman's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PullFlag {
    #[value(alias = "true", alias = "newer", alias = "ifnewer")]
    Always,
    #[value(alias = "false", alias = "ifmissing")]
    Missing,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatFlag {
    Oci,
    Docker,
}

impl Build {
    fn run(self) -> Result<ExitCode, Failure> {
        self.foreign.check()?;
        let store = Store::open()?;
        let shown = match self.quiet {
            true => Shown::Quiet,
            false => Shown::asked(self.progress)?,
        };
        let progress = shown.progress();
        // Wrong flags are told before anything is fetched.
        let mut order = self.order()?;
        let name = self.find(&mut order, &store, &*progress)?;
        let written = |file: &Path, text: String| {
            given::write(&store, file, text.as_bytes())
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))
        };
        let call = match self.check {
            Some(true) => self.call.checks(),
            _ => self.call,
        };
        if call.method != Method::Build {
            let (answer, code) = call.answer(&store, &order, &name)?;
            if let Some(file) = &self.metadata_file {
                written(file, format!("{:#}\n", call::metadata(&answer)))?;
            }
            return Ok(code);
        }
        let (built, record) = self.recorded(&store, &order, &name, shown, progress)?;
        if let (Some(file), Some(id)) = (&self.iidfile, built.id()) {
            written(file, id.to_string())?;
        }
        if let Some(file) = &self.metadata_file {
            written(file, format!("{:#}\n", metadata(&built, record.as_deref())))?;
        }
        // What is on standard output then is an archive.
        if let Some(id) = built.id()
            && self.quiet
            && !order.outputs.iter().any(Output::is_stream)
        {
            put(&format!("{id}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Builds, and keeps a record of it. Gives its id, too.
    fn recorded(
        &self,
        store: &Store,
        order: &Order,
        name: &str,
        shown: Shown,
        progress: Box<dyn Progress>,
    ) -> Result<(Built, Option<String>), Failure> {
        let begun = Begun::new(store, self.asked(order, name));
        let id = begun.as_ref().map(|begun| begun.id().to_owned());
        let done = check::allow(store, order, name).and_then(|()| {
            let progress = match &begun {
                Some(begun) => begun.hears(progress),
                None => progress,
            };
            let built = build::build(store, order, &*progress);
            // What follows is in nobody's way.
            drop(progress);
            if shown.is_for_people() {
                check::warn(store, order);
            }
            built.map_err(|error| failed(&error, name, &order.dockerfile))
        });
        if let Some(begun) = begun {
            begun.end(match &done {
                Ok(built) => Outcome::Completed {
                    manifest: built.manifest.clone(),
                },
                Err(wrong) => wrong.outcome(),
            });
        }
        match done {
            Ok(built) => Ok((built, id)),
            Err(wrong) => Err(wrong.told()),
        }
    }

    /// Where the context is.
    fn place(&self) -> &str {
        self.context.as_deref().unwrap_or_default()
    }

    /// Finds Dockerfile and contexts. Gives the Dockerfile's name.
    fn find(&self, order: &mut Order, store: &Store, progress: &dyn Progress) -> Result<String, Failure> {
        let keep = order::argument(&order.args, KEEP_GIT_DIR);
        let given = Given {
            ignore: self.ignorefile.as_deref(),
            file: self.file.as_deref(),
            path: self.place(),
            secrets: &order.secrets,
            agent: order.agent(),
            keep_git_dir: keep.is_some_and(is_kept),
        };
        let found = given.find(store, progress)?;
        let contexts = self.build_context.iter();
        let contexts = contexts.map(|text| named(text, store, order, progress));
        order.contexts = contexts.collect::<Result<_, _>>()?;
        (order.dockerfile, order.context) = (found.dockerfile, found.context);
        (order.name, order.origin) = (found.name.clone(), found.origin);
        Ok(found.name)
    }
}

/// An argument by which a repository that is the context comes with its `.git`.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Does that argument's value say so?
fn is_kept(value: &str) -> bool {
    ["1", "t", "true"].contains(&value.to_lowercase().as_str())
}

/// BuildKit's keys, and buildx's for the build's record.
fn metadata(built: &Built, record: Option<&str>) -> serde_json::Value {
    let mut keys = serde_json::Map::new();
    if let Some(id) = record {
        keys.insert("buildx.build.ref".into(), json!(history::reference(id)));
    }
    if let Some(config) = built.config {
        keys.insert("containerimage.config.digest".into(), json!(config));
    }
    if let Some(manifest) = &built.manifest {
        keys.insert("containerimage.descriptor".into(), json!(manifest));
        keys.insert("containerimage.digest".into(), json!(manifest.digest));
    }
    if !built.names.is_empty() {
        let names: Vec<String> = built.names.iter().map(ToString::to_string).collect();
        keys.insert("image.name".into(), json!(names.join(",")));
    }
    keys.into()
}

/// Lines shown before and after those of a failed step.
const AROUND: u32 = 2;

/// Why there is no result.
struct Wrong {
    /// Those of the Dockerfile where it happened.
    lines: String,
    failure: Failure,
    interrupted: bool,
}

impl From<Failure> for Wrong {
    fn from(failure: Failure) -> Wrong {
        Wrong {
            lines: String::new(),
            failure,
            interrupted: false,
        }
    }
}

impl Wrong {
    /// Shows the lines of the Dockerfile.
    fn told(self) -> Failure {
        crate::line::tell(format_args!("{}", self.lines));
        self.failure
    }

    fn outcome(&self) -> Outcome {
        match self.interrupted {
            true => Outcome::Canceled,
            false => Outcome::Failed {
                message: self.failure.message.clone(),
                lines: self.lines.clone(),
            },
        }
    }
}

/// What to say of an error.
fn failed(error: &Error, name: &str, dockerfile: &str) -> Wrong {
    let (place, cause): (Option<Place>, &(dyn std::error::Error + 'static)) = match error {
        Error::Parse(parse) => (Some(parse.place()), error),
        Error::Step { place, source, .. } => (Some(*place), &**source),
        other => (None, other),
    };
    if let Error::Interrupted(signal) = cause_of(error) {
        let code = u8::try_from(128 + signal).unwrap_or(1);
        let failure = Failure::new("the build was interrupted; finished steps are kept").code(code);
        return Wrong {
            interrupted: true,
            ..failure.into()
        };
    }
    let lines = place.map(|place| excerpt(name, &dockerfile.lines().collect::<Vec<_>>(), place));
    let failure = Failure::of(cause);
    Wrong {
        lines: lines.unwrap_or_default(),
        failure: Failure {
            message: format!("failed to build: failed to solve: {}", failure.message),
            ..failure
        },
        interrupted: false,
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
