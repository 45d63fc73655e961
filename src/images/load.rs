//! How do images come from what `docker save`, `podman save` or `save` wrote? All that it holds, as a pull would fetch
//! each; an archive that is compressed, or comes through a pipe, lies in a file aside meanwhile.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use super::archive::{self, ArchiveError, Held};
use super::pull::{self, Progress, PullError, Pulled, Source, decompressed, is_compressed};
use crate::store::{self, Aside, Store};

/// What to load.
#[derive(Debug)]
pub enum Input<'a> {
    /// A file, or a directory in OCI's layout.
    Path(&'a Path),
    /// Standard input.
    Stream(File),
}

/// Loads all images; each is there when it was told to `loaded`.
///
/// # Errors
/// As of a pull. Images that were loaded before stay.
pub fn load(
    store: &Store,
    input: Input<'_>,
    progress: &dyn Progress,
    loaded: &mut dyn FnMut(&Pulled),
) -> Result<(), PullError> {
    let (held, _aside) = match input {
        Input::Path(path) if path.is_dir() => (Held::Directory(path), None),
        Input::Path(path) => plain(store, File::open(path).map_err(unread(path))?, path)?,
        Input::Stream(file) => plain(store, file, Path::new("standard input"))?,
    };
    for image in archive::all(held)? {
        let source = Source::Archive(Box::new(image));
        loaded(&pull::pull(store, &source, None, pull::Naming::All, progress)?);
    }
    Ok(())
}

/// The archive as a file that can be read anywhere.
fn plain<'a>(store: &Store, mut file: File, shown: &'a Path) -> Result<(Held<'a>, Option<Aside>), PullError> {
    let failed = unread(shown);
    let is_regular = file.metadata().map_err(&failed)?.is_file();
    let mut head = Vec::new();
    (&mut file).take(HEAD).read_to_end(&mut head).map_err(&failed)?;
    if is_regular && !is_compressed(&head) {
        file.rewind().map_err(&failed)?;
        return Ok((Held::File(file, shown), None));
    }
    let aside = store.aside()?;
    let from = BufReader::with_capacity(1 << 16, head.as_slice().chain(file));
    let mut from = decompressed(from).map_err(&failed)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(&failed)?,
        };
        if count == 0 {
            break;
        }
        let written = io::Write::write_all(&mut aside.file(), buffer.get(..count).unwrap_or_default());
        written.map_err(store::Error::io("write", aside.path()))?;
    }
    let copy = aside
        .file()
        .try_clone()
        .map_err(store::Error::io("open", aside.path()))?;
    Ok((Held::File(copy, shown), Some(aside)))
}

/// Bytes that tell a compression.
const HEAD: u64 = 6;

fn unread(path: &Path) -> impl Fn(io::Error) -> ArchiveError {
    let path = PathBuf::from(path);
    move |source| ArchiveError::Read {
        path: path.clone(),
        source,
    }
}
