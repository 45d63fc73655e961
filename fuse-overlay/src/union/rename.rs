//! Moving a name, in all forms of renameat2(2). A directory of the image moves by its name's record alone: what lies in
//! it hangs on its inode, not on its path.

use std::sync::Arc;

use nix::errno::Errno;

use super::dir::still_there;
use super::lookup::Found;
use super::{Caller, Rename, Tree, held, now};
use crate::attr::{Ino, Kind, Time};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::upper::Locked;
use crate::upper::inode::Inode;
use crate::upper::journal::format::{Change, Meta, Operation};
use crate::upper::journal::log::Room;
use crate::upper::waiting;

/// Directories in one another, at most: so that no damaged layer makes a move walk for ever.
const MAX_DEPTH: usize = 1 << 20;

/// A name in a directory, and what stands there.
struct Place<'a> {
    dir: Arc<Inode>,
    name: &'a Name,
    found: Found,
}

/// A move whose inodes are known.
struct Move<'a> {
    from: Place<'a>,
    to: Place<'a>,
    how: Rename,
    source: (Ino, Kind),
    target: Option<(Ino, Kind)>,
}

impl Tree {
    /// Moves a name. Gives the file that the other name was of before, if it keeps names elsewhere.
    pub fn rename(
        &self,
        caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        how: Rename,
    ) -> Result<Option<Ino>> {
        // The chain of parents stays as it is while this is held.
        let _moving = (from.0 != to.0).then(|| waiting::lock(&self.moving));
        loop {
            let (from, to) = self.places(from, to)?;
            let source = from.found.target.ok_or(Error(Errno::ENOENT))?;
            let target = to.found.target;
            let step = Move {
                from,
                to,
                how,
                source,
                target,
            };
            match step.target {
                Some(_) if how.spares_target() => return Err(Error(Errno::EEXIST)),
                None if how == Rename::Exchange => return Err(Error(Errno::ENOENT)),
                // Two names of one file: both stay (rename(2)).
                Some((target, _)) if target == source.0 => return Ok(None),
                _ => {}
            }
            self.refuse_loop(&step)?;
            if let Some(replaced) = self.with_space(|| self.try_move(caller, &step))? {
                let gone = step.target.filter(|_| replaced == Replaced::Gone);
                return Ok(gone.and_then(|(target, _)| self.lost_a_name(target)));
            }
        }
    }

    /// What stands at both names at one moment: else one that moves from here to there would be seen twice.
    fn places<'a>(&self, from: (Ino, &'a Name), to: (Ino, &'a Name)) -> Result<(Place<'a>, Place<'a>)> {
        let dirs = (self.inode(from.0)?, self.inode(to.0)?);
        let locked = Locked::new(&[&dirs.0, &dirs.1]);
        let find = |(dir, name)| self.find_name(held(locked.get(dir))?.directory()?, name);
        let found = (find(from)?, find(to)?);
        drop(locked);
        let place = |dir, name, found| Place { dir, name, found };
        Ok((place(dirs.0, from.1, found.0), place(dirs.1, to.1, found.1)))
    }

    /// EINVAL if a directory would come to lie in itself.
    fn refuse_loop(&self, step: &Move<'_>) -> Result<()> {
        let (from, to) = (step.from.dir.ino, step.to.dir.ino);
        if from == to {
            return Ok(());
        }
        if step.source.1 == Kind::Directory && self.is_in(to, step.source.0)? {
            return Err(Error(Errno::EINVAL));
        }
        match step.target {
            Some((target, Kind::Directory)) if self.is_in(from, target)? => {
                // An ancestor of the source is never empty.
                Err(Error(if step.how == Rename::Exchange {
                    Errno::EINVAL
                } else {
                    Errno::ENOTEMPTY
                }))
            }
            _ => Ok(()),
        }
    }

    /// Is `dir` `ancestor`, or somewhere below it?
    fn is_in(&self, mut dir: Ino, ancestor: Ino) -> Result<bool> {
        for _ in 0..MAX_DEPTH {
            match dir {
                _ if dir == ancestor => return Ok(true),
                Ino::ROOT => return Ok(false),
                _ => dir = self.parent_of(dir)?,
            }
        }
        Err(Error(Errno::ELOOP))
    }

    /// Moves, unless one of the names has changed meanwhile (`None`).
    fn try_move(&self, caller: &Caller, step: &Move<'_>) -> Result<Option<Replaced>> {
        let source = self.inode(step.source.0)?;
        let target = step.target.map(|(ino, _)| self.inode(ino)).transpose()?;
        let mut wanted = vec![&step.from.dir, &step.to.dir, &source];
        wanted.extend(&target);
        let mut locked = Locked::new(&wanted);
        for place in [&step.from, &step.to] {
            let state = held(locked.get(place.dir.ino))?;
            if self.find_name(state.directory()?, place.name)? != place.found {
                return Ok(None);
            }
        }
        still_there(held(locked.get(step.to.dir.ino))?)?;
        step.refuse_kinds(&locked)?;
        let whiteout = step
            .how
            .leaves_whiteout()
            .then(|| self.upper.new_ino())
            .transpose()?;
        let changes = step.changes(&locked, caller, whiteout, now())?;
        let room = if whiteout.is_some() {
            Room::Ordinary
        } else {
            Room::Reserve
        };
        self.upper
            .commit(Operation::Rename, caller.unique, &changes, room, &mut locked)?;
        let gone = step.how != Rename::Exchange && step.target.is_some();
        Ok(Some(if gone { Replaced::Gone } else { Replaced::Nothing }))
    }
}

