//! Which volumes and directories does a new container get? `-v`, `--mount`, `--volumes-from` and the image's VOLUME entries
//! make a list, which is kept with the container; `prepare` makes and fills what is on it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::VolumeError;
use super::mounted::{Kind, Mounted};
use super::record::{self, data, place};
use super::sweep::IMAGE;
use crate::containers::Error;
use crate::containers::record as containers;
use crate::containers::runtime::SUBDIRECTORY;
use crate::containers::spec::mounts::{Asked, Bind, Image, Missing, Volume, What, Wish, check, target};
use crate::store::Store;

/// What a container's flags say of volumes.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `-v` and `--mount`.
    pub wishes: Vec<Wish>,
    /// `--volumes-from`.
    pub from: Vec<String>,
    /// VOLUME entries of the image mean nothing.
    pub ignore_images: bool,
}

/// What a container is to have mounted.
#[derive(Debug)]
pub struct Attached {
    /// All of it, for the container's record.
    pub mounted: Vec<Mounted>,
    /// What needs no volume.
    pub asked: Vec<Asked>,
    pub(super) volumes: Vec<(Mounted, Volume)>,
    /// Of another container: they are there, or there is an error.
    pub(super) inherited: Vec<(Mounted, Volume)>,
    pub(super) images: Vec<(Mounted, Image)>,
}

impl Attached {
    /// Plans it. `of_image` are VOLUME entries, `taken` the places of other mounts, `container` is its id.
    ///
    /// # Errors
    /// A container of `--volumes-from` is not there; a VOLUME is none.
    pub(in crate::containers) fn new(
        store: &Store,
        wanted: &Wanted,
        of_image: &[String],
        taken: &[Asked],
        container: &str,
    ) -> Result<Attached, Error> {
        let mut all = Attached {
            mounted: Vec::new(),
            asked: Vec::new(),
            volumes: Vec::new(),
            inherited: Vec::new(),
            images: Vec::new(),
        };
        let asked = wanted.wishes.iter().map(Wish::target);
        let mut places: BTreeSet<String> = asked
            .chain(taken.iter().map(Asked::target))
            .map(String::from)
            .collect();
        for wish in &wanted.wishes {
            all.wish(wish, container)?;
        }
        for text in &wanted.from {
            for mount in from_other(store, text)? {
                // Docker hands on no others.
                let is_shared = matches!(mount.kind, Kind::Bind | Kind::Volume);
                if is_shared && places.insert(mount.target.clone()) {
                    all.inherit(mount);
                }
            }
        }
        for path in of_image {
            // Docker takes `VOLUME data` for /data.
            let target = target(&format!("/{path}"))?;
            if places.insert(target.clone()) {
                let volume = Volume {
                    target,
                    ..Volume::default()
                };
                all.volume(&volume, String::new(), None)?;
            }
        }
        // Before any volume is made for it.
        let others = taken.iter().map(Asked::target);
        check(all.mounted.iter().map(|mount| &*mount.target).chain(others))?;
        all.note_sources(store);
        Ok(all)
    }

    fn wish(&mut self, wish: &Wish, container: &str) -> Result<(), Error> {
        let (mode, spec) = (wish.mode.clone(), wish.spec.clone());
        match &wish.what {
            What::Volume(volume) => {
                // Docker's: a volume that was asked for is shared with others, as SELinux has it.
                let is_default = mode.is_empty() && (volume.name.is_some() || spec.is_some());
                let mode = if is_default { "z".into() } else { mode };
                return self.volume(volume, mode, spec);
            }
            What::Image(image) => {
                let access = if image.writable { "rw" } else { "ro" };
                let mounted = Mounted {
                    kind: Kind::Image,
                    name: format!("{IMAGE}{container}-{}", self.images.len()),
                    source: image.image.clone().into(),
                    target: image.target.clone(),
                    options: ["rbind", "rprivate", access].map(String::from).into(),
                    mode,
                    anonymous: true,
                    spec,
                };
                self.mounted.push(mounted.clone());
                self.images.push((mounted, image.clone()));
            }
            What::Bind(bind) => {
                self.mounted
                    .push(of_host(Kind::Bind, &bind.target, &bind.options, wish));
                self.asked.push(Asked::Bind(bind.clone()));
            }
            What::Tmpfs { target, options } => {
                self.mounted.push(of_host(Kind::Tmpfs, target, options, wish));
                self.asked.push(Asked::Tmpfs {
                    target: target.clone(),
                    options: options.clone(),
                });
            }
        }
        Ok(())
    }

