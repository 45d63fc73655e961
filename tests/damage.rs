//! What does a container see when the image's files are damaged under it, who is told, and what helps?

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Bryo, hostile, until};

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
}

const IMAGE: &str = "localhost/layout:1";

/// Shell functions: says of each file whether all that `HOW` asks for can be read.
const LOOK: &str = "b=/bin/busybox
    look() { how=$1; shift; for file; do
        if $b $how $file > /dev/null 2>> /told/why; then echo $file whole; else echo $file lost; fi; done; }
    ";

impl Waiting {
    fn new(before: &str, after: &str) -> Waiting {
        let bryo = Bryo::new();
        let (layout, told) = (bryo.scratch("layout"), bryo.scratch("told"));
        let tar = layer();
        hostile::Blobs::of(&[(hostile::gzip(&tar), hostile::digest(&tar))]).write_layout(&layout, "1");
        bryo.ok(["pull", "-q", &format!("oci:{}", layout.display())]);
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
        Waiting { bryo, told }
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

    /// Lets it go on to its end: what it found, why, and what the server's log says.
    fn go_on(&self) -> [String; 3] {
        fs::write(self.told.join("go"), "").unwrap();
        assert_eq!(self.bryo.ok(["wait", "one"]), "0\n");
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
    let told = log
        .lines()
        .filter(|line| line.contains("the stored layer is damaged here"));
    assert!(told.count() >= 2, "{log}");
    let done = waiting.bryo.run(["store", "check"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stdout.contains("lost; what helps: bryo pull"), "{done}");
    let again = format!("oci:{}", waiting.bryo.scratch("layout").display());
    waiting.bryo.ok(["pull", "-q", &again]);
    assert!(waiting.bryo.ok(["store", "check"]).ends_with(": all whole\n"));
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
    let repaired = bryo.ok(["store", "check"]);
    assert!(repaired.ends_with(": 1 repaired\n"), "{repaired}");
    let tool = "/bin/busybox:/bin/busybox:ro";
    let listed = bryo.ok(["run", "--rm", "-v", tool, IMAGE, "/bin/busybox", "ls", "-l", "/f"]);
    assert_eq!(
        listed.lines().filter(|line| line.contains("-rw-r--r--")).count(),
        SMALL
    );
}
