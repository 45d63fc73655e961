//! What does a container see when the image's files are damaged under it, who is told, and what helps?

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use common::sandbox::in_own_namespaces;
use common::{Bryo, Sshfs, field, hostile, process, until};
use nix::sys::signal::{Signal, kill};

/// Small files in the image's directory `f`: their nodes fill more than three of an index's checked blocks of 64 KiB.
const SMALL: usize = 3000;
const BLOCK: u64 = 64 * 1024;

/// An image of one layer: large files `a`, `b` and `c`, and small ones in `f`.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        add(name, &[byte; 1 << 20]);
    }
    for n in 0..SMALL {
        add(&format!("f/{n:04}"), b"");
    }
    tar.into_inner().unwrap()
}

/// A container of that image that runs `before`, waits, and then runs `after`, both in the host's busybox.
struct Waiting {
    bryo: Bryo,
    told: PathBuf,
    /// How many of its servers the test has killed.
    killed: u32,
}

const IMAGE: &str = "localhost/layout:1";

/// Shell functions: says of each file whether all that `HOW` asks for can be read.
const LOOK: &str = "b=/bin/busybox
    look() { how=$1; shift; for file; do
        if $b $how $file > /dev/null 2>> /told/why; then echo $file whole; else echo $file lost; fi; done; }
    ";

/// Has the image pulled.
fn pull(bryo: &Bryo) {
    let layout = bryo.scratch("layout");
    let tar = layer();
    hostile::Blobs::of(&[(hostile::gzip(&tar), hostile::digest(&tar))]).write_layout(&layout, "1");
    pull_again(bryo);
}

fn pull_again(bryo: &Bryo) {
    bryo.ok(["pull", "-q", &format!("oci:{}", bryo.scratch("layout").display())]);
}

impl Waiting {
    fn new(before: &str, after: &str) -> Waiting {
        let bryo = Bryo::new();
        pull(&bryo);
        Waiting::of(bryo, before, after)
    }

    /// In a store that has the image.
    fn of(bryo: Bryo, before: &str, after: &str) -> Waiting {
        let told = bryo.scratch("told");
        fs::create_dir(&told).unwrap();
        let wait = "$b touch /told/ready; until [ -e /told/go ]; do $b sleep 0.05; done";
        let script = format!("{LOOK}\n{before}\n{wait}\n{{ {after}\n}} > /told/out");
        fs::write(told.join("script"), script).unwrap();
        let (told_at, tool) = (
            format!("{}:/told", told.display()),
            "/bin/busybox:/bin/busybox:ro",
        );
        let command = ["/bin/busybox", "sh", "-e", "/told/script"];
        let words = ["run", "-d", "--name", "one", "-v", &told_at, "-v", tool, IMAGE];
        bryo.ok(words.iter().chain(&command));
        until("the container's first half", || told.join("ready").exists());
        Waiting {
            bryo,
            told,
            killed: 0,
        }
    }

    /// The one file with this ending in a directory of the image store, open for writing.
    fn stored(&self, dir: &str, ending: &str) -> (File, Vec<u8>) {
        let entries = fs::read_dir(self.bryo.root().join(dir)).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        let path = paths.find(|path| path.extension().is_some_and(|found| found == ending));
        let path = path.unwrap();
        (
            File::options().write(true).open(&path).unwrap(),
            fs::read(&path).unwrap(),
        )
    }

    fn go(&self) {
        fs::write(self.told.join("go"), "").unwrap();
    }

    /// Kills its server, and waits for the next.
    fn kill_server(&mut self) {
        let server = || process(&self.bryo, "one", "FilesystemPid");
        let dead = server();
        kill(dead, Signal::SIGKILL).unwrap();
        until("a successor", || server() != dead);
        self.killed += 1;
    }