    fn volume(&mut self, wish: &Volume, mode: String, spec: Option<serde_json::Value>) -> Result<(), Error> {
        let name = wish.name.clone().map_or_else(record::new_name, Ok)?;
        let access = if wish.read_only { "ro" } else { "rw" };
        let mut options: Vec<String> = ["rbind", "rprivate", access].map(String::from).into();
        options.extend(wish.subpath.iter().map(|path| format!("{SUBDIRECTORY}={path}")));
        let mounted = Mounted {
            kind: Kind::Volume,
            name,
            source: PathBuf::new(),
            target: wish.target.clone(),
            options,
            mode,
            anonymous: wish.name.is_none(),
            spec,
        };
        self.mounted.push(mounted.clone());
        self.volumes.push((mounted, wish.clone()));
        Ok(())
    }

    /// What another container has.
    fn inherit(&mut self, mount: Mounted) {
        let target = mount.target.clone();
        match mount.kind {
            Kind::Bind => self.asked.push(Asked::Bind(Bind {
                source: mount.source.clone(),
                target,
                options: mount.options.clone(),
                missing: Missing::Refuse,
            })),
            Kind::Volume => {
                let part = |option: &String| {
                    let path = option.strip_prefix(SUBDIRECTORY)?;
                    path.strip_prefix('=').map(String::from)
                };
                let volume = Volume {
                    name: Some(mount.name.clone()),
                    target,
                    read_only: !mount.is_writable(),
                    subpath: mount.options.iter().find_map(part),
                    // It is the other one's, which may be at work in it.
                    no_copy: true,
                    ..Volume::default()
                };
                self.inherited.push((mount.clone(), volume));
            }
            Kind::Tmpfs | Kind::Image => return,
        }
        self.mounted.push(mount);
    }

    fn note_sources(&mut self, store: &Store) {
        for mount in self.mounted.iter_mut().filter(|mount| mount.kind == Kind::Volume) {
            mount.source = data(&place(store.state()).join(&mount.name));
        }
    }
}

fn of_host(kind: Kind, target: &str, options: &[String], wish: &Wish) -> Mounted {
    let source = match &wish.what {
        What::Bind(bind) => bind.source.clone(),
        _ => PathBuf::new(),
    };
    Mounted {
        kind,
        name: String::new(),
        source,
        target: target.into(),
        options: options.into(),
        mode: wish.mode.clone(),
        anonymous: false,
        spec: wish.spec.clone(),
    }
}

/// `CONTAINER[:ro|rw]`.
fn from_other(store: &Store, text: &str) -> Result<Vec<Mounted>, Error> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    let mut access = None;
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" | "rw" => access = Some(word),
            "z" => {}
            _ => {
                return Err(VolumeError::From {
                    text: text.into(),
                    why: "expected CONTAINER[:ro|rw]",
                }
                .into());
            }
        }
    }
    let id = containers::find(store, name)?;
    let other = containers::read(store, &id)?.ok_or_else(|| Error::NoSuchContainer(name.into()))?;
    let mut mounts = other.settings.mounts;
    for mount in &mut mounts {
        // What was read-only there stays so.
        if access == Some("ro") && mount.is_writable() {
            mount.options.retain(|option| option != "rw");
            mount.options.push("ro".into());
        }
        mount.mode = access.unwrap_or_default().into();
        mount.spec = None;
    }
    Ok(mounts)
}
