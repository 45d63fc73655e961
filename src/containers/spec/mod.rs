//! Which Spec do an image's config and the flags of `run` make? Docker's rules, without touching the machine: what
//! must be read (the image's passwd and group, a seccomp profile) is handed in.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{
    BoxBuilder, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccomp, Mount,
    PosixRlimit, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::runtime::plan::{GROUPS_ASKED, INIT, KEEP};
use super::runtime::seccomp::SECCOMP;
use crate::host::IdMaps;

pub mod confine;
pub mod env;
pub mod mounts;
mod shared;
mod user;
mod users;
mod within;

pub use confine::{Confine, Seccomp};
pub(in crate::containers) use shared::SHM;
pub use shared::{CONTAINER, Ipc, Pids, Shared};
pub use users::Users;
pub use within::{Accounts, Within, on_terminal};

/// Docker's size of /dev/shm in bytes.
const SHM_SIZE: u64 = 64 << 20;

/// Which network the container sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// The host's, because no other was asked for: a step of a build.
    #[default]
    Unasked,
    /// The host's, asked for by `--network host`.
    Host,
    /// Its own, with nothing but a loopback interface.
    None,
    /// Its own, with a way out.
    Private,
    /// Its own, with a way out by a program that is not ours.
    Program,
    /// Another container's; which, the start says.
    Container,
}