    /// Lets it go on to its end: what it found, why, and what the server's log says.
    fn go_on(&self) -> [String; 3] {
        self.go();
        assert_eq!(self.bryo.ok(["wait", "one"]), "0\n");
        let died = "{{with .State.FilesystemTakeovers}}{{.Servers}}{{end}}";
        let died = field(&self.bryo, "one", died);
        assert!(
            died == format!("{}", self.killed) || died.is_empty() && self.killed == 0,
            "{died} servers died"
        );
        let id = self.bryo.ok(["ps", "-aq", "--no-trunc"]);
        let container = self.bryo.state().join("containers").join(id.trim_end());
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        [
            read(&self.told.join("out")),
            read(&self.told.join("why")),
            read(&container.join("server.log")),
        ]
    }
}

fn is_io_error(why: &str) -> bool {
    why.contains("Input/output error") || why.contains("I/O error")
}

#[test]
fn a_damaged_tar_costs_the_files_that_lie_there() {
    let waiting = Waiting::new("", "look cat /a /b /c /b; echo new > /new; look cat /new");
    let (tar, bytes) = waiting.stored("layers", "tar");
    let place = |byte| bytes.windows(4096).position(|part| part == [byte; 4096]).unwrap() as u64;
    tar.write_all_at(&[0], place(1) + (1 << 19)).unwrap();
    tar.set_len(place(3) + (1 << 19)).unwrap();
    let [out, why, log] = waiting.go_on();
    assert_eq!(out, "/a lost\n/b whole\n/c lost\n/b whole\n/new whole\n");
    assert!(is_io_error(&why), "{why}");
    let layer = hostile::digest(&bytes).replace("sha256:", "layer=");
    for at in [place(1) + (1 << 19), place(3) + (1 << 19)] {
        // The block of 64 KiB, or where the tar ends.
        let told = log.lines().any(|line| {
            let offset = [at / BLOCK * BLOCK, at].map(|offset| format!("offset={offset}"));
            let is_there = offset.iter().any(|offset| line.contains(offset.as_str()));
            line.contains("the stored layer is damaged here") && line.contains(&layer) && is_there
        });
        assert!(told, "{layer}, {at}: {log}");
    }
    let done = waiting.bryo.run(["store", "check"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stdout.contains("lost; what helps: bryo pull"), "{done}");
    pull_again(&waiting.bryo);
    assert!(waiting.bryo.ok(["store", "check"]).ends_with(": all whole\n"));
}

#[test]
fn a_removed_layer_costs_a_container_that_runs_nothing() {
    let mut waiting = Waiting::new(
        "",
        "look cat /a /b /c; look stat /f/2990; echo new > /new; look cat /new",
    );
    for dir in ["layers", "merged"] {
        let files = fs::read_dir(waiting.bryo.root().join(dir)).unwrap();
        files.for_each(|file| fs::remove_file(file.unwrap().path()).unwrap());
    }
    waiting.kill_server();
    let [out, _, log] = waiting.go_on();
    assert_eq!(
        out, "/a whole\n/b whole\n/c whole\n/f/2990 whole\n/new whole\n",
        "{log}"
    );
    let done = waiting.bryo.run(["store", "check"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stdout.contains("lost; what helps: bryo pull"), "{done}");
    pull_again(&waiting.bryo);
    repaired_by(&waiting.bryo, ": all whole\n");
}

/// Its tar is whole, but who has not read a block yet cannot know.
#[test]
fn a_damaged_index_of_a_layer_costs_what_was_not_read_yet() {
    for cut in [false, true] {
        // What was found good stays good, as long as it is there.
        let before = if cut { "look cat /a" } else { "" };
        let waiting = Waiting::new(
            before,
            "look cat /a /b; look stat /f/2990; echo new > /new; look cat /new",
        );
        let (index, bytes) = waiting.stored("layers", "index");
        if cut {
            index.set_len(0).unwrap();
        } else {
            for at in (4096..bytes.len() as u64).step_by(BLOCK as usize) {
                index.write_all_at(&[bytes[at as usize] ^ 1], at).unwrap();
            }
        }
        let [out, why, log] = waiting.go_on();
        let first = if cut { "whole" } else { "lost" };
        assert_eq!(
            out,
            format!("/a {first}\n/b lost\n/f/2990 whole\n/new whole\n"),
            "cut: {cut}"
        );
        assert!(is_io_error(&why), "{why}");
        let what = if cut {
            "the file was cut, or its disk fails"
        } else {
            "damaged: checksum of a block"
        };
        let told = |line: &str| line.contains(what) && line.contains("/layers/") && line.contains("offset=");
        assert!(log.lines().any(told), "{log}");
        repaired(&waiting.bryo);
    }
}

/// The store's disk cannot read a tar any more: here a filesystem that refuses files which are not as they were.
#[test]
fn a_layer_that_cannot_be_read_costs_the_files_that_were_not() {
    in_own_namespaces(
        "a_layer_that_cannot_be_read_costs_the_files_that_were_not",
        || {
            let bryo = Bryo::new();
            pull(&bryo);
            let [below, upper] = ["below", "upper"].map(|name| bryo.scratch(name));
            fs::rename(bryo.root(), &below).unwrap();
            for dir in [&bryo.root(), &upper] {
                fs::create_dir(dir).unwrap();
            }
            let _disk = Overlay::mount(&below, &upper, &bryo.root());
            let waiting = Waiting::of(
                bryo,
                "look cat /a",
                "look cat /a /b; look stat /f/2990; echo new > /new; look cat /new",
            );
            let layers = fs::read_dir(below.join("layers"))
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let tar = layers.filter(|path| path.extension().is_some_and(|found| found == "tar"));
            let tar = tar.last().unwrap();
            let layer = format!("layer={}", tar.file_stem().unwrap().to_str().unwrap());
            File::options()
                .write(true)
                .open(tar)
                .unwrap()
                .set_modified(SystemTime::UNIX_EPOCH)
                .unwrap();
            let [out, why, log] = waiting.go_on();
            assert_eq!(out, "/a whole\n/b lost\n/f/2990 whole\n/new whole\n");
            assert!(is_io_error(&why), "{why}");
            let told = |line: &str| {
                line.contains("the stored layer cannot be read")
                    && line.contains(&layer)
                    && line.contains("offset=")
            };
            assert!(log.lines().any(told), "{log}");
            // One that cannot be read is as good as lost: with what helps, and nothing else is held up.
            let done = waiting.bryo.run(["store", "check"]);
            assert_eq!(done.status.code(), Some(1), "{done}");
            assert!(done.stdout.contains("lost; what helps: bryo pull"), "{done}");
            pull_again(&waiting.bryo);
            repaired_by(&waiting.bryo, ": all whole\n");
        },
    );
}

/// A directory below an empty one, by the program `fuse-overlay`.
struct Overlay {
    at: PathBuf,
    server: Child,
}

impl Overlay {
    fn mount(below: &Path, upper: &Path, at: &Path) -> Overlay {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().unwrap().parent().unwrap().join("fuse-overlay");
        assert!(
            program.exists(),
            "cargo builds it with all tests; with one test, add --workspace --bins"
        );
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        let before = device(at);
        let mut command = Command::new(program);
        command
            .arg("mount")
            .arg("--layer")
            .arg(below)
            .arg("--upper")
            .arg(upper)
            .arg(at);
        let server = command.stdin(Stdio::null()).spawn().unwrap();
        until("the mount", || device(at) != before);
        let at = at.to_owned();
        Overlay { at, server }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // It ends with the mount, which ends with its namespace at the latest.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// As where the store is another machine's, which cannot be reached for a while.
#[test]
fn a_layer_that_hangs_holds_up_who_reads_it_and_no_other() {
    in_own_namespaces("a_layer_that_hangs_holds_up_who_reads_it_and_no_other", || {
        let bryo = Bryo::new();
        let root = Sshfs::mount(&bryo.scratch("far"), &bryo.root());
        pull(&bryo);
        let before = "look cat /a; $b chmod 600 /b";
        // One READ: what is read ahead would be another, and there may be two threads in all.
        let after = "{ $b dd if=/b of=/dev/null bs=4096 count=1 skip=128 iflag=direct && echo read; } & echo new > /new; $b sync /new; $b mv /new /newer; $b chmod 640 /b
            look cat /a /newer; look stat /b /f/2990; $b touch /told/went; wait";
        let waiting = Waiting::of(bryo, before, after);
        let hangs = root.hang();
        waiting.go();
        until("what wants nothing of it", || waiting.told.join("went").exists());
        let seen = fs::read_to_string(waiting.told.join("out")).unwrap();
        assert_eq!(seen, "/a whole\n/newer whole\n/b whole\n/f/2990 whole\n");
        drop(hangs);
        let [out, ..] = waiting.go_on();
        assert_eq!(out, format!("{seen}read\n"));
    });
}

#[test]
fn a_writable_layer_of_a_newer_program_is_refused_in_one_line() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["run", "--name", "one", &image, "touch", "/kept"]);
    let id = field(&bryo, "one", "{{.Id}}");
    let journal = bryo.state().join("containers").join(id).join("upper/journal");
    let set_version = |version| {
        let journal = File::options().write(true).open(&journal).unwrap();
        journal.write_all_at(&[version], 8).unwrap();
    };
    let version = fs::read(&journal).unwrap()[8];
    set_version(4);
    for command in [&["start", "-a", "one"][..], &["diff", "one"]] {
        let done = bryo.run(command);
        assert!(
            !done.status.success() && done.stderr.lines().count() == 1,
            "{done}"
        );
        let why = "journal of version 4, written by a newer program: this one reads versions 1 to 3";
        assert!(done.stderr.contains(why), "{done}");
    }
    set_version(version);
    assert!(bryo.ok(["diff", "one"]).contains("A /kept\n"));
    bryo.ok(["start", "-a", "one"]);
}

#[test]
fn a_damaged_index_costs_the_names_that_lie_there() {
    let waiting = Waiting::new("", "look stat /f/0001 /f/2000 /f/2990; look cat /b");
    let (index, bytes) = waiting.stored("merged", "index");
    // Nodes stand first, after a header of 4096 bytes; these are of the middle of `f`.
    let at = 4096 + 2 * BLOCK + 100;
    index.write_all_at(&[bytes[at as usize] ^ 1], at).unwrap();
    let [out, why, log] = waiting.go_on();
    assert_eq!(out, "/f/0001 whole\n/f/2000 lost\n/f/2990 whole\n/b whole\n");
    assert!(is_io_error(&why), "{why}");
    assert!(
        log.contains("damaged: checksum of a block") && log.contains("/merged/"),
        "{log}"
    );
    repaired(&waiting.bryo);
}

#[test]
fn a_cut_index_ends_no_container() {
    let before = "look stat /f /f/0001; look cat /b; $b mkdir /own; exec 3>> /own/log; echo one >&3";
    let after =
        "look stat /f/0001 /f/0002; look cat /b; echo two >&3; echo x > /own/x; look cat /own/log /own/x";
    let waiting = Waiting::new(before, after);
    waiting.stored("merged", "index").0.set_len(0).unwrap();
    let [out, why, log] = waiting.go_on();
    // What the kernel knows and what the container wrote itself is still there.
    let seen = "/f/0001 whole\n/f/0002 lost\n/b whole\n/own/log whole\n/own/x whole\n";
    assert_eq!(out, seen);
    assert!(is_io_error(&why), "{why}");
    assert!(log.contains("the file was cut, or its disk fails"), "{log}");
    repaired(&waiting.bryo);
    assert_eq!(
        waiting
            .bryo
            .ok(["diff", "one"])
            .lines()
            .filter(|line| line.contains("/own/"))
            .count(),
        2
    );
}

/// The check makes the index again, and the next container finds all names.
#[track_caller]
fn repaired(bryo: &Bryo) {
    repaired_by(bryo, ": 1 repaired\n");
}

/// The same, where the check ends with this.
#[track_caller]
fn repaired_by(bryo: &Bryo, end: &str) {
    let checked = bryo.ok(["store", "check"]);
    assert!(checked.ends_with(end), "{checked}");
    let tool = "/bin/busybox:/bin/busybox:ro";
    let listed = bryo.ok(["run", "--rm", "-v", tool, IMAGE, "/bin/busybox", "ls", "-l", "/f"]);
    assert_eq!(
        listed.lines().filter(|line| line.contains("-rw-r--r--")).count(),
        SMALL
    );
}
