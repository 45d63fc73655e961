//! `run` and `create`: flags → one request → a container.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{getgid, getuid};

use super::super::images::remove_image;
use super::super::output::put;
use super::super::pull::{Order, Shown};
use super::super::report::Failure;
use super::attach::DetachKeys;
use super::cidfile::CidFile;
use super::environment::Environment;
use super::limits::CgroupFlags;
use super::more::More;
use super::network::NetworkFlags;
use super::start::{attached, detached, require_terminal, tell_of_logout, warn};
use super::{details, foreign, join, words};
use crate::containers::asked::Asked;
use crate::containers::end::{self, Force};
use crate::containers::life::{self, Below, Given, Wanted};
use crate::containers::log::{self, Stream};
use crate::containers::record::{self, Afterwards, Volumes};
use crate::containers::rootfs;
use crate::containers::spec::{self, Confine, Pids, Request, Shared, TerminalSize, mounts};
use crate::containers::storage::Storage;
use crate::containers::supervisor::{Attach, terminal_size};
use crate::containers::volume;
use crate::containers::{inherited, neighbour, network, signals};
use crate::host::Probe;
use crate::images::manifest::Platform;
use crate::images::reference::Reference;
use crate::images::{self, Image};
use crate::store::{Digest, Store};

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    leaving: DetachKeys,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Remove the image, too, when the container ends, if no other one needs it
    #[arg(long, conflicts_with_all = ["detach", "rootfs", "join"])]
    rmi: bool,
    /// Pass the tool's signals to the command; else those that end programs end the tool alone
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Pass so many more descriptors of bryo's own to the command, from 3 on
    #[arg(long, value_name = "NUMBER", default_value_t, conflicts_with = "join")]
    preserve_fds: u16,
    /// Run it in the container of this name, which the first makes and the last removes; auto: of this job's step
    #[arg(long, value_name = "NAME", conflicts_with_all = ["detach", "tty", "name", "cidfile"])]
    join: Option<String>,
    #[command(flatten)]
    container: Container,
}

/// Flags of `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    container: Container,
}

/// Flags that shape a container.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Container {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Name the container
    #[arg(long)]
    name: Option<String>,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Pull the image: always, missing, never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// Use the image for this platform, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Print nothing while pulling
    #[arg(short, long)]
    quiet: bool,
    /// Replace the image's entrypoint; empty clears it
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    #[command(flatten)]
    environment: Environment,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Join another group; keep-groups keeps the caller's
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Print help (`-h` is the hostname, as Docker has it)
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Show a volume, or a directory or file of the host, in the container
    #[arg(short, long, value_name = "[SOURCE:]CONTAINER[:OPTIONS]")]
    volume: Vec<String>,
    /// The same, by keys: type=volume|bind|tmpfs|image,source=…,target=…,readonly
    #[arg(long, value_name = "KEYS")]
    mount: Vec<String>,
    /// Show the volumes and directories that another container has
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    volumes_from: Vec<String>,
    /// Driver of the volumes that are made: local
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount an empty filesystem in memory
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Show a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]")]
    device: Vec<String>,
    /// Make the container's root unwritable
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    network: NetworkFlags,
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Give every right that the user has in a namespace of their own
    #[arg(long)]
    privileged: bool,
    /// no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Limit a resource
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    #[command(flatten)]
    cgroup: CgroupFlags,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Limit what the container may write, outside of volumes: size=BYTES, inodes=NUMBER
    #[arg(long, value_name = "KEY=VALUE")]
    storage_opt: Vec<String>,
    /// Where output is kept for `logs`: k8s-file (also called json-file), none
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Limit what is kept: max-size=BYTES, max-file=NUMBER; or say what logs --details shows: tag, labels, env
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// Run an init that passes signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    #[command(flatten)]
    upkeep: super::upkeep::Upkeep,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    #[command(flatten)]
    more: More,
    #[command(flatten)]
    foreign: foreign::Flags,
    /// Detached: it is shown with the container.
    #[arg(skip)]
    detached: bool,
    /// Not only made: what a start needs may be begun meanwhile.
    #[arg(skip)]
    pub(super) starts: bool,
    /// `--join`: a digest of the flags that all who join give.
    #[arg(skip)]
    shared: Option<String>,
    /// Stand on a directory of the host instead of an image: the first argument. It stays as it is; DIR:O is taken, too
    #[arg(long, conflicts_with_all = ["pull", "platform"])]
    rootfs: bool,
    /// The image, then the command and its arguments: what follows the image is none of bryo's flags
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    Always,
    Missing,
    Never,
}

