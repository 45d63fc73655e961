//! How do the volumes of a new container become ready? Each is made if it is not there, and filled, under its lock; the
//! locks are held until the container's record says that it uses them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fuse_overlay::attr::Kind as FileKind;
use fuse_overlay::index::NodeId;
use fuse_overlay::union::Lower;

use super::VolumeError;
use super::attach::Attached;
use super::copy::Lost;
use super::fill::{self, Task};
use super::mounted::{Kind, Mounted};
use super::options::Backing;
use super::record::{ANONYMOUS, Held, New, data, ensure, hold, place};
use crate::containers::record::Record;
use crate::containers::runtime::{SUBDIRECTORY, as_root_of};
use crate::containers::spec::mounts::{Asked, Bind, Image, Missing, Volume};
use crate::containers::{Error, image_file};
use crate::host::{IdMaps, Probe};
use crate::images;
use crate::store::{Durability, Store};

/// What the volumes of a container are made for.
pub(in crate::containers) struct For<'a> {
    pub(in crate::containers) store: &'a Store,
    pub(in crate::containers) host: &'a Probe,
    /// The container's.
    pub(in crate::containers) ids: &'a IdMaps,
    /// What the container stands on.
    pub(in crate::containers) lower: &'a Lower,
    /// Its user.
    pub(in crate::containers) user: (u32, u32),
    pub(in crate::containers) durability: Durability,
}

/// Volumes that are ready, and stay as long as this is kept.
#[derive(Debug, Default)]
pub(in crate::containers) struct Ready {
    pub(in crate::containers) asked: Vec<Asked>,
    /// What could not be kept of the image's files.
    pub(in crate::containers) warnings: Vec<String>,
    _held: BTreeMap<String, Held>,
}

impl Attached {
    /// Makes and fills the volumes. To be called by a process with one thread.
    ///
    /// # Errors
    /// What was made stays: see [`super::release`].
    pub(in crate::containers) fn make(&self, of: &For<'_>) -> Result<Ready, Error> {
        let mut ready = Ready::default();
        let held = self.hold_all(of)?;
        let images = self
            .images
            .iter()
            .map(|(_, wish)| source_of_image(of.store, wish));
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for (mounted, wish) in self.volumes.iter().chain(&self.inherited) {
            let Some(held) = held.get(&mounted.name) else {
                continue;
            };
            ready.asked.push(asked(held, mounted)?);
            tasks.extend(task(of, held, wish)?);
        }
        for ((mounted, _), (lower, node)) in self.images.iter().zip(&images) {
            let Some(held) = held.get(&mounted.name) else {
                continue;
            };
            ready.asked.push(bind(data(&held.directory), mounted));
            tasks.push(Task {
                name: &mounted.name,
                directory: &held.directory,
                from: Some((lower, *node)),
                own: None,
                lasting: false,
            });
        }
        ready.warnings = carry_out((of.host, of.ids), of.store, &tasks)?;
        drop(tasks);
        ready._held = held;
        Ok(ready)
    }

    /// Takes the locks of all volumes, always in the order of their names.
    fn hold_all(&self, of: &For<'_>) -> Result<BTreeMap<String, Held>, Error> {
        let mut wanted: BTreeMap<&str, (New, Durability)> = BTreeMap::new();
        for (mounted, wish) in &self.volumes {
            let mut labels = wish.labels.clone();
            let is_new = wish.name.is_none();
            if is_new {
                labels.insert(ANONYMOUS.into(), String::new());
            }
            let new = New {
                name: mounted.name.clone(),
                labels,
                options: wish.options.clone(),
            };
            let durability = if is_new {
                of.durability
            } else {
                Durability::Durable
            };
            wanted.entry(&mounted.name).or_insert((new, durability));
        }
        for (mounted, _) in &self.images {
            let name = mounted.name.clone();
            let new = New {
                name,
                ..New::default()
            };
            wanted.insert(&mounted.name, (new, Durability::Volatile));
        }
        let mut wanted: BTreeMap<_, _> = wanted.into_iter().map(|(name, new)| (name, Some(new))).collect();
        for (mounted, _) in &self.inherited {
            wanted.entry(&mounted.name).or_insert(None);
        }
        let held = wanted.into_iter().map(|(name, new)| {
            let held = match new {
                Some((new, durability)) => ensure(of.store, new, durability)?,
                // Made anew it would be empty.
                None => {
                    hold(of.store.state(), name)?.ok_or_else(|| VolumeError::NoSuchVolume(name.into()))?
                }
            };
            Ok((name.to_string(), held))
        });
        held.collect()
    }
}

fn bind(source: PathBuf, mounted: &Mounted) -> Asked {
    Asked::Bind(Bind {
        source,
        target: mounted.target.clone(),
        options: mounted.options.clone(),
        missing: Missing::Refuse,
    })
}

/// How a volume is mounted, by what its driver was told.
fn asked(held: &Held, mounted: &Mounted) -> Result<Asked, Error> {
    Ok(match Backing::of(&held.record.options)? {
        Backing::Directory => bind(data(&held.directory), mounted),
        Backing::Memory(options) => {
            if mounted
                .options
                .iter()
                .any(|option| option.starts_with(SUBDIRECTORY))
            {
                let why = "a volume in memory is empty, so it has no sub-path".into();
                let name = mounted.name.clone();
                return Err(VolumeError::Work { name, why }.into());
            }
            let access = if mounted.is_writable() { "rw" } else { "ro" };
            Asked::Tmpfs {
                target: mounted.target.clone(),
                options: options.into_iter().chain([access.into()]).collect(),
            }
        }
        Backing::Host(device, options) => {
            if !device.exists() {
                return Err(Error::BindSource(device));
            }
            let mut mounted = mounted.clone();
            mounted
                .options
                .extend(options.into_iter().filter(|option| option == "ro"));
            bind(device, &mounted)
        }
    })
}

