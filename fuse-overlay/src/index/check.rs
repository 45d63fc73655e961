//! Is an index what a builder would write? The header's part is asked at every open, the whole by `store check`.

use zerocopy::FromBytes;

use super::NodeId;
use super::format::{self, ALIGN, BLOCK, HEADER_SIZE, Header, Section};
use super::view::{LoadError, View};
use crate::attr::Kind;

const fn damaged(what: &'static str) -> LoadError {
    LoadError::Damaged(what)
}

/// Verifies the header and the places of all sections in a file of these bytes.
pub(super) fn header(file: &[u8]) -> Result<Header, LoadError> {
    let (header, _) = Header::read_from_prefix(file).map_err(|_| damaged("shorter than its header"))?;
    let rest = file.get(size_of::<Header>()..HEADER_SIZE as usize);
    if header.magic != format::MAGIC {
        return Err(damaged("not an index"));
    }
    if header.version.get() != format::VERSION {
        return Err(LoadError::Version(header.version.get()));
    }
    if header.header_crc.get() != header.own_crc() {
        return Err(damaged("checksum of the header"));
    }
    if !rest.is_some_and(|rest| rest.iter().all(|&byte| byte == 0)) {
        return Err(damaged("bytes behind the header"));
    }
    if !matches!(
        header.kind.get(),
        format::KIND_LAYER | format::KIND_MERGED | format::KIND_DIRECTORY
    ) {
        return Err(damaged("kind"));
    }
    places(&header, file.len() as u64)?;
    counts(&header)?;
    let sums = header.block_sums;
    let sums = file.get(sums.offset.get() as usize..).unwrap_or_default();
    if crc32c::crc32c(sums) != header.sums_crc.get() {
        return Err(damaged("checksum of the block sums"));
    }
    Ok(header)
}

/// Sections follow each other without overlap, and the last ends with the file.
fn places(header: &Header, file_size: u64) -> Result<(), LoadError> {
    let sections = [
        header.nodes,
        header.entries,
        header.extents,
        header.blob,
        header.layers,
        header.tar_sums,
        header.block_sums,
    ];
    let mut end = HEADER_SIZE;
    for Section { offset, length } in sections {
        let start = end.checked_next_multiple_of(ALIGN);
        if start != Some(offset.get()) {
            return Err(damaged("place of a section"));
        }
        end = offset
            .get()
            .checked_add(length.get())
            .ok_or(damaged("length of a section"))?;
    }
    if end == file_size {
        Ok(())
    } else {
        Err(damaged("the file's size differs from its header's"))
    }
}

/// Sections hold whole records, as many as belong together.
fn counts(header: &Header) -> Result<(), LoadError> {
    let records = |section: Section, size: usize| {
        let size = size as u64;
        let length = section.length.get();
        if length.is_multiple_of(size) {
            Ok(length / size)
        } else {
            Err(damaged("a section of broken records"))
        }
    };
    let nodes = records(header.nodes, size_of::<format::Node>())?;
    records(header.entries, size_of::<format::Entry>())?;
    records(header.extents, size_of::<format::Extent>())?;
    let layers = records(header.layers, 32)?;
    let tar_sums = records(header.tar_sums, size_of::<u32>())?;
    let block_sums = records(header.block_sums, size_of::<u32>())?;
    let (expected_layers, expected_tar_sums) = match header.kind.get() {
        format::KIND_LAYER => (1, header.tar_size.get().div_ceil(BLOCK)),
        format::KIND_DIRECTORY => (1, 0),
        _ => (layers, 0),
    };
    let covered = header.block_sums.offset.get() - HEADER_SIZE;
    if nodes == 0 || nodes >= u64::from(format::NO_NODE) {
        return Err(damaged("number of nodes"));
    }
    if layers != expected_layers || tar_sums != expected_tar_sums || block_sums != covered.div_ceil(BLOCK) {
        return Err(damaged("number of checksums or layers"));
    }
    Ok(())
}

