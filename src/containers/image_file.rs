//! How is an image asked about one path, and a small file of it read, without a mount? By the index, so that no link can
//! lead outside it.

use fuse_overlay::attr::Kind;
use fuse_overlay::error::{Error, Result};
use fuse_overlay::index::NodeId;
use fuse_overlay::name::Name;
use fuse_overlay::union::Lower;
use nix::errno::Errno;

/// Files above this are not read: passwd and group of an image are what it says, and may say anything.
const LARGEST: u64 = 4 << 20;

/// As many symlinks as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// The content of the regular file at `path`, whose symlinks are followed within the image. `None`: there is none, or
/// it is something else (CVE-2021-29136: a FIFO as /etc/passwd), or it is larger than any such file.
///
/// # Errors
/// Index or layer cannot be read.
pub(super) fn read(lower: &Lower, path: &str) -> Result<Option<Vec<u8>>> {
    match find(lower, path.as_bytes())? {
        Some(node) => content(lower, node),
        None => Ok(None),
    }
}

/// Does `path` lead to anything, symlinks followed within the image?
///
/// # Errors
/// The index cannot be read.
pub fn is_there(lower: &Lower, path: &[u8]) -> Result<bool> {
    find(lower, path).map(|found| found.is_some())
}

/// What `path` leads to, symlinks followed within the image.
pub(super) fn find(lower: &Lower, path: &[u8]) -> Result<Option<NodeId>> {
    let view = &lower.view;
    let split = |path: &[u8]| {
        path.split(|b| *b == b'/')
            .rev()
            .map(Vec::from)
            .collect::<Vec<_>>()
    };
    let mut directory = NodeId::ROOT;
    let mut rest = split(path);
    let mut links = 0;
    let mut found = NodeId::ROOT;
    while let Some(part) = rest.pop() {
        match &part[..] {
            b"" | b"." => continue,
            b".." => {
                directory = view.parent(directory)?;
                found = directory;
                continue;
            }
            _ => {}
        }
        let Ok(name) = Name::new(&part) else {
            return Ok(None);
        };
        let entry = match view.lookup(directory, name) {
            Ok(Some(entry)) => entry,
            Ok(None) | Err(Error(Errno::ENOTDIR)) => return Ok(None),
            Err(error) => return Err(error),
        };
        match entry.target {
            None => return Ok(None),
            Some((node, Kind::Symlink)) => {
                links += 1;
                if links > MOST_LINKS {
                    return Ok(None);
                }
                let target = view.target(node)?;
                if target.first() == Some(&b'/') {
                    directory = NodeId::ROOT;
                }
                found = directory;
                rest.extend(split(target));
            }
            Some((node, Kind::Directory)) => {
                directory = node;
                found = node;
            }
            Some((node, _)) if rest.iter().all(|part| part.is_empty()) => return Ok(Some(node)),
            Some(_) => return Ok(None),
        }
    }
    Ok(Some(found))
}

fn content(lower: &Lower, node: NodeId) -> Result<Option<Vec<u8>>> {
    let attr = lower.view.attr(node)?;
    if attr.kind != Kind::Regular || attr.size > LARGEST {
        return Ok(None);
    }
    let io = || Error(Errno::EIO);
    let mut bytes = vec![0; usize::try_from(attr.size).map_err(|_| io())?];
    for i in 0..lower.view.extent_count(node)? {
        let extent = lower.view.extent(node, i)?;
        let start = usize::try_from(extent.file_offset).map_err(|_| io())?;
        let length = usize::try_from(extent.length).map_err(|_| io())?;
        let end = start.checked_add(length).ok_or_else(io)?;
        let part = bytes.get_mut(start..end).ok_or_else(io)?;
        let layer = usize::try_from(extent.layer)
            .ok()
            .and_then(|layer| lower.layers.get(layer))
            .ok_or_else(io)?;
        layer.bytes.read(extent.tar_offset, part)?;
    }
    Ok(Some(bytes))
}
