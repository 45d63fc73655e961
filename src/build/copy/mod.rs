//! What does COPY put where? First a list of what goes where, which decides whether the cache has it; then the same
//! list is carried out.
//!
//! The rules are those of BuildKit's `COPY` (Dockerfile reference, "COPY"): of a directory the contents are copied; a
//! destination that ends with a slash, is a directory, or takes several sources is a directory; missing directories on
//! the way are made.

mod sources;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::OnceLock;

use fuse_overlay::attr::{Kind, Time};
use sha2::{Digest as _, Sha256};

use super::chmod::Chmod;
use super::hashes::{FileId, Hashes};
use super::patterns::ignore::Ignore;
use super::source::{Entry, Links, Source};
use super::tree::Owner;
use crate::containers::growing::DEEPEST;
use crate::store::Digest;
use sources::Named;

/// Bytes of a file read at once.
const MOST_AT_ONCE: usize = 1 << 18;

/// What `*`, `?` and `[` in a path are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wildcards {
    /// Patterns, as in COPY.
    Patterns,
    /// Characters like any others, as in the source of a mount.
    Characters,
}

/// What COPY was told, variables replaced.
#[derive(Debug)]
pub(super) struct Order {
    /// Paths and patterns below the source's top.
    pub(super) sources: Vec<Vec<u8>>,
    /// `--parents`: the directories above a source are copied, too, but for so many of the first names of each source (those
    /// before `/./`). `None`: they are not.
    pub(super) parents: Option<Vec<usize>>,
    /// Whether `*`, `?` and `[` in them mean anything.
    pub(super) wildcards: Wildcards,
    /// Files whose content stands in the Dockerfile: name and content.
    pub(super) inline: Vec<(Vec<u8>, Vec<u8>)>,
    /// Absolute.
    pub(super) dest: Vec<u8>,
    /// It ended with a slash, or is the working directory itself.
    pub(super) into: bool,
    /// `--chown`.
    pub(super) owner: Option<Owner>,
    /// `--chmod`.
    pub(super) chmod: Option<Chmod>,
    /// `--exclude`.
    pub(super) exclude: Ignore,
    /// What new directories on the way have as time.
    pub(super) now: Time,
}

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source without a wildcard that is not there.
    #[error("\"/{0}\": not found")]
    NotFound(String),
    /// Beside others it is left out, as BuildKit does; asked for by its name it is a mistake.
    #[error("\"/{0}\" is a socket: it means nothing in a copy")]
    Socket(String),
    /// A pattern that is none.
    #[error("{0:?}: syntax error in pattern")]
    Pattern(String),
    /// A source that cannot be read.
    #[error("reading {0}")]
    Read(String, #[source] io::Error),
    /// A destination that cannot be written.
    #[error("writing {0}")]
    Write(String, #[source] io::Error),
    /// Directories within directories without end.
    #[error("{0}: too many directories within each other")]
    TooDeep(String),
    /// A file whose content is another than when it was hashed.
    #[error("{0} changed while it was copied")]
    Changed(String),
    /// A device node, which an ordinary user cannot make.
    #[error("{0} is a device node, which cannot be copied without root")]
    Device(String),
    /// Several sources, one file.
    #[error(
        "when using COPY with more than one source file, the destination must be a directory and end with a /"
    )]
    ManyToOne,
}

/// What a file held when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash {
    pub(super) sha256: [u8; 32],
    /// Bytes: some filesystems say another size (sysfs).
    pub(super) size: u64,
    /// A file of the host that had been as it was for a while: as long as this is the same, so is the content.
    pub(super) of: Option<FileId>,
}

/// One thing to copy.
#[derive(Debug)]
pub(super) struct Item {
    /// In the source; of an inline file its number.
    pub(super) from: From,
    /// Below the destination, if that is a directory.
    pub(super) to: Vec<u8>,
    pub(super) entry: Entry,
    /// The instruction names it, not a directory that it is in.
    named: bool,
    /// Of its content, once it was asked for.
    pub(super) hash: OnceLock<Hash>,
}

