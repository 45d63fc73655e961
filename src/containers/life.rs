//! How is a container made and started?

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fuse_overlay::union::Lower;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::attach::Keys;
use super::files::{self, HostNames};
use super::record::{Afterwards, Base, Held, Record, Settings};
pub use super::reopen::reopen;
use super::runtime::{self, RootSource};
use super::spec::{self, Context, Network, Request, Seccomp, SpecError};
use super::storage::Storage;
use super::supervisor::{self, Attach, Start, Supervisor};
use super::upkeep::Upkeep;
use super::{Error, events, image_file, log, names, network, rootfs, sources, volume};
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
    /// `-v`, `--mount`, `--volumes-from`.
    pub volumes: volume::Wanted,
    /// The flags about names of hosts.
    pub host_names: HostNames,
    /// Those about networks and ports.
    pub network: network::Asked,
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
    /// `--restart`, `--health-cmd` and the like.
    pub upkeep: Upkeep,
    /// `-l`, over the image's.
    pub labels: Vec<(String, String)>,
    /// `--security-opt` as they were given.
    pub given: Given,
}

/// Flags as they were given, for `inspect`.
#[derive(Debug, Clone, Default)]
pub struct Given {
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
    /// What could not be done as asked, one line each, for the user.
    pub warnings: Vec<String>,
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
    let seccomp = seccomp(&wanted.request)?;
    let devices = if wanted.request.confine.privileged {
        usable_devices()
    } else {
        Vec::new()
    };
    for attempt in 0.. {
        let mut record = record_of(&wanted, attempt)?;
        let attached = attach(store, &wanted, &config, &mut record)?;
        let (hostname, durability) = (record.settings.hostname.clone(), record.durability());
        let addresses = record.settings.ports.addresses;
        let record_user = record.settings.user.clone();
        let mounted = record.settings.mounts.clone();
        let (mut made, mut ready) = (None, volume::Ready::default());
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
            let of = volume::For {
                store,
                host: &host,
                lower: &lower,
                user: spec::identity(&record_user, &passwd, &group)?,
                durability,
            };
            ready = attached.make(&of)?;
            let names = &wanted.host_names;
            let own_files = match &wanted.network.joined {
                Some(joined) => files::shared(&store.container(&joined.id)),
                None => files::write(directory, &hostname, network, addresses.as_ref(), names)?,
            };
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
            let mut request = wanted.request.clone();
            request.mounts.extend_from_slice(&attached.asked);
            request.mounts.append(&mut ready.asked);
            let spec = spec::build(&request, &context)?;
            made = Some((spec.clone(), lower));
            Ok(spec)
        });
        let warnings = std::mem::take(&mut ready.warnings);
        // From here on the record says who uses them.
        drop(ready);
        if held.is_err() {
            volume::release(store.state(), &mounted);
        }
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
                events::happened(store.state(), &held.record, "create", &[]);
                return Ok(Made {
                    held,
                    spec,
                    lower,
                    host,
                    warnings,
                    keys: Keys::default(),
                });
            }
        }
    }
    Err(Error::Name(wanted.name.unwrap_or_default()))
}

/// Plans what is mounted, writes it into the record, and looks after the host's directories.
fn attach(
    store: &Store,
    wanted: &Wanted,
    config: &ImageConfiguration,
    record: &mut Record,
) -> Result<volume::Attached, Error> {
    let config = config.config().as_ref();
    let of_image = match wanted.afterwards {
        // A step of a build has none: what it writes there is the image's.
        Afterwards::Commit => Vec::new(),
        _ => config
            .and_then(|config| config.volumes().clone())
            .unwrap_or_default(),
    };
    let mounts = &wanted.request.mounts;
    let attached = volume::Attached::new(store, &wanted.volumes, &of_image, mounts, &record.id)?;
    sources::prepare(mounts)?;
    sources::prepare(&attached.asked)?;
    record.settings.mounts = attached.mounted.clone();
    let places = attached.mounted.iter().map(|mount| mount.target.clone());
    record.settings.mount_points = places.collect();
    Ok(attached)
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
    let hostname = match (&request.hostname, request.network, &wanted.network.joined) {
        (Some(hostname), ..) => hostname.clone(),
        // Docker: who shares a network has the name that is known in it.
        (None, _, Some(joined)) => joined.hostname.clone(),
        (None, Network::Host, None) => host_name(),
        (None, _, None) => id.chars().take(12).collect(),
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
        network: wanted.network.name(request.network),
        ports: network::Settings::new(
            &wanted.network.flags,
            network::of_image(&image),
            &wanted.host_names,
            request.network,
        )?,
        binds: wanted
            .volumes
            .wishes
            .iter()
            .filter_map(|wish| wish.bind.clone())
            .collect(),
        mounts: Vec::new(),
        mount_points: Vec::new(),
        volumes_from: wanted.volumes.from.clone(),
        capabilities: (request.confine.cap_add.clone(), request.confine.cap_drop.clone()),
        privileged: request.confine.privileged,
        security_opts: wanted.given.security_opts.clone(),
        init: request.init,
        storage: wanted.storage,
        log: wanted.log,
        upkeep: wanted.upkeep.clone(),
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

/// Opens all that a container needs that is to be started again. If something is gone, it is given back with the reason.
pub(super) fn opened(store: &Store, held: Held) -> Result<Made, Box<(Held, Error)>> {
    let host = Probe::now();
    let parts = || {
        volume::finish(store, &host, &held.record)?;
        Ok((held.spec()?, lower(store, &held.record)?))
    };
    match parts() {
        Err(error) => Err(Box::new((held, error))),
        Ok((spec, lower)) => Ok(Made {
            held,
            spec,
            lower,
            host,
            warnings: Vec::new(),
            keys: Keys::default(),
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
    let mut start = match ready(store, made, attach) {
        Ok(start) => start,
        Err(failed) => {
            let (held, error) = *failed;
            if held.record.afterwards == Afterwards::Remove {
                held.remove()?;
            }
            return Err(error);
        }
    };
    start.log = log;
    start.held.record.restarts = 0;
    start.held.record.last_code = None;
    supervisor::start(start).map_err(|source| Error::Io {
        action: "start a process beside",
        path: "the container".into(),
        source,
    })
}

/// Plans a start. If it cannot be, the container is given back with the reason.
pub(super) fn ready(store: &Store, made: Made, attach: Attach) -> Result<Start, Box<(Held, Error)>> {
    let terminal = made.has_terminal();
    let Made {
        mut held,
        mut spec,
        lower,
        host,
        warnings: _,
        keys,
    } = made;
    if held.record.afterwards == Afterwards::RemoveOnceRun {
        held.record.afterwards = Afterwards::Remove;
    }
    if terminal {
        set_size(&mut spec);
    }
    let planned = network::ready(store, &mut held.record, &mut spec).and_then(|network| {
        let devices = server_threads();
        let plan = runtime::plan(&spec, RootSource::Fuse { devices }, &host)?;
        Ok((network, plan))
    });
    match planned {
        Err(error) => Err(Box::new((held, error))),
        Ok((network, plan)) => Ok(Start {
            held,
            lower,
            plan,
            host,
            terminal,
            attach,
            log: None,
            keys,
            store: store.clone(),
            pause: Duration::ZERO,
            network,
        }),
    }
}

fn set_size(spec: &mut Spec) {
    let Some(size) = supervisor::terminal_size() else {
        return;
    };
    if let (Some(process), Ok(console)) = (spec.process_mut(), size.to_spec()) {
        process.set_console_size(Some(console));
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
