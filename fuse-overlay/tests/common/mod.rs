//! A mount to test in: the test's body runs as root of a user namespace of its own, the server in another process
//! outside it, as with a container.
//!
//! The test binary runs itself twice more for that, under the same test's name: as the *server* and, below `unshare`, as
//! the *inside*, which mounts, hands the devices over a socket to the server, and runs the body. The first process, the
//! *director*, waits for both. So a body is a plain closure, and its panic is the test's failure.
// Each test file is a crate that uses a part of this.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod chance;
mod image;
mod keeper;

use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fuse_overlay::fuse::{AtEnd, IdMap, mount, open_devices, serve};
use fuse_overlay::ledger::Ledger;
use fuse_overlay::union::{Limits, Tree};
use fuse_overlay::upper::Storage;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{Gid, Uid};

pub use image::{Layer, MTIME, Meta, load};
pub use keeper::{Fate, in_mortal_mount};

/// What a process of a test does, told by this variable; the director has none.
const ROLE: &str = "FUSE_OVERLAY_TEST_ROLE";
/// Where the test's layers, upper and mount point lie.
const DIR: &str = "FUSE_OVERLAY_TEST_DIR";
/// No test may take longer: a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
const DEVICES: usize = 2;

/// Which ids the test's user namespace maps.
#[derive(Clone, Copy, PartialEq)]
pub enum Ids {
    /// 0 alone, as a user without a range in /etc/subuid has it.
    One,
    /// 0 to 65535: root's own, or those that newuidmap and newgidmap give another user, who needs a range.
    Range,
}

/// What a body sees.
pub struct Inside {
    /// The mount.
    pub root: PathBuf,
    /// The server's pid.
    pub server: i32,
    questions: UnixStream,
}

impl Inside {
    /// Runs a shell script in the mount's root. Panics if it fails; returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        let mut command = Command::new("/bin/bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(&self.root)
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{script}\n{}\n{text}\n{errors}",
            output.status
        );
        text
    }

    /// How many replies `work` cost the server.
    pub fn replies(&self, work: impl FnOnce()) -> u64 {
        let before = self.writes();
        work();
        self.writes() - before
    }

    fn writes(&self) -> u64 {
        let mut count = [0; 8];
        (&self.questions).write_all(b"?").unwrap();
        (&self.questions).read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    /// A path in the mount.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }
}

/// Mounts `layers`, lowest first, under an empty writable layer and runs `body` inside.
pub fn in_mount<F: Fn(&Inside)>(ids: Ids, layers: &[Layer], body: F) {
    in_mounts(ids, layers, &[&body]);
}

/// The same with several bodies, the mount taken down and made again between them.
///
/// To be called as the last thing of a test, from the test's own function.
pub fn in_mounts<'a>(ids: Ids, layers: &[Layer], bodies: &[&'a (dyn Fn(&Inside) + 'a)]) {
    let role = std::env::var(ROLE).unwrap_or_default();
    match role.split_once(' ') {
        Some(("inside", number)) => run_inside(bodies[number.parse::<usize>().unwrap()]),
        Some(("server", _)) => run_server(),
        _ => {
            let dir = prepared(layers);
            for number in 0..bodies.len() {
                direct(ids, number, dir.path());
            }
        }
    }
}

/// A directory with the image's layers, an empty writable layer and a mount point.
fn prepared(layers: &[Layer]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("mnt")).unwrap();
    fs::create_dir(dir.path().join("upper")).unwrap();
    image::store(layers, dir.path());
    dir
}

fn direct(ids: Ids, number: usize, dir: &Path) {
    // A test may stop it. It must not stay so when the test is killed: whoever looked at what hangs on it would hang, too.
    let bound = ["setpriv", "--pdeathsig", "KILL"];
    let server = myself(&format!("server {number}"), dir, &bound);
    direct_with(server, ids, number, dir);
}

/// Runs a server and the inside that it serves to their ends.
fn direct_with(server: Command, ids: Ids, number: usize, dir: &Path) {
    let (inside_end, server_end) = UnixStream::pair().unwrap();
    let mut server = Ending(spawn(server, server_end));
    let wide = ids == Ids::Range;
    // With a range the maps are written from here, and its first exec would lose the capabilities of an unmapped user.
    let map: &[&str] = if wide {
        &["--keep-caps"]
    } else {
        &["--map-root-user"]
    };
    let inside = myself(
        &format!("inside {number}"),
        dir,
        &[&["unshare", "--user", "--mount"], map].concat(),
    );
    let inside = spawn(inside, inside_end);
    if wide {
        write_maps(inside.id());
    }
    finish("inside", &mut Ending(inside).0);
    finish("server", &mut server.0);
}

/// This very test again, in another role, with `before` before its command line.
fn myself(role: &str, dir: &Path, before: &[&str]) -> Command {
    let thread = std::thread::current();
    let test = thread
        .name()
        .expect("a test's thread has its name; --test-threads=1 takes it away")
        .to_owned();
    let exe = std::env::current_exe().unwrap();
    let line: Vec<&str> = before
        .iter()
        .copied()
        .chain([exe.to_str().unwrap(), &test])
        .collect();
    let mut command = Command::new(line[0]);
    command
        .args(&line[1..])
        .args(["--exact", "--nocapture", "--include-ignored"]);
    command.env(ROLE, role).env(DIR, dir);
    command
}

