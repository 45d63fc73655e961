//! Which pages of a file are mapped where? Most files have one run or none, some have hundreds of thousands.

use std::collections::BTreeMap;

/// Pages of a file that lie side by side in the data file, or are a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapped {
    pub count: u64,
    /// First page in the data file; `None` is a hole.
    pub at: Option<u64>,
}

/// First page → mapped pages, which do not overlap.
#[derive(Debug)]
pub(crate) enum Pieces {
    /// Sorted.
    Few(Vec<(u64, Mapped)>),
    Many(BTreeMap<u64, Mapped>),
}

/// Pieces that are kept as a list.
const MOST_FEW: usize = 16;

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces::Few(Vec::new())
    }
}

impl Pieces {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Pieces::Few(list) => list.is_empty(),
            Pieces::Many(map) => map.is_empty(),
        }
    }

    /// The last that begins at `page` or before.
    pub(crate) fn before(&self, page: u64) -> Option<(u64, Mapped)> {
        match self {
            Pieces::Few(list) => list.iter().rfind(|(first, _)| *first <= page).copied(),
            Pieces::Many(map) => map
                .range(..=page)
                .next_back()
                .map(|(first, mapped)| (*first, *mapped)),
        }
    }

    /// Those that begin at `page` or behind it, in order.
    pub(crate) fn from(&self, page: u64) -> impl Iterator<Item = (u64, Mapped)> {
        let (few, many) = match self {
            Pieces::Few(list) => {
                let start = list.partition_point(|(first, _)| *first < page);
                (list.get(start..).unwrap_or_default(), None)
            }
            Pieces::Many(map) => (&[][..], Some(map.range(page..))),
        };
        let many = many.into_iter().flatten();
        few.iter()
            .copied()
            .chain(many.map(|(first, mapped)| (*first, *mapped)))
    }

    /// Sets the piece that begins at `page`.
    pub(crate) fn insert(&mut self, page: u64, mapped: Mapped) {
        match self {
            Pieces::Few(list) => {
                let at = list.partition_point(|(first, _)| *first < page);
                match list.get_mut(at).filter(|(first, _)| *first == page) {
                    Some(known) => known.1 = mapped,
                    None => {
                        // One is what most files ever have.
                        if list.is_empty() {
                            list.reserve_exact(1);
                        }
                        list.insert(at, (page, mapped));
                    }
                }
                if list.len() > MOST_FEW {
                    *self = Pieces::Many(list.iter().copied().collect());
                }
            }
            Pieces::Many(map) => {
                map.insert(page, mapped);
            }
        }
    }

    /// Takes out the piece that begins at `page`.
    pub(crate) fn remove(&mut self, page: u64) {
        match self {
            Pieces::Few(list) => list.retain(|(first, _)| *first != page),
            Pieces::Many(map) => {
                map.remove(&page);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list and a map tell the same, of as many pieces as a list may have and of more.
    #[test]
    fn few_are_as_many() {
        let mut pieces = Pieces::default();
        let mut map = BTreeMap::new();
        let mut chance = 7u64;
        for step in 0..4000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let page = (chance >> 33) % 40;
            // First they come and go, then they only come.
            if step < 3000 && (step % 3 > 0 || map.len() >= MOST_FEW) {
                pieces.remove(page);
                map.remove(&page);
            } else {
                let mapped = Mapped {
                    count: step,
                    at: (step % 2 == 0).then_some(page),
                };
                pieces.insert(page, mapped);
                map.insert(page, mapped);
            }
            let copied = |(first, mapped): (&u64, &Mapped)| (*first, *mapped);
            assert!(pieces.from(page).eq(map.range(page..).map(copied)));
            assert_eq!(pieces.before(page), map.range(..=page).next_back().map(copied));
            assert_eq!(pieces.is_empty(), map.is_empty());
        }
        assert!(matches!(pieces, Pieces::Many(_)));
    }
}