/// Verifies every block, then that the nodes and entries are one tree from the root, as the builder lays it out.
pub(super) fn whole(view: &View) -> Result<(), LoadError> {
    view.verify_all().map_err(|_| damaged("checksum of a block"))?;
    let mut seen = vec![Seen::default(); view.node_count() as usize];
    let mut entries_left = view.header().entries.length.get() / size_of::<format::Entry>() as u64;
    let mut todo = vec![NodeId::ROOT];
    while let Some(dir) = todo.pop() {
        let entries = view.entries(dir).map_err(|_| damaged("entries of a directory"))?;
        // Runs that overlap could make a small file take for ever.
        entries_left = entries_left
            .checked_sub(entries.len().into())
            .ok_or(damaged("entries that stand in two directories"))?;
        let mut last = None;
        for i in 0..entries.len() {
            let entry = entries.get(i).map_err(|_| damaged("an entry"))?;
            if last.replace(entry.name).is_some_and(|last| last >= entry.name) {
                return Err(damaged("order of names"));
            }
            let Some((node, kind)) = entry.target else {
                continue;
            };
            let attr = view.attr(node).map_err(|_| damaged("a node"))?;
            if attr.kind != kind {
                return Err(damaged("kind of an entry"));
            }
            let is_first = note(&mut seen, node, dir)?;
            if kind == Kind::Directory {
                if !is_first || node == NodeId::ROOT {
                    return Err(damaged("a directory with two names"));
                }
                if let Some(holder) = seen.get_mut(dir.0 as usize) {
                    holder.subdirectories += 1;
                }
                todo.push(node);
            }
        }
    }
    let no_entry_left = (entries_left == 0)
        .then_some(())
        .ok_or(damaged("entries of no directory"));
    no_entry_left.and_then(|()| nodes(view, &seen))
}

/// What the walk from the root saw of a node.
#[derive(Clone, Copy, Default)]
struct Seen {
    names: u32,
    /// The lowest of the directories that name it.
    first_dir: NodeId,
    subdirectories: u32,
}

/// Notes a name of `node` in `dir`; is it the first one seen?
fn note(seen: &mut [Seen], node: NodeId, dir: NodeId) -> Result<bool, LoadError> {
    let seen = seen.get_mut(node.0 as usize).ok_or(damaged("a node number"))?;
    let is_first = seen.names == 0;
    seen.names = seen
        .names
        .checked_add(1)
        .ok_or(damaged("number of names of a node"))?;
    seen.first_dir = if is_first { dir } else { seen.first_dir.min(dir) };
    Ok(is_first)
}

/// A file's extents or a link's target.
fn leaf(view: &View, node: NodeId, kind: Kind) -> Result<(), LoadError> {
    let extents = view.extent_count(node).map_err(|_| damaged("extents"))?;
    let mut end = 0;
    for i in 0..extents {
        let extent = view.extent(node, i).map_err(|_| damaged("an extent"))?;
        let tar_end = extent.tar_offset + extent.length;
        if extent.file_offset < end || (view.is_layer() && tar_end > view.tar_size()) {
            return Err(damaged("place of an extent"));
        }
        end = extent.file_offset + extent.length;
    }
    if kind == Kind::Symlink {
        let target = view.target(node).map_err(|_| damaged("a symlink's target"))?;
        let size = view.node(node).map_err(|_| damaged("a node"))?.size.get();
        if target.len() as u64 != size {
            return Err(damaged("length of a symlink's target"));
        }
    }
    view.link_below(node).map_err(|_| damaged("a link's target"))?;
    Ok(())
}

/// Every node says what the walk saw, and can be read whole.
fn nodes(view: &View, seen: &[Seen]) -> Result<(), LoadError> {
    let mut content_size = 0u64;
    for (node, seen) in (0..).map(NodeId).zip(seen) {
        let attr = view.attr(node).map_err(|_| damaged("a node"))?;
        let names = match attr.kind {
            Kind::Directory => seen.subdirectories.checked_add(2),
            _ => Some(seen.names),
        };
        let reached = seen.names > 0 || node == NodeId::ROOT;
        if !reached || names != Some(attr.nlink) {
            return Err(damaged("number of names of a node"));
        }
        if view.parent(node).ok() != Some(seen.first_dir) {
            return Err(damaged("parent of a node"));
        }
        view.xattrs(node).map_err(|_| damaged("extended attributes"))?;
        leaf(view, node, attr.kind)?;
        if attr.kind == Kind::Regular {
            content_size = content_size.saturating_add(attr.size);
        }
    }
    if content_size == view.header().content_size.get() {
        Ok(())
    } else {
        Err(damaged("content size"))
    }
}
