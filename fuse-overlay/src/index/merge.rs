//! Where do whiteouts end? Resolves a stack of layer indexes into one merged index.
//!
//! The directories of all layers are walked together. A merged directory is the list of the layers' directories that
//! make it up, top first ([`Parts`]); its names are merged, and for each name the layers' entries, top first, decide
//! what is visible ([`Stack::visible`]). Time is that of sorting each directory's names, which come in sorted runs.

use std::io;

use thiserror::Error;

use super::build::{BuildError, Builder, Content, Hides, Marks, NewNode, Source};
use super::format::NO_NODE;
use super::view::{Entry, Extent, View};
use super::{DiffId, NodeId};
use crate::attr::{Attr, Kind, Time};
use crate::error::Error;
use crate::name::Name;

/// Most memory that a merge may take, in bytes: what six million files need. A stack may have a thousand layers, or one layer a
/// thousand times.
const MAX_MEMORY: usize = 1 << 30;

/// Why a stack cannot be merged.
#[derive(Debug, Error)]
pub enum MergeError {
    /// A layer's index is damaged: build it again from its tar.
    #[error("index of layer {layer}: {source}")]
    Layer {
        /// The layer.
        layer: DiffId,
        /// What reading it said.
        source: Error,
    },
    /// A merged index was given where a layer's belongs.
    #[error("not the index of a layer")]
    NotALayer,
    /// The layers have more names and files than a merged index may have.
    #[error("the image has too many files: to merge its layers needs more than 1 GiB of memory")]
    TooLarge,
    /// A hard link leads nowhere. The image is at fault.
    #[error("layer {layer}: hard link to \"{path}\": {reason}")]
    Link {
        /// The layer.
        layer: DiffId,
        /// Where the link points.
        path: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// The result cannot be written.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Merges the trees of `layers`, lowest first, into a new merged index written to `out`. `chain_id` names the stack.
///
/// The result depends on nothing else. A hard link to below becomes one more name of the file that its path names in
/// the layers below its own.
///
/// # Errors
/// Fails when a layer index is damaged, a hard link leads nowhere, or `out` cannot be written.
pub fn merge(layers: &[View], chain_id: [u8; 32], out: &mut dyn io::Write) -> Result<(), MergeError> {
    let stack = Stack::new(layers)?;
    let mut merge = Merge::new(&stack)?;
    merge.tree()?;
    merge.builder.finish(
        Source::Merged {
            chain_id,
            layers: &stack.ids,
        },
        out,
    )?;
    Ok(())
}

/// A node of one of the layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct At {
    layer: usize,
    node: NodeId,
}

/// The layers' directories that make up a merged one, top first.
type Parts = Vec<At>;

/// What one layer says about a name.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    layer: usize,
    /// `None` is a whiteout.
    target: Option<(NodeId, Kind)>,
    hides_below: bool,
}

impl Candidate {
    fn new(layer: usize, entry: &Entry<'_>) -> Candidate {
        Candidate {
            layer,
            target: entry.target,
            hides_below: entry.hides_below,
        }
    }
}

/// What one name shows.
#[derive(Debug)]
enum Visible {
    /// Nothing.
    Hidden,
    /// Anything but a directory.
    Leaf(At),
    /// A directory: whose metadata it has, and what it is made of.
    Directory { meta: At, parts: Parts },
}

/// The layers to merge, lowest first.
struct Stack<'a> {
    layers: &'a [View],
    ids: Vec<DiffId>,
}

