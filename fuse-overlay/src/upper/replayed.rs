//! What does a journal say when it is read? The inode table as it grows, from nothing, or from what its list has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::content::Run;
use super::inode::{Body, Inode, State};
use super::journal::format::{BootId, Change, Image};
use super::journal::list::List;
use super::journal::replay::{self, Origin, Part, Read, ReplayError};
use super::listed::{CopyUp, Listed, reset};
use super::table::Table;
use crate::attr::Ino;
use crate::disk::Disk;
use crate::error::Result;
use crate::ledger::Ledger;

/// The inode table as it grows during a replay.
#[derive(Debug)]
pub(super) struct Replayed {
    pub table: Table,
    /// What the inodes have that are only in the list.
    unread: Unread,
    image_end: u64,
    /// The highest inode number so far.
    pub last: Ino,
    /// Records behind this one are of the connection that another server had before; `None` if there was none.
    began: Option<u64>,
    /// The requests whose fate is to be known.
    in_hand: Vec<u64>,
    pub happened: HashMap<u64, Option<Ino>>,
    /// Inodes that names point to, and that the checkpoint has yet to say.
    owed: HashSet<Ino>,
}

/// What an inode is like that no record has changed yet.
#[derive(Clone, Copy)]
struct Below<'a> {
    /// The journal, whose list may have it.
    disk: &'a dyn Disk,
    /// Else the image has it.
    copy_up: CopyUp<'a>,
}

/// What inodes have: with names those that are not the image's, and pages of the data file.
#[derive(Debug, Default)]
struct Unread {
    named: u64,
    /// First page → end.
    used: BTreeMap<u64, u64>,
}

impl Unread {
    fn of(list: &List) -> Unread {
        Unread {
            named: list.named,
            used: list.used.iter().map(|run| (run.start, run.end)).collect(),
        }
    }

    /// Without those of an inode that was read.
    fn take_out(&mut self, inode: &Inode, image_end: u64) {
        let state = inode.read();
        if inode.ino.0 > image_end && state.meta.nlink > 0 {
            self.named = self.named.saturating_sub(1);
        }
        if let Body::Regular(content) = &state.body {
            content.runs().for_each(|run| self.take_run(&run));
        }
    }

    fn take_run(&mut self, run: &Run) {
        while let Some((&start, &end)) = self
            .used
            .range(..run.end)
            .next_back()
            .filter(|(_, end)| **end > run.start)
        {
            self.used.remove(&start);
            for rest in [start..run.start, run.end..end] {
                if rest.start < rest.end {
                    self.used.insert(rest.start, rest.end);
                }
            }
        }
    }
}

impl Replayed {
    /// Reads a journal over the image; with a list, only what follows it.
    pub(super) fn read(
        disk: &dyn Disk,
        image: Image,
        boot: BootId,
        ledger: &Ledger,
        list: Option<&List>,
        copy_up: CopyUp<'_>,
    ) -> std::result::Result<(Read, Replayed), ReplayError> {
        let image_end = image.node_count.into();
        let table = Table::new(list.map(|list| Listed::new(list, image_end)));
        let mut replayed = Replayed {
            // Never given again, whatever the journal says of those that were given.
            last: list.map_or(Ino(0), |list| list.last).max(Ino(image_end)),
            table,
            unread: list.map(Unread::of).unwrap_or_default(),
            image_end,
            began: ledger.began(),
            in_hand: ledger.in_hand(),
            happened: HashMap::new(),
            owed: HashSet::new(),
        };
        let below = Below { disk, copy_up };
        let read = replay::read(disk, image, boot, list, &mut |origin, change| {
            replayed.note(origin, &change);
            replayed.apply(origin, &change, below)
        })?;
        for ino in list.iter().flat_map(|list| &list.nameless) {
            // Damage is told by who reads all.
            replayed.known(*ino, below).map_err(|_| ReplayError::Damaged(0))?;
        }
        if !replayed.owed.is_empty() {
            // ESTALE for who uses such a name. No journal of ours says that, and to refuse all else would help nobody.
            tracing::error!(inodes = ?replayed.owed, "names in the writable layer point to what it does not have");
        }
        Ok((read, replayed))
    }

    /// Remembers what a request of this connection did.
    fn note(&mut self, origin: Origin, change: &Change<'_>) {
        let (sequence, unique, made) = match *change {
            Change::Done {
                ino,
                sequence,
                unique,
            } => (sequence, unique, (ino != Ino(0)).then_some(ino)),
            Change::Make { ino, .. } => (origin.sequence, origin.unique, Some(ino)),
            _ => (origin.sequence, origin.unique, None),
        };
        if self.began.is_none_or(|began| sequence <= began) || !self.in_hand.contains(&unique) {
            return;
        }
        let known = self.happened.entry(unique).or_default();
        *known = made.or(*known);
    }