impl Run {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        if let Some(name) = self.join {
            return join::run(store, &name, self.container);
        }
        let (attach, hidden) = self.streams()?;
        require_terminal(attach, self.container.tty)?;
        let afterwards = if self.rm || self.rmi {
            Afterwards::Remove
        } else {
            Afterwards::Keep
        };
        let keys = self.leaving.read().map_err(own_code)?;
        let kept = inherited::preserve(self.preserve_fds).map_err(|error| own_code(Failure::of(&error)))?;
        let mut container = self.container;
        (container.detached, container.starts) = (self.detach, true);
        let image = container.image().to_owned();
        let mut made = container.make(store, afterwards).map_err(own_code)?;
        (made.keys, made.hidden, made.kept) = (keys, hidden, kept);
        let id = made.held.record.id.clone();
        tell_of_one_id();
        let supervisor = life::start(store, made, attach).map_err(|error| own_code(error.into()))?;
        inherited::close_preserved();
        match attach {
            Attach::Detached => {
                detached(supervisor)?;
                tell_of_logout();
                put(&format!("{id}\n"))?;
                Ok(ExitCode::SUCCESS)
            }
            Attach::Output | Attach::InputAndOutput => {
                let ended = attached(store, &id, supervisor, self.sig_proxy);
                if self.rmi {
                    // It stays where another container needs it, as podman has it.
                    if let Err(failure) = remove_image(store, &image) {
                        warn(&failure.message);
                    }
                }
                ended
            }
        }
    }
}

impl Run {
    #[cfg(test)]
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.container.foreign.check()
    }

    /// What the tool stays with, and what of the output it does not show.
    fn streams(&self) -> Result<(Attach, Option<Stream>), Failure> {
        let input = self.container.interactive;
        let named = self.container.more.attached();
        match (self.detach, named) {
            (true, Some(_)) => {
                Err(Failure::new("conflicting options: cannot specify both --attach and --detach").code(125))
            }
            (true, None) => Ok((Attach::Detached, None)),
            (false, Some([_, false, false])) => Err(Failure::new("--attach stdin alone is not supported")
                .hint(Some("name stdout or stderr, too"))
                .code(125)),
            (false, named) => {
                let [stdin, out, errors] = named.unwrap_or([true; 3]);
                let hidden = match (out, errors) {
                    (false, _) => Some(Stream::Stdout),
                    (_, false) => Some(Stream::Stderr),
                    _ => None,
                };
                let attach = match input && stdin {
                    true => Attach::InputAndOutput,
                    false => Attach::Output,
                };
                Ok((attach, hidden))
            }
        }
    }
}

impl Create {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let afterwards = if self.rm {
            Afterwards::RemoveOnceRun
        } else {
            Afterwards::Keep
        };
        let made = self.container.make(store, afterwards)?;
        put(&format!("{}\n", made.held.record.id))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A container with one id surprises: a person is told at each start. Not what is piped, since scripts compare it.
fn tell_of_one_id() {
    if stderr().is_terminal()
        && let Some(warning) = Probe::now().one_id_warning()
    {
        warn(&warning);
    }
}

/// Docker's exit code for errors of `run` itself.
fn own_code(failure: Failure) -> Failure {
    failure.code(125)
}

impl Container {
    /// For `--join`: what is each rank's own, and the container that all of them share.
    pub(super) fn split(mut self, name: &str) -> (join::Rank, Container) {
        let command = self.words.split_off(self.words.len().min(1));
        let rank = join::Rank {
            interactive: std::mem::take(&mut self.interactive),
            environment: std::mem::take(&mut self.environment),
            command: command.clone(),
        };
        // All give one, or none does.
        self.words.extend(command.first().map(|_| String::new()));
        self.shared = Some(Digest::of(format!("{self:?}").as_bytes()).hex());
        self.words.truncate(1);
        self.words.extend(command);
        self.name = Some(name.into());
        self.network.or_hosts();
        if self.shm_size.is_none() {
            self.shm_size = join::shared_memory();
        }
        self.volume.extend(join::servers_directory());
        (rank, self)
    }

    /// What all must have in common.
    pub(super) fn flags(&self) -> &str {
        self.shared.as_deref().unwrap_or_default()
    }