impl Network {
    /// Is it another than the host's?
    pub(super) fn is_own(self) -> bool {
        !matches!(self, Network::Unasked | Network::Host)
    }
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl TerminalSize {
    /// As the Spec has it.
    pub(super) fn to_spec(self) -> Result<oci_spec::runtime::Box, SpecError> {
        Ok(BoxBuilder::default()
            .height(u64::from(self.rows))
            .width(u64::from(self.columns))
            .build()?)
    }
}

/// What the user asked for: the flags of `run` and `create` that shape the Spec.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The words after the image.
    pub command: Vec<String>,
    /// `--entrypoint`; empty clears the image's.
    pub entrypoint: Option<String>,
    /// `-e` and `--env-file`: `NAME=value` sets, `NAME` unsets (see [`env::argument`]).
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `--group-add`; `keep-groups` keeps those of the caller.
    pub group_add: Vec<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `-t`, with the size of the user's terminal.
    pub terminal: Option<TerminalSize>,
    /// `-v`, `--mount`, `--tmpfs`, `--device`.
    pub mounts: Vec<mounts::Asked>,
    /// `--read-only`.
    pub read_only: bool,
    /// Rights.
    pub confine: Confine,
    /// `--network`.
    pub network: Network,
    /// `--ipc`, `--pid`, `--uts`, `--cgroupns`.
    pub shared: Shared,
    /// `--userns`.
    pub users: Users,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `--domainname`; empty: none.
    pub domain: String,
    /// `--umask`.
    pub umask: Option<u32>,
    /// `--unsetenv-all`: nothing of the image's, and nothing of ours.
    pub bare_environment: bool,
    /// `--ulimit`.
    pub ulimits: Vec<PosixRlimit>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--shm-size` in bytes.
    pub shm_size: Option<u64>,
    /// `--init`.
    pub init: bool,
    /// No command of its own: others come and go (`--join`).
    pub keep: bool,
}

/// What the Spec needs besides the flags.
pub struct Context<'a> {
    /// The image's config.
    pub image: &'a ImageConfiguration,
    /// The image's /etc/passwd, empty if it has none.
    pub passwd: &'a str,
    /// The image's /etc/group.
    pub group: &'a str,
    /// The ids that the user may map.
    pub ids: &'a IdMaps,
    /// Where the root is mounted: an existing directory.
    pub root: &'a Path,
    /// Files made for this container: (file of the host, where it is bound).
    pub own_files: &'a [(std::path::PathBuf, &'static str)],
    /// The name of the container within its UTS namespace.
    pub hostname: &'a str,
    /// The devices of the machine that a privileged container gets.
    pub devices: &'a [String],
    /// Whether the host shows its message queues.
    pub has_queues: bool,
    /// What is to be hidden on this machine besides what always is.
    pub masked: &'a [String],
    /// The seccomp profile that [`Confine::seccomp`] stands for.
    pub seccomp: Option<LinuxSeccomp>,
}

/// Why flags and image make no container.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither image nor user says what to run.
    #[error("no command specified, and the image names none")]
    NoCommand,
    /// `-w` or the image's WorkingDir.
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    Workdir(String),
    /// `-u` by a name that the image's passwd lacks.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// A group name that the image's group file lacks.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    /// A number that is no id.
    #[error("uids and gids must be in range 0-2147483647, {0} is not")]
    IdRange(String),
    /// `-e` or a line of `--env-file`.
    #[error("invalid environment variable: {0:?}")]
    Environment(String),
    /// `--cap-add`, `--cap-drop`.
    #[error("unknown capability {0:?}")]
    Capability(String),
    /// `--security-opt`.
    #[error(
        "--security-opt {0} is not supported (supported: no-new-privileges, seccomp=FILE|unconfined, \
         systempaths=unconfined, apparmor=unconfined, label=disable)"
    )]
    SecurityOpt(String),
    /// The file of `--security-opt seccomp=FILE`.
    #[error("seccomp profile {}: {why}", path.display())]
    SeccompProfile {
        /// The file.
        path: std::path::PathBuf,
        /// What in it cannot be read or done.
        why: String,
    },
    /// `--storage-opt`.
    #[error("--storage-opt {0} is not supported (supported: size=BYTES, inodes=NUMBER)")]
    StorageOpt(String),
    /// The same without a number that makes sense.
    #[error("--storage-opt {0}: a number above 0 is wanted, a size with b, k, m, g or t behind it")]
    StorageNumber(String),
    /// `--log-driver`.
    #[error("--log-driver {0} is not supported (supported: k8s-file, also called json-file, and none)")]
    LogDriver(String),
    /// `--log-opt`.
    #[error(
        "--log-opt {0} is not supported (supported: max-size=BYTES and, with it, max-file=NUMBER; tag, labels, labels-regex, env, \
         env-regex for logs --details)"
    )]
    LogOpt(String),
    /// `--sysctl`.
    #[error("sysctl '{0}' is not allowed: it is not of a namespace of the container's own")]
    Sysctl(String),
    /// `--annotation`.
    #[error("invalid annotation {0:?}: names that begin with \"bryo.\" are this program's own")]
    Annotation(String),
    /// Flags that do not go together.
    #[error("conflicting options: {0}")]
    Conflict(&'static str),
    /// `--ulimit`.
    #[error("invalid ulimit {0:?}: expected NAME=SOFT[:HARD]")]
    Ulimit(String),
    /// `--stop-signal`, `kill -s`.
    #[error("Invalid signal: {0}")]
    Signal(String),
    /// A size.
    #[error("invalid size {0:?}: expected a number and b, k, m or g")]
    Size(String),
    /// `-v`, `--mount`, `--tmpfs`.
    #[error("invalid mount {text:?}: {why}")]
    Mount {
        /// As given.
        text: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// `--device`.
    #[error("invalid device {text:?}: {why}")]
    Device {
        /// As given.
        text: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Two mounts on one place.
    #[error("Duplicate mount point: {0}")]
    DuplicateMount(String),
    /// Docker's known text for a relative path that is no volume name.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    /// The Spec's own rules.
    #[error("container configuration: {0}")]
    Oci(#[from] oci_spec::OciSpecError),
}

/// Makes the Spec.
///
/// # Errors
/// See [`SpecError`]: nothing asked for is left out silently.
pub fn build(request: &Request, context: &Context<'_>) -> Result<Spec, SpecError> {
    let own_network = request.network.is_own();
    let sys = if request.confine.privileged { "rw" } else { "ro" };
    let mut mounts = mounts::defaults(request.shm_size.unwrap_or(SHM_SIZE), own_network, sys)?;
    request.shared.change(&mut mounts, context.has_queues)?;
    for (file, place) in context.own_files {
        mounts.push(mounts::entry("bind", file, place, &["bind", "rprivate", "rw"])?);
    }
    if request.confine.privileged {
        for device in context.devices {
            mounts.push(mounts::device_node(device, device)?);
        }
    }
    mounts::add(&mut mounts, &request.mounts)?;
    let (masked, read_only) = request.confine.paths(context.masked);
    let (uids, gids) = context.ids.to_spec();
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(own_network, &request.shared)?)
        .uid_mappings(uids)
        .gid_mappings(gids)
        .masked_paths(masked)
        .readonly_paths(read_only)
        .build()?;
    linux.set_seccomp(context.seccomp.clone());
    linux.set_sysctl(shared::sysctls(request)?);
    let root = RootBuilder::default()
        .path(context.root)
        .readonly(request.read_only)
        .build()?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .mounts(mounts)
        .process(process(request, context)?)
        .linux(linux)
        .build()?;
    names(&mut spec, request, context)?;
    spec.set_annotations(Some(annotations(request)?));
    Ok(spec)
}

/// Host and domain, unless they are the host's.
fn names(spec: &mut Spec, request: &Request, context: &Context<'_>) -> Result<(), SpecError> {
    if request.shared.uts {
        // The builder has one of its own.
        spec.set_hostname(None);
        return match (&request.hostname, request.domain.as_str()) {
            (None, "") => Ok(()),
            _ => Err(SpecError::Conflict("hostname and the UTS mode")),
        };
    }
    spec.set_hostname(Some(context.hostname.into()));
    spec.set_domainname((!request.domain.is_empty()).then(|| request.domain.clone()));
    Ok(())
}

/// What the runtime spec has no field for (see the executor's own constants), and the user's.
fn annotations(request: &Request) -> Result<HashMap<String, String>, SpecError> {
    let mut notes: HashMap<_, _> = request.annotations.clone().into_iter().collect();
    // They are orders to the executor.
    if let Some(name) = notes.keys().find(|name| name.starts_with("bryo.")) {
        return Err(SpecError::Annotation(name.clone()));
    }
    if request.keep {
        notes.insert(INIT.into(), KEEP.into());
    } else if request.init {
        notes.insert(INIT.into(), "true".into());
    }
    let groups: Vec<&str> = request
        .group_add
        .iter()
        .map(String::as_str)
        .filter(|g| *g != "keep-groups")
        .collect();
    if !groups.is_empty() {
        notes.insert(GROUPS_ASKED.into(), groups.join(","));
    }
    if request.confine.seccomp == Seccomp::Default && !request.confine.privileged {
        notes.insert(SECCOMP.into(), "default".into());
    }
    Ok(notes)
}

fn process(request: &Request, context: &Context<'_>) -> Result<Process, SpecError> {
    let config = context.image.config().as_ref();
    let image_user = config.and_then(|c| c.user().as_deref()).unwrap_or("");
    let user = request.user.as_deref().unwrap_or(image_user);
    // `keep-groups`, podman's: the caller's own groups stay, for project directories and devices of the host.
    let (kept, added): (Vec<_>, Vec<_>) = request
        .group_add
        .iter()
        .cloned()
        .partition(|g| g == "keep-groups");
    let identity = user::resolve(user, &added, context.passwd, context.group)?;
    let capabilities = request.confine.capabilities(identity.uid)?;
    let mut process = ProcessBuilder::default()
        .args(arguments(request, context.image)?)
        .env(environment(request, context, &identity.home))
        .cwd(workdir(request, context.image)?)
        .user(
            UserBuilder::default()
                .uid(identity.uid)
                .gid(identity.gid)
                .build()?,
        )
        .capabilities(capabilities)
        .no_new_privileges(request.confine.no_new_privileges)
        .terminal(request.terminal.is_some())
        .build()?;
    if kept.is_empty() {
        process.user_mut().set_additional_gids(Some(identity.groups));
    }
    process.set_rlimits((!request.ulimits.is_empty()).then(|| request.ulimits.clone()));
    process.set_oom_score_adj(request.oom_score_adj);
    process.user_mut().set_umask(request.umask);
    if let Some(size) = request.terminal {
        process.set_console_size(Some(size.to_spec()?));
    }
    Ok(process)
}

/// What runs: the entrypoint, then the command. `--entrypoint` drops the image's CMD; words after the image replace it.
pub fn arguments(request: &Request, image: &ImageConfiguration) -> Result<Vec<String>, SpecError> {
    let config = image.config().as_ref();
    let of_image = |list: Option<&Option<Vec<String>>>| list.cloned().flatten().unwrap_or_default();
    let image_entrypoint = of_image(config.map(|c| c.entrypoint()));
    let image_command = of_image(config.map(|c| c.cmd()));
    let (mut arguments, command) = match &request.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => (Vec::new(), Vec::new()),
        Some(entrypoint) => (vec![entrypoint.clone()], Vec::new()),
        None => (image_entrypoint, image_command),
    };
    arguments.extend(if request.command.is_empty() {
        command
    } else {
        request.command.clone()
    });
    if arguments.first().is_none_or(String::is_empty) {
        return Err(SpecError::NoCommand);
    }
    Ok(arguments)
}

/// Who `USER[:GROUP]` is by these passwd and group files: uid and gid.
///
/// # Errors
/// A name that they do not have.
pub fn identity(user: &str, passwd: &str, group: &str) -> Result<(u32, u32), SpecError> {
    let identity = user::resolve(user, &[], passwd, group)?;
    Ok((identity.uid, identity.gid))
}

fn environment(request: &Request, context: &Context<'_>, home: &str) -> Vec<String> {
    let mut own = vec![
        env::DEFAULT_PATH.to_string(),
        format!("HOSTNAME={}", context.hostname),
    ];
    if request.terminal.is_some() {
        own.push("TERM=xterm".into());
    }
    let config = context.image.config().as_ref();
    let mut image = config.and_then(|c| c.env().as_deref()).unwrap_or(&[]);
    if request.bare_environment {
        (own, image) = (Vec::new(), &[]);
    }
    let mut env = env::merge(&own, image, &request.env);
    if !env::has(&env, "HOME") {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Where the command begins.
///
/// # Errors
/// It is no absolute path.
pub fn workdir(request: &Request, image: &ImageConfiguration) -> Result<String, SpecError> {
    let of_image = image.config().as_ref().and_then(|c| c.working_dir().as_deref());
    let directory = request
        .workdir
        .as_deref()
        .or(of_image)
        .filter(|d| !d.is_empty())
        .unwrap_or("/");
    if !directory.starts_with('/') {
        return Err(SpecError::Workdir(directory.into()));
    }
    Ok(directory.into())
}

fn namespaces(own_network: bool, shared: &Shared) -> Result<Vec<LinuxNamespace>, SpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let kinds = [User, Mount, Pid, Uts, Ipc, Cgroup];
    let kinds = kinds
        .into_iter()
        .filter(|kind| shared.has(*kind))
        .chain(own_network.then_some(Network));
    kinds
        .map(|kind| Ok(LinuxNamespaceBuilder::default().typ(kind).build()?))
        .collect()
}

/// The mounts that the user asked for, as `inspect` shows them.
pub fn asked_mounts<'a>(spec: &'a Spec, request: &'a Request) -> impl Iterator<Item = &'a Mount> {
    let mounts = spec.mounts().as_deref().unwrap_or(&[]);
    mounts.iter().filter(|mount| {
        request
            .mounts
            .iter()
            .any(|asked| Path::new(asked.target()) == mount.destination().as_path())
    })
}

#[cfg(test)]
mod tests;
