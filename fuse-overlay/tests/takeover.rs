//! Does anybody notice when the server is killed? Programs run on a mount whose servers die at a chosen point of every
//! n-th request; each must see what it would see on the host's own filesystem, and each operation must happen once.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use common::{Fate, Ids, Inside, Layer, in_mortal_mount};

fn image() -> [Layer; 1] {
    let mut layer = Layer::new().dir("d").dir("etc").symlink("link", "d");
    for number in 0..40 {
        layer = layer.file(&format!("d/{number}"), vec![number; 5000]);
    }
    [layer]
}

/// Every kind of operation, with its outcome checked, several times over.
fn work(inside: &Inside) {
    for round in 0..4 {
        let at = |name: &str| inside.path(&format!("{name}{round}"));
        // Each of these fails if it happens twice, or not at all.
        fs::create_dir(at("new")).unwrap();
        assert_eq!(
            fs::create_dir(at("new")).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        for number in 0..20 {
            let path = at("new").join(number.to_string());
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .unwrap();
            write!(file, "file {number} of round {round}").unwrap();
            file.sync_all().unwrap();
            fs::hard_link(&path, at("new").join(format!("link{number}"))).unwrap();
            fs::rename(&path, at("new").join(format!("moved{number}"))).unwrap();
            assert!(fs::metadata(&path).is_err());
            std::os::unix::fs::symlink("target", &path).unwrap();
            fs::remove_file(&path).unwrap();
            assert_eq!(fs::remove_file(&path).unwrap_err().kind(), ErrorKind::NotFound);
        }
        for number in 0..20 {
            let path = at("new").join(format!("moved{number}"));
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                format!("file {number} of round {round}")
            );
            assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
        }
        assert_eq!(fs::read_dir(at("new")).unwrap().count(), 40);
        fs::create_dir(at("empty")).unwrap();
        fs::remove_dir(at("empty")).unwrap();
        assert_eq!(
            fs::remove_dir(at("empty")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    image_files_change(inside);
    unlinked_files_live_on(inside);
}

fn image_files_change(inside: &Inside) {
    for number in 0..40 {
        let path = inside.path(&format!("d/{number}"));
        assert_eq!(fs::read(&path).unwrap(), vec![number; 5000]);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"more").unwrap();
        drop(file);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = fs::read(&path).unwrap();
        assert_eq!((text.len(), &text[5000..]), (5004, &b"more"[..]));
    }
    // Set-id bits go with the data, once, and stay gone; one file without a name from the start gets one.
    for number in 0..10 {
        let path = inside.path(&format!("d/{number}"));
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
        inside.sh(&format!(
            "setpriv --reuid 0 --bounding-set=-fsetid --inh-caps=-fsetid sh -c 'echo x >> d/{number}'"
        ));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755, "{number}");
        unnamed_gets_a_name(inside, &format!("named{number}"));
    }
    inside.sh("setfattr -n user.x -v 1 d/1; setfattr -x user.x d/1; ! getfattr -n user.x d/1 2> /dev/null");
}

/// O_TMPFILE, then linkat(2).
fn unnamed_gets_a_name(inside: &Inside, name: &str) {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&inside.root)
        .unwrap();
    file.write_all(&[9; 9000]).unwrap();
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let (here, follow) = (nix::fcntl::AT_FDCWD, nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW);
    nix::unistd::linkat(here, link.as_str(), here, &inside.path(name), follow).unwrap();
    assert_eq!(fs::read(inside.path(name)).unwrap(), [9; 9000]);
}

/// A file without a name, and one with a name, open across many deaths.
fn unlinked_files_live_on(inside: &Inside) {
    let path = inside.path("unlinked");
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options
    };
    let mut file = options().open(&path).unwrap();
    file.write_all(&[7; 100_000]).unwrap();
    file.sync_all().unwrap();
    fs::remove_file(&path).unwrap();
    let image = File::open(inside.path("d/39")).unwrap();
    fs::remove_file(inside.path("d/39")).unwrap();
    for number in 0..100 {
        fs::write(inside.path(&format!("other{number}")), [1; 5000]).unwrap();
    }
    // So that the server is asked for what follows.
    let forget = |file: &File| {
        use nix::fcntl::{PosixFadviseAdvice::POSIX_FADV_DONTNEED, posix_fadvise};
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED).unwrap();
    };
    forget(&file);
    forget(&image);
    file.write_all_at(&[8; 10], 50_000).unwrap();
    file.sync_all().unwrap();
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), 100_000);
    assert_eq!((text[49_999], text[50_005], text[50_010]), (7, 8, 7));
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut text = vec![0; 5004];
    image.read_exact_at(&mut text, 0).unwrap();
    assert_eq!((text[0], &text[5000..]), (39, &b"more"[..]));
}

/// Runs the work with servers that are killed at each `every`-th request that reaches `point`.
fn survives(point: &str, every: u32) {
    survives_fate(point, Fate::Killed(point, every));
}

fn survives_fate(point: &str, fate: Fate<'_>) {
    in_mortal_mount(Ids::One, &image(), fate, |inside, counts| {
        work(inside);
        let [successors, found, happened] = counts();
        assert!(successors >= 20, "{successors} deaths");
        // FORGET wants no answer and is done with when it is.
        assert!(
            found + 5 >= successors,
            "{found} requests in hand at {successors} deaths"
        );
        match point {
            // The other thread may just have sent its answer.
            "read" => assert!(
                happened <= found.saturating_sub(successors) + 5,
                "{happened} of {found}"
            ),
            // What changes nothing leaves no trace.
            "happened" => assert!(happened > 3, "{happened} of {found}"),
            _ => assert!(happened + 10 >= found, "{happened} of {found}"),
        }
    });
}

