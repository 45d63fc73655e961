//! What is to be built? All that the command line says, read.

use std::path::{Path, PathBuf};

use oci_spec::runtime::PosixRlimit;

use super::attest::{Attests, Material};
use super::cache::CacheTo;
use super::dockerfile::{self, Dockerfile};
use super::output::{Output, Trust};
use super::source::Context;
use super::tree::Times;
use super::{Error, Secret};
use crate::containers::files::HostNames;
use crate::containers::spec::{Network, mounts};
use crate::images::cache::Place;
use crate::images::manifest::Platform;

/// May results of earlier builds be used?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They may.
    Use,
    /// `--no-cache`.
    Ignore,
}

/// When is a base fetched?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// If it is not there.
    Missing,
    /// Even if it is.
    Always,
    /// Never: one that is not there is an error.
    Never,
}

/// What becomes of a build when a RUN fails?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It ends.
    Fail,
    /// The user gets a shell where it failed, on the terminal, and then it ends. Stages are to be built one by one.
    Shell,
}

/// How many layers has the image?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squash {
    /// One for each step that made one.
    No,
    /// `--squash`: the base's, and one for all that was built.
    New,
    /// `--squash-all`: one.
    All,
}

/// What a name given by `--build-context` means.
#[derive(Debug)]
pub enum Named {
    /// Files: of a directory of the user's, or fetched.
    Files(Box<Context>, Option<Material>),
    /// An image of this name, or that of an OCI layout: `oci-layout://PATH`.
    Image(String),
}

/// The repository, archive or file that something was fetched from; `None`: it is the user's own.
#[derive(Debug, Default)]
pub struct Origin {
    /// The Dockerfile, which may lie beside a fetched context.
    pub dockerfile: Option<Material>,
    /// The context.
    pub context: Option<Material>,
}

/// What is to be built.
#[derive(Debug)]
pub struct Order {
    /// The Dockerfile's name.
    pub name: String,
    /// Its text.
    pub dockerfile: String,
    /// Where it and the context were fetched from.
    pub origin: Origin,
    /// Where COPY takes files from; `None` if the Dockerfile came alone.
    pub context: Option<Context>,
    /// `--build-context`: what FROM and `--from` find under a name before they look for a stage or an image.
    pub contexts: Vec<(String, Named)>,
    /// `--target`.
    pub target: Option<String>,
    /// `--platform`; none is this machine's.
    pub platforms: Vec<Platform>,
    /// BUILDKIT_MULTI_PLATFORM: what is for one platform is as what is for several, where it can be.
    pub lists: bool,
    /// `--build-arg`.
    pub args: Vec<(String, String)>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--no-cache`.
    pub cache: Cache,
    /// `--cache-from`: where else results of earlier builds are.
    pub cache_from: Vec<Place>,
    /// `--cache-to`: where results go for other builds.
    pub cache_to: Vec<CacheTo>,
    /// `--no-cache-filter`: stages that are built anew, by their names.
    pub anew: Vec<String>,
    /// `--squash`, `--squash-all`.
    pub squash: Squash,
    /// `--env`: variables of every stage.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`: variables that the image does not have.
    pub unset_env: Vec<String>,
    /// `--unsetlabel`: labels that stages do not have from their bases.
    pub unset_labels: Vec<String>,
    /// `--volume`: mounted for every RUN.
    pub volumes: Vec<mounts::Asked>,
    /// `--ulimit`.
    pub ulimits: Vec<PosixRlimit>,
    /// What the files of new layers have as times.
    pub times: Times,
    /// `--pull`.
    pub pull: Fetch,
    /// `--from`: the image of the first FROM.
    pub first_base: Option<String>,
    /// `--tls-verify`: of the registries that bases are fetched from.
    pub trust: Trust,
    /// `--network`.
    pub network: Network,
    /// `--add-host`.
    pub host_names: HostNames,
    /// `--shm-size`.
    pub shm_size: Option<u64>,
    /// `--secret`.
    pub secrets: Vec<Secret>,
    /// `--ssh`.
    pub agents: Vec<Agent>,
    /// `--output`: where the result goes, with the names that it has there.
    pub outputs: Vec<Output>,
    /// `--attest`: what is said of the image.
    pub attests: Attests,
    /// `--on-error`.
    pub on_error: OnError,
    /// `--jobs`: so many stages at once.
    pub jobs: usize,
    /// When everything is said to be made: SOURCE_DATE_EPOCH, in seconds since 1970.
    pub epoch: Option<i64>,
}

/// An SSH agent that the user gives to a build: `--ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What mounts call it.
    pub id: String,
    /// Its socket.
    pub socket: PathBuf,
}

/// The agent of this id: the last that is given.
pub(super) fn agent<'a>(agents: &'a [Agent], id: &str) -> Option<&'a Path> {
    let found = agents.iter().rfind(|agent| agent.id == id);
    found.map(|agent| agent.socket.as_path())
}

impl Order {
    /// The Dockerfile, on the base that was given for it.
    pub(super) fn parsed(&self) -> Result<Dockerfile, Error> {
        let mut text = dockerfile::parse(&self.dockerfile).map_err(Error::Parse)?;
        if let (Some(base), Some(first)) = (&self.first_base, text.stages.first_mut()) {
            first.from.image.clone_from(base);
        }
        Ok(text)
    }

    /// What `--build-arg` says to the builder itself under this name: the last that is said. An empty value says nothing.
    pub(super) fn told(&self, name: &str) -> Option<&str> {
        let said = self.args.iter().rfind(|(known, _)| known == name);
        said.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The agent for git: `--ssh default`.
    pub fn agent(&self) -> Option<&Path> {
        agent(&self.agents, "default")
    }

    /// What `--build-context` says of a name: the last that is said.
    pub(super) fn named(&self, name: &str) -> Option<&Named> {
        let mut contexts = self.contexts.iter().rev();
        contexts
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, named)| named)
    }
}
