//! What becomes of the store when one of its system calls fails: each in turn, as a dying, a full or a distant disk does.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;

use common::hostile::{Blobs, Hostile, digest, gzip, tar};
use common::{Bryo, Done, images};

/// What a step meets: what `BRYO_FAILPOINT` calls it, and what the line then says.
#[derive(Clone, Copy, Debug)]
struct Fault {
    name: &'static str,
    says: &'static str,
    /// What helps, said in the same line.
    helps: &'static str,
}

const fn fault(name: &'static str, says: &'static str, helps: &'static str) -> Fault {
    Fault { name, says, helps }
}

/// EIO, ENOSPC, EDQUOT, ESTALE, EINTR, and a write that takes half.
const FAULTS: [Fault; 6] = [
    fault("5", "Input/output error", ""),
    fault("28", "No space left on device", "prune"),
    fault("122", "Disk quota exceeded", "BRYO_ROOT"),
    fault("116", "Stale file handle", ""),
    fault("4", "Interrupted system call", ""),
    fault("short", "", ""),
];

/// Whether every fault is tried at every step, or each step with two of them.
fn all() -> bool {
    std::env::var_os("BRYO_FAULTS").is_some()
}

/// A command that is to meet every fault at each of its steps.
struct Command<'a> {
    args: &'a [&'a str],
    /// One of them when a step fails.
    codes: &'a [i32],
    /// Makes the store as it is before the command.
    before: &'a dyn Fn(&Bryo),
    /// After a failure, when nothing fails any more: as if it had never happened? Else it panics.
    after: &'a dyn Fn(&Bryo),
}

impl Command<'_> {
    /// Lets each step fail, alone or with all that follow; gives how many of these runs failed.
    fn fails_everywhere(&self, bryo: &Bryo) {
        for (number, fault) in FAULTS.into_iter().enumerate() {
            let mut failures = 0;
            for lasting in ["", "+"] {
                // Interrupted for ever is nobody.
                if lasting == "+" && matches!(fault.name, "4" | "short") {
                    continue;
                }
                for step in 1.. {
                    if !all() && (step + number) % 3 != 0 && step < 200 {
                        continue;
                    }
                    let met = format!("{step}{lasting}:{}", fault.name);
                    if !self.fails_once(bryo, &met, fault, &mut failures) {
                        break;
                    }
                }
            }
            let benign = matches!(fault.name, "4" | "short");
            assert!(benign || failures > 0, "{:?} never failed: {fault:?}", self.args);
        }
    }

    /// Whether the step was there.
    fn fails_once(&self, bryo: &Bryo, met: &str, fault: Fault, failures: &mut usize) -> bool {
        (self.before)(bryo);
        let mut command = bryo.command(self.args);
        let mark = bryo.scratch("met");
        let _ = fs::remove_file(&mark);
        let done = Done::of(
            command
                .env("BRYO_FAILPOINT", met)
                .env("BRYO_FAILPOINT_MET", &mark),
        );
        let is_met = mark.exists();
        if !done.status.success() {
            assert!(is_met, "{met}: {done}");
            let code = done.status.code().unwrap();
            assert!(self.codes.contains(&code), "{met}: {done}");
            let line = done.stderr.as_str();
            assert!(
                line.starts_with("bryo: ") && line.lines().count() == 1,
                "{met}: {done}"
            );
            assert!(
                !fault.says.is_empty() && line.contains(fault.says),
                "{met}: {done}"
            );
            assert!(line.contains(fault.helps), "{met}: {done}");
            *failures += 1;
        }
        let check = bryo.run(["store", "check"]);
        assert!(
            check.status.success() && check.stdout.ends_with(": all whole\n"),
            "{met}: {done}\n{check}"
        );
        if !done.status.success() {
            bryo.ok(self.args);
        }
        (self.after)(bryo);
        is_met
    }
}

fn archive() -> String {
    format!("oci-archive:{}", images().join("busybox.oci.tar").display())
}

