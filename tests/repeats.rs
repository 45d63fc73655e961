//! Which failed tests does `scripts/test.sh` try once more? `scripts/repeats.awk` reads that from what cargo said.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What `cargo test -q --no-fail-fast` says when some tests of two binaries fail, and a third dies.
const SAID: &str = r"
running 5 tests
..F.F
failures:

---- late stdout ----

thread 'late' (7) panicked at tests/common/alive.rs:15:9:
waited in vain: the container does not happen
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

---- of_kills::wrong stdout ----

thread 'of_kills::wrong' (8) panicked at tests/one.rs:3:5:
assertion failed: what was synced is there
    left: 1

---- slow stdout ----
called `Result::unwrap()` on an `Err` value: Timeout


failures:
    late
    of_kills::wrong
    slow

test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

error: test failed, to rerun pass `-p bryo --test one`

running 2 tests
F.
failures:

---- late stdout ----
Test failed: tree and model differ.
minimal failing input: steps = [Write]

failures:
    late

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

error: test failed, to rerun pass `-p fuse-overlay --test two`

running 1 test
error: test failed, to rerun pass `-p bryo --test three`
";

#[test]
fn only_who_waited_in_vain_is_tried_again() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/repeats.awk");
    let mut awk = Command::new("awk");
    awk.arg("-f")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut awk = awk.spawn().unwrap();
    awk.stdin.take().unwrap().write_all(SAID.as_bytes()).unwrap();
    let done = awk.wait_with_output().unwrap();
    assert!(done.status.success());
    assert_eq!(
        String::from_utf8(done.stdout).unwrap(),
        "again -p bryo --test one -- --exact late slow\n\
         failed -p bryo --test one -- --exact of_kills::wrong\n\
         failed -p fuse-overlay --test two -- --exact late\n\
         died -p bryo --test three\n"
    );
}
