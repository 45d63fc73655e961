//! How does a container move: made, started, signalled, waited for, removed?

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fuse_overlay::union::Lower;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{LinuxSeccomp, Spec};
use rustix::process::{Signal, pidfd_send_signal};

use super::attach::Keys;
use super::files::{self, HostNames};
use super::process::{self, Process};
use super::record::{self, Afterwards, Base, Held, Life, Record, Settings};
pub use super::reopen::reopen;
use super::runtime::{self, RootSource};
use super::spec::mounts::{Asked, Missing};
use super::spec::{self, Context, Network, Request, Seccomp, SpecError};
use super::storage::Storage;
use super::supervisor::{self, Attach, Start, Supervisor};
use super::{Error, image_file, log, names, rootfs};
use crate::host::Probe;
use crate::host::probe::thermal_throttles;
use crate::host::usable_devices;
use crate::images::names::References;
use crate::images::{self, Image};
use crate::store::Store;

/// Threads of the filesystem server, each with its own descriptor of /dev/fuse: one for each core that this process
/// may use. Fewer than two would let one slow read hold up all; more than sixteen queue up for the same locks.
fn server_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 16))
}

/// How long a container may take to be gone after SIGKILL before its supervisor is killed as well.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a container is to stand on.
#[derive(Debug, Clone)]
pub enum Below {
    /// An image.
    Image(Box<Image>),
    /// A directory of the host (`--rootfs`), whole.
    Rootfs(PathBuf),
}

impl Below {
    fn base(&self) -> Base {
        match self {
            Below::Image(image) => Base::Image(image.id),
            Below::Rootfs(directory) => Base::Rootfs(directory.clone()),
        }
    }

    /// The image's config; a directory has none.
    fn config(&self) -> ImageConfiguration {
        match self {
            Below::Image(image) => image.config.clone(),
            Below::Rootfs(_) => ImageConfiguration::default(),
        }
    }
}