/// What has to be done to a volume before it is used.
fn task<'a>(of: &For<'a>, held: &'a Held, wish: &Volume) -> Result<Option<Task<'a>>, Error> {
    let directory = &held.directory;
    match Backing::of(&held.record.options)? {
        Backing::Directory => {}
        _ if wish.own => {
            let name = held.record.name.clone();
            let why =
                "option U is for volumes in the store, and this one is in memory or a directory of the host"
                    .into();
            return Err(VolumeError::Work { name, why }.into());
        }
        _ => return Ok(None),
    }
    let failed = |error: fuse_overlay::error::Error| {
        Error::io("look in the image for", Path::new(&wish.target))(error.0.into())
    };
    // What is shown of a part of it is not what the image has for the whole; and a part may be a file.
    let node = match wish.subpath {
        Some(_) => None,
        None => image_file::find(of.lower, wish.target.as_bytes()).map_err(failed)?,
    };
    let node = match node {
        Some(node) if of.lower.view.kind(node).map_err(failed)? != FileKind::Directory => {
            return Err(VolumeError::OverFile(wish.target.clone()).into());
        }
        node => node,
    };
    let wanted = node.filter(|_| !wish.no_copy && !fill::is_surely_filled(directory));
    let from = match wanted {
        Some(node) if !is_as_new(of.lower, node).map_err(failed)? => Some((of.lower, node)),
        _ => None,
    };
    let own = wish.own.then_some(of.user);
    let needed = from.is_some() || own.is_some() || fill::is_unfinished(directory);
    Ok(needed.then_some(Task {
        name: &held.record.name,
        directory,
        from,
        own,
        lasting: !held.record.is_anonymous() || of.durability == Durability::Durable,
    }))
}

/// Is a directory of the image as that of a new volume is?
fn is_as_new(lower: &Lower, node: NodeId) -> fuse_overlay::error::Result<bool> {
    let view = &lower.view;
    let attr = view.attr(node)?;
    let is_plain = (attr.uid, attr.gid, attr.perm) == (0, 0, 0o755) && view.xattrs(node)?.is_empty();
    Ok(is_plain && view.entries(node)?.is_empty())
}

/// The directory that a mount of an image shows.
fn source_of_image(store: &Store, wish: &Image) -> Result<(Lower, NodeId), Error> {
    let image = images::find(store, &wish.image)?;
    let image = image.ok_or_else(|| images::Error::NoSuchImage(wish.image.clone()))?;
    let lower = image.lower(store)?;
    let subpath = wish.subpath.as_deref().unwrap_or("");
    let none = || VolumeError::NoSubpath {
        image: wish.image.clone(),
        subpath: subpath.into(),
    };
    let failed = |error: fuse_overlay::error::Error| {
        Error::io("look in the image for", Path::new(subpath))(error.0.into())
    };
    let node = image_file::find(&lower, subpath.as_bytes())
        .map_err(failed)?
        .ok_or_else(none)?;
    match lower.view.kind(node).map_err(failed)? {
        FileKind::Directory => Ok((lower, node)),
        _ => Err(none().into()),
    }
}

/// Does what is to be done to volumes; gives what could not be kept, for people.
fn carry_out(
    (host, ids): (&Probe, &IdMaps),
    store: &Store,
    tasks: &[Task<'_>],
) -> Result<Vec<String>, Error> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    // Of the first that fails, its place in the list.
    let done = as_root_of(host, ids, store.run(), |maps| {
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.carry_out(maps).map_err(|why| (all.len(), why))?);
        }
        Ok::<_, (usize, String)>(all)
    })?;
    let lost = done.map_err(|(at, why)| VolumeError::Work {
        name: tasks.get(at).map_or("", |task| task.name).into(),
        why: crate::line::printable_line(&why),
    })?;
    let told = tasks
        .iter()
        .zip(lost)
        .filter_map(|(task, lost)| told(task.name, lost, host));
    Ok(told.collect())
}

fn told(name: &str, lost: Lost, host: &Probe) -> Option<String> {
    let mut parts = Vec::new();
    if lost.owners > 0 {
        let why = host
            .why_one_id()
            .map_or("here".into(), |why| format!("here: {why}"));
        parts.push(format!(
            "owners of {} files, which are root's now, since they do not exist {why}",
            lost.owners
        ));
    }
    if lost.attributes > 0 {
        parts.push(format!("{} extended attributes", lost.attributes));
    }
    if lost.devices > 0 {
        parts.push(format!("{} device nodes", lost.devices));
    }
    let short = name.get(..12).filter(|_| name.len() == 64).unwrap_or(name);
    (!parts.is_empty()).then(|| {
        format!(
            "volume {short} was filled from the image without {}",
            parts.join("; without ")
        )
    })
}

/// Finishes what was killed while it filled the volumes of a container that is to be started.
///
/// # Errors
/// A volume cannot be filled.
pub fn finish(store: &Store, host: &Probe, container: &Record) -> Result<(), Error> {
    for mount in &container.settings.mounts {
        let directory = place(store.state()).join(&mount.name);
        if mount.kind != Kind::Volume || !fill::is_unfinished(&directory) {
            continue;
        }
        let Some(held) = hold(store.state(), &mount.name)? else {
            continue;
        };
        let task = Task {
            name: &mount.name,
            directory: &held.directory,
            from: None,
            own: None,
            lasting: true,
        };
        // It is only moved.
        carry_out((host, &host.id_maps()), store, &[task])?;
    }
    Ok(())
}
