//! Where does a path of the tar lead in the tar's own tree? Symlinks are followed as in a root directory of its own, so
//! that no path leaves the tree.

use super::tree::{Index, NOT_A_DIRECTORY, ROOT, Tree, What, name_fault};
use crate::name::Name;
use crate::tar::Fault;

/// As many symlinks as Linux follows in one path (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// The way along a path, through the symlinks of the tree.
pub(super) struct Walk {
    /// The directories from the root to here, with their names.
    pub(super) trail: Vec<(Index, Vec<u8>)>,
    /// What is still to go, the next last. The lowest `own` are the path's own, the others come from symlinks.
    pub(super) todo: Vec<Vec<u8>>,
    own: usize,
    symlinks: usize,
}

/// Where a walk stops.
pub(super) enum Stop {
    /// At its end.
    Directory(Index),
    /// At a name that is not there; `in_link` if a symlink's target asked for it.
    Missing {
        dir: Index,
        name: Box<Name>,
        in_link: bool,
    },
}

impl Walk {
    pub(super) fn new(path: &[&Name]) -> Walk {
        let todo = path.iter().rev().map(|name| name.as_bytes().to_vec()).collect();
        Walk {
            trail: vec![(ROOT, Vec::new())],
            todo,
            own: path.len(),
            symlinks: 0,
        }
    }

    /// Goes on in a directory that was missing and is there now.
    pub(super) fn enter(&mut self, dir: Index) {
        self.trail.push((dir, Vec::new()));
    }

    /// Goes as far as it can.
    pub(super) fn go(&mut self, tree: &Tree) -> Result<Stop, Fault> {
        while let Some(component) = self.todo.pop() {
            let in_link = self.todo.len() >= self.own;
            self.own = self.own.min(self.todo.len());
            let dir = self.trail.last().map_or(ROOT, |&(dir, _)| dir);
            let name = match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if self.trail.len() > 1 {
                        self.trail.pop();
                    }
                    continue;
                }
                name => Name::new(name).map_err(name_fault)?,
            };
            let Some(node) = tree.child(dir, name)?.and_then(|child| child.node) else {
                return Ok(Stop::Missing {
                    dir,
                    name: name.to_boxed(),
                    in_link,
                });
            };
            match tree.what(node) {
                Some(What::Directory { .. }) => self.trail.push((node, component)),
                Some(What::Symlink(target)) => self.follow(target)?,
                _ => return Err(NOT_A_DIRECTORY),
            }
        }
        Ok(Stop::Directory(self.trail.last().map_or(ROOT, |&(dir, _)| dir)))
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), Fault> {
        self.symlinks += 1;
        if self.symlinks > MAX_SYMLINKS {
            return Err("too many symlinks on the way");
        }
        if target.starts_with(b"/") {
            self.trail.truncate(1);
        }
        self.todo
            .extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
        Ok(())
    }
}