/// A container to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it stands on, and how the user called that.
    pub below: (Below, String),
    /// `--name`.
    pub name: Option<String>,
    /// The flags that shape the Spec.
    pub request: Request,
    /// The flags about names of hosts.
    pub host_names: HostNames,
    /// `--rm`.
    pub afterwards: Afterwards,
    /// `-i`.
    pub open_stdin: bool,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--storage-opt`.
    pub storage: Storage,
    /// `--log-driver`, `--log-opt`.
    pub log: log::Settings,
    /// `-l`, over the image's.
    pub labels: Vec<(String, String)>,
    /// `-v`, `--mount`, `--security-opt` as they were given.
    pub given: Given,
}

/// Flags as they were given, for `inspect`.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `-v` and `--mount`.
    pub binds: Vec<String>,
    /// `--security-opt`.
    pub security_opts: Vec<String>,
}

/// A container that is made and locked, and what it stands on opened.
#[derive(Debug)]
pub struct Made {
    /// The container.
    pub held: Held,
    /// Its Spec.
    pub spec: Spec,
    /// What it stands on.
    pub lower: Lower,
    /// The machine that it is to run on.
    pub host: Probe,
    /// `--detach-keys`.
    pub keys: Keys,
}

impl Made {
    /// Does its command get a terminal?
    pub fn has_terminal(&self) -> bool {
        self.spec
            .process()
            .as_ref()
            .and_then(oci_spec::runtime::Process::terminal)
            .unwrap_or(false)
    }
}

/// Makes a container: directory, files, Spec, record, name.
///
/// # Errors
/// Nothing of it stays.
pub fn create(store: &Store, wanted: Wanted) -> Result<Made, Error> {
    if let Some(name) = wanted.name.as_ref().filter(|name| !names::is_name(name)) {
        return Err(Error::Name(name.clone()));
    }
    let config = wanted.below.0.config();
    let host = Probe::now();
    let ids = host.id_maps();
    prepare_sources(&wanted.request)?;
    let seccomp = seccomp(&wanted.request)?;
    let devices = if wanted.request.confine.privileged {
        usable_devices()
    } else {
        Vec::new()
    };
    for attempt in 0.. {
        let record = record_of(&wanted, attempt)?;
        let (hostname, durability) = (record.settings.hostname.clone(), record.durability());
        let mut made = None;
        let held = Held::create(store, record, |directory| {
            let network = wanted.request.network;
            let lower = match &wanted.below.0 {
                Below::Image(image) => image.lower(store)?,
                Below::Rootfs(root) => {
                    rootfs::scan(root, directory, &ids, durability)?;
                    rootfs::open(root, directory)?
                }
            };
            let passwd = text_file(&lower, "/etc/passwd")?;
            let group = text_file(&lower, "/etc/group")?;
            let own_files = files::write(directory, &hostname, network, &wanted.host_names)?;
            let context = Context {
                image: &config,
                passwd: &passwd,
                group: &group,
                ids: &ids,
                // Covered by the mount, in the container's mount namespace alone; the server works on it outside.
                root: &directory.join("upper"),
                own_files: &own_files,
                hostname: &hostname,
                devices: &devices,
                masked: &thermal_throttles(),
                seccomp: seccomp.clone(),
            };
            let spec = spec::build(&wanted.request, &context)?;
            made = Some((spec.clone(), lower));
            Ok(spec)
        });
        match (held, made) {
            // A name that was drawn may be drawn again.
            (Err(Error::NameTaken { .. }), _) if wanted.name.is_none() && attempt < 16 => {}
            (Err(error), _) => return Err(error),
            (Ok(held), made) => {
                let held = match wanted.afterwards {
                    // A claim of the builder's keeps the layers.
                    Afterwards::Commit => held,
                    _ => still_listed(store, held)?,
                };
                let (spec, lower) = match made {
                    Some(made) => made,
                    None => (held.spec()?, lower(store, &held.record)?),
                };
                return Ok(Made {
                    held,
                    spec,
                    lower,
                    host,
                    keys: Keys::default(),
                });
            }
        }
    }
    Err(Error::Name(wanted.name.unwrap_or_default()))
}

/// A removal of images beside this either sees the record that is written by now, or came first: then the image is off
/// the list, and the container goes as well. No lock: a start changes nothing in the images' store, which may be
/// read-only.
fn still_listed(store: &Store, held: Held) -> Result<Held, Error> {
    let Base::Image(image) = held.record.base else {
        return Ok(held);
    };
    if References::load(store)?.by_id(&image).is_some() {
        return Ok(held);
    }
    held.discard();
    Err(images::Error::NoSuchImage(image.to_string()).into())
}

/// Who `USER[:GROUP]` is in an image: uid and gid.
///
/// # Errors
/// A name that its passwd or group file does not have.
pub fn identity(lower: &Lower, user: &str) -> Result<(u32, u32), Error> {
    let (passwd, group) = (text_file(lower, "/etc/passwd")?, text_file(lower, "/etc/group")?);
    Ok(spec::identity(user, &passwd, &group)?)
}

fn text_file(lower: &Lower, path: &'static str) -> Result<String, Error> {
    let io = |error: fuse_overlay::error::Error| Error::Io {
        action: "read from the image's layers",
        path: path.into(),
        source: error.0.into(),
    };
    let bytes = image_file::read(lower, path).map_err(io)?;
    Ok(bytes
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default())
}

fn require_device(source: &Path) -> Result<(), Error> {
    let not_device = |why| Error::Device {
        path: source.into(),
        why,
    };
    let kind = fs::metadata(source).map_err(not_device)?.file_type();
    match kind.is_char_device() || kind.is_block_device() {
        true => Ok(()),
        false => Err(not_device(io::Error::other("not a device node"))),
    }
}

/// `-v` makes a missing directory, as Docker does; `--mount` refuses; `--device` is for devices.
fn prepare_sources(request: &Request) -> Result<(), Error> {
    for asked in &request.mounts {
        let bind = match asked {
            Asked::Bind(bind) => bind,
            Asked::Device { source, .. } => {
                require_device(source)?;
                continue;
            }
            Asked::Tmpfs { .. } => continue,
        };
        let io = |source| Error::Io {
            action: "look at",
            path: bind.source.clone(),
            source,
        };
        match fs::metadata(&bind.source) {
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            Err(_) if bind.missing == Missing::Refuse => return Err(Error::BindSource(bind.source.clone())),
            Err(_) => fs::create_dir_all(&bind.source).map_err(|source| Error::Io {
                action: "create",
                path: bind.source.clone(),
                source,
            })?,
        }
    }
    Ok(())
}

fn seccomp(request: &Request) -> Result<Option<LinuxSeccomp>, Error> {
    let Seccomp::Profile(path) = &request.confine.seccomp else {
        return Ok(None);
    };
    let text = read_file(path)?;
    // The file's groups are for those who have, or lack, a capability: what the container could ever gain decides.
    let capabilities = request.confine.bounding_names()?;
    runtime::seccomp::custom(&text, &capabilities)
        .map(Some)
        .map_err(|why| {
            let path = path.clone();
            SpecError::SeccompProfile { path, why }.into()
        })
}

fn record_of(wanted: &Wanted, attempt: usize) -> Result<Record, Error> {
    let random = |source| Error::Io {
        action: "draw",
        path: "random numbers".into(),
        source,
    };
    let id = names::new_id().map_err(random)?;
    let name = match &wanted.name {
        Some(name) => name.clone(),
        None => names::new_name(attempt).map_err(random)?,
    };
    let (below, name_below) = &wanted.below;
    let image = below.config();
    let config = image.config().as_ref();
    let request = &wanted.request;
    let hostname = match (&request.hostname, request.network) {
        (Some(hostname), _) => hostname.clone(),
        // Docker: who shares the host's network has the host's name.
        (None, Network::Host) => host_name(),
        (None, _) => id.chars().take(12).collect(),
    };
    let mut labels = config.and_then(|c| c.labels().clone()).unwrap_or_default();
    labels.extend(wanted.labels.iter().cloned());
    let of_image = |list: Option<&Option<Vec<String>>>| list.cloned().flatten();
    let entrypoint = match &request.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => None,
        Some(entrypoint) => Some(vec![entrypoint.clone()]),
        None => of_image(config.map(|c| c.entrypoint())),
    };
    let skip = entrypoint.as_ref().map_or(0, Vec::len);
    let settings = Settings {
        hostname,
        user: request
            .user
            .clone()
            .or_else(|| config.and_then(|c| c.user().clone()))
            .unwrap_or_default(),
        open_stdin: wanted.open_stdin,
        command: spec::arguments(request, &image)?.split_off(skip),
        entrypoint,
        labels: labels.into_iter().collect(),
        stop_signal: wanted
            .stop_signal
            .clone()
            .or_else(|| config.and_then(|c| c.stop_signal().clone()))
            .unwrap_or_else(|| "SIGTERM".into()),
        network: if request.network == Network::None {
            "none"
        } else {
            "host"
        }
        .into(),
        binds: wanted.given.binds.clone(),
        mount_points: request
            .mounts
            .iter()
            .map(|asked| asked.target().to_string())
            .collect(),
        capabilities: (request.confine.cap_add.clone(), request.confine.cap_drop.clone()),
        privileged: request.confine.privileged,
        security_opts: wanted.given.security_opts.clone(),
        init: request.init,
        storage: wanted.storage,
        log: wanted.log,
    };
    Ok(Record::new(
        id,
        name,
        (below.base(), name_below.clone()),
        wanted.afterwards,
        settings,
    ))
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "localhost".into())
}

/// Opens what a container stands on.
///
/// # Errors
/// [`Error::NoImage`], [`Error::Rootfs`].
pub(super) fn lower(store: &Store, record: &Record) -> Result<Lower, Error> {
    let image = match &record.base {
        Base::Rootfs(root) => return Ok(rootfs::open(root, &store.container(&record.id))?),
        Base::Image(image) => image.to_string(),
    };
    match images::find(store, &image)? {
        Some(image) => Ok(image.lower(store)?),
        None => Err(Error::NoImage {
            name: record.name.clone(),
            image,
        }),
    }
}

/// Starts a container: forks its supervisor. To be called while the process has one thread.
///
/// # Errors
/// The Spec cannot be carried out here, or no process made; a container of `--rm` is removed again.
pub fn start(store: &Store, made: Made, attach: Attach) -> Result<Supervisor, Error> {
    start_with(store, made, attach, None)
}

/// The same; what the command writes goes to `log`, both streams as they come.
///
/// # Errors
/// As [`start`].
pub fn start_logged(store: &Store, made: Made, log: OwnedFd) -> Result<Supervisor, Error> {
    start_with(store, made, Attach::Output, Some(log))
}

fn start_with(store: &Store, made: Made, attach: Attach, log: Option<OwnedFd>) -> Result<Supervisor, Error> {
    let terminal = made.has_terminal();
    let Made {
        mut held,
        mut spec,
        lower,
        host,
        keys,
    } = made;
    if held.record.afterwards == Afterwards::RemoveOnceRun {
        held.record.afterwards = Afterwards::Remove;
    }
    if terminal {
        set_size(&mut spec);
    }
    let plan = match runtime::plan(
        &spec,
        RootSource::Fuse {
            devices: server_threads(),
        },
        &host,
    ) {
        Ok(plan) => plan,
        Err(error) => {
            if held.record.afterwards == Afterwards::Remove {
                held.remove()?;
            }
            return Err(error.into());
        }
    };
    let start = Start {
        held,
        lower,
        plan,
        host,
        terminal,
        attach,
        log,
        keys,
        run: store.run().to_owned(),
    };
    supervisor::start(start).map_err(|source| Error::Io {
        action: "start a process beside",
        path: "the container".into(),
        source,
    })
}

fn set_size(spec: &mut Spec) {
    let Some(size) = supervisor::terminal_size() else {
        return;
    };
    if let (Some(process), Ok(console)) = (spec.process_mut(), size.to_spec()) {
        process.set_console_size(Some(console));
    }
}

/// Sends a signal to a running container's command.
///
/// # Errors
/// [`Error::NotRunning`].
pub fn kill(record: &Record, signal: i32) -> Result<(), Error> {
    let not_running = || Error::NotRunning(record.name.clone());
    let Life::Running { init, .. } = record.life else {
        return Err(not_running());
    };
    let number = Signal::from_named_raw(signal).ok_or_else(not_running)?;
    send(init, number).map_err(|_| not_running())
}

fn send(process: Process, signal: Signal) -> io::Result<()> {
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    let pidfd = process.open()?.ok_or_else(gone)?;
    Ok(pidfd_send_signal(&pidfd, signal)?)
}

/// Waits until a running container's supervisor has ended, hence everything of it is on disk. `false`: not within
/// `limit` (`None` waits for ever).
///
/// # Errors
/// The kernel refuses to wait.
pub fn wait(record: &Record, limit: Option<Duration>) -> Result<bool, Error> {
    let Life::Running { supervisor, .. } = record.life else {
        return Ok(true);
    };
    let io = |source: io::Error| Error::Io {
        action: "wait for",
        path: record.name.clone().into(),
        source,
    };
    match supervisor.open().map_err(io)? {
        Some(pidfd) => process::ends(&pidfd, limit).map_err(io),
        None => Ok(true),
    }
}

/// Whether `rm` ends a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It refuses.
    No,
    /// It does.
    Yes,
}

/// Removes a container.
///
/// # Errors
/// [`Error::Running`] without [`Force::Yes`].
pub fn remove(store: &Store, id: &str, force: Force) -> Result<(), Error> {
    // Each round ends a run; somebody may start it again in between.
    for _ in 0..8 {
        let record = match record::read(store, id) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(Error::Json { .. }) => return record::remove_damaged(store, id),
            Err(error) => return Err(error),
        };
        if matches!(record.life, Life::Running { .. }) {
            if force == Force::No {
                return Err(Error::Running(record.name));
            }
            end(&record)?;
        }
        match record::hold(store, id) {
            Ok(Some(held)) => return held.remove(),
            // It is being made, started or ended at this moment.
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(Error::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Running(id.into()))
}

/// Asks a running container to end, and kills it after `limit` (`None`: never).
///
/// # Errors
/// It cannot be waited for.
pub fn stop(record: &Record, signal: i32, limit: Option<Duration>) -> Result<(), Error> {
    match kill(record, signal) {
        Ok(()) | Err(Error::NotRunning(_)) => {}
        Err(error) => return Err(error),
    }
    if !wait(record, limit)? {
        end(record)?;
    }
    Ok(())
}

/// Kills a running container, and its supervisor if that does not see it end.
fn end(record: &Record) -> Result<(), Error> {
    let Life::Running { supervisor, init, .. } = record.life else {
        return Ok(());
    };
    // Either may have ended just now.
    let _ = send(init, Signal::KILL);
    if !wait(record, Some(PATIENCE))? {
        let _ = send(supervisor, Signal::KILL);
        wait(record, Some(PATIENCE))?;
    }
    Ok(())
}

/// The exit code of a container that ended.
pub fn exit_code(record: &Record) -> Option<i32> {
    match &record.life {
        Life::Exited { code, .. } => Some(*code),
        Life::Created | Life::Running { .. } => None,
    }
}

/// Reads `--security-opt seccomp=FILE` and the like: a whole text file of the host.
///
/// # Errors
/// It cannot be read.
pub fn read_file(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    })
}

/// A signal by name (`TERM`, `SIGTERM`) or number.
///
/// # Errors
/// Neither.
pub fn signal(text: &str) -> Result<i32, SpecError> {
    let unknown = || SpecError::Signal(text.into());
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    match text.parse::<i32>() {
        Ok(number @ 1..=64) => Ok(number),
        Ok(_) => Err(unknown()),
        Err(_) => name
            .parse::<nix::sys::signal::Signal>()
            .map(|signal| signal as i32)
            .map_err(|_| unknown()),
    }
}
