//! What did an image's command touch first when it was last started? Notes of that (`fuse_overlay::fuse::touched`) lie in
//! `$BRYO_STATE/touched`, one file for each image and program. The first start takes them, later ones have it ready
//! (`runtime::warm`). They are a help to speed alone: whatever goes wrong with them is left, and they have neither version nor
//! checksum, since what cannot be read of them is passed over.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use fuse_overlay::fuse::touched::MOST_NOTES;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::store::root::list;
use crate::store::write;
use crate::store::{Digest, Durability, Error, Store};

/// Notes that are kept; the oldest go first.
const MOST: usize = 500;

/// Where they are written first.
const ASIDE: &str = "new";

/// What is known of an image's command.
#[derive(Debug)]
pub(super) enum Known {
    /// The notes of an earlier start.
    Noted(Vec<u8>),
    /// Nothing yet: this start takes notes, which are to be kept at `place`.
    New { page: File, place: PathBuf },
    /// Nothing, and no notes are to be taken.
    Nothing,
}

impl Known {
    /// Of this image and the program that is started in it.
    pub(super) fn of(store: &Store, image: &Digest, program: &[u8]) -> Known {
        let key = Digest::of(&[image.hex().as_bytes(), b"\0", program].concat());
        let place = directory(store.state()).join(key.hex());
        let read = File::open(&place).and_then(|file| {
            let mut notes = Vec::new();
            file.take(MOST_NOTES as u64).read_to_end(&mut notes)?;
            Ok(notes)
        });
        match read {
            // Empty ones are what a loss of power left.
            Ok(notes) if !notes.is_empty() => Known::Noted(notes),
            Err(error) if error.kind() != ErrorKind::NotFound => Known::Nothing,
            Ok(_) | Err(_) => {
                let page = memfd_create("touched", MemfdFlags::CLOEXEC);
                page.map_or(Known::Nothing, |page| Known::New {
                    page: page.into(),
                    place,
                })
            }
        }
    }

    /// What is to be touched.
    pub(super) fn notes(&self) -> Vec<u8> {
        match self {
            Known::Noted(notes) => notes.clone(),
            Known::New { .. } | Known::Nothing => Vec::new(),
        }
    }

    /// Where the filesystem server is to take notes.
    pub(super) fn page(&self) -> Option<OwnedFd> {
        match self {
            Known::New { page, .. } => page.try_clone().ok().map(OwnedFd::from),
            Known::Noted(_) | Known::Nothing => None,
        }
    }

    /// Keeps what was noted, when the command has ended and the container is still its supervisor's: so nobody removes the store
    /// meanwhile.
    pub(super) fn keep(self) {
        let Known::New { page, place } = self else {
            return;
        };
        if let Err(error) = keep(&page, &place) {
            tracing::debug!(%error, "what the command touched first is not remembered");
        }
    }
}

fn directory(state: &Path) -> PathBuf {
    state.join("touched")
}

fn keep(page: &File, place: &Path) -> Result<(), Error> {
    let mut notes = vec![0; MOST_NOTES];
    let len = page
        .read_at(&mut notes, 0)
        .map_err(Error::io("read the notes for", place))?;
    if len == 0 {
        return Ok(());
    }
    notes.truncate(len);
    let directory = place.parent().unwrap_or(Path::new("/"));
    let aside = directory.join(ASIDE);
    make(directory)?;
    make(&aside)?;
    write::remove_orphans(&aside)?;
    make_room(directory)?;
    write::replace(&aside, place, &notes, Durability::Volatile)
}

/// Makes a directory, in one that must be there.
fn make(directory: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::io("create the directory", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the oldest notes.
fn make_room(directory: &Path) -> Result<(), Error> {
    let mut kept: Vec<(i64, PathBuf)> = list(directory)?
        .into_iter()
        .filter(|entry| entry.file_name() != ASIDE)
        .map(|entry| (write::modified(&entry.path()), entry.path()))
        .collect();
    if kept.len() < MOST {
        return Ok(());
    }
    kept.sort();
    let surplus = kept.len() + 1 - MOST;
    for (_, path) in kept.into_iter().take(surplus) {
        // Another may have been faster.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_first_start_takes_notes_and_the_next_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let store = Store::at(at("root"), at("state"), at("run"));
        fs::create_dir(at("state")).unwrap();
        let image = Digest::of(b"image");
        // One that touched nothing has nothing to tell.
        Known::of(&store, &image, b"true").keep();
        let first = Known::of(&store, &image, b"true");
        assert!(first.notes().is_empty());
        File::from(first.page().unwrap())
            .write_all(b"n 1 2 bin\n")
            .unwrap();
        first.keep();
        let next = Known::of(&store, &image, b"true");
        assert_eq!(next.notes(), b"n 1 2 bin\n");
        assert!(next.page().is_none());
        for other in [
            Known::of(&store, &image, b"false"),
            Known::of(&store, &Digest::of(b"other"), b"true"),
        ] {
            assert!(matches!(other, Known::New { .. }));
        }
    }

    #[test]
    fn notes_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("root"), dir.path().into(), dir.path().join("run"));
        for number in 0..MOST + 3 {
            let known = Known::of(&store, &Digest::of(b"image"), number.to_string().as_bytes());
            File::from(known.page().unwrap()).write_all(b"l 1\n").unwrap();
            known.keep();
        }
        assert_eq!(list(&directory(dir.path())).unwrap().len(), MOST + 1);
    }
}