#[test]
fn killed_before_the_work() {
    survives("read", 37);
}

#[test]
fn killed_between_the_work_and_saving_the_answer() {
    survives("happened", 37);
}

#[test]
fn killed_before_the_answer() {
    survives("saved", 37);
}

#[test]
fn killed_after_the_answer() {
    survives("sent", 37);
}

#[test]
fn killed_at_nearly_every_request() {
    survives("happened", 3);
}

/// The record of a request that waits for its answer may lie before a checkpoint.
#[test]
fn killed_between_the_work_and_saving_the_answer_with_checkpoints() {
    survives_fate("happened", Fate::KilledInAHurry("happened", 23));
}

#[test]
fn killed_during_checkpoints() {
    in_mortal_mount(
        Ids::One,
        &image(),
        Fate::KilledInAHurry("checkpoint", 23),
        |inside, counts| {
            work(inside);
            assert!(counts()[0] >= 5, "{:?} deaths", counts());
        },
    );
}

#[test]
fn a_request_that_two_servers_died_of_fails_alone() {
    in_mortal_mount(Ids::One, &image(), Fate::AbortsAt("poison"), |inside, counts| {
        for number in 0..3 {
            fs::write(inside.path("before"), [number; 10]).unwrap();
            let error = fs::create_dir(inside.path(&format!("poison{number}"))).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
            assert_eq!(fs::read(inside.path("before")).unwrap(), [number; 10]);
        }
        assert_eq!(counts()[0], 6);
    });
}

/// A bug that panics costs the one request: the same server goes on, and no lock is left held.
#[test]
fn a_request_that_panics_fails_alone() {
    in_mortal_mount(Ids::One, &image(), Fate::PanicsAt("poison"), |inside, counts| {
        for number in 0..3 {
            let poisoned = inside.path(&format!("d/poison{number}"));
            for error in [
                fs::create_dir(&poisoned).unwrap_err(),
                fs::rename(inside.path("d/1"), &poisoned).unwrap_err(),
            ] {
                assert_eq!(error.raw_os_error(), Some(libc::EIO));
            }
            fs::write(inside.path("d/after"), [number; 10]).unwrap();
            fs::rename(inside.path("d/after"), inside.path("d/moved")).unwrap();
            assert_eq!(fs::read(inside.path("d/moved")).unwrap(), [number; 10]);
        }
        assert_eq!(counts()[0], 0, "no server died");
    });
}

/// A lock's owner, a lease's and a mapping's notice no more than others: what the kernel keeps lives on, and what it has
/// not yet written out arrives at a later server, whole.
#[test]
fn locks_leases_and_dirty_pages_live_on() {
    in_mortal_mount(
        Ids::One,
        &image(),
        Fate::Killed("happened", 7),
        |inside, counts| {
            let before = counts()[0];
            assert_eq!(inside.sh(LOCKED), "all there\n");
            let deaths = counts()[0] - before;
            assert!(deaths >= 20, "{deaths} deaths");
            // Written out, and read again by another server.
            let mapped = fs::read(inside.path("mapped")).unwrap();
            assert!((0..256).all(|page| mapped[page * 4096..][..4096] == [page as u8; 4096]));
        },
    );
}

/// Takes locks of each kind, a lease, and dirties pages; goes on until many servers have died; looks whether all is as it was.
/// Another process, which has nothing of the first, asks for the locks.
const LOCKED: &str = r#"exec python3 - <<'PYTHON'
import fcntl, mmap, os, struct, subprocess, sys
def wants(kind):
    code = """
import fcntl, os, struct, sys
kind = sys.argv[1]
f = os.open(kind, os.O_RDWR)
part = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 10, 1, 0)
try:
    if kind == 'flock': fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if kind == 'posix': fcntl.fcntl(f, fcntl.F_SETLK, part)
    if kind == 'ofd': fcntl.fcntl(f, 37, part)
    print('got')
except BlockingIOError: print('held')
"""
    return subprocess.run([sys.executable, '-c', code, kind], capture_output=True, text=True, check=True).stdout.strip()
held = {name: os.open(name, os.O_RDWR | os.O_CREAT) for name in ('flock', 'posix', 'ofd')}
fcntl.flock(held['flock'], fcntl.LOCK_EX)
part = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 100, 0)
fcntl.fcntl(held['posix'], fcntl.F_SETLK, part)
fcntl.fcntl(held['ofd'], 37, part)
leased = os.open('leased', os.O_RDONLY | os.O_CREAT)
fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_RDLCK)
f = os.open('mapped', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 1 << 20)
m = mmap.mmap(f, 1 << 20)
gone = os.open('gone', os.O_RDWR | os.O_CREAT); os.write(gone, b'still here'); os.unlink('gone')
for n in range(256):
    m[n * 4096:(n + 1) * 4096] = bytes([n]) * 4096
    os.mkdir(f'dir{n}'); os.rmdir(f'dir{n}')  # two requests, so a server dies of every third or fourth
for name in held:
    assert wants(name) == 'held', name
    os.close(held[name])
    assert wants(name) == 'got', name
assert fcntl.fcntl(leased, fcntl.F_GETLEASE) == fcntl.F_RDLCK
assert os.pread(gone, 100, 0) == b'still here' and os.fstat(gone).st_nlink == 0
for n in range(256): assert m[n * 4096:(n + 1) * 4096] == bytes([n]) * 4096, n
m.flush(); os.fsync(f)
print('all there')
PYTHON"#;