fn spawn(mut command: Command, stdin: UnixStream) -> Child {
    command
        .stdin(OwnedFd::from(stdin))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn write_maps(pid: u32) {
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    let theirs = || fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    wait_until("a new user namespace", || theirs() != own);
    for (map, tool) in [("uid_map", "newuidmap"), ("gid_map", "newgidmap")] {
        if Uid::effective().is_root() {
            fs::write(format!("/proc/{pid}/{map}"), "0 0 65536").unwrap();
            continue;
        }
        let (own, first) = match map {
            "uid_map" => (Uid::current().as_raw(), subordinate("/etc/subuid")),
            _ => (Gid::current().as_raw(), subordinate("/etc/subgid")),
        };
        let numbers = [pid, 0, own, 1, 1, first, 65535].map(|number| number.to_string());
        let done = Command::new(tool).args(numbers).status().unwrap();
        assert!(done.success(), "{tool}: {done}");
    }
}

/// The first of this user's subordinate ids.
fn subordinate(file: &str) -> u32 {
    let name = Command::new("id").arg("-un").output().unwrap().stdout;
    let name = String::from_utf8(name).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{}:", name.trim())));
    let line = line.unwrap_or_else(|| panic!("{file} has no range for {name}, which this test needs"));
    line.split(':').next().unwrap().parse().unwrap()
}

/// A process that ends with this: after a failed test, stopped or not.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // Nothing is left to be ended of one that has been waited for. The others are not waited for: they may wait for each other.
        let _ = self.0.kill();
    }
}

fn finish(who: &str, child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    // Both outputs are read side by side, else a full pipe would stop the child.
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).map(|_| text)
        })
    };
    let output = [
        read(Box::new(child.stdout.take().unwrap())),
        read(Box::new(child.stderr.take().unwrap())),
    ];
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                panic!("waited in vain: {who} is not finished after {PATIENCE:?}");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let output = output.map(|thread| thread.join().unwrap().unwrap()).concat();
    // A body that kills the server says so by this file.
    let killed = who == "server" && status.code().is_none();
    if killed {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(status.signal(), Some(9), "{who}: {status}\n{output}");
    } else {
        assert!(status.success(), "{who}: {status}\n{output}");
    }
}

fn run_inside(body: &dyn Fn(&Inside)) {
    wait_until("id maps", || {
        !fs::read_to_string("/proc/self/uid_map")
            .unwrap()
            .trim()
            .is_empty()
    });
    wait_until("gid map", || {
        !fs::read_to_string("/proc/self/gid_map")
            .unwrap()
            .trim()
            .is_empty()
    });
    nix::unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).unwrap();
    nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).unwrap();
    let root = PathBuf::from(std::env::var_os(DIR).unwrap()).join("mnt");
    let devices = open_devices(DEVICES).unwrap();
    mount(devices[0].as_fd(), &root, "test").unwrap();
    let mut socket = stdin_socket();
    send(&socket, &std::process::id().to_ne_bytes(), &devices);
    // Only the server's descriptors keep the connection, so its end is seen here.
    drop(devices);
    let mut pid = [0; 4];
    socket.read_exact(&mut pid).unwrap();
    body(&Inside {
        root,
        server: i32::from_ne_bytes(pid),
        questions: socket,
    });
}

/// The socket that a role was started with.
fn stdin_socket() -> UnixStream {
    UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap())
}

fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let fds: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &rights,
        MsgFlags::empty(),
        None,
    );
    sent.unwrap();
}

/// Receives a pid and the descriptors that came with it.
fn receive(socket: &UnixStream) -> (u32, Vec<OwnedFd>) {
    let mut space = nix::cmsg_space!([i32; DEVICES + 1]);
    let mut pid = [0; 4];
    let mut buffer = [IoSliceMut::new(&mut pid)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut buffer,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    );
    let message = message.unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no devices came");
    };
    // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
    let owned = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let owned = owned.collect();
    (u32::from_ne_bytes(pid), owned)
}

fn run_server() {
    let mut socket = stdin_socket();
    let (pid, devices) = receive(&socket);
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let ids = IdMap::of_process(pid).unwrap();
    let tree = Tree::open(image::load(&dir), &dir.join("upper"), Limits::default()).unwrap();
    socket.write_all(&std::process::id().to_ne_bytes()).unwrap();
    std::thread::spawn(move || answer_questions(socket));
    serve(tree, ids, devices, &Ledger::alone().unwrap(), AtEnd::Sync).unwrap();
}

/// Tells how many writes this process has made: a reply to the kernel is one, an answer here is none (it is a send).
fn answer_questions(mut socket: UnixStream) {
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() {
        let io = fs::read_to_string("/proc/self/io").unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap();
        let count: u64 = line.parse().unwrap();
        if socket.write_all(&count.to_ne_bytes()).is_err() {
            return;
        }
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
