//! What does a RUN see besides the stage? `RUN --mount`: caches that outlive builds, secrets that enter no layer, files of
//! the context or of another stage, memory, an SSH agent.
//!
//! What is mounted over a path is no part of the layer: the mounts lie above the stage's tree, in the step's container
//! alone. Secrets count neither for the cache nor for the history; of a cache only its name does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuse_overlay::index::DiffId;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::dockerfile::{Mount, Sharing};
use super::order::{self, Agent};
use super::owner;
use super::workspace::{Workspace, io_error};
use crate::containers::runtime::SUBDIRECTORY;
use crate::containers::spec::mounts::{Asked, Bind, Missing};
use crate::containers::view::View;
use crate::images::{Claim, layers};
use crate::store::{Digest, Lock, Mode, Store};

/// A secret that the user gives to a build: `--secret`.
#[derive(Debug, Clone)]
pub struct Secret {
    /// `id`.
    pub id: String,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// The mounts of one RUN, and what must live as long as they are used.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) asked: Vec<Asked>,
    /// Variables: secrets, the agent's socket.
    pub(super) env: Vec<String>,
    /// So many SSH agents.
    agents: usize,
    workspaces: Vec<Workspace>,
    /// The trees that are shown, and what keeps their layers.
    pub(super) views: Vec<Viewed>,
    claims: Vec<Arc<Claim>>,
    /// Those of them that are only read, which mounts can share: by their layers.
    read: BTreeMap<Vec<DiffId>, PathBuf>,
    /// The names of caches that are locked.
    caches: BTreeSet<String>,
    locks: Vec<Lock>,
}

/// A tree that is shown.
#[derive(Debug)]
pub(super) struct Viewed {
    layers: Vec<DiffId>,
    place: PathBuf,
}

impl Viewed {
    /// For one start of the step's container.
    pub(super) fn open(&self, store: &Store) -> Result<View, Error> {
        Ok(View {
            lower: layers::open(store, &self.layers)?,
            place: self.place.clone(),
        })
    }
}

/// What a step may do with what is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    /// To what `RUN --mount` shows.
    pub(super) fn to(mount: &Mount) -> Access {
        if mount.readonly {
            Access::Read
        } else {
            Access::Write
        }
    }

    /// As a mount option.
    fn option(self) -> &'static str {
        match self {
            Access::Read => "ro",
            Access::Write => "rw",
        }
    }
}

/// The files that a cache begins with: `from` and `source`.
pub(super) struct Base<'a> {
    /// Of what they are.
    pub(super) content: Digest,
    /// Puts them into a directory that it makes.
    pub(super) fill: &'a dyn Fn(&Path) -> Result<(), Error>,
}

fn bind(source: PathBuf, target: String, access: Access) -> Bind {
    Bind {
        source,
        target,
        options: ["rbind", "rprivate", access.option()].map(String::from).into(),
        missing: Missing::Refuse,
    }
}

impl Mounts {
    /// `type=tmpfs`.
    pub(super) fn memory(&mut self, mount: &Mount, target: String) {
        let mut options = ["nosuid", "nodev"].map(String::from).to_vec();
        options.extend(mount.size.map(|size| format!("size={size}")));
        self.asked.push(Asked::Tmpfs { target, options });
    }