    fn apply(&mut self, origin: Origin, change: &Change<'_>, below: Below<'_>) -> bool {
        match *change {
            Change::Make {
                ino,
                kind,
                meta,
                target,
                parent,
            } => {
                let again = origin.part != Part::State && !self.is_unknown(ino, below);
                if again || !self.could_be_made(ino) {
                    return false;
                }
                self.last = self.last.max(ino);
                self.owed.remove(&ino);
                let state = State::made(kind, meta, target, parent);
                self.table.insert(Arc::new(Inode::new(ino, state)));
                true
            }
            Change::Forget { ino } => {
                self.owed.remove(&ino);
                let known = self.known(ino, below).is_ok();
                self.table.remove(ino);
                known
            }
            Change::Reset { ino } => reset(ino, below.copy_up).is_ok_and(|inode| {
                self.table.insert(Arc::new(inode));
                true
            }),
            Change::Given { ino } => {
                self.last = self.last.max(ino);
                ino.0 == self.image_end || self.could_be_made(ino)
            }
            Change::Done { .. } => true,
            // The checkpoint says later what it was like then, if it was still there.
            _ if origin.part == Part::Within && self.is_unknown(change.ino(), below) => true,
            Change::Enter { target, .. } | Change::Place { target, .. } if self.is_unknown(target, below) => {
                self.owed.insert(target);
                origin.part != Part::Operation && self.alter(change, below)
            }
            _ => self.alter(change, below),
        }
    }

    /// Far more numbers than any container can use, and no overflow when counting on.
    fn could_be_made(&self, ino: Ino) -> bool {
        (self.image_end + 1..u64::MAX / 2).contains(&ino.0)
    }

    /// Is it neither the image's nor made so far?
    fn is_unknown(&self, ino: Ino, below: Below<'_>) -> bool {
        // One that cannot be read fails when it is changed.
        let waits = || self.table.is_waiting(ino, below.disk).unwrap_or(true);
        ino.0 > self.image_end && self.table.get(ino).is_none() && !waits()
    }

    /// The inode, if it is in the table or the list.
    fn known(&mut self, ino: Ino, below: Below<'_>) -> Result<Option<Arc<Inode>>> {
        let is_read = self.table.is_waiting(ino, below.disk)?;
        let found = self.table.find(ino, below.disk, below.copy_up)?;
        if let Some(inode) = found.as_ref().filter(|_| is_read) {
            self.unread.take_out(inode, self.image_end);
        }
        Ok(found)
    }

    fn alter(&mut self, change: &Change<'_>, below: Below<'_>) -> bool {
        let ino = change.ino();
        let found = match self.known(ino, below) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.table.get_or(ino, || (below.copy_up)(ino)),
            Err(error) => Err(error),
        };
        let mut freed: Vec<Run> = Vec::new();
        found.is_ok_and(|inode| inode.write().apply(change, &mut freed))
    }

    /// Takes inodes without names that nobody holds, which were open when the layer was last used, out of the table. Gives the
    /// data pages of all others, and how many of those with names are not the image's.
    pub(super) fn drop_orphans(&self, is_held: impl Fn(Ino) -> bool) -> (Vec<Run>, u64) {
        let mut named = self.unread.named;
        let unread = self.unread.used.iter();
        let mut used: Vec<Run> = unread.map(|(start, end)| *start..*end).collect();
        for inode in self.table.all() {
            let state = inode.read();
            if state.meta.nlink == 0 && !is_held(inode.ino) {
                self.table.remove(inode.ino);
                continue;
            }
            named += u64::from(inode.ino.0 > self.image_end && state.meta.nlink > 0);
            if let Body::Regular(content) = &state.body {
                used.extend(content.runs());
            }
        }
        (used, named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_an_inode_that_was_read_are_its_own() {
        let mut unread = Unread {
            used: BTreeMap::from([(0, 10), (20, 30)]),
            ..Unread::default()
        };
        for run in [3..5, 0..1, 8..10, 20..30, 40..50] {
            unread.take_run(&run);
        }
        assert_eq!(unread.used, BTreeMap::from([(1, 3), (5, 8)]));
        unread.take_run(&(0..100));
        assert!(unread.used.is_empty());
    }
}
