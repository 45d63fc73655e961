//! How does all go that Bryo keeps for a user? What it has made, by name: the directories are the user's choice, and may
//! hold other things.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Error, Mode, Store, failpoint};

/// The root's, the version first: killed from there on, whoever opens the store makes anew what is missing. Then the list,
/// so that it never names what is gone.
const ROOT: [&str; 9] = [
    "version",
    "references.json",
    "layers",
    "merged",
    "blobs",
    "steps",
    "claims",
    "tmp",
    "locks",
];
const STATE: [&str; 16] = [
    "joins",
    "containers",
    "names",
    "names.lock",
    "names.lock.lease",
    "builds",
    "given",
    "caches",
    "urls",
    "hashes",
    "history",
    "volumes",
    "networks",
    "touched",
    "events",
    "events.1",
];
const RUN: [&str; 3] = ["attach", "holders", "networks"];

/// Removes all; what cannot be removed stays, and is given with the reason.
///
/// # Errors
/// Others work on the images at this moment and cannot be waited for.
pub fn wipe(store: &Store) -> Result<Vec<(PathBuf, std::io::Error)>, Error> {
    let _lock = store.lock("references", Mode::Exclusive)?;
    let mut left = Vec::new();
    let places = [
        // It may lie in the state, and that in the root.
        (store.run(), &RUN[..]),
        (store.state(), &STATE[..]),
        (store.root(), &ROOT[..]),
    ];
    for (directory, names) in places {
        for name in names {
            let path = directory.join(name);
            if let Err(error) = failpoint::step().and_then(|()| remove(&path)) {
                left.push((path, error));
            }
        }
        // If it is empty now.
        let _ = fs::remove_dir(directory);
    }
    // Where the state lies in the root.
    let _ = fs::remove_dir(store.root());
    Ok(left)
}

fn remove(path: &Path) -> std::io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        // Those that were there are gone by now: what is in it was made meanwhile, and may run.
        Ok(_) if path.ends_with("containers") => fs::remove_dir(path),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Who brings images in at this moment, a pull or a build, has claimed their layers.
pub fn is_busy(store: &Store) -> Result<bool, Error> {
    super::write::remove_orphans(&store.claims())?;
    let claims = super::root::list(&store.claims())?;
    Ok(claims.iter().any(|claim| claim.path().extension().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_within_each_other_all_go() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("bryo");
        let store = Store::at(root.clone(), root.join("state"), root.join("state/run"));
        store.prepare().unwrap();
        fs::create_dir(store.run().join("attach")).unwrap();
        assert!(wipe(&store).unwrap().is_empty());
        assert!(!root.exists());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let (dir, store) = super::super::scratch();
        fs::write(store.root().join("letter"), "dear").unwrap();
        fs::write(store.layers().join("x.tar"), "x").unwrap();
        assert!(wipe(&store).unwrap().is_empty());
        let left: Vec<_> = fs::read_dir(store.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["letter"]);
        assert!(!store.state().exists() && !store.run().exists());
        fs::remove_file(store.root().join("letter")).unwrap();
        store.prepare().unwrap();
        let container = store.state().join("containers/new");
        fs::create_dir_all(&container).unwrap();
        assert_eq!(wipe(&store).unwrap().len(), 1);
        fs::remove_dir(&container).unwrap();
        store.prepare().unwrap();
        assert!(wipe(&store).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
