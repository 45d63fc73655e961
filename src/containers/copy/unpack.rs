//! How does a tar become files? One member after the other, each below the directory that was opened for it; the same rules
//! whether they are made by descriptors or in a tree that is no mount.

use std::io::{self, BufRead, BufReader, Read};

use fuse_overlay::attr::{Kind, Time};
use fuse_overlay::tar::{Body, Content, Member, MembersError, Xattr, members};

use super::names::{self, Landing, Top};
use super::read::is_kept;
use crate::containers::growing::DEEPEST;

/// Longest line that tells what is copied: a name of 255 bytes, each written as a number.
const LONGEST: u64 = 4096;

/// Where files are made.
pub(super) trait Onto {
    /// A directory, open.
    type Dir;
    /// Of what kind is the file at a name?
    fn look(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Option<Kind>>;
    /// Opens a directory that is there; ENOTDIR or ELOOP if a symlink is.
    fn enter(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir>;
    /// Opens a directory below the destination, through symlinks as far as they may be followed.
    fn through(&self, below: &Self::Dir, names: &[&[u8]]) -> io::Result<Self::Dir>;
    /// Makes a directory, for its maker alone as yet.
    fn make(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir>;
    /// Gives a directory what it is to have in the end.
    fn dress(&self, dir: &Self::Dir, dress: &Dress) -> io::Result<()>;
    /// Makes a regular file in place of what is there; `fill` is called with what takes its bytes.
    fn file(
        &self,
        at: (&Self::Dir, &[u8]),
        size: u64,
        dress: &Dress,
        fill: &mut dyn FnMut(&mut Put<'_>) -> io::Result<()>,
    ) -> io::Result<()>;
    /// Makes a symlink in place of what is there.
    fn symlink(&self, at: (&Self::Dir, &[u8]), target: &[u8], dress: &Dress) -> io::Result<()>;
    /// Makes one more name of a file in place of what is there.
    fn link(&self, file: (&Self::Dir, &[u8]), at: (&Self::Dir, &[u8])) -> io::Result<()>;
    /// Makes a fifo or device in place of what is there: false if that is left out.
    fn special(&self, at: (&Self::Dir, &[u8]), node: (Kind, u32), dress: &Dress) -> io::Result<bool>;
}

/// Takes a piece of a file, and its place in it.
pub(super) type Put<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

/// What a file is to have beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dress {
    pub(super) perm: u16,
    /// uid and gid; the maker's own if none.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
}

/// Whose copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The user's, who asked for them, or the container's root's.
    Own,
    /// Of the same numbers as what they are copies of: `-a`.
    Kept,
}

/// What is unpacked, and how.
#[derive(Debug)]
pub(super) struct Unpacking<'a> {
    /// Of what it is; an archive of the user's says nothing.
    pub(super) top: Option<&'a Top>,
    /// The name of what is copied at its destination; none if it comes into a directory.
    pub(super) name: Option<&'a [u8]>,
    /// The owner of each file, by that which the tar says; `None` if it is not for us to choose.
    pub(super) owners: Option<Owners>,
}

/// A directory on the way to the last member.
struct Step<D> {
    name: Vec<u8>,
    dir: D,
    dress: Option<Dress>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Unpacked {
    /// Bytes of files.
    pub(super) bytes: u64,
    pub(super) warnings: Vec<String>,
}

struct Unpacker<'a, O: Onto> {
    onto: &'a O,
    how: &'a Unpacking<'a>,
    base: &'a O::Dir,
    steps: Vec<Step<O::Dir>>,
    done: Unpacked,
}

/// Reads the line that says what comes.
pub(super) fn hear(stream: &mut BufReader<impl Read>) -> io::Result<Top> {
    let mut line = Vec::new();
    stream.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
    serde_json::from_slice(&line).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// Unpacks a tar into `base`.
///
/// # Errors
/// At the first member that cannot be made; those before it stay.
pub(super) fn unpack<O: Onto>(
    onto: &O,
    base: &O::Dir,
    how: &Unpacking<'_>,
    stream: &mut dyn Read,
) -> Result<Unpacked, MembersError> {
    let mut unpacker = Unpacker {
        onto,
        how,
        base,
        steps: Vec::new(),
        done: Unpacked::default(),
    };
    members(stream, &mut |member, content| unpacker.member(member, content))?;
    unpacker.leave(0).map_err(|source| MembersError::Member {
        path: "the directories".into(),
        source,
    })?;
    Ok(unpacker.done)
}

/// How a copy of `landing` is unpacked: under which name.
pub(super) fn name_at(landing: Landing, name: Option<&[u8]>) -> Option<&[u8]> {
    match landing {
        Landing::Within => None,
        Landing::Instead => name,
    }
}

impl<'a, O: Onto> Unpacker<'a, O> {
    /// The names below the base that a path of the tar leads to.
    fn way<'p>(&self, path: &'p [u8]) -> io::Result<Vec<&'p [u8]>>
    where
        'a: 'p,
    {
        let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_string());
        let mut names = names::names(path).map_err(refused)?;
        if names.len() > DEEPEST {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let Some(name) = self.how.name else {
            return Ok(names);
        };
        // Its own name becomes the other; the content of a directory comes below that.
        if let Some(own) = self.how.top.and_then(|top| top.name.as_ref()) {
            match names.first() {
                Some(first) if first == own => drop(names.remove(0)),
                _ => return Err(refused("it is not below what is copied")),
            }
        }
        names.insert(0, name);
        Ok(names)
    }

    fn member(&mut self, member: &Member, content: &mut Content<'_, '_>) -> io::Result<()> {
        let way = self.way(&member.path)?;
        let dress = self.dress_of(member);
        let Some((name, above)) = way.split_last() else {
            // The top of what comes into a directory that is there.
            return Ok(());
        };
        self.go(above)?;
        let dir = self.steps.last().map_or(self.base, |step| &step.dir);
        let there = self.onto.look(dir, name)?;
        if matches!(member.body, Body::Directory) {
            let entered = match there {
                Some(Kind::Directory) => self.onto.enter(dir, name)?,
                None => self.onto.make(dir, name)?,
                Some(_) => {
                    return Err(io::Error::other(
                        "a directory cannot replace what is no directory",
                    ));
                }
            };
            self.steps.push(Step {
                name: name.to_vec(),
                dir: entered,
                dress: Some(dress),
            });
            return Ok(());
        }
        if there == Some(Kind::Directory) {
            return Err(io::Error::other(
                "what is no directory cannot replace a directory",
            ));
        }
        self.put((name, there), member, &dress, content)
    }

    fn put(
        &mut self,
        (name, there): (&[u8], Option<Kind>),
        member: &Member,
        dress: &Dress,
        content: &mut Content<'_, '_>,
    ) -> io::Result<()> {
        let dir = self.steps.last().map_or(self.base, |step| &step.dir);
        match &member.body {
            Body::Directory => Ok(()),
            Body::Regular { size, .. } => {
                self.done.bytes += size;
                self.onto.file((dir, name), *size, dress, &mut |put| {
                    content.each(&member.body, put)
                })
            }
            Body::Symlink(target) => self.onto.symlink((dir, name), target, dress),
            Body::HardLink(first) => {
                let first = self.way(first)?;
                let Some((file, above)) = first.split_last() else {
                    return Err(io::Error::other("a link to a directory"));
                };
                let from = self.onto.through(self.base, above)?;
                // To itself, which would be removed first.
                if there.is_some() && first == self.here(name) {
                    return Ok(());
                }
                self.onto.link((&from, file), (dir, name))
            }
            Body::Special(kind, number) => {
                if !self.onto.special((dir, name), (*kind, *number), dress)? {
                    let shown = String::from_utf8_lossy(&member.path).into_owned();
                    self.done.warnings.push(format!("left out: {shown} is a device"));
                }
                Ok(())
            }
        }
    }

    fn here<'s>(&'s self, name: &'s [u8]) -> Vec<&'s [u8]> {
        let above = self.steps.iter().map(|step| step.name.as_slice());
        above.chain([name]).collect()
    }

    fn dress_of(&self, member: &Member) -> Dress {
        let kept = |(name, _): &&Xattr| is_kept(name);
        Dress {
            perm: member.perm,
            owner: self.how.owners.map(|owners| match owners {
                Owners::Own => (0, 0),
                Owners::Kept => (member.uid, member.gid),
            }),
            mtime: Some(member.mtime),
            xattrs: member.xattrs.iter().filter(kept).cloned().collect(),
        }
    }

    /// Goes to a directory below the base; what is missing on the way is made.
    fn go(&mut self, way: &[&[u8]]) -> io::Result<()> {
        let mut names = self.steps.iter().zip(way);
        let common = names.position(|(step, name)| step.name != *name);
        self.leave(common.unwrap_or(self.steps.len().min(way.len())))?;
        for at in self.steps.len()..way.len() {
            let name = way.get(at).copied().unwrap_or_default();
            let dir = self.steps.last().map_or(self.base, |step| &step.dir);
            let (entered, dress) = match self.onto.look(dir, name)? {
                Some(Kind::Directory) => (self.onto.enter(dir, name)?, None),
                Some(Kind::Symlink) => {
                    let names = way.get(..=at).unwrap_or_default();
                    (self.onto.through(self.base, names)?, None)
                }
                Some(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                None => (self.onto.make(dir, name)?, Some(self.unsaid())),
            };
            self.steps.push(Step {
                name: name.to_vec(),
                dir: entered,
                dress,
            });
        }
        Ok(())
    }

    /// Of a directory that the tar says nothing of.
    fn unsaid(&self) -> Dress {
        Dress {
            perm: 0o755,
            owner: self.how.owners.map(|_| (0, 0)),
            mtime: None,
            xattrs: Vec::new(),
        }
    }

    /// Leaves the directories deeper than `depth`, the deepest first: what came into them is there, and has changed their times.
    fn leave(&mut self, depth: usize) -> io::Result<()> {
        while self.steps.len() > depth {
            if let Some(Step {
                dir,
                dress: Some(dress),
                ..
            }) = self.steps.pop()
            {
                self.onto.dress(&dir, &dress)?;
            }
        }
        Ok(())
    }
}