impl<'a> Stack<'a> {
    fn new(layers: &'a [View]) -> Result<Stack<'a>, MergeError> {
        if !layers.iter().all(View::is_layer) {
            return Err(MergeError::NotALayer);
        }
        Ok(Stack {
            layers,
            ids: layers.iter().map(|layer| DiffId(layer.source())).collect(),
        })
    }

    /// Asks a layer, and says whose index was at fault.
    fn ask<T>(
        &self,
        layer: usize,
        question: impl FnOnce(&'a View) -> Result<T, Error>,
    ) -> Result<T, MergeError> {
        // Layer numbers are made here, from `layers` itself.
        question(&self.layers[layer]).map_err(|source| MergeError::Layer {
            layer: DiffId(self.layers[layer].source()),
            source,
        })
    }

    fn marks(&self, at: At) -> Result<Marks, MergeError> {
        self.ask(at.layer, |view| view.marks(at.node))
    }

    /// The root of the lowest `height` layers: as if a name with an entry in each of them.
    fn root(&self, height: usize) -> Result<Visible, MergeError> {
        let target = Some((NodeId::ROOT, Kind::Directory));
        let root = |layer| Candidate {
            layer,
            target,
            hides_below: false,
        };
        let group: Vec<_> = (0..height).rev().map(root).collect();
        self.visible(&group)
    }

    /// What the entries of one name, top first, show.
    fn visible(&self, group: &[Candidate]) -> Result<Visible, MergeError> {
        let mut parts = Parts::new();
        let mut meta = None;
        let mut opaque = false;
        for &Candidate {
            layer,
            target,
            hides_below,
        } in group
        {
            let at = match target {
                Some((node, Kind::Directory)) => At { layer, node },
                Some((node, _)) if parts.is_empty() => return Ok(Visible::Leaf(At { layer, node })),
                _ => break,
            };
            let marks = self.marks(at)?;
            if !opaque {
                parts.push(at);
            }
            if meta.is_none() && !marks.implied {
                meta = Some(at);
            }
            // Below an opaque directory only the metadata of an implied one is still sought.
            opaque |= marks.opaque;
            if hides_below || (opaque && meta.is_some()) {
                break;
            }
        }
        Ok(match (parts.first(), meta) {
            (None, _) => Visible::Hidden,
            (Some(&top), meta) => Visible::Directory {
                meta: meta.unwrap_or(top),
                parts,
            },
        })
    }

    /// What `name` shows in a merged directory.
    fn lookup(&self, parts: &[At], name: &Name) -> Result<Visible, MergeError> {
        let mut group = Vec::new();
        for at in parts {
            let entry = self.ask(at.layer, |view| view.lookup(at.node, name))?;
            group.extend(entry.map(|entry| Candidate::new(at.layer, &entry)));
        }
        self.visible(&group)
    }
}

/// The walk that builds the merged tree.
struct Merge<'a> {
    stack: &'a Stack<'a>,
    builder: Builder,
    /// For each layer's nodes the merged node, or [`NO_NODE`]: what keeps hard links together.
    merged: Vec<Vec<u32>>,
    /// Bytes that `merged` takes, and the directories that are still to be walked.
    taken: usize,
}

impl<'a> Merge<'a> {
    fn new(stack: &'a Stack<'a>) -> Result<Merge<'a>, MergeError> {
        let counts = stack.layers.iter().map(|layer| layer.node_count() as usize);
        let mut merge = Merge {
            stack,
            builder: Builder::new(),
            merged: Vec::new(),
            taken: counts
                .clone()
                .fold(0, usize::saturating_add)
                .saturating_mul(size_of::<u32>()),
        };
        merge.has_room(0)?;
        merge.merged = counts.map(|count| vec![NO_NODE; count]).collect();
        Ok(merge)
    }

    /// Is there memory for so many bytes more?
    fn has_room(&self, more: usize) -> Result<(), MergeError> {
        let all = self
            .builder
            .memory()
            .saturating_add(self.taken)
            .saturating_add(more);
        match all > MAX_MEMORY {
            true => Err(MergeError::TooLarge),
            false => Ok(()),
        }
    }

    fn tree(&mut self) -> Result<(), MergeError> {
        let Visible::Directory { meta, parts } = self.stack.root(self.stack.layers.len())? else {
            // A stack of no layers is an empty directory.
            self.builder.add(&EMPTY_ROOT)?;
            return Ok(());
        };
        let mut todo = vec![(self.add(meta)?, parts)];
        while let Some((dir, parts)) = todo.pop() {
            self.taken = self.taken.saturating_sub(size_of_val(parts.as_slice()));
            let found = todo.len();
            self.directory(dir, &parts, &mut todo)?;
            // Depth first, in name order: a subtree's nodes lie together.
            if let Some(found) = todo.get_mut(found..) {
                found.reverse();
            }
        }
        Ok(())
    }

