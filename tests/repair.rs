//! What is left when a repair of the image store is killed at any of its steps? The next one, or a pull, goes on.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Bryo, Done, images};

fn archive() -> PathBuf {
    images().join("busybox.oci.tar")
}

fn pull(bryo: &Bryo) {
    bryo.ok(["pull", "-q", &format!("oci-archive:{}", archive().display())]);
}

/// The store's files with this ending.
fn files(bryo: &Bryo, directory: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(bryo.root().join(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect()
}

/// Flips a bit of each.
fn damage(files: &[PathBuf]) {
    assert!(!files.is_empty());
    for path in files {
        let mut bytes = fs::read(path).unwrap();
        bytes[5000] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

/// Runs `args` after `before` again and again, each time killed one step later, until nothing is left to be killed at. `look`
/// sees what each has left.
#[track_caller]
fn at_every_step(args: &[&str], least: u32, before: &dyn Fn(&Bryo), look: &dyn Fn(&Bryo, &str)) {
    let bryo = Bryo::new();
    fs::create_dir_all(bryo.dir()).unwrap();
    let met = bryo.scratch("met");
    for step in 1.. {
        before(&bryo);
        let mut command = bryo.command(args);
        command.env("BRYO_FAILPOINT", step.to_string());
        let done = Done::of(command.env("BRYO_FAILPOINT_MET", &met));
        look(&bryo, &format!("{args:?} killed at step {step}: {done}"));
        if fs::remove_file(&met).is_err() {
            assert!(step > least, "{args:?} has only {step} steps");
            return;
        }
    }
}

#[track_caller]
fn is_whole(bryo: &Bryo, when: &str) {
    let check = bryo.run(["store", "check"]);
    assert!(
        check.status.success() && check.stdout.ends_with(": all whole\n"),
        "{when}\n{check}"
    );
}

#[test]
fn a_check_that_sets_a_damaged_tar_aside() {
    let before = |bryo: &Bryo| {
        pull(bryo);
        damage(&files(bryo, "layers", "tar"));
    };
    at_every_step(&["store", "check"], 2, &before, &|bryo, when| {
        // Whether it is aside already or not, it is lost, and what helps is a pull.
        let check = bryo.run(["store", "check"]);
        assert_eq!(check.status.code(), Some(1), "{when}\n{check}");
        assert!(check.stdout.contains("bryo pull busybox:oci"), "{when}\n{check}");
        pull(bryo);
        is_whole(bryo, when);
        bryo.ok(["image", "prune", "-f"]);
        assert_eq!(files(bryo, "layers", "damaged"), [] as [PathBuf; 0], "{when}");
    });
}

#[test]
fn a_check_that_makes_indexes_again() {
    let before = |bryo: &Bryo| {
        pull(bryo);
        damage(&files(bryo, "layers", "index"));
        damage(&files(bryo, "merged", "index"));
    };
    at_every_step(&["store", "check"], 4, &before, &|bryo, when| {
        bryo.ok(["store", "check"]);
        is_whole(bryo, when);
    });
}

#[test]
fn a_run_that_makes_indexes_again() {
    let before = |bryo: &Bryo| {
        pull(bryo);
        for path in [files(bryo, "layers", "index"), files(bryo, "merged", "index")].concat() {
            fs::remove_file(path).unwrap();
        }
    };
    at_every_step(
        &["run", "--rm", "busybox:oci", "true"],
        6,
        &before,
        &|bryo, when| {
            // What is half done is made again by whoever needs it, here the next run.
            let said = bryo.run(["run", "--rm", "busybox:oci", "echo", "whole"]);
            assert!(
                said.status.success() && said.stdout == "whole\n",
                "{when}\n{said}"
            );
            is_whole(bryo, when);
        },
    );
}

#[test]
fn a_load() {
    let archive = archive();
    let args = ["load", "-q", "-i", archive.to_str().unwrap()];
    let before = |bryo: &Bryo| {
        bryo.run(["rmi", "-f", "busybox:oci"]);
    };
    at_every_step(&args, 6, &before, &|bryo, when| {
        is_whole(bryo, when);
        bryo.ok(args);
        is_whole(bryo, when);
        bryo.ok(["image", "prune", "-f"]);
        let left = fs::read_dir(bryo.root().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "{when}");
    });
}
