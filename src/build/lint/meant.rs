//! Which known name was probably meant by one that is unknown?

use std::cell::Cell;

/// Longer than any name, and more than anybody has.
const LONGEST: usize = 64;
const MOST_KNOWN: usize = 1000;
/// So many pairs of letters are compared for a whole file, each known name counting at least as one. Behind that nothing is
/// proposed: unknown names times known ones is more than a text of that length should cost.
const MOST_PAIRS: usize = 1 << 24;

/// Proposes names.
#[derive(Debug)]
pub(in crate::build) struct Meant {
    /// Pairs that may still be compared.
    room: Cell<usize>,
}

impl Default for Meant {
    fn default() -> Meant {
        let room = Cell::new(MOST_PAIRS);
        Meant { room }
    }
}

impl Meant {
    /// ` (did you mean X?)`, for the name that was probably meant.
    pub(in crate::build) fn of<'a>(
        &self,
        sign: &str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> String {
        match self.nearest(name, known) {
            Some((distance, near)) if distance < 3 && distance < name.chars().count() => {
                format!(" (did you mean {sign}{near}?)")
            }
            _ => String::new(),
        }
    }

    /// `None` if there is none, or no room to look at all.
    fn nearest<'a>(&self, name: &str, known: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
        let mut nearest = None;
        for known in known.take(MOST_KNOWN) {
            let is_short = known.len() <= LONGEST && name.len() <= LONGEST;
            let pairs = if is_short { name.len() * known.len() } else { 0 };
            let room = self.room.replace(0).checked_sub(pairs.max(1))?;
            self.room.set(room);
            if is_short {
                let found = (strsim::osa_distance(name, known), known);
                nearest = Some(nearest.map_or(found, |nearest| found.min(nearest)));
            }
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_if_it_is_near() {
        let of = |name: &str| Meant::default().of("$", name, ["VARIANT", "PATH"].into_iter());
        assert_eq!(of("VARIANTS"), " (did you mean $VARIANT?)");
        assert_eq!(of("PAHT"), " (did you mean $PATH?)");
        assert_eq!(of("OTHER"), "");
        assert_eq!(Meant::default().of("", "a", ["b"].into_iter()), "");
        assert_eq!(Meant::default().of("", "a", std::iter::empty()), "");
    }

    #[test]
    fn a_file_has_room_for_so_many_comparisons() {
        for long in [LONGEST, LONGEST * 2] {
            let known: Vec<String> = (0..MOST_KNOWN).map(|n| format!("{n:0>long$}")).collect();
            let meant = Meant::default();
            let last = known.last().unwrap();
            let of = |_: usize| meant.of("", last, known.iter().map(String::as_str));
            let each = if long == LONGEST { LONGEST * LONGEST } else { 1 };
            let names = MOST_PAIRS / (MOST_KNOWN * each);
            let proposed: Vec<bool> = (0..names + 2).map(of).map(|text| !text.is_empty()).collect();
            let is_all = |list: &[bool], what: bool| list.iter().all(|one| *one == what);
            assert!(is_all(&proposed[..names], long == LONGEST));
            assert!(is_all(&proposed[names..], false));
            assert_eq!(meant.room.get(), 0);
            assert_eq!(meant.of("", "ab", ["abc"].into_iter()), "");
        }
    }
}
