//! What did the container change in a directory? Names over the image's entries.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::journal::format::Below;
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
    slots: HashMap<Arc<Name>, Slot>,
    /// The names that the image does not have, by their place.
    places: BTreeMap<u64, Arc<Name>>,
    next_place: u64,
}

/// What the upper says of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Slot {
    /// The inode, or a whiteout.
    target: Option<(Ino, Kind)>,
    /// Its place among the upper's own names; `None` if the image has the name.
    place: Option<u64>,
}

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

impl Directory {
    /// A directory without names of its own over one of the image's, which has `count` entries.
    pub(crate) fn new(parent: Ino, below: Option<NodeId>, count: u64) -> Directory {
        Directory {
            parent,
            below,
            count,
            slots: HashMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// What the upper knows of a name.
    pub(crate) fn known(&self, name: &Name) -> Known {
        match self.slots.get(name) {
            None => Known::Nothing,
            Some(Slot { target: None, .. }) => Known::Whiteout,
            Some(Slot {
                target: Some((ino, kind)),
                place,
            }) => Known::Entry(
                *ino,
                *kind,
                if place.is_some() {
                    Below::Absent
                } else {
                    Below::Hidden
                },
            ),
        }
    }

    /// Does the upper say nothing at all?
    pub(crate) fn untouched(&self) -> bool {
        self.slots.is_empty()
    }

    /// Points a name to an inode.
    pub(crate) fn enter(&mut self, name: &Name, below: Below, target: Ino, kind: Kind) {
        if let Some(slot) = self.slots.get_mut(name) {
            self.count += u64::from(slot.target.is_none());
            slot.target = Some((target, kind));
            return;
        }
        let name: Arc<Name> = name.to_boxed().into();
        let place = match below {
            // The image's entry was to be seen until now, so the count stays.
            Below::Hidden => None,
            Below::Absent => {
                self.count += 1;
                self.next_place += 1;
                self.places.insert(self.next_place, Arc::clone(&name));
                Some(self.next_place)
            }
        };
        self.slots.insert(
            name,
            Slot {
                target: Some((target, kind)),
                place,
            },
        );
    }

    /// Takes a name away.
    pub(crate) fn leave(&mut self, name: &Name, below: Below) {
        match below {
            Below::Hidden => {
                if !matches!(self.slots.get(name), Some(Slot { target: None, .. })) {
                    self.count = self.count.saturating_sub(1);
                }
                match self.slots.get_mut(name) {
                    Some(slot) => slot.target = None,
                    None => {
                        self.slots.insert(
                            name.to_boxed().into(),
                            Slot {
                                target: None,
                                place: None,
                            },
                        );
                    }
                }
            }
            Below::Absent => {
                if let Some(slot) = self.slots.remove(name) {
                    self.count = self.count.saturating_sub(1);
                    slot.place.map(|place| self.places.remove(&place));
                }
            }
        }
    }

    /// The upper's own names with a place of at least `place`, in that order.
    pub(crate) fn own(&self, place: u64) -> impl Iterator<Item = (u64, &Name, Ino, Kind)> {
        self.places.range(place..).filter_map(|(place, name)| {
            let (ino, kind) = self.slots.get(name)?.target?;
            Some((*place, &**name, ino, kind))
        })
    }
}