    /// `type=cache`: a directory that later builds see again, by its id; without one by its target.
    pub(super) fn cache(
        &mut self,
        store: &Store,
        mount: &Mount,
        target: String,
        base: Option<&Base<'_>>,
    ) -> Result<(), Error> {
        let id = mount.id.as_deref().unwrap_or(&target);
        let name = name_of_cache(id, mount, base);
        let above = store.state().join("caches");
        let directory = above.join(&name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&above);
        made.map_err(io_error("make", &above))?;
        // Before it is there, so that no prune comes between.
        let used = directory.with_extension("use");
        let lock = Lock::acquire(&used, Mode::Shared)?;
        // Its time says when the cache was used last, its text whose it is.
        let noted = lock.file().write_all_at(id.as_bytes(), 0);
        noted.map_err(io_error("write", &used))?;
        self.locks.push(lock);
        begin_cache(store, mount, base, &directory)?;
        let lock = above.join(format!("{name}.lock"));
        // A step that names a cache twice has it already.
        let directory = match mount.sharing {
            Sharing::Shared => directory,
            _ if !self.caches.insert(name) => directory,
            Sharing::Locked => {
                self.locks.push(Lock::acquire(&lock, Mode::Exclusive)?);
                directory
            }
            Sharing::Private => match Lock::try_acquire(&lock, Mode::Exclusive)? {
                Some(lock) => {
                    self.locks.push(lock);
                    directory
                }
                // Somebody uses it: one of its own, which goes with the step.
                None => {
                    let own = self.workspace(store)?.join("cache");
                    begin_cache(store, mount, base, &own)?;
                    own
                }
            },
        };
        self.bind(directory, target, Access::to(mount));
        Ok(())
    }

    /// `type=secret`: a file, or a variable.
    pub(super) fn secret(&mut self, store: &Store, mount: &Mount, given: &[Secret]) -> Result<(), Error> {
        let id = mount.secret();
        let Some(secret) = given.iter().find(|secret| secret.id == id) else {
            return match mount.required {
                true => Err(Error::NoSecret(id)),
                false => Ok(()),
            };
        };
        if let Some(name) = &mount.env {
            let value = String::from_utf8_lossy(&secret.value);
            self.env.push(format!("{name}={value}"));
            if mount.target.is_none() {
                return Ok(());
            }
        }
        let target = mount
            .target
            .clone()
            .unwrap_or_else(|| format!("/run/secrets/{}", last_name(&id)));
        let file = self.file(store, &secret.value, mount.mode.unwrap_or(0o400))?;
        owner::give(store, &file, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))?;
        self.bind(file, target, Access::Read);
        Ok(())
    }

    /// `type=ssh`: the socket of an agent of the user's, for a step that runs as `user`.
    pub(super) fn agent(&mut self, mount: &Mount, given: &[Agent], user: &str) -> Result<(), Error> {
        let id = mount.agent();
        let Some(socket) = order::agent(given, &id) else {
            return match mount.required {
                true => Err(Error::NoAgent(id)),
                false => Ok(()),
            };
        };
        let owned = |what: String| {
            let why =
                format!("an ssh mount with {what}: the socket is the user's own, so root's inside; this");
            Err(Error::Unsupported(why))
        };
        for (name, id) in [("uid", mount.uid), ("gid", mount.gid)] {
            if let Some(id) = id.filter(|id| *id != 0) {
                return owned(format!("{name}={id}"));
            }
        }
        // Root may use it whatever its mode is.
        let is_root = ["", "0", "root"].contains(&user.split(':').next().unwrap_or_default());
        if let Some(mode) = mount.mode.filter(|mode| mode & 0o066 != 0 && !is_root) {
            return owned(format!("mode={mode:04o}"));
        }
        let default = || format!("/run/buildkit/ssh_agent.{}", self.agents);
        let target = mount.target.clone().unwrap_or_else(default);
        // Programs find the first.
        if self.agents == 0 {
            self.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        self.agents += 1;
        self.bind(socket.to_owned(), target, Access::Write);
        Ok(())
    }

    /// What is at a path of a stack of layers, without a copy of it; what is written there is dropped.
    pub(super) fn view(
        &mut self,
        store: &Store,
        (layers, claim): (Vec<DiffId>, Option<Arc<Claim>>),
        (path, target): (Vec<u8>, String),
        access: Access,
    ) -> Result<(), Error> {
        let place = match self.read.get(&layers).filter(|_| access == Access::Read) {
            Some(place) => place.clone(),
            None => {
                let place = self.workspace(store)?.join("view");
                let made = fs::DirBuilder::new().mode(0o700).create(&place);
                made.map_err(io_error("make", &place))?;
                self.views.push(Viewed {
                    layers: layers.clone(),
                    place: place.clone(),
                });
                self.claims.extend(claim);
                if access == Access::Read {
                    self.read.insert(layers, place.clone());
                }
                place
            }
        };
        let mut bind = bind(place, target, access);
        if !path.is_empty() {
            let path = String::from_utf8_lossy(&path);
            bind.options.push(format!("{SUBDIRECTORY}={path}"));
        }
        self.asked.push(Asked::Bind(bind));
        Ok(())
    }

    /// A file of the step's own, bound read-only.
    pub(super) fn program(&mut self, store: &Store, content: &[u8], target: String) -> Result<(), Error> {
        let file = self.file(store, content, 0o755)?;
        self.bind(file, target, Access::Read);
        Ok(())
    }

    /// A directory or file of the host.
    pub(super) fn host(&mut self, source: PathBuf, target: String) {
        self.bind(source, target, Access::Read);
    }

    /// A directory of the step's own: what it writes there is dropped.
    pub(super) fn workspace(&mut self, store: &Store) -> Result<PathBuf, Error> {
        let workspace = Workspace::new(store)?;
        let path = workspace.path().to_owned();
        self.workspaces.push(workspace);
        Ok(path)
    }

    /// What lies at `source` on the host, shown at `target`.
    pub(super) fn bind(&mut self, source: PathBuf, target: String, access: Access) {
        self.asked.push(Asked::Bind(bind(source, target, access)));
    }

    fn file(&mut self, store: &Store, content: &[u8], mode: u32) -> Result<PathBuf, Error> {
        let path = self.workspace(store)?.join("file");
        let opened = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path);
        let written = opened.and_then(|mut file| {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content)
        });
        written.map_err(io_error("write", &path))?;
        Ok(path)
    }
}