    pub(super) fn make(mut self, store: &Store, afterwards: Afterwards) -> Result<life::Made, Failure> {
        if let Some(driver) = self.volume_driver.as_ref().filter(|driver| *driver != "local") {
            return Err(Failure::of(&volume::VolumeError::Driver(driver.clone())));
        }
        self.foreign.check()?;
        let cidfile = self.cidfile.as_deref().map(CidFile::new).transpose()?;
        self.platform = self.platform.take().or(self.more.platform()?);
        let below = match self.rootfs {
            true => Below::Rootfs(rootfs::directory(self.image()).map_err(crate::containers::Error::from)?),
            false => Below::Image(Box::new(self.find_image(store)?)),
        };
        let cwd = std::env::current_dir()
            .map_err(|error| Failure::new(format!("the current directory cannot be found: {error}")))?;
        let mut storage = Storage::default();
        for option in &self.storage_opt {
            storage.option(option).map_err(|error| Failure::of(&error))?;
        }
        let log = log::Settings::parse(self.log_driver.as_deref(), &self.log_opt)
            .map_err(|error| Failure::of(&error))?;
        let rm = afterwards != Afterwards::Keep;
        let mut request = self.request().map_err(|error| Failure::of(&error))?;
        let volumes = self.volumes(&cwd).map_err(|error| Failure::of(&error))?;
        let wished = volumes.wishes.iter().map(mounts::Wish::target);
        let taken: Vec<&str> = wished
            .chain(request.mounts.iter().map(mounts::Asked::target))
            .collect();
        let more = self.more.mounts(self.read_only, &taken);
        request.mounts.extend(more.map_err(|error| Failure::of(&error))?);
        let image = self.image().to_owned();
        if self.shared.is_some() && request.shared.pids != Pids::Private {
            return Err(Failure::new("conflicting options: --join and the PID mode"));
        }
        request.shared = neighbour::chosen(store, request.shared)?;
        let asked = self.asked(&request.shared)?;
        request.users = asked.users();
        let own = (getuid().as_raw(), getgid().as_raw());
        if let (None, Some((uid, gid))) = (&request.user, request.users.caller(own)) {
            // Podman's: whatever the image says.
            request.user = Some(format!("{uid}:{gid}"));
        }
        let upkeep = self.upkeep.read(&cwd, rm, &below)?;
        let (mut flags, host_names) = self.network.read()?;
        let choice = flags.choose(store, &host_names)?;
        if let Some(warning) = &choice.warning {
            warn(warning);
        }
        request.network = choice.network;
        request.hostname.clone_from(&flags.hostname);
        request.sysctls.clone_from(&asked.sysctls);
        request.annotations.clone_from(&asked.annotations);
        request.oom_score_adj = self.cgroup.oom_score_adj;
        let cgroup = self.cgroup.read().map_err(|error| Failure::of(&error))?;
        let of_files = self.more.labels().map_err(|error| Failure::of(&error))?;
        let labels = of_files.iter().chain(&self.label).map(|text| label(text));
        let labels = labels.collect::<Result<_, _>>()?;
        if self.more.replace {
            replace(store, self.name.as_deref())?;
        }
        let wanted = Wanted {
            below: (below, image),
            zone: self.more.tz.clone(),
            name: self.name,
            request,
            volumes,
            host_names,
            network: network::Asked {
                flags,
                joined: choice.joined,
            },
            afterwards,
            starts: self.starts,
            open_stdin: self.interactive,
            stop_signal: self.stop_signal,
            upkeep,
            cgroup,
            storage,
            log,
            labels,
            given: Given {
                security_opts: self.security_opt,
                shared: self.shared,
                line: words::line(self.words.get(1..).unwrap_or_default()),
                asked,
            },
        };
        let made = life::create(store, wanted)?;
        made.warnings.iter().for_each(|text| warn(text));
        if let Some(cidfile) = cidfile {
            cidfile.keep(&made.held.record.id)?;
        }
        Ok(made)
    }

    fn asked(&self, shared: &Shared) -> Result<Asked, Failure> {
        let file = self.cidfile.as_ref().map(|file| file.display().to_string());
        let attached = match self.detached {
            true => [false; 3],
            false => self.more.attached().unwrap_or([self.interactive, true, true]),
        };
        Ok(Asked {
            groups: self.group_add.clone(),
            devices: self.device.clone(),
            tmpfs: self.tmpfs.clone(),
            id_file: file.unwrap_or_default(),
            annotations: self.more.annotations(),
            sysctls: self.more.sysctls()?,
            domain: self.more.domainname.clone(),
            ipc: shared.ipc.name(),
            pid: shared.pids.name(),
            uts: self.more.uts.clone(),
            cgroupns: self.more.cgroupns.clone(),
            userns: self.more.userns.clone(),
            log_driver: self.log_driver.clone().unwrap_or_default(),
            log_options: details::options(&self.log_opt)?,
            attached: Some(attached),
        })
    }