/// No file aside is left, and no claim.
#[track_caller]
fn nothing_aside(bryo: &Bryo) {
    for directory in ["tmp", "claims"] {
        let left: Vec<_> = fs::read_dir(bryo.root().join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_pull_survives_every_fault() {
    let (first, second) = (tar("first", 100_000), tar("second", 100));
    let blobs = Blobs::of(&[(gzip(&first), digest(&first)), (gzip(&second), digest(&second))]);
    let registry = Hostile::serve(move |request| blobs.answer(request));
    let image = format!("{}/image", registry.address());
    Command {
        args: &["pull", "-q", &image],
        codes: &[1],
        before: &|bryo| {
            let _ = fs::remove_dir_all(bryo.root());
        },
        after: &|bryo| {
            nothing_aside(bryo);
            assert_eq!(bryo.ok(["images", "-q"]).lines().count(), 1);
        },
    }
    .fails_everywhere(&Bryo::new());
}

/// A pull that was killed, or failed, between a rename and the flush of its directory leaves a layer that no power cut
/// spares. Who finds it there, and puts an image on the list that names it, must flush the directory.
#[test]
fn what_a_pull_finds_in_the_store_is_flushed_before_the_list_names_it() {
    let bryo = Bryo::new();
    let layer = tar("file", 100);
    let blobs = Blobs::of(&[(gzip(&layer), digest(&layer))]);
    let registry = Hostile::serve(move |request| blobs.answer(request));
    let image = |tag: u32| format!("{}/image:{tag}", registry.address());
    bryo.ok(["pull", "-q", &image(0)]);
    let mut unflushed = Vec::new();
    for step in 1.. {
        let mut command = bryo.command(["pull", "-q", &image(step)]);
        let done = Done::of(command.env("BRYO_FAILPOINT", format!("{step}:5")));
        if done.status.success() {
            break;
        }
        let is_listed = bryo.run(["image", "inspect", &image(step)]).status.success();
        if let Some((_, of)) = done.stderr.split_once("cannot flush to the disk ") {
            unflushed.push((of.to_owned(), is_listed));
        }
    }
    for directory in ["layers", "blobs/sha256"] {
        let path = bryo.root().join(directory).display().to_string();
        let found = unflushed
            .iter()
            .find(|(of, _)| of.starts_with(&format!("{path}:")));
        let (_, is_listed) = found.unwrap_or_else(|| panic!("{directory} is not flushed: {unflushed:?}"));
        assert!(!is_listed, "{directory}");
    }
}

/// A store that has busybox under its first name alone.
fn with_busybox(bryo: &Bryo) {
    bryo.run(["rmi", "other:1"]);
    bryo.ok(["pull", "-q", &archive()]);
}

#[test]
fn names_and_removals_survive_every_fault() {
    let bryo = Bryo::new();
    let names = |bryo: &Bryo| bryo.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    Command {
        args: &["tag", "busybox:oci", "other:1"],
        codes: &[1],
        before: &with_busybox,
        after: &|bryo| {
            assert_eq!(names(bryo), "busybox:oci\nother:1\n");
            nothing_aside(bryo);
        },
    }
    .fails_everywhere(&bryo);
    let none_left = |bryo: &Bryo| {
        assert_eq!(names(bryo), "");
        bryo.ok(["image", "prune", "-af"]);
        nothing_aside(bryo);
        for directory in ["layers", "merged", "blobs/sha256"] {
            let left = fs::read_dir(bryo.root().join(directory)).unwrap().count();
            assert_eq!(left, 0, "{directory}");
        }
    };
    let removals: [&[&str]; 2] = [&["rmi", "-f", "busybox:oci"], &["image", "prune", "-af"]];
    for args in removals {
        Command {
            args,
            codes: &[1],
            before: &with_busybox,
            after: &none_left,
        }
        .fails_everywhere(&bryo);
    }
}
