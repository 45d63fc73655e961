//! What do `--filter`s choose, of what is listed and of what is pruned?

use std::mem::discriminant;

use super::report::Failure;
use crate::containers::prune::Filter;

/// Docker's rule for listings: several of one kind widen the choice, but those that `narrow` it must all hold; so must
/// different kinds.
pub(super) fn all_match<F>(
    filters: &[F],
    narrows: impl Fn(&F) -> bool,
    matches: impl Fn(&F) -> bool,
) -> bool {
    filters.iter().all(|filter| {
        let same_kind = |other: &&F| discriminant(*other) == discriminant(filter);
        match narrows(filter) {
            true => matches(filter),
            false => filters.iter().filter(same_kind).any(&matches),
        }
    })
}

/// Those of a prune.
pub(super) fn of_prune(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    read(texts, |_| true, "until, label and label! work here")
}

/// Those of a prune that asks for labels alone.
pub(super) fn of_prune_by_label(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    let is_label = |filter: &Filter| !matches!(filter, Filter::Until(_));
    read(texts, is_label, "label and label! work here")
}

fn read(texts: &[String], takes: impl Fn(&Filter) -> bool, hint: &str) -> Result<Vec<Filter>, Failure> {
    let one = |text: &String| {
        let filter = Filter::parse(text).filter(&takes);
        filter.ok_or_else(|| Failure::new(format!("invalid filter '{text}'")).hint(Some(hint)))
    };
    texts.iter().map(one).collect()
}
