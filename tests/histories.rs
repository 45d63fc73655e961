//! Random histories of commands, and of processes that are killed, against a model of the states; and two commands on one
//! container at once, whose outcome must be that of one order or the other.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;
#[path = "histories/model.rs"]
mod model;
#[path = "histories/step.rs"]
mod step;
#[path = "histories/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::process::Child;
use std::time::UNIX_EPOCH;

use model::{Kind, Model};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError};
use step::{Step, command, step};
use store::Stand;

/// Histories mostly wait, so this many are gone through side by side.
const PARTS: u64 = 4;

/// More of them, other ones each time: `BRYO_HISTORIES=200 cargo test --test histories`; `BRYO_SEED` has those of a number again. The
/// usual ones are always the same: what commands meet by chance is sought by `scripts/soak.sh`, where somebody reads it.
fn config(usual: u32, part: u64) -> Config {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|number| number.parse::<u64>().unwrap())
    };
    let asked = number("BRYO_HISTORIES");
    let seed = match (number("BRYO_SEED"), asked) {
        (Some(seed), _) => seed,
        (None, Some(_)) => u64::from(UNIX_EPOCH.elapsed().unwrap().subsec_nanos()),
        (None, None) => 7,
    };
    // Shown with a failure.
    println!("BRYO_SEED={seed}, part {part}");
    let cases = asked.map_or(usual, |number| number.try_into().unwrap());
    Config {
        rng_seed: RngSeed::Fixed(seed + part),
        cases: cases.div_ceil(PARTS.try_into().unwrap()),
        max_shrink_iters: 30,
        failure_persistence: None,
        ..Config::default()
    }
}

fn check(stand: &Stand, steps: &[Step]) -> Result<(), TestCaseError> {
    // A case that failed left what it had.
    stand.emptied();
    let mut model = Model(BTreeMap::default(), stand.pauses);
    let mut told = String::new();
    for step in steps {
        if !model.tells(step) {
            continue;
        }
        let allowed = model.after(step);
        let answer = stand.carry_out(step, &model);
        told += &format!("{step:?}: {answer:?}\n");
        let found = allowed.iter().find(|outcome| stand.agrees(outcome, &answer));
        let Some(outcome) = found else {
            let shown = stand.shown();
            prop_assert!(false, "{told}allowed: {allowed:#?}\nfound: {shown}");
            return Ok(());
        };
        model = outcome.model.clone();
    }
    let left = stand.emptied();
    prop_assert!(left.is_empty(), "{told}left: {left:#?}");
    Ok(())
}

/// Each part has a stand of its own.
fn side_by_side(usual: u32, part: impl Fn(Config, &Stand) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..PARTS {
            let part = &part;
            scope.spawn(move || part(config(usual, number), &Stand::new()));
        }
    });
}

#[test]
fn any_history_is_that_of_the_model() {
    side_by_side(200, |config, stand| {
        proptest!(config, |(steps in prop::collection::vec(step(), 4..14))| {
            check(stand, &steps)?;
        });
    });
}

/// Both begin at once; what they answer and what is left is what one order or the other would have given.
fn check_pair(stand: &Stand, before: &[Step], pair: &[Step; 2]) -> Result<(), TestCaseError> {
    stand.emptied();
    let mut model = Model(BTreeMap::default(), stand.pauses);
    for step in before {
        let allowed = model.after(step);
        let answer = stand.carry_out(step, &model);
        let found = allowed.iter().find(|outcome| stand.agrees(outcome, &answer));
        prop_assert!(found.is_some(), "{before:?}: {step:?}: {answer:?}");
        model = found.unwrap().model.clone();
    }
    let [first, second] = pair;
    let children = pair.each_ref().map(|step| started(stand, step));
    let codes = children.map(|child| {
        let done = child.wait_with_output().unwrap();
        (
            done.status.code().unwrap(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    });
    let orders = model.pair(first, second);
    let answered = orders
        .iter()
        .filter(|order| order.codes == [codes[0].0, codes[1].0]);
    let ends: Vec<&Model> = answered.map(|order| &order.model).collect();
    let found = !ends.is_empty() && stand.is_at(&ends);
    let shown = stand.shown();
    prop_assert!(
        found,
        "after {before:?}\n{pair:?} at once: {codes:?}\nfound: {shown}\nallowed: {orders:#?}"
    );
    let left = stand.emptied();
    prop_assert!(left.is_empty(), "{pair:?} left: {left:#?}");
    Ok(())
}

fn started(stand: &Stand, step: &Step) -> Child {
    let words = command(step, stand.token()).expect("a command");
    let mut command = stand.bryo.command(words);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

/// One container of each kind, created or running, and two commands on it.
#[test]
fn two_commands_at_once_are_one_after_the_other() {
    side_by_side(40, |config, stand| {
        let kinds = prop::sample::select(Kind::still());
        let pair = [step::on_one(), step::on_one()];
        proptest!(config, |(kind in kinds, runs in any::<bool>(), pair in pair)| {
            let before = if runs { Step::Run("one", kind) } else { Step::Create("one", kind) };
            check_pair(stand, &[before], &pair)?;
        });
    });
}
