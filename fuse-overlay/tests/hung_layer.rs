//! A layer whose disk hangs: only who reads it waits. The layer's tar lies in another mount, whose server is stopped.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Ids, Inside, Layer, in_mount};
use fuse_overlay::attr::Ino;
use fuse_overlay::fuse::{AtEnd, IdMap, mount, open_devices, serve};
use fuse_overlay::index::{View, merge};
use fuse_overlay::layer;
use fuse_overlay::ledger::Ledger;
use fuse_overlay::name::Name;
use fuse_overlay::union::{Allocate, Caller, Limits, Lower, LowerLayer, SetAttr, Tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    unique: 1,
};

fn big() -> Vec<u8> {
    (0..1 << 20).map(|at: u32| (at / 7 + at / 4096) as u8).collect()
}

/// The layer below the tree that is looked at.
fn tar() -> Vec<u8> {
    Layer::new().file("big", big()).bytes()
}

/// What lies in the other mount: that layer's tar.
fn disk() -> [Layer; 1] {
    [Layer::new().file("layer.tar", tar())]
}

/// Opens the tree in a new directory `upper`.
fn open(inside: &Inside, upper: &Path) -> Tree {
    fs::create_dir(upper).unwrap();
    let (mut index, mut merged) = (Vec::new(), Vec::new());
    layer::index(&mut &tar()[..], &mut index).unwrap();
    let view = View::from_bytes(index).unwrap();
    merge::merge(std::slice::from_ref(&view), [7; 32], &mut merged).unwrap();
    // The first that is closed is told to the other server, and would be by each process that is started.
    drop(File::open(inside.path("layer.tar")).unwrap());
    let tar = File::open(inside.path("layer.tar")).unwrap();
    let lower = Lower {
        view: View::from_bytes(merged).unwrap(),
        layers: vec![LowerLayer::tar(tar, view)],
    };
    Tree::open(lower, upper, Limits::default()).unwrap()
}

fn name(text: &str) -> &Name {
    Name::new(text.as_bytes()).unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: no {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The other mount's server, stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn server_of(inside: &Inside) -> Stopped {
        let stopped = Stopped(Pid::from_raw(inside.server));
        kill(stopped.0, Signal::SIGSTOP).unwrap();
        let threads = format!("/proc/{}/task", inside.server);
        until("stop", || {
            let mut threads = fs::read_dir(&threads)
                .unwrap()
                .map(|thread| thread.unwrap().path());
            threads.all(|thread| fs::read_to_string(thread.join("stat")).unwrap().contains(") T "))
        });
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

/// Is a thread of this process in this system call?
fn is_in(process: &str, call: libc::c_long) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut calls = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("syscall")));
    calls.any(|found| found.is_ok_and(|found| found.starts_with(&format!("{call} "))))
}

fn hangs() -> bool {
    is_in("self", libc::SYS_pread64)
}

#[test]
fn an_inode_whose_bytes_hang_can_be_changed() {
    in_mount(Ids::One, &disk(), |inside| {
        let tree = open(inside, &inside.root.with_file_name("own"));
        let set = |set: &SetAttr| tree.setattr(&CALLER, Ino(2), set).unwrap();
        let file = tree.lookup(Ino::ROOT, name("big")).unwrap().ino;
        assert_eq!(file, Ino(2));
        // The upper has it from here on.
        set(&SetAttr {
            perm: Some(0o600),
            ..SetAttr::default()
        });
        let stopped = Stopped::server_of(inside);
        thread::scope(|scope| {
            let read = scope.spawn(|| {
                let mut out = vec![0; 2 << 20];
                let length = tree.read(file, 0, &mut out).unwrap();
                out.truncate(length);
                out
            });
            until("read that hangs", hangs);
            set(&SetAttr {
                size: Some(4096),
                ..SetAttr::default()
            });
            tree.write(&CALLER, file, 0, &[9; 4096], false).unwrap();
            drop(tree.fsync(file).unwrap());
            tree.checkpoint(&|| true).unwrap();
            let mut out = [0; 5000];
            assert_eq!(tree.read(file, 0, &mut out), Ok(4096));
            assert_eq!(out[..4096], [9; 4096]);
            drop(stopped);
            assert!(
                read.join().unwrap() == big(),
                "the bytes of the moment when it was asked"
            );
        });
    });
}

