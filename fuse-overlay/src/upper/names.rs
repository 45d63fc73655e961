//! A directory's names, each with its place and target, in as little memory as their number allows: a container may make millions.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::attr::{Ino, Kind};
use crate::name::Name;

/// What stands at a name: an inode, or a whiteout.
pub(crate) type Target = Option<(Ino, Kind)>;

/// Names in the order of their places, found by either.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The bytes of all names, one behind the other.
    text: Vec<u8>,
    /// As they came. Those that are gone stay, empty, until they are as many as the others.
    entries: Vec<Entry>,
    /// Where in `entries` each place is. `None` while all came in the order of their places, as names do: only where a journal
    /// says a large directory in parts, and others were made between two parts, it is otherwise.
    order: Option<BTreeMap<u64, u32>>,
    gone: usize,
    /// Where in `entries` each name is.
    index: HashTable<u32>,
    /// Containers choose names: which of them collide is secret.
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: u64,
    /// 0 is a whiteout.
    target: u64,
    name: Text,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// Where a name's bytes are: 48 bits for the first of them, 8 for how many, 8 for the target's kind. No name has none, so one that
/// is gone has.
#[derive(Clone, Copy, Debug)]
struct Text(u64);

impl Text {
    fn new(start: usize, length: usize, kind: u8) -> Text {
        Text((start as u64) << 16 | (length as u64) << 8 | u64::from(kind))
    }

    fn length(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }

    fn of(self, text: &[u8]) -> &[u8] {
        let start = (self.0 >> 16) as usize;
        text.get(start..start + self.length()).unwrap_or_default()
    }

    fn kind(self) -> u8 {
        self.0 as u8
    }
}

impl Entry {
    fn target(&self) -> Target {
        let kind = Kind::from_dtype(self.name.kind())?;
        (self.target != 0).then_some((Ino(self.target), kind))
    }

    fn set(&mut self, target: Target) {
        let (ino, kind) = target.map_or((0, 0), |(ino, kind)| (ino.0, kind as u8));
        self.target = ino;
        self.name = Text(self.name.0 & !0xff | u64::from(kind));
    }

    fn is_gone(&self) -> bool {
        self.name.length() == 0
    }
}

impl Names {
    /// A name's place and target.
    pub(crate) fn get(&self, name: &Name) -> Option<(u64, Target)> {
        let entry = self.entries.get(self.position(name)?)?;
        Some((entry.place, entry.target()))
    }

    /// Points a name to another target, and gives the one before. `None` if it is not there.
    pub(crate) fn set(&mut self, name: &Name, target: Target) -> Option<Target> {
        let at = self.position(name)?;
        let entry = self.entries.get_mut(at)?;
        let before = entry.target();
        entry.set(target);
        Some(before)
    }

    /// Adds a name that is not there at a place where none is. Mostly the last.
    pub(crate) fn insert(&mut self, name: &Name, place: u64, target: Target) {
        let bytes = name.as_bytes();
        let mut entry = Entry {
            place,
            target: 0,
            name: Text::new(self.text.len(), bytes.len(), 0),
        };
        entry.set(target);
        if self.entries.last().is_some_and(|last| place <= last.place) {
            self.keep_order();
        }
        make_room(&mut self.text, bytes.len());
        make_room(&mut self.entries, 1);
        self.text.extend_from_slice(bytes);
        let at = self.entries.len();
        self.entries.push(entry);
        if let Some(order) = &mut self.order {
            order.insert(place, at as u32);
        }
        self.enter(at);
    }

    /// Takes a name away.
    pub(crate) fn remove(&mut self, name: &Name) -> bool {
        let Some(at) = self.position(name) else {
            return false;
        };
        self.take(at);
        true
    }

    /// Takes the name away that is at a place.
    pub(crate) fn remove_at(&mut self, place: u64) {
        let found = match &self.order {
            Some(order) => order.get(&place).map(|at| *at as usize),
            None => self
                .entries
                .binary_search_by_key(&place, |entry| entry.place)
                .ok(),
        };
        if let Some(at) = found.filter(|at| self.entries.get(*at).is_some_and(|entry| !entry.is_gone())) {
            self.take(at);
        }
    }

    /// Are there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Those from a place on, in order.
    pub(crate) fn from(&self, place: u64) -> impl Iterator<Item = (u64, &Name, Target)> {
        let (sorted, ordered) = match &self.order {
            Some(order) => (&[][..], Some(order.range(place..))),
            None => {
                let first = self.entries.partition_point(|entry| entry.place < place);
                (self.entries.get(first..).unwrap_or_default(), None)
            }
        };
        let ordered = ordered.into_iter().flatten();
        let ordered = ordered.filter_map(|(_, at)| self.entries.get(*at as usize));
        sorted.iter().chain(ordered).filter_map(|entry| {
            // One that is gone has no bytes, hence is no name.
            let name = Name::new(entry.name.of(&self.text)).ok()?;
            Some((entry.place, name, entry.target()))
        })
    }

    fn position(&self, name: &Name) -> Option<usize> {
        if self.index.is_empty() {
            return None;
        }
        let bytes = name.as_bytes();
        let is_it = |at: &u32| self.bytes(*at) == bytes;
        let found = self.index.find(self.hasher.hash_one(bytes), is_it);
        found.map(|at| *at as usize)
    }

    fn bytes(&self, at: u32) -> &[u8] {
        let entry = self.entries.get(at as usize);
        entry.map_or(&[], |entry| entry.name.of(&self.text))
    }

