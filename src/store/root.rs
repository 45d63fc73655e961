//! What lies where: the store's directories and the paths of its objects (`ARCHITECTURE.md`, "Files on disk").

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use fuse_overlay::index::DiffId;
use nix::unistd::geteuid;

use super::lock::{Lock, Mode};
use super::write::{Aside, Durability, replace, sync_parent};
use super::{ChainId, Digest, Error, Medium};

/// The layout that this program writes. A newer one is refused; there is no older one yet.
pub const VERSION: u32 = 1;

/// The three places where Bryo keeps files.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    state: PathBuf,
    run: PathBuf,
}

impl Store {
    /// Paths below the given directories; nothing is touched.
    pub fn at(root: PathBuf, state: PathBuf, run: PathBuf) -> Store {
        Store { root, state, run }
    }

    /// The caller's store, at `$BRYO_ROOT`, `$BRYO_STATE`, `$BRYO_RUN` or their defaults. What is missing is created.
    pub fn open() -> Result<Store, Error> {
        let store = Places::of_caller().store()?;
        store.prepare()?;
        Ok(store)
    }

    /// The same if all of it is there, on a disk of this machine: nothing is made, and no network waited for.
    pub fn open_existing() -> Option<Store> {
        let places = Places::of_caller();
        if medium_of(&places.root().ok()?).ok()? != Medium::Local {
            return None;
        }
        let store = places.store().ok()?;
        let parts = [
            store.root.join("version"),
            store.state.join("containers"),
            store.run.clone(),
        ];
        if !parts.iter().all(|part| part.exists()) {
            return None;
        }
        store.prepare().ok()?;
        Some(store)
    }

    /// Creates what is missing, 0700, and checks owners and version. Costs four system calls when all is there.
    pub fn prepare(&self) -> Result<(), Error> {
        match fs::read_to_string(self.root.join("version")) {
            Ok(text) => {
                let found = text
                    .trim()
                    .parse()
                    .map_err(|_| Error::BadVersion(self.root.join("version")))?;
                if found > VERSION {
                    return Err(Error::Newer {
                        path: self.root.clone(),
                        found,
                    });
                }
                check_owner(&self.root)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => self.create()?,
            Err(error) => return Err(Error::io("read", &self.root.join("version"))(error)),
        }
        create_dirs(&self.state.join("containers"))?;
        check_owner(&self.state)?;
        private_dir(&self.run)
    }

    /// A new store; the version comes last, so that one killed half-way is made again.
    fn create(&self) -> Result<(), Error> {
        for directory in ["layers", "merged", "blobs/sha256", "claims", "locks", "tmp"] {
            create_dirs(&self.root.join(directory))?;
        }
        check_owner(&self.root)?;
        // Who began it may have been killed before the names of what it made were on the disk.
        sync_parent(&self.blobs())?;
        sync_parent(&self.layers())?;
        sync_above(&self.root);
        replace(
            &self.tmp(),
            &self.root.join("version"),
            format!("{VERSION}\n").as_bytes(),
            Durability::Durable,
        )
    }

    /// Images: written once, only read by `run`.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Containers and their writable layers.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// Sockets, the holder's record, and who is on which network: what is true of this node until it reboots.
    pub fn run(&self) -> &Path {
        &self.run
    }
    /// Files on their way into the root.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
    /// Which layers are on their way in: see [`crate::images::Claim`].
    pub fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }
    /// Where the locks of the root's objects lie.
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }
    /// Where stored layers lie.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }
    /// Where merged indexes lie.
    pub fn merged(&self) -> PathBuf {
        self.root.join("merged")
    }
    /// Where manifests and configs lie.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }
    /// A layer's uncompressed tar.
    pub fn layer_tar(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.tar"))
    }
    /// A layer's index.
    pub fn layer_index(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.index"))
    }
    /// The compressed forms in which a layer was seen.
    pub fn layer_forms(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.forms.json"))
    }
    /// A stack's merged index.
    pub fn merged_index(&self, chain: &ChainId) -> PathBuf {
        self.root.join("merged").join(format!("{}.index", chain.hex()))
    }
    /// A manifest or config, byte for byte.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }
    /// Where the steps of builds are remembered.
    pub fn steps(&self) -> PathBuf {
        self.root.join("steps")
    }
    /// What is remembered of the step with this key.
    pub fn step(&self, key: &Digest) -> PathBuf {
        self.steps().join(format!("{}.json", key.hex()))
    }
    /// Names of images.
    pub fn references(&self) -> PathBuf {
        self.root.join("references.json")
    }
    /// A container's directory.
    pub fn container(&self, id: &str) -> PathBuf {
        self.state.join("containers").join(id)
    }

    /// Locks an object of the root (`references`, `content`, `layer-<hex>`, …), waiting for others to let go.
    pub fn lock(&self, object: &str, mode: Mode) -> Result<Lock, Error> {
        Lock::acquire(&self.locks().join(object), mode)
    }

    /// The same without waiting; `None` if someone else has it.
    pub fn try_lock(&self, object: &str, mode: Mode) -> Result<Option<Lock>, Error> {
        Lock::try_acquire(&self.locks().join(object), mode)
    }

    /// A new file that a rename will bring into the root.
    pub fn aside(&self) -> Result<Aside, Error> {
        Aside::create(&self.tmp())
    }

    /// Whether the images lie on a disk of this machine.
    pub fn medium(&self) -> Result<Medium, Error> {
        Medium::of(&self.root)
    }
}