    fn image(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn find_image(&self, store: &Store) -> Result<Image, Failure> {
        let found = match self.pull {
            Pull::Always => None,
            Pull::Missing | Pull::Never => images::find(store, self.image())?,
        };
        match found.filter(|image| self.accepts(image)) {
            Some(image) => Ok(image),
            None if self.pull == Pull::Never => Err(Failure::new(format!("No such image: {}", self.image()))
                .hint(Some("--pull never was asked for"))),
            None => {
                if self.pull == Pull::Missing && !self.quiet {
                    let typed = Reference::parse(self.image());
                    let name = typed.map_or(self.image().to_owned(), |name| name.or_latest().familiar());
                    crate::line::say!("Unable to find image '{name}' locally");
                }
                let shown = if self.quiet { Shown::Nothing } else { Shown::Stderr };
                let order = Order {
                    image: self.image(),
                    platform: self.platform.as_ref(),
                    insecure: !self.more.tls_verify,
                    shown,
                };
                Ok(order.carry_out(store)?.image)
            }
        }
    }

    fn accepts(&self, image: &Image) -> bool {
        let Some(wanted) = &self.platform else { return true };
        image.platform().is_some_and(|found| wanted.accepts(&found))
    }

    fn volumes(&self, cwd: &Path) -> Result<volume::Wanted, spec::SpecError> {
        let short = self.volume.iter().map(|text| mounts::volume(text, cwd));
        let keys = self.mount.iter().map(|text| mounts::mount(text, cwd));
        Ok(volume::Wanted {
            wishes: short.chain(keys).collect::<Result<_, _>>()?,
            from: self.volumes_from.clone(),
            ignore_images: self.more.ignores_volumes(),
        })
    }

    fn request(&self) -> Result<Request, crate::containers::Error> {
        let mut environment = self.more.environment();
        environment.extend(self.environment.read()?);
        let mut asked = Vec::new();
        for text in &self.tmpfs {
            asked.push(mounts::tmpfs(text)?);
        }
        for text in &self.device {
            asked.push(mounts::device(text)?);
        }
        let mut confine = Confine {
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            privileged: self.privileged,
            ..Confine::default()
        };
        for option in &self.security_opt {
            confine.security_opt(option)?;
        }
        let size = |text: &String| mounts::bytes(text).ok_or_else(|| spec::SpecError::Size(text.clone()));
        if let Some(signal) = &self.stop_signal {
            signals::parse(signal)?;
        }
        let terminal = || {
            terminal_size().unwrap_or(TerminalSize {
                rows: 24,
                columns: 80,
            })
        };
        Ok(Request {
            command: self.words.get(1..).unwrap_or_default().to_vec(),
            entrypoint: self.entrypoint.clone(),
            env: environment,
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            group_add: self.group_add.clone(),
            terminal: self.tty.then(terminal),
            mounts: asked,
            read_only: self.read_only,
            confine,
            ulimits: self
                .ulimit
                .iter()
                .map(|text| spec::confine::ulimit(text))
                .collect::<Result<_, _>>()?,
            shm_size: self.shm_size.as_ref().map(size).transpose()?,
            init: self.init,
            shared: self.more.shared(),
            domain: self.more.domainname.clone(),
            umask: self.more.umask,
            bare_environment: self.more.unsetenv_all,
            keep: self.shared.is_some(),
            // The flags of the network say more.
            ..Request::default()
        })
    }
}

/// Podman's `--replace`: the name is to be the new container's.
fn replace(store: &Store, name: Option<&str>) -> Result<(), Failure> {
    let name = name.ok_or_else(|| Failure::new("cannot replace container without --name being set"))?;
    // Not by the beginning of an id.
    let named = record::all(store)?.into_iter().find(|record| record.name == name);
    match named {
        Some(record) => Ok(end::remove_with(store, &record.id, Force::Yes, Volumes::Keep)?),
        None => Ok(()),
    }
}

fn label(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Failure::new(format!("invalid label '{text}': empty name"))),
        (key, value) => Ok((key.into(), value.into())),
    }
}
