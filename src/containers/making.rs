//! How is a container made? From what is wanted: directory, files, volumes, Spec, record, name.

use std::path::{Path, PathBuf};

use fuse_overlay::union::Lower;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::accounts::{GROUP, PASSWD};
use super::asked::Asked;
use super::files::{self, HostNames};
use super::life::{Made, lower, read_file};
use super::record::{Afterwards, Base, Held, Record, Settings};
use super::runtime::Ahead;
use super::spec::{self, Context, Network, Request, Seccomp, SpecError};
use super::storage::Storage;
use super::unit::Line;
use super::upkeep::Upkeep;
use super::{
    Error, accounts, cgroup, early, events, image_file, log, names, network, rootfs, runtime, signals,
    sources, volume,
};
use crate::host::probe::thermal_throttles;
use crate::host::{Account, Probe, usable_devices};
use crate::images::names::References;
use crate::images::{self, Image};
use crate::store::Store;

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
    /// It is started at once.
    pub starts: bool,
    /// `-i`.
    pub open_stdin: bool,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--memory` and the like.
    pub cgroup: cgroup::Settings,
    /// `--tz`: a file of the host.
    pub zone: Option<PathBuf>,
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
    /// `--join`: a digest of all of them.
    pub shared: Option<String>,
    /// The command line.
    pub line: Option<Line>,
    /// What else.
    pub asked: Asked,
}

/// Makes a container: directory, files, Spec, record, name.
///
/// # Errors
/// Nothing of it stays.
pub fn create(store: &Store, wanted: Wanted) -> Result<Made, Error> {
    if let Some(name) = wanted.name.as_ref().filter(|name| !names::is_name(name)) {
        return Err(Error::Name(name.clone()));
    }
    let mut making = Making::of(store, &wanted)?;
    for attempt in 0.. {
        match making.attempt(attempt) {
            // A name that was drawn may be drawn again.
            Err(Error::NameTaken { .. }) if wanted.name.is_none() && attempt < 16 => {}
            Err(error) => return Err(error),
            Ok(made) => {
                let held = match wanted.afterwards {
                    // A claim of the builder's keeps the layers.
                    Afterwards::Commit => made.held,
                    _ => still_listed(store, made.held)?,
                };
                events::happened(store.state(), &held.record, "create", &[]);
                let ahead = making.ahead.take();
                return Ok(Made { held, ahead, ..made });
            }
        }
    }
    Err(Error::Name(wanted.name.unwrap_or_default()))
}

/// A container that is being made, whatever its name will be.
struct Making<'a> {
    store: &'a Store,
    wanted: &'a Wanted,
    config: ImageConfiguration,
    host: Probe,
    ahead: Option<Ahead>,
    seccomp: Option<LinuxSeccomp>,
    devices: Vec<String>,
}

impl Making<'_> {
    fn of<'a>(store: &'a Store, wanted: &'a Wanted) -> Result<Making<'a>, Error> {
        let (host, ahead) = match wanted.starts {
            true => early::take(store, |host| wanted.request.users.maps(host)),
            false => (Probe::now(), None),
        };
        Ok(Making {
            store,
            wanted,
            config: wanted.below.0.config(),
            host,
            ahead,
            seccomp: seccomp(&wanted.request)?,
            devices: match wanted.request.confine.privileged {
                true => usable_devices(),
                false => Vec::new(),
            },
        })
    }

    fn attempt(&self, attempt: usize) -> Result<Made, Error> {
        let store = self.store;
        let mut record = record_of(self.wanted, attempt)?;
        let attached = attach(store, self.wanted, &self.config, &mut record)?;
        let planned = record.clone();
        let mut filled = None;
        let held = Held::create(store, record, |directory| {
            let (spec, lower, ready) = self.fill(&planned, &attached, directory)?;
            filled = Some((spec.clone(), lower, ready));
            Ok(spec)
        });
        // From here on the record says who uses the volumes.
        let filled = filled.map(|(spec, lower, ready)| (spec, lower, ready.warnings));
        if held.is_err() {
            volume::release(store.state(), &planned.settings.mounts);
        }
        let held = held?;
        let (spec, lower, mut warnings) = match filled {
            Some(filled) => filled,
            None => (held.spec()?, lower(store, &held.record)?, Vec::new()),
        };
        warnings.extend(unknown_stop_signal(&held.record.settings.stop_signal));
        Ok(Made {
            warnings,
            ..Made::of(held, spec, lower, self.host.clone())
        })
    }

    /// What the record does not hold: the container's files, its volumes, its Spec.
    fn fill(
        &self,
        record: &Record,
        attached: &volume::Attached,
        directory: &Path,
    ) -> Result<(Spec, Lower, volume::Ready), Error> {
        let Making { store, wanted, .. } = self;
        let (settings, durability) = (&record.settings, record.durability());
        let ids = wanted.request.users.maps(&self.host);
        if let Below::Rootfs(root) = &wanted.below.0 {
            rootfs::scan(root, directory, &ids, durability)?;
        }
        let lower = self.below(directory)?;
        let [passwd, group] = self.lists(&lower, record, attached, directory)?;
        let mut ready = attached.make(&volume::For {
            store,
            host: &self.host,
            ids: &ids,
            lower: &lower,
            user: spec::identity(&settings.user, &passwd, &group)?,
            durability,
        })?;
        let (network, names) = (wanted.request.network, &settings.ports.names_inside());
        let addresses = settings.ports.addresses.as_ref();
        let mut own_files = match &wanted.network.joined {
            Some(joined) => files::shared(&store.container(&joined.id)),
            None => {
                let way = (addresses, settings.ports.program.as_ref());
                files::write(directory, &settings.hostname, network, way, names, durability)?
            }
        };
        if wanted.host_names.none {
            own_files.retain(|(_, place)| *place != files::HOSTS);
        }
        // As in BuildKit, a step finds the image's, and what it writes there is part of the layer.
        if wanted.afterwards == Afterwards::Commit {
            own_files.retain(|(_, place)| *place != files::HOSTNAME);
        }
        if let Some(zone) = &wanted.zone {
            own_files.push(files::time_zone(directory, zone, durability)?);
        }
        let context = Context {
            image: &self.config,
            passwd: &passwd,
            group: &group,
            ids: &ids,
            // Covered by the mount, in the container's mount namespace alone; the server works on it outside.
            root: &directory.join("upper"),
            own_files: &own_files,
            hostname: &settings.hostname,
            devices: &self.devices,
            has_queues: Path::new("/dev/mqueue").is_dir(),
            masked: &thermal_throttles(),
            seccomp: self.seccomp.clone(),
        };
        let mut request = wanted.request.clone();
        request.mounts.extend_from_slice(&attached.asked);
        request.mounts.append(&mut ready.asked);
        let spec = spec::build(&request, &context)?;
        Ok((spec, lower, ready))
    }

    fn below(&self, directory: &Path) -> Result<Lower, Error> {
        Ok(match &self.wanted.below.0 {
            Below::Image(image) => image.lower(self.store)?,
            Below::Rootfs(root) => rootfs::open(root, directory)?,
        })
    }

    /// The users and groups that the container is to know. What the image does not know of the caller, who is one of them, comes
    /// into the writable layer.
    fn lists(
        &self,
        lower: &Lower,
        record: &Record,
        attached: &volume::Attached,
        directory: &Path,
    ) -> Result<[String; 2], Error> {
        let [mut passwd, mut group] = [text_file(lower, PASSWD)?, text_file(lower, GROUP)?];
        let request = &self.wanted.request;
        let own = (self.host.uid, self.host.gid);
        let ids = request.users.caller(own);
        let Some((ids, caller)) = ids.and_then(|ids| Some((ids, Account::of_caller(own.0, own.1)?))) else {
            return Ok([passwd, group]);
        };
        let asked = request.mounts.iter().chain(&attached.asked);
        let volumes = attached.mounted.iter().map(|mount| mount.target.as_str());
        let mounted: Vec<&str> = asked.map(spec::mounts::Asked::target).chain(volumes).collect();
        let workdir = spec::workdir(request, &self.config)?;
        let home = accounts::home(&caller, &workdir, &mounted);
        let mut additions = Vec::new();
        for (added, list) in [
            (accounts::of_passwd(&caller, ids, home, &passwd), &mut passwd),
            (accounts::of_group(&caller, ids.1, &group), &mut group),
        ] {
            if let Some(added) = added.filter(|added| !mounted.contains(&added.path)) {
                list.push_str(&added.text);
                additions.push(added);
            }
        }
        if !additions.is_empty() {
            let limits = record.settings.storage.limits();
            let upper = directory.join("upper");
            accounts::add(
                self.below(directory)?,
                &upper,
                limits,
                &additions,
                record.durability(),
            )?;
        }
        Ok([passwd, group])
    }
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
        _ if wanted.volumes.ignore_images => Vec::new(),
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
    let error = match References::load(store) {
        Ok(listed) if listed.by_id(&image).is_some() => return Ok(held),
        Ok(_) => images::Error::NoSuchImage(image.to_string()).into(),
        Err(error) => error.into(),
    };
    held.discard();
    Err(error)
}

/// Who `USER[:GROUP]` is in an image: uid and gid.
///
/// # Errors
/// A name that its passwd or group file does not have.
pub fn identity(lower: &Lower, user: &str) -> Result<(u32, u32), Error> {
    let (passwd, group) = (text_file(lower, PASSWD)?, text_file(lower, GROUP)?);
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

/// Of an image: a flag's is refused before. Docker, too, goes on with its usual one.
fn unknown_stop_signal(name: &str) -> Option<String> {
    let error = signals::parse(name).err()?;
    Some(format!("the image's STOPSIGNAL: {error}; stop sends SIGTERM"))
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
        (None, _, None) if request.shared.uts => host_name(),
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
            // The image's is for its own command, which `run --join` has not as the first process.
            .or_else(|| {
                let config = config.filter(|_| wanted.given.shared.is_none());
                config.and_then(|c| c.stop_signal().clone())
            })
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
        init: request.init || request.keep,
        shared: wanted.given.shared.clone(),
        cgroup: wanted.cgroup.clone(),
        line: wanted.given.line.clone(),
        asked: wanted.given.asked.clone(),
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
