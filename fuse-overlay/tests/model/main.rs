//! Random operations with remounts, on the tree and on a plain reference filesystem, compared after each step.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub, missing_docs)]

mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod devices;
mod differences;
mod directories;
mod disk;
mod dump;
mod faults;
mod frozen;
mod harness;
mod histories;
mod lists;
mod named;
mod ops;
mod power;
mod reference;
#[path = "../stack/mod.rs"]
mod stack;
mod threads;
mod versions;

use harness::{Both, Image};
use proptest::prelude::*;

/// So many cases, or more as `PROPTEST_CASES` asks.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            default.cases
        } else {
            cases
        },
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn tree_and_reference_agree(layers in ops::layers(), steps in prop::collection::vec(ops::op(), 1..60)) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let mut both = Both::new(&image);
        both.compare();
        for step in &steps {
            both.step(step);
            both.compare();
        }
        both.step(&ops::Op::Remount);
        both.compare();
        differences::check(&image, both.tree());
        differences::check_layer(&image, both.tree());
    }
}