    /// Adds a directory's visible names; its subdirectories go to `todo`.
    fn directory(
        &mut self,
        dir: NodeId,
        parts: &[At],
        todo: &mut Vec<(NodeId, Parts)>,
    ) -> Result<(), MergeError> {
        let stack = self.stack;
        let lists = parts
            .iter()
            .map(|at| Ok((at.layer, stack.ask(at.layer, |view| view.entries(at.node))?)));
        let lists = lists.collect::<Result<Vec<_>, MergeError>>()?;
        let names: usize = lists.iter().map(|(_, entries)| entries.len() as usize).sum();
        self.has_room(names.saturating_mul(size_of::<(&Name, Candidate)>()))?;
        let mut all: Vec<(&Name, Candidate)> = Vec::with_capacity(names);
        for (layer, entries) in &lists {
            for i in 0..entries.len() {
                let entry = stack.ask(*layer, |_| entries.get(i))?;
                all.push((entry.name, Candidate::new(*layer, &entry)));
            }
        }
        // Stable: of one name the upper layer stays first.
        all.sort_by_key(|&(name, _)| name);
        let mut group = Vec::new();
        for named in all.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(name, _)) = named.first() else { continue };
            group.clear();
            group.extend(named.iter().map(|&(_, candidate)| candidate));
            let node = match stack.visible(&group)? {
                Visible::Hidden => continue,
                Visible::Leaf(at) => self.leaf(at)?,
                Visible::Directory { meta, parts } => {
                    let node = self.add(meta)?;
                    self.taken += size_of_val(parts.as_slice());
                    todo.push((node, parts));
                    node
                }
            };
            self.builder.enter(dir, name, node, Hides::Nothing)?;
        }
        Ok(())
    }

    /// The merged node of a layer's file, which several names may share.
    fn leaf(&mut self, at: At) -> Result<NodeId, MergeError> {
        let at = self.stack.follow_link(at)?;
        // `at` comes from the layer's own entries, whose node numbers the view has checked.
        let known = self.merged[at.layer][at.node.0 as usize];
        if known != NO_NODE {
            return Ok(NodeId(known));
        }
        let node = self.add(at)?;
        self.merged[at.layer][at.node.0 as usize] = node.0;
        Ok(node)
    }

    /// Copies a layer's node.
    fn add(&mut self, at: At) -> Result<NodeId, MergeError> {
        self.has_room(0)?;
        let stack = self.stack;
        let attr = stack.ask(at.layer, |view| view.attr(at.node))?;
        let xattrs = stack.ask(at.layer, |view| view.xattrs(at.node))?;
        let mut extents = Vec::new();
        let content = match attr.kind {
            Kind::Directory => Content::Directory(Marks::default()),
            Kind::Symlink => Content::Symlink(stack.ask(at.layer, |view| view.target(at.node))?),
            Kind::Regular => {
                for i in 0..stack.ask(at.layer, |view| view.extent_count(at.node))? {
                    let extent = stack.ask(at.layer, |view| view.extent(at.node, i))?;
                    // A layer knows one tar, its own.
                    extents.push(Extent {
                        layer: at.layer as u32,
                        ..extent
                    });
                }
                Content::Regular {
                    size: attr.size,
                    extents: &extents,
                }
            }
            kind => Content::Special(kind, attr.rdev),
        };
        let Attr {
            perm,
            uid,
            gid,
            mtime,
            ..
        } = attr;
        Ok(self.builder.add(&NewNode {
            perm,
            uid,
            gid,
            mtime,
            xattrs: &xattrs,
            content,
        })?)
    }
}

const EMPTY_ROOT: NewNode<'static> = NewNode {
    perm: 0o755,
    uid: 0,
    gid: 0,
    mtime: Time { sec: 0, nsec: 0 },
    xattrs: &[],
    content: Content::Directory(Marks {
        opaque: false,
        implied: false,
    }),
};

/// As many symlinks as Linux follows in one path (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// Where hard links to below lead.
impl<'a> Stack<'a> {
    /// The file itself, or what it links to in the layers below.
    fn follow_link(&self, mut at: At) -> Result<At, MergeError> {
        // Each step leads to a lower layer, so this ends.
        while let Some(path) = self.ask(at.layer, |view| view.link_below(at.node))? {
            at = self.resolve(path, at.layer)?.map_err(|reason| MergeError::Link {
                layer: DiffId(self.layers[at.layer].source()),
                path: path.escape_ascii().to_string(),
                reason,
            })?;
        }
        Ok(at)
    }

    /// The file that `path` names in the merged view of the lowest `height` layers. Symlinks are followed but for a last one.
    fn resolve(&self, path: &'a [u8], height: usize) -> Result<Result<At, &'static str>, MergeError> {
        let components = |path: &'a [u8]| path.split(|&byte| byte == b'/').rev();
        let Visible::Directory { parts: root, .. } = self.root(height)? else {
            return Ok(Err("there is no layer below"));
        };
        let mut trail = vec![root];
        let mut todo: Vec<&[u8]> = components(path).collect();
        let mut symlinks = 0;
        while let Some(component) = todo.pop() {
            let name = match component {
                b"" | b"." => continue,
                b".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                    continue;
                }
                _ => match Name::new(component) {
                    Ok(name) => name,
                    Err(_) => return Ok(Err("not a name")),
                },
            };
            let dir = trail.last().map(Vec::as_slice).unwrap_or_default();
            let leaf = match self.lookup(dir, name)? {
                Visible::Hidden => return Ok(Err("no such file in the layers below")),
                Visible::Directory { parts, .. } => {
                    trail.push(parts);
                    continue;
                }
                Visible::Leaf(at) if todo.is_empty() => return Ok(Ok(at)),
                // A link to below is not followed here: that would make the work grow with the power of the layers.
                Visible::Leaf(at) => at,
            };
            let kind = self.ask(leaf.layer, |view| view.attr(leaf.node))?.kind;
            symlinks += 1;
            if kind != Kind::Symlink || symlinks > MAX_SYMLINKS {
                return Ok(Err("its parent is no directory"));
            }
            let target = self.ask(leaf.layer, |view| view.target(leaf.node))?;
            if target.starts_with(b"/") {
                trail.truncate(1);
            }
            todo.extend(components(target));
        }
        Ok(Err("it is a directory"))
    }
}