/// What a secret is called where no target says it: Go's path.Base.
fn last_name(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// What a cache's directory is called. As in BuildKit, who wants another owner or other permissions has another cache, and
/// so has who begins with other files.
fn name_of_cache(id: &str, mount: &Mount, base: Option<&Base<'_>>) -> String {
    let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    let mut name = id.to_string();
    if (uid, gid) != (0, 0) {
        name.push_str(&format!("\0{uid}:{gid}"));
    }
    if let Some(mode) = mount.mode {
        name.push_str(&format!("\0mode {mode:o}"));
    }
    if let Some(base) = base {
        name.push_str(&format!("\0from {}", base.content.hex()));
    }
    Digest(Sha256::digest(name).into()).hex()
}

/// Makes a cache, unless it is there: empty, or with the files that it begins with.
fn begin_cache(store: &Store, mount: &Mount, base: Option<&Base<'_>>, directory: &Path) -> Result<(), Error> {
    match base {
        None => have_directory(directory, mount.mode.unwrap_or(0o755))?,
        Some(_) if directory.exists() => {}
        Some(base) => {
            let workspace = Workspace::new(store)?;
            let draft = workspace.path().join("cache");
            (base.fill)(&draft)?;
            if !draft.is_dir() {
                return Err(Error::Value {
                    what: "source of a cache mount, which is no directory:",
                    value: mount.source.clone().unwrap_or_default(),
                });
            }
            if let Some(mode) = mount.mode {
                let set = fs::set_permissions(&draft, fs::Permissions::from_mode(mode));
                set.map_err(io_error("change", &draft))?;
            }
            match fs::rename(&draft, directory) {
                // Another step was first.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                renamed => renamed.map_err(io_error("make", directory))?,
            }
        }
    }
    owner::give(store, directory, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))
}

/// Makes a directory, unless it is there. The umask is not asked.
fn have_directory(directory: &Path, mode: u32) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(io_error("make", directory))
}

/// What the cache of steps takes a mount for: all that is said of it. Of a secret that is no value.
pub(super) fn said(mount: &Mount) -> String {
    format!("{mount:?}")
}