#[derive(Debug)]
pub(super) enum From {
    Path(Vec<u8>),
    Inline(usize),
}

/// What a COPY will do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// The destination is a directory, also if it is not there yet.
    pub(super) into: bool,
    /// The time that it gets: that of the directory whose contents came into it last.
    pub(super) top: Option<Time>,
}

pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Plan {
    /// Is there nothing to copy? An empty directory is something.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.top.is_none()
    }
}

impl Order {
    /// The same for what an archive holds, which keeps its permissions; its owners, too, unless others were asked for.
    pub(super) fn of_archive(&self) -> Order {
        Order {
            into: true,
            chmod: None,
            ..self.of(vec![Vec::new()])
        }
    }

    /// The same for what a repository holds.
    pub(super) fn of_repository(&self) -> Order {
        Order {
            into: true,
            exclude: self.exclude.clone(),
            ..self.of(vec![Vec::new()])
        }
    }

    /// All that it does to files which are known by a name alone, for the key of the step.
    pub(super) fn words(&self) -> Vec<String> {
        let Order {
            sources,
            parents,
            wildcards,
            inline,
            dest,
            into,
            owner,
            chmod,
            exclude,
            now: _,
        } = self;
        vec![
            format!("{sources:?} {parents:?} {wildcards:?} {inline:?}"),
            format!("{dest:?} {into}"),
            format!("{owner:?} {chmod:?} {exclude:?}"),
        ]
    }

    /// The same for other sources, which are no patterns.
    pub(super) fn of(&self, sources: Vec<Vec<u8>>) -> Order {
        Order {
            sources,
            parents: None,
            wildcards: Wildcards::Characters,
            inline: Vec::new(),
            dest: self.dest.clone(),
            into: self.into,
            owner: self.owner,
            chmod: self.chmod.clone(),
            exclude: Ignore::default(),
            now: self.now,
        }
    }

    /// The permissions that something has as a copy.
    pub(super) fn perm_of(&self, entry: &Entry) -> u16 {
        match &self.chmod {
            Some(chmod) => chmod.apply(entry.perm, entry.kind == Kind::Directory),
            None => entry.perm,
        }
    }

    /// Lists what goes where.
    pub(super) fn plan(&self, source: &dyn Source) -> Result<Plan, CopyError> {
        let (mut found, mut skipped) = (Vec::new(), Vec::new());
        for (number, pattern) in self.sources.iter().enumerate() {
            let skips = self
                .parents
                .as_ref()
                .and_then(|parents| parents.get(number))
                .copied();
            self.expand(source, pattern, skips, &mut found)?;
            skipped.resize(found.len(), skips.unwrap_or(0));
        }
        let many = self.sources.len() + self.inline.len() > 1 || found.len() > 1;
        let into = self.into
            || self.parents.is_some()
            || found.iter().any(|named| named.entry.kind == Kind::Directory);
        if many && !into {
            return Err(CopyError::ManyToOne);
        }
        let mut plan = Plan {
            items: Vec::new(),
            into,
            top: None,
        };
        let mut above = BTreeSet::new();
        for (Named { path, at, entry }, skips) in found.into_iter().zip(skipped) {
            let to = match self.parents {
                Some(_) => self.above(source, &path, skips, &mut above, &mut plan.items)?,
                None if entry.kind == Kind::Directory => Vec::new(),
                None => last(&path).to_vec(),
            };
            let directory = (entry.kind == Kind::Directory).then(|| (at.clone(), to.clone()));
            // Of a whole context, what is in it comes along, and not itself.
            let time = if at.is_empty() { self.now } else { entry.mtime };
            plan.top = (directory.is_some() && self.parents.is_none()).then_some(time);
            if directory.is_none() || !to.is_empty() && above.insert(to.clone()) {
                plan.items.push(Item {
                    from: From::Path(at),
                    to,
                    named: entry.kind != Kind::Directory,
                    entry,
                    hash: OnceLock::new(),
                });
            }
            if let Some((at, to)) = directory {
                self.directory(source, &at, to, 0, &mut plan.items)?;
            }
        }
        plan.top = plan.top.filter(|_| self.inline.is_empty());
        for (number, (name, content)) in self.inline.iter().enumerate() {
            plan.items.push(Item {
                from: From::Inline(number),
                named: true,
                hash: OnceLock::new(),
                to: name.clone(),
                entry: Entry {
                    kind: Kind::Regular,
                    perm: 0o644,
                    owner: Owner::default(),
                    mtime: self.now,
                    size: content.len() as u64,
                    target: Vec::new(),
                    id: None,
                    xattrs: Vec::new(),
                    linked: None,
                },
            });
        }
        Ok(plan)
    }