/// Did the move take the last name of something, possibly?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    Gone,
    Nothing,
}

impl<'a> Move<'a> {
    fn source_is_dir(&self) -> bool {
        self.source.1 == Kind::Directory
    }

    fn target_is_dir(&self) -> bool {
        matches!(self.target, Some((_, Kind::Directory)))
    }

    /// A directory replaces only an empty one, anything else only what is no directory.
    fn refuse_kinds(&self, locked: &Locked<'_>) -> Result<()> {
        let Some((target, _)) = self.target else {
            return Ok(());
        };
        if self.how == Rename::Exchange {
            return Ok(());
        }
        match (self.source_is_dir(), self.target_is_dir()) {
            (true, false) => Err(Error(Errno::ENOTDIR)),
            (false, true) => Err(Error(Errno::EISDIR)),
            (true, true) if held(locked.get(target))?.directory()?.count > 0 => Err(Error(Errno::ENOTEMPTY)),
            _ => Ok(()),
        }
    }

    fn changes(
        &self,
        locked: &Locked<'_>,
        caller: &Caller,
        whiteout: Option<Ino>,
        time: Time,
    ) -> Result<Vec<Change<'a>>> {
        let (from, to) = (self.from.dir.ino, self.to.dir.ino);
        let (source, source_kind) = self.source;
        let exchanged = self.target.filter(|_| self.how == Rename::Exchange);
        let replaced = self.target.filter(|_| self.how != Rename::Exchange);
        let mut changes = Vec::with_capacity(8);
        let (to_below, from_below) = (self.to.found.below, self.from.found.below);
        changes.push(Change::Enter {
            ino: to,
            name: self.to.name,
            below: to_below,
            target: source,
            kind: source_kind,
        });
        if let Some(ino) = whiteout {
            changes.push(make_whiteout(ino, caller, time));
        }
        let left = whiteout.map(|ino| (ino, Kind::CharDevice)).or(exchanged);
        changes.push(match left {
            Some((target, kind)) => Change::Enter {
                ino: from,
                name: self.from.name,
                below: from_below,
                target,
                kind,
            },
            None => Change::Leave {
                ino: from,
                name: self.from.name,
                below: from_below,
            },
        });
        let nlink = |ino| Ok::<u32, Error>(held(locked.get(ino))?.meta.nlink);
        changes.push(Change::Linked {
            ino: source,
            nlink: nlink(source)?,
            ctime: time,
        });
        if let Some((target, _)) = exchanged {
            changes.push(Change::Linked {
                ino: target,
                nlink: nlink(target)?,
                ctime: time,
            });
        }
        if let Some((target, kind)) = replaced {
            let left = if kind == Kind::Directory {
                0
            } else {
                nlink(target)?.saturating_sub(1)
            };
            changes.push(Change::Linked {
                ino: target,
                nlink: left,
                ctime: time,
            });
        }
        if from != to {
            if self.source_is_dir() {
                changes.push(Change::Parent {
                    ino: source,
                    parent: to,
                });
            }
            if let Some((target, Kind::Directory)) = exchanged {
                changes.push(Change::Parent {
                    ino: target,
                    parent: from,
                });
            }
        }
        // Subdirectories that each directory gains and loses.
        let came = u32::from(self.source_is_dir());
        let went = u32::from(self.target_is_dir());
        let back = if exchanged.is_some() { went } else { 0 };
        let count = |ino: Ino, gained: u32, lost: u32| -> Result<u32> {
            Ok(nlink(ino)?.saturating_add(gained).saturating_sub(lost))
        };
        if from == to {
            changes.push(Change::Touch {
                ino: to,
                nlink: count(to, came + back, came + went)?,
                time,
            });
        } else {
            changes.push(Change::Touch {
                ino: to,
                nlink: count(to, came, went)?,
                time,
            });
            changes.push(Change::Touch {
                ino: from,
                nlink: count(from, back, came)?,
                time,
            });
        }
        Ok(changes)
    }
}

fn make_whiteout<'a>(ino: Ino, caller: &Caller, time: Time) -> Change<'a> {
    let meta = Meta {
        perm: 0,
        uid: caller.uid,
        gid: caller.gid,
        nlink: 1,
        rdev: 0,
        atime: time,
        mtime: time,
        ctime: time,
    };
    Change::Make {
        ino,
        kind: Kind::CharDevice,
        meta,
        target: b"",
        parent: Ino(0),
    }
}