/// What the environment says about the places; unset and empty are the same.
struct Places {
    root: Option<PathBuf>,
    state: Option<PathBuf>,
    run: Option<PathBuf>,
    data_home: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Places {
    fn of_caller() -> Places {
        Places::from(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Places {
        let path = |name| variable(name).map(PathBuf::from);
        // The XDG base directory specification has relative paths ignored.
        let absolute = |name| path(name).filter(|path| path.is_absolute());
        Places {
            root: path("BRYO_ROOT"),
            state: path("BRYO_STATE"),
            run: path("BRYO_RUN"),
            data_home: absolute("XDG_DATA_HOME"),
            home: absolute("HOME"),
        }
    }

    fn root(&self) -> Result<PathBuf, Error> {
        if let Some(root) = &self.root {
            return absolute(root);
        }
        let in_home = || Some(self.home.as_ref()?.join(".local/share"));
        let data_home = self.data_home.clone().or_else(in_home).ok_or(Error::NoHome)?;
        absolute(&data_home.join("bryo"))
    }

    fn store(self) -> Result<Store, Error> {
        let root = self.root()?;
        let state = match self.state {
            Some(state) => absolute(&state)?,
            None => default_state(&root)?,
        };
        let run = match self.run {
            Some(run) => absolute(&run)?,
            None => default_run(&state)?,
        };
        Ok(Store::at(root, state, run))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io("resolve", path))
}

/// Under the root on a local disk; else in /var/tmp, which is this node's own and outlives a reboot: a writable layer
/// must not be opened on two hosts, and a network filesystem makes each of its syncs a round trip.
fn default_state(root: &Path) -> Result<PathBuf, Error> {
    Ok(match medium_of(root)? {
        Medium::Local => root.join("state"),
        Medium::Network => {
            let own = PathBuf::from(format!("/var/tmp/bryo-{}", geteuid()));
            private_dir(&own)?;
            own.join("state")
        }
    })
}

/// Beside the containers, so that whoever finds one finds who can speak for it: `$XDG_RUNTIME_DIR` is another under cron, su and
/// Slurm than in the login that started it, and is emptied when that ends. On a network filesystem sockets may not work, and other
/// hosts would take our processes for theirs: there in /tmp, under one name for all logins.
fn default_run(state: &Path) -> Result<PathBuf, Error> {
    Ok(match medium_of(state)? {
        Medium::Local => state.join("run"),
        Medium::Network => PathBuf::from(format!("/tmp/bryo-{}", geteuid())),
    })
}

/// What a path lies on, or will lie on once it is made.
fn medium_of(path: &Path) -> Result<Medium, Error> {
    let existing = path.ancestors().find(|path| path.exists());
    Medium::of(existing.unwrap_or(Path::new("/")))
}

/// Makes a directory of the store with those above it; their names are on the disk then.
pub(crate) fn create_dirs(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    super::failpoint::step()
        .and_then(|()| builder.create(path))
        .map_err(Error::io("create the directory", path))?;
    sync_above(path);
    Ok(())
}

/// Brings the names by which a directory is found to the disk, as far as they lie in directories of our own.
fn sync_above(path: &Path) {
    let me = geteuid().as_raw();
    let is_ours = |above: &&Path| fs::metadata(above).is_ok_and(|found| found.uid() == me);
    for above in path.ancestors().skip(1).take_while(is_ours) {
        // One that may not be read, or lies where directories cannot be flushed, is as it was before us.
        let _ = fs::File::open(above).and_then(|open| open.sync_all());
    }
}

fn check_owner(path: &Path) -> Result<(), Error> {
    let found = fs::metadata(path).map_err(Error::io("look at", path))?;
    let me = geteuid().as_raw();
    if found.uid() != me {
        return Err(Error::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
            me,
        });
    }
    Ok(())
}

/// Makes sure of a directory that no other user may enter. Its parent may be /tmp, where anyone could have made it
/// first: so what is there is looked at without following links.
fn private_dir(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::NotFound => create_dirs(path)?,
        other => other.map_err(Error::io("create the directory", path))?,
    }
    let found = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
    if !found.is_dir() {
        return Err(Error::NotDirectory(path.to_owned()));
    }
    check_owner(path)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// A directory listing; a directory that is not there is empty.
pub(crate) fn list(directory: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .collect::<io::Result<_>>()
            .map_err(Error::io("list", directory)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", directory)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn places(set: &[(&str, &str)]) -> Places {
        let set: std::collections::HashMap<String, String> = set
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Places::from(|name| set.get(name).map(OsString::from))
    }

    #[test]
    fn the_root_is_what_the_environment_says_most_closely() {
        let root = |set: &[(&str, &str)]| places(set).store().map(|store| store.root).ok();
        let both = [("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("BRYO_ROOT", "/r")];
        assert_eq!(root(&both), Some("/r".into()));
        assert_eq!(root(&both[..2]), Some("/d/bryo".into()));
        assert_eq!(root(&both[..1]), Some("/h/.local/share/bryo".into()));
        assert_eq!(
            root(&[("HOME", "/h"), ("XDG_DATA_HOME", "relative")]),
            Some("/h/.local/share/bryo".into())
        );
        assert_eq!(root(&[]), None);
    }

    #[test]
    fn state_lies_under_a_local_root_and_sockets_in_it_whatever_the_login_has() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().to_str().unwrap();
        for session in ["", root, "/nowhere/1"] {
            let set = [("BRYO_ROOT", root), ("XDG_RUNTIME_DIR", session)];
            let store = places(&set).store().unwrap();
            assert_eq!(store.state, Path::new(root).join("state"));
            assert_eq!(store.run, Path::new(root).join("state/run"));
        }
        let store = places(&[("BRYO_ROOT", root), ("BRYO_RUN", "/r")])
            .store()
            .unwrap();
        assert_eq!(store.run, Path::new("/r"));
    }

    #[test]
    fn sockets_do_not_lie_where_other_hosts_would_find_them() {
        // Not known to be local.
        let store = places(&[("BRYO_ROOT", "/h"), ("BRYO_STATE", "/proc/state")])
            .store()
            .unwrap();
        assert_eq!(store.run, Path::new(&format!("/tmp/bryo-{}", geteuid())));
    }

    #[test]
    fn a_store_is_made_private_and_found_again() {
        let (_dir, store) = super::super::scratch();
        store.prepare().unwrap();
        for path in [store.root(), store.state(), store.run()] {
            assert_eq!(
                fs::metadata(path).unwrap().mode() & 0o777,
                0o700,
                "{}",
                path.display()
            );
        }
        assert_eq!(fs::read_to_string(store.root().join("version")).unwrap(), "1\n");
    }

    #[test]
    fn a_newer_store_is_refused() {
        let (_dir, store) = super::super::scratch();
        fs::write(store.root().join("version"), "2\n").unwrap();
        assert!(matches!(store.prepare(), Err(Error::Newer { found: 2, .. })));
        fs::write(store.root().join("version"), "debian").unwrap();
        assert!(matches!(store.prepare(), Err(Error::BadVersion(_))));
    }

    #[test]
    fn a_socket_directory_open_to_others_or_a_link_is_refused() {
        let (dir, store) = super::super::scratch();
        fs::set_permissions(store.run(), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(store.prepare(), Err(Error::Open { mode: 0o750, .. })));
        fs::remove_dir(store.run()).unwrap();
        std::os::unix::fs::symlink(dir.path(), store.run()).unwrap();
        assert!(matches!(store.prepare(), Err(Error::NotDirectory(_))));
    }
}
