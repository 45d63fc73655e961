//! What did an image's command touch first when it was last started? Notes of that (`fuse_overlay::fuse::touched`) lie in
//! `$BRYO_STATE/touched`, one file for each image and program. The first start takes them, later ones have it ready
//! (`runtime::warm`). They are a help to speed alone: whatever goes wrong with them is left.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fuse_overlay::fuse::touched::MOST_NOTES;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::store::root::{create_dirs, list};
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
        match File::open(&place) {
            Ok(file) => {
                let mut notes = Vec::new();
                let read = file.take(MOST_NOTES as u64).read_to_end(&mut notes);
                read.map_or(Known::Nothing, |_| Known::Noted(notes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let page = memfd_create("touched", MemfdFlags::CLOEXEC);
                page.map_or(Known::Nothing, |page| Known::New {
                    page: page.into(),
                    place,
                })
            }
            Err(_) => Known::Nothing,
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

    /// Keeps what was noted, when the container has ended.
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
    notes.truncate(len);
    let directory = place.parent().unwrap_or(Path::new("/"));
    let aside = directory.join(ASIDE);
    create_dirs(&aside)?;
    write::remove_orphans(&aside)?;
    make_room(directory)?;
    write::replace(&aside, place, &notes, Durability::Whole)
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
            Known::of(&store, &Digest::of(b"image"), number.to_string().as_bytes()).keep();
        }
        assert_eq!(list(&directory(dir.path())).unwrap().len(), MOST + 1);
    }
}
