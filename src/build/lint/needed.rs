//! Which stages does the target need? As the build will find out, but what is wrong is left to it.

use std::collections::BTreeSet;

use super::Look;
use crate::build::dockerfile::{From, Instruction};
use crate::build::solve::expanded;

/// The stage that is to be built. It need not be there.
pub(in crate::build) fn target(look: &Look<'_>) -> Option<usize> {
    let count = look.file.stages.len();
    match &look.order.target {
        None => count.checked_sub(1),
        Some(name) => find(look, name, count).or_else(|| name.parse().ok()),
    }
}

pub(in crate::build) fn stages(look: &Look<'_>) -> BTreeSet<usize> {
    let (mut needed, mut next) = (BTreeSet::new(), Vec::from_iter(target(look)));
    while let Some(number) = next.pop() {
        if needed.insert(number) {
            next.extend(uses(look, number));
        }
    }
    needed
}

/// The last stage of a name, among the first `before`.
fn find(look: &Look<'_>, name: &str, before: usize) -> Option<usize> {
    let lower = name.to_lowercase();
    let stages = look.file.stages.iter().take(before);
    stages
        .map(|stage| stage.from.name.as_deref())
        .rposition(|known| known == Some(&lower))
}

/// The stage that FROM means.
pub(in crate::build) fn base(look: &Look<'_>, from: &From, number: usize) -> Option<usize> {
    let name = image(look, from);
    match look.order.named(&name) {
        Some(_) => None,
        None => find(look, &name, number),
    }
}

/// What FROM names, variables replaced.
pub(super) fn image(look: &Look<'_>, from: &From) -> String {
    let get = |name: &str| look.global.of_from(&look.given, name);
    expanded(look.file.directives.escape, &from.image, &get).unwrap_or_default()
}

/// The stages that a stage names, the one that it stands on first.
pub(in crate::build) fn uses(look: &Look<'_>, number: usize) -> Vec<usize> {
    let Some(stage) = look.file.stages.get(number) else {
        return Vec::new();
    };
    let named = stage.steps.iter().flat_map(|step| match &step.instruction {
        Instruction::Copy(copy) => copy.from.iter().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| mount.from.as_ref())
            .collect(),
        _ => Vec::new(),
    });
    let by_number = |name: &String| name.parse().ok().filter(|earlier| *earlier < number);
    let named = named.filter(|name| look.order.named(name).is_none());
    let named = named.filter_map(|name| find(look, name, number).or_else(|| by_number(name)));
    base(look, &stage.from, number).into_iter().chain(named).collect()
}