    /// Lists the directories above a path, but for those of its first names that are skipped and those that were listed
    /// before. Gives the path without these names.
    fn above(
        &self,
        source: &dyn Source,
        path: &[u8],
        skips: usize,
        before: &mut BTreeSet<Vec<u8>>,
        items: &mut Vec<Item>,
    ) -> Result<Vec<u8>, CopyError> {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let kept = names.get(skips..).unwrap_or_default();
        for count in 1..kept.len() {
            let to = kept.get(..count).unwrap_or_default().join(&b'/');
            let from = names.get(..skips + count).unwrap_or_default().join(&b'/');
            let Some(entry) = self.look(source, &from, Links::Follow)? else {
                continue;
            };
            if before.insert(to.clone()) {
                items.push(Item {
                    from: From::Path(from),
                    to,
                    entry,
                    named: false,
                    hash: OnceLock::new(),
                });
            }
        }
        Ok(kept.join(&b'/'))
    }

    fn look(&self, source: &dyn Source, path: &[u8], links: Links) -> Result<Option<Entry>, CopyError> {
        source
            .look(path, links)
            .map_err(|error| CopyError::Read(shown(path), error))
    }

    /// Lists a directory's contents, itself first.
    fn directory(
        &self,
        source: &dyn Source,
        path: &[u8],
        to: Vec<u8>,
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), CopyError> {
        if depth > DEEPEST {
            return Err(CopyError::TooDeep(shown(path)));
        }
        let names = source
            .names(path)
            .map_err(|error| CopyError::Read(shown(path), error))?;
        for name in names {
            let (from, to) = (join(path, &name), join(&to, &name));
            let Some(entry) = self.look(source, &from, Links::Keep)? else {
                // Gone since it was listed.
                continue;
            };
            if entry.kind == Kind::Directory && (source.hides_all(&from) || self.exclude.excludes_all(&to)) {
                continue;
            }
            let hidden = source.is_hidden(&from) || self.exclude.excludes(&to);
            if entry.kind != Kind::Directory {
                if !hidden {
                    let from = From::Path(from);
                    items.push(Item {
                        from,
                        to,
                        entry,
                        named: false,
                        hash: OnceLock::new(),
                    });
                }
                continue;
            }
            let place = items.len();
            self.directory(source, &from, to.clone(), depth + 1, items)?;
            // A hidden directory is there for what was excepted below it.
            if !hidden || items.len() > place {
                let from = From::Path(from);
                items.insert(
                    place,
                    Item {
                        from,
                        to,
                        entry,
                        named: false,
                        hash: OnceLock::new(),
                    },
                );
            }
        }
        Ok(())
    }