#[test]
fn changes_get_no_older_while_an_inode_is_held() {
    in_mount(Ids::One, &disk(), |inside| {
        let tree = open(inside, &inside.root.with_file_name("own"));
        let file = tree.lookup(Ino::ROOT, name("big")).unwrap().ino;
        let stopped = Stopped::server_of(inside);
        thread::scope(|scope| {
            // Copies what lies below, and nobody may change the file meanwhile.
            let copy = scope.spawn(|| tree.fallocate(&CALLER, file, Allocate::KeepSize, 0, 1 << 20));
            until("read that hangs", hangs);
            let other = tree
                .mknod(&CALLER, Ino::ROOT, name("other"), 0o100_644, 0)
                .unwrap()
                .ino;
            tree.write(&CALLER, other, 0, &[7; 9000], false).unwrap();
            drop(tree.fsync(other).unwrap());
            // The timer syncs whenever it is asked whether to go on.
            let asked = Cell::new(0);
            tree.checkpoint(&|| {
                asked.set(asked.get() + 1);
                drop(tree.sync().unwrap());
                asked.get() < 20
            })
            .unwrap();
            assert_eq!(asked.get(), 20);
            drop(stopped);
            copy.join().unwrap().unwrap();
        });
        tree.checkpoint(&|| true).unwrap();
        let mut out = vec![0; 1 << 20];
        tree.read(file, 0, &mut out).unwrap();
        assert!(out == big());
    });
}

/// How many syncs the journal tells of (`kernel_syncs.rs`): by its records, the first at 4096, each with its length at 0 and its
/// operation at 24.
fn syncs(upper: &Path) -> usize {
    let journal = fs::read(upper.join("journal")).unwrap();
    let (mut at, mut syncs) = (4096, 0);
    while let Some(header) = journal.get(at..at + 32).filter(|header| header[..4] != [0; 4]) {
        syncs += usize::from(header[24..26] == [16, 0]);
        let length = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        at += length.next_multiple_of(8);
    }
    syncs
}

fn start(program: &str, words: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(words).current_dir("/");
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// One thread hangs; a second waits for the inode that the first holds; the third does all that is asked of others.
#[test]
fn who_waits_for_who_hangs_holds_up_no_other() {
    in_mount(Ids::One, &disk(), |inside| {
        let [upper, at] = ["own", "at"].map(|name| inside.root.with_file_name(name));
        let at = at.to_str().unwrap();
        let file = &format!("{at}/big");
        let tree = open(inside, &upper);
        fs::create_dir(at).unwrap();
        let devices = open_devices(3).unwrap();
        mount(devices[0].as_fd(), Path::new(at), "test").unwrap();
        let ids = IdMap::of_process(std::process::id()).unwrap();
        let server = thread::spawn(move || serve(tree, ids, devices, &Ledger::alone().unwrap(), AtEnd::Sync));
        let stopped = Stopped::server_of(inside);
        let mut copies = start("fallocate", &["-l", "1MiB", file]);
        until("read that hangs", hangs);
        let script = format!("import os; os.getxattr('{file}', 'user.none')");
        let mut asks = start("python3", &["-c", &script]);
        until("question", || is_in(&asks.id().to_string(), libc::SYS_getxattr));
        let script = "echo text > $0/new; sync $0/new; mv $0/new $0/newer; cat $0/newer > $0/copy; mkdir $0/dir; ls $0/dir";
        let mut goes_on = start("sh", &["-ec", script, at]);
        until("end of what wants nothing of it", || {
            goes_on.try_wait().unwrap().is_some()
        });
        assert!(goes_on.wait().unwrap().success());
        let before = syncs(&upper);
        fs::write(format!("{at}/late"), "").unwrap();
        until("sync by the timer", || syncs(&upper) > before);
        assert!(copies.try_wait().unwrap().is_none() && asks.try_wait().unwrap().is_none());
        drop(stopped);
        assert!(copies.wait().unwrap().success());
        assert_eq!(asks.wait().unwrap().code(), Some(1), "there is no such attribute");
        assert!(fs::read(file).unwrap() == big());
        nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH).unwrap();
        server.join().unwrap().unwrap();
    });
}
