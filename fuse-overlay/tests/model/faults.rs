//! The n-th write, flush or punch fails. What was acknowledged stays, what failed did not happen, and the next try
//! succeeds.

use proptest::prelude::*;

use super::disk::{Fault, MemoryDisk};
use super::harness::{Both, Image};
use super::ops::{self, Op};

proptest! {
    #![proptest_config(super::config(400))]

    #[test]
    fn a_failed_call_changes_nothing(
        layers in ops::layers(),
        steps in prop::collection::vec(ops::op(), 1..40),
        faults in prop::collection::vec(
            (2..120usize, prop::sample::select(vec![Fault::Eio, Fault::Enospc, Fault::Torn])),
            1..6,
        ),
    ) {
        let Some(image) = Image::new(&layers) else { return Ok(()) };
        let disk = MemoryDisk::new();
        let mut both = Both::on(&image, disk.clone());
        disk.plan.lock().faults = faults;
        for step in &steps {
            both.step(step);
            both.compare();
        }
        disk.plan.lock().faults.clear();
        both.step(&Op::Remount);
        both.compare();
    }
}
