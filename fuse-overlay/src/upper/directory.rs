//! What did the container change in a directory? Names over the image's entries.

use super::journal::format::{Below, MOST_PLACES};
use super::names::{Names, Target};
use crate::attr::{Ino, Kind};
use crate::index::NodeId;
use crate::name::Name;

/// A directory of the upper: the image's entries of `below`, if any, with the changes over them.
///
/// A name has a place in listings that stays while other names come and go: that of the image's entry of the same name
/// if there is one, else a number that only grows.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The directory that holds it; the root's is itself.
    pub parent: Ino,
    /// The image's directory whose entries show through.
    pub below: Option<NodeId>,
    /// Names to see.
    pub count: u64,
    /// Names that the image does not have.
    own: Names,
    /// Those that it has, too. Their places are the image's; here they have others, only to be gone through: from [`HIDING`] on.
    hiding: Names,
    last_place: u64,
    last_hiding: u64,
}

/// Places of names that hide the image's are above this.
const HIDING: u64 = MOST_PLACES;

/// What the upper knows of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// It is there. [`Below`] tells whether the image has the name too.
    Entry(Ino, Kind, Below),
    /// The image's entry is hidden.
    Whiteout,
    /// Nothing: ask the image's directory, if there is one.
    Nothing,
}

impl Known {
    fn of(target: Target, below: Below) -> Known {
        match target {
            Some((ino, kind)) => Known::Entry(ino, kind, below),
            None => Known::Whiteout,
        }
    }
}

impl Directory {
    /// A directory without names of its own over one of the image's, which has `count` entries.
    pub(crate) fn new(parent: Ino, below: Option<NodeId>, count: u64) -> Directory {
        Directory {
            parent,
            below,
            count,
            own: Names::default(),
            hiding: Names::default(),
            last_place: 0,
            last_hiding: HIDING,
        }
    }

    /// What the upper knows of a name.
    pub(crate) fn known(&self, name: &Name) -> Known {
        if let Some((_, target)) = self.own.get(name) {
            return Known::of(target, Below::Absent);
        }
        match self.hiding.get(name) {
            Some((_, target)) => Known::of(target, Below::Hidden),
            None => Known::Nothing,
        }
    }

    /// Does the upper say nothing at all?
    pub(crate) fn untouched(&self) -> bool {
        self.own.is_empty() && self.hiding.is_empty()
    }

    /// Points a name that is here to another target, and gives the one before.
    fn set(&mut self, name: &Name, target: Target) -> Option<Target> {
        let own = self.own.set(name, target);
        own.or_else(|| self.hiding.set(name, target))
    }

    /// Points a name to an inode.
    pub(crate) fn enter(&mut self, name: &Name, below: Below, target: Ino, kind: Kind) {
        let target = Some((target, kind));
        if let Some(before) = self.set(name, target) {
            self.count += u64::from(before.is_none());
            return;
        }
        match below {
            // The image's entry was to be seen until now, so the count stays.
            Below::Hidden => self.hide(name, target),
            Below::Absent => {
                self.count += 1;
                // No directory lives long enough to come to the last; a journal that says so gets no further.
                self.last_place = (self.last_place + 1).min(HIDING - 1);
                self.own.remove_at(self.last_place);
                self.own.insert(name, self.last_place, target);
            }
        }
    }

    /// Takes a name away.
    pub(crate) fn leave(&mut self, name: &Name, below: Below) {
        match below {
            Below::Hidden => {
                let before = self.set(name, None);
                if before != Some(None) {
                    self.count = self.count.saturating_sub(1);
                }
                if before.is_none() {
                    self.hide(name, None);
                }
            }
            Below::Absent => {
                if self.own.remove(name) || self.hiding.remove(name) {
                    self.count = self.count.saturating_sub(1);
                }
            }
        }
    }

    fn hide(&mut self, name: &Name, target: Target) {
        self.last_hiding += 1;
        self.hiding.insert(name, self.last_hiding, target);
    }

    /// Points a name that the image does not have to an inode, at a place. [`Directory::set_names`] follows.
    pub(crate) fn put(&mut self, name: &Name, place: u64, target: Ino, kind: Kind) {
        self.own.remove(name);
        self.hiding.remove(name);
        self.own.remove_at(place);
        self.own.insert(name, place, Some((target, kind)));
    }

    /// Sets how many names are to be seen, and the last place that was given.
    pub(crate) fn set_names(&mut self, count: u64, last: u64) {
        self.count = count;
        self.last_place = last;
    }

    /// The last place that was given to a name of the upper's own.
    pub(crate) fn last_place(&self) -> u64 {
        self.last_place
    }

    /// The upper's own names with a place of at least `place`, in that order.
    pub(crate) fn own(&self, place: u64) -> impl Iterator<Item = (u64, &Name, Ino, Kind)> {
        self.own.from(place).filter_map(|(place, name, target)| {
            let (ino, kind) = target?;
            Some((place, name, ino, kind))
        })
    }

    /// All that it says of names, from a key on that grows from one to the next.
    pub(crate) fn said(&self, from: u64) -> impl Iterator<Item = (u64, &Name, Known)> {
        let known =
            |below| move |(key, name, target): (u64, _, Target)| (key, name, Known::of(target, below));
        let own = self.own.from(from).map(known(Below::Absent));
        own.chain(self.hiding.from(from).map(known(Below::Hidden)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn own(directory: &Directory) -> Vec<(u64, &str, u64)> {
        let text = |name: &'_ Name| -> &'_ str { Box::leak(String::from_utf8_lossy(name.as_bytes()).into()) };
        directory
            .own(0)
            .map(|(place, name, ino, _)| (place, text(name), ino.0))
            .collect()
    }

    #[test]
    fn a_name_put_at_its_place_displaces_what_stood_there() {
        let mut directory = Directory::new(Ino(1), None, 0);
        for (text, ino) in [("a", 5), ("b", 6)] {
            directory.enter(name(text), Below::Absent, Ino(ino), Kind::Regular);
        }
        directory.put(name("b"), 1, Ino(7), Kind::Regular);
        directory.put(name("c"), 40, Ino(8), Kind::Regular);
        directory.set_names(2, 90);
        assert_eq!(own(&directory), [(1, "b", 7), (40, "c", 8)]);
        assert_eq!(directory.known(name("a")), Known::Nothing);
        directory.enter(name("d"), Below::Absent, Ino(9), Kind::Regular);
        assert_eq!(own(&directory).last(), Some(&(91, "d", 9)));
        assert_eq!(directory.count, 3);
    }

    #[test]
    fn names_that_hide_the_images_are_said_but_have_no_place_of_their_own() {
        let mut directory = Directory::new(Ino(1), Some(NodeId(0)), 2);
        directory.enter(name("a"), Below::Hidden, Ino(5), Kind::Regular);
        directory.leave(name("b"), Below::Hidden);
        directory.enter(name("c"), Below::Absent, Ino(6), Kind::Fifo);
        assert_eq!(own(&directory), [(1, "c", 6)]);
        let said: Vec<Known> = directory.said(0).map(|(_, _, known)| known).collect();
        let a = Known::Entry(Ino(5), Kind::Regular, Below::Hidden);
        let c = Known::Entry(Ino(6), Kind::Fifo, Below::Absent);
        assert_eq!((said, directory.count), (vec![c, a, Known::Whiteout], 2));
    }
}