    pub(super) fn content<'a>(
        &'a self,
        source: &'a dyn Source,
        item: &Item,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        match &item.from {
            From::Path(path) => source.open(path),
            From::Inline(number) => {
                let content = self.inline.get(*number).map(|(_, content)| content.as_slice());
                Ok(Box::new(content.unwrap_or_default()))
            }
        }
    }

    /// Takes files out of the plan that the instruction names itself and that `chosen` says yes to. Gives their paths.
    pub(super) fn take(
        &self,
        plan: &mut Plan,
        chosen: &dyn Fn(&[u8]) -> io::Result<bool>,
    ) -> Result<Vec<Vec<u8>>, CopyError> {
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for item in std::mem::take(&mut plan.items) {
            match &item.from {
                From::Path(path) if item.named && item.entry.kind == Kind::Regular => {
                    match chosen(path).map_err(|error| CopyError::Read(shown(path), error))? {
                        true => taken.push(path.clone()),
                        false => kept.push(item),
                    }
                }
                _ => kept.push(item),
            }
        }
        plan.items = kept;
        Ok(taken)
    }

    /// What the copy depends on: names, kinds, permissions, owners, contents; no times, but whose time a directory has.
    pub(super) fn digest(
        &self,
        plan: &Plan,
        source: &dyn Source,
        hashes: &Hashes,
    ) -> Result<Digest, CopyError> {
        let mut all = Sha256::new();
        let mut field = |bytes: &[u8]| {
            all.update((bytes.len() as u64).to_le_bytes());
            all.update(bytes);
        };
        field(&self.dest);
        field(&[u8::from(plan.into), u8::from(plan.top.is_some())]);
        // Directories on the way are its, whoever owns what is copied.
        if let Some(owner) = self.owner {
            field(&[owner.uid.to_le_bytes(), owner.gid.to_le_bytes()].concat());
        }
        // Files with several names, in their order.
        let mut files = HashMap::new();
        for item in &plan.items {
            let entry = &item.entry;
            let owner = self.owner.unwrap_or(entry.owner);
            field(&item.to);
            field(&[entry.kind as u8]);
            field(&self.perm_of(entry).to_le_bytes());
            field(&[owner.uid.to_le_bytes(), owner.gid.to_le_bytes()].concat());
            field(&entry.target);
            for (name, value) in &entry.xattrs {
                field(name);
                field(value);
            }
            if let Some(linked) = entry.linked {
                let next = files.len();
                field(&files.entry(linked).or_insert(next).to_le_bytes());
            }
            if entry.kind == Kind::Regular {
                field(&self.content_hash(item, source, hashes)?);
            }
        }
        Ok(Digest(all.finalize().into()))
    }

    fn content_hash(&self, item: &Item, source: &dyn Source, hashes: &Hashes) -> Result<[u8; 32], CopyError> {
        if let Some(id) = item.entry.id
            && let Some(sha256) = hashes.find(&id)
        {
            let hash = Hash {
                sha256,
                size: id.size,
                of: Some(id),
            };
            return Ok(item.hash.get_or_init(|| hash).sha256);
        }
        let failed = |error| CopyError::Read(item.shown(), error);
        let mut from = self.content(source, item).map_err(failed)?;
        let mut hash = hash(&mut from, item.entry.size).map_err(failed)?;
        let id = item.entry.id.filter(|id| id.size == hash.size);
        hash.of = id.filter(|id| hashes.learn(*id, hash.sha256));
        Ok(item.hash.get_or_init(|| hash).sha256)
    }
}

impl Item {
    /// Bytes of a regular file: those that were hashed, if it was.
    pub(super) fn size(&self) -> u64 {
        self.hash.get().map_or(self.entry.size, |hash| hash.size)
    }

    pub(super) fn shown(&self) -> String {
        match &self.from {
            From::Path(path) => shown(path),
            From::Inline(_) => "a here-document".into(),
        }
    }
}

/// Hashes a file of about this size.
fn hash(from: &mut dyn Read, about: u64) -> io::Result<Hash> {
    let room = usize::try_from(about).map_or(MOST_AT_ONCE, |about| about.clamp(1 << 12, MOST_AT_ONCE));
    let mut buffer = vec![0; room];
    let (mut sha256, mut size) = (Sha256::new(), 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => {
                let sha256 = sha256.finalize().into();
                let of = None;
                return Ok(Hash { sha256, size, of });
            }
            Ok(count) => {
                sha256.update(buffer.get(..count).unwrap_or_default());
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory.is_empty() {
        true => name.to_vec(),
        false => [directory, b"/", name].concat(),
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