    /// Puts the name of an entry into the index.
    fn enter(&mut self, at: usize) {
        let Names {
            text,
            entries,
            index,
            hasher,
            ..
        } = self;
        let hash = |at: &u32| {
            let entry = entries.get(*at as usize);
            hasher.hash_one(entry.map_or(&[][..], |entry| entry.name.of(text)))
        };
        let at = at as u32;
        index.insert_unique(hash(&at), at, hash);
    }

    /// From here on, places come in any order.
    fn keep_order(&mut self) {
        let entries = &self.entries;
        self.order.get_or_insert_with(|| {
            let all = (0..).zip(entries).filter(|(_, entry)| !entry.is_gone());
            all.map(|(at, entry)| (entry.place, at)).collect()
        });
    }

    fn take(&mut self, at: usize) {
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let hash = self.hasher.hash_one(entry.name.of(&self.text));
        entry.name = Text(0);
        if let Some(order) = &mut self.order {
            order.remove(&entry.place);
        }
        if let Ok(found) = self.index.find_entry(hash, |other| *other as usize == at) {
            found.remove();
        }
        self.gone += 1;
        if self.gone > 16 && self.gone > self.index.len() {
            self.compact();
        }
    }

    /// Gives back what names take that are gone.
    fn compact(&mut self) {
        let mut kept = Names {
            entries: Vec::with_capacity(self.index.len()),
            index: HashTable::with_capacity(self.index.len()),
            ..Names::default()
        };
        self.from(0)
            .for_each(|(place, name, target)| kept.insert(name, place, target));
        *self = kept;
    }
}

/// Makes room for `more`, and for an eighth of what is there: a vector by itself would double.
fn make_room<T>(vector: &mut Vec<T>, more: usize) {
    if vector.capacity() - vector.len() < more {
        vector.reserve_exact(more.max(vector.len() / 8));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn seen(names: &Names, from: u64) -> Vec<(u64, Vec<u8>, Target)> {
        let owned = |(place, name, target): (u64, &Name, Target)| (place, name.as_bytes().to_vec(), target);
        names.from(from).map(owned).collect()
    }

    /// As a map from places, whatever comes and goes, and where.
    #[test]
    fn names_are_found_by_name_and_place() {
        let mut names = Names::default();
        let mut map: BTreeMap<u64, (Vec<u8>, Target)> = BTreeMap::new();
        let mut chance = 7u64;
        let mut below = |n: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (chance >> 33) % n
        };
        for step in 0..20_000u64 {
            let text = format!("name{}", below(200)).into_bytes();
            let name = Name::new(&text).unwrap();
            let target = (below(3) > 0).then_some((Ino(step + 1), Kind::Regular));
            let known = map
                .iter()
                .find(|(_, (other, _))| *other == text)
                .map(|(place, _)| *place);
            assert_eq!(names.get(name), known.map(|place| (place, map[&place].1)));
            match (known, below(4)) {
                (Some(place), 0) => {
                    assert_eq!(names.set(name, target), Some(map[&place].1));
                    map.insert(place, (text.clone(), target));
                }
                (Some(place), 1) => {
                    names.remove_at(place);
                    map.remove(&place);
                }
                (Some(place), _) => {
                    assert!(names.remove(name));
                    map.remove(&place);
                }
                (None, how) => {
                    assert!(!names.remove(name));
                    // Mostly the last place, as names come; sometimes another.
                    let last = map.last_key_value().map_or(0, |(place, _)| *place);
                    let place = if how > 0 { last + 1 } else { below(last + 2) };
                    map.entry(place).or_insert_with(|| {
                        names.insert(name, place, target);
                        (text.clone(), target)
                    });
                }
            }
            assert_eq!(names.is_empty(), map.is_empty());
            if step % 50 == 0 {
                let from = below(60);
                let owned = map
                    .range(from..)
                    .map(|(place, (text, target))| (*place, text.clone(), *target));
                assert_eq!(seen(&names, from), owned.collect::<Vec<_>>());
            }
        }
        assert!(names.entries.len() < 1000 && names.text.len() < 20_000);
    }

    /// A large directory, said in parts, in which names are made between the first two parts.
    #[test]
    fn names_that_come_late_cost_no_more() {
        let mut names = Names::default();
        let many = 100_000u64;
        for place in (0..500).chain(many + 1..many * 2).chain(500..=many) {
            let text = format!("{place}");
            names.insert(Name::new(text.as_bytes()).unwrap(), place, None);
        }
        assert!(names.from(0).map(|(place, ..)| place).eq(0..many * 2));
        // Each found by its name, too.
        for place in many + 1..many * 2 {
            let text = format!("{place}");
            assert!(names.remove(Name::new(text.as_bytes()).unwrap()));
        }
        assert!(names.from(7).map(|(place, ..)| place).eq(7..=many));
    }

    /// Of which a container may make millions.
    #[test]
    fn a_name_takes_little() {
        let mut names = Names::default();
        for number in 0..10_000u64 {
            let text = format!("{number:08}");
            names.insert(Name::new(text.as_bytes()).unwrap(), number, None);
        }
        let entries = names.entries.capacity() * size_of::<Entry>() + names.text.capacity();
        let taken = entries + names.index.allocation_size();
        assert!(taken <= 10_000 * 48, "{} bytes a name", taken / 10_000);
    }
}
