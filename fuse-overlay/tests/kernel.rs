//! Does the kernel agree? What programs do, through a real mount, in a user namespace of its own.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use std::time::{Duration, Instant};

use common::{Ids, Layer, Meta, in_mount, in_mounts};
use fuse_overlay::attr::Ino;
use fuse_overlay::name::Name;
use fuse_overlay::union::{OpenError, Tree};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// A small image of two layers.
fn image() -> [Layer; 2] {
    let base = Layer::new()
        .dir("etc")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("etc/gone", "hidden by the layer above")
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/big", vec![7u8; 300_000])
        .file("usr/lib/one", "shared")
        .hard_link("usr/lib/two", "usr/lib/one")
        .symlink("usr/link", "lib/one")
        .fifo("usr/pipe");
    let top = Layer::new()
        .dir("etc")
        .file("etc/.wh.gone", "")
        .file("etc/motd", "hello\n")
        .dir("tmp");
    [base, top]
}

#[test]
fn shows_the_union_of_the_layers() {
    in_mount(Ids::Range, &image(), |inside| {
        assert_eq!(inside.sh("cat etc/motd"), "hello\n");
        assert!(!inside.path("etc/gone").exists());
        assert_eq!(
            inside.sh("ls etc usr usr/lib"),
            "etc:\nmotd\npasswd\n\nusr:\nlib\nlink\npipe\n\nusr/lib:\nbig\none\ntwo\n"
        );
        assert_eq!(fs::read(inside.path("usr/lib/big")).unwrap(), vec![7u8; 300_000]);
        assert_eq!(
            fs::read_link(inside.path("usr/link")).unwrap().to_str(),
            Some("lib/one")
        );
        assert_eq!(fs::read_to_string(inside.path("usr/link")).unwrap(), "shared");
        let meta = fs::metadata(inside.path("usr/lib/two")).unwrap();
        assert_eq!(
            (meta.nlink(), meta.mtime(), meta.mode()),
            (2, common::MTIME as i64, 0o100644)
        );
        assert_eq!(
            meta.ino(),
            fs::metadata(inside.path("usr/lib/one")).unwrap().ino()
        );
    });
}

#[test]
fn writes_stay_above_the_layers() {
    in_mounts(
        Ids::Range,
        &image(),
        &[
            &|inside| {
                inside.sh("echo more >> etc/motd; echo new > tmp/new; mkdir -p var/log; ln -s new tmp/link");
                inside.sh("mv usr/lib usr/lib2; rm etc/passwd; chmod 4711 usr/lib2/one; mknod usr/pipe2 p");
                check_changes(&inside.root);
            },
            // The same from the journal.
            &|inside| check_changes(&inside.root),
        ],
    );
}

fn check_changes(root: &std::path::Path) {
    assert_eq!(
        fs::read_to_string(root.join("etc/motd")).unwrap(),
        "hello\nmore\n"
    );
    assert_eq!(fs::read_to_string(root.join("tmp/link")).unwrap(), "new\n");
    assert!(!root.join("etc/passwd").exists() && !root.join("usr/lib").exists());
    assert_eq!(
        fs::metadata(root.join("usr/lib2/two"))
            .unwrap()
            .permissions()
            .mode(),
        0o104711
    );
    assert_eq!(fs::metadata(root.join("usr/lib2/big")).unwrap().len(), 300_000);
}

#[test]
fn a_missing_name_is_asked_for_once() {
    in_mount(Ids::One, &image(), |inside| {
        // The name comes into being later all the same: the kernel itself makes it.
        for _ in 0..3 {
            assert!(!inside.path("etc/absent").exists());
        }
        fs::write(inside.path("etc/absent"), "now").unwrap();
        assert_eq!(fs::read_to_string(inside.path("etc/absent")).unwrap(), "now");
        fs::remove_file(inside.path("etc/absent")).unwrap();
        assert!(!inside.path("etc/absent").exists());
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    in_mount(Ids::One, &image(), |inside| {
        let path = inside.path("etc/motd");
        let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"still here\n").unwrap();
        file.sync_all().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\nstill here\n");
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
    });
}

#[test]
fn opening_to_truncate_truncates() {
    // Under ATOMIC_O_TRUNC and without opens the truncation would be lost.
    in_mount(Ids::One, &image(), |inside| {
        inside.sh("echo x > usr/lib/big; test $(stat -c %s usr/lib/big) = 2; : > usr/lib/big; test ! -s usr/lib/big");
        let file = OpenOptions::new()
            .write(true)
            .open(inside.path("usr/lib/one"))
            .unwrap();
        file.set_len(3).unwrap();
        file.set_len(5).unwrap();
        assert_eq!(fs::read(inside.path("usr/lib/two")).unwrap(), b"sha\0\0");
    });
}

#[test]
fn blocks_of_a_file_that_stays_open_are_counted() {
    in_mount(Ids::One, &image(), |inside| {
        let path = inside.path("tmp/log");
        let mut file = File::create(&path).unwrap();
        let blocks = || fs::metadata(&path).unwrap().blocks();
        file.write_all(&[7; 100_000]).unwrap();
        assert_eq!(blocks(), 0, "no page is written out");
        // Sends nothing but the pages. The kernel is told by the timer.
        nix::unistd::sync();
        while blocks() != 25 * 8 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        file.write_all(&[7; 100_000]).unwrap();
        file.sync_data().unwrap();
        assert_eq!(blocks(), 49 * 8);
    });
}

#[test]
fn set_id_bits_go_as_on_any_filesystem() {
    in_mount(Ids::Range, &image(), |inside| {
        // The same on a tmpfs of the same namespace says what is right.
        let script = r#"
            modes() { stat -c "$1: %a" x d >> modes; }
            as() { setpriv --reuid $1 --regid $1 --clear-groups "${@:2}"; }
            cp /bin/true x; mkdir d
            chmod 6755 x; chmod 2755 d; chown 33:33 x d; modes chown
            chmod 6777 x; as 33 sh -c 'echo x >> x'; modes 'write by the owner'
            chmod 6777 x; as 34 sh -c 'echo x >> x'; modes 'write by another'
            chmod 6777 x; as 34 sh -c ': > x'; modes 'truncation by another'
            chmod 6777 x; echo x >> x; modes 'write by root'
            chmod 6777 x; : > x; modes 'truncation by root'
            chmod 6777 x; as 33 truncate -s 5 x; modes 'truncate by the owner'
            chmod 6777 x; fallocate -l 10 x; modes fallocate
            chown 0:33 d; chmod 2777 d; as 34 sh -c ': > d/f; mkdir d/s'; stat -c '%g %a' d/f d/s >> modes
            chown 33:33 x; as 33 chmod 2755 x; chown 33:0 x; as 33 chmod 2755 x; modes 'chmod in a foreign group'
            cat modes"#;
        inside.sh("mkdir ours tmpfs; chmod 777 . ours tmpfs; mount -t tmpfs none tmpfs; chmod 777 tmpfs");
        let [ours, tmpfs] = ["ours", "tmpfs"].map(|dir| inside.sh(&format!("cd {dir}; {script}")));
        assert_eq!(ours, tmpfs);
    });
}

#[test]
fn an_owner_that_is_not_mapped_is_shown_as_one_that_is() {
    let image = [Layer::new()
        .owned(
            "foreign",
            Meta {
                mode: 0o6755,
                uid: 33,
                gid: 44,
            },
            "text",
        )
        .owned("own", Meta::mode(0o6755), "text")];
    in_mount(Ids::One, &image, |inside| {
        let meta = fs::metadata(inside.path("foreign")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode()), (0, 0, 0o100755));
        assert_eq!(fs::metadata(inside.path("own")).unwrap().mode(), 0o106755);
        // What fails with EACCES and EOVERFLOW if the kernel knows the true owner.
        inside.sh(
            "echo more >> foreign; chmod 600 foreign; mv foreign foreign2; ln foreign2 foreign3; rm foreign2",
        );
        assert_eq!(fs::read_to_string(inside.path("foreign3")).unwrap(), "textmore\n");
    });
}

#[test]
fn set_id_programs_work_for_mapped_ids() {
    let image = [Layer::new().owned("su", Meta::mode(0o4755), fs::read("/usr/bin/id").unwrap())];
    in_mount(Ids::Range, &image, |inside| {
        let whole_range = fs::read_to_string("/proc/self/uid_map")
            .unwrap()
            .contains("65536");
        if whole_range {
            let id = inside.sh("chmod 755 .; setpriv --reuid 33 --regid 33 --clear-groups ./su");
            assert!(id.contains("euid=0"), "{id}");
        }
    });
}

#[test]
fn extended_attributes() {
    let image = [Layer::new()
        .xattr("user.from", b"the image")
        .file("f", "x")
        .dir("d")];
    in_mount(Ids::One, &image, |inside| {
        inside.sh(r#"
            test "$(getfattr -n user.from --only-values f)" = "the image"
            setfattr -n user.mine -v "value" f; setfattr -n user.mine -v "longer value" f
            test "$(getfattr -n user.mine --only-values f)" = "longer value"
            test "$(getfattr -d f | grep -c =)" = 2
            setfattr -x user.from f
            ! getfattr -n user.from f 2>/dev/null
            setfattr -n user.dir -v 1 d; getfattr -n user.dir d >/dev/null
            head -c 60000 /dev/zero | tr '\0' v > d/value; setfattr -n user.long -v "$(cat d/value)" f || true
            "#);
    });
}

#[test]
fn mapped_memory_and_writes_agree() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(r#"python3 - <<'END'
import mmap, os
fd = os.open("usr/lib/big", os.O_RDWR)
m = mmap.mmap(fd, 300000)
assert m[299999] == 7
m[100000:100004] = b"MAP!"
assert os.pread(fd, 6, 99999) == b"\x07MAP!\x07"
os.pwrite(fd, b"write", 200000)
assert m[200000:200005] == b"write"
m.flush()
os.fsync(fd)
END"#);
        let file = File::open(inside.path("usr/lib/big")).unwrap();
        let mut four = [0; 4];
        file.read_exact_at(&mut four, 100_000).unwrap();
        assert_eq!(&four, b"MAP!");
    });
}

#[test]
fn locks_are_the_kernels_own() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(r#"
            exec 9> tmp/lock; flock -n 9
            ! flock -n tmp/lock true
            exec 9>&-; flock -n tmp/lock true
            python3 - <<'END'
import fcntl, os, struct
a = os.open("tmp/lock", os.O_RDWR); b = os.open("tmp/lock", os.O_RDWR)
whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
F_OFD_SETLK = 37
fcntl.fcntl(a, F_OFD_SETLK, whole)
try: fcntl.fcntl(b, F_OFD_SETLK, whole); raise SystemExit("two write locks")
except BlockingIOError: pass
END
            "#);
    });
}

#[test]
fn space_is_reserved_and_punched() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(
            r#"
            fallocate -l 100000 tmp/f; test $(stat -c %s tmp/f) = 100000
            fallocate -n -l 200000 tmp/f; test $(stat -c %s tmp/f) = 100000
            cp usr/lib/big tmp/g; fallocate -p -o 4096 -l 8192 tmp/g
            test $(stat -c %s tmp/g) = 300000
            head -c 4096 usr/lib/big > tmp/want; head -c 8192 /dev/zero >> tmp/want; tail -c +12289 usr/lib/big >> tmp/want
            cmp tmp/g tmp/want
            fallocate -z -o 0 -l 4096 tmp/g; test $(head -c 4096 tmp/g | tr -d '\0' | wc -c) = 0
            ! fallocate -c -o 0 -l 4096 tmp/g 2>/dev/null
            truncate -s 5G tmp/sparse; echo end >> tmp/sparse; test $(stat -c %s tmp/sparse) = 5368709124
            tail -c 4 tmp/sparse | grep -q end; test $(du -k tmp/sparse | cut -f1) -lt 1000
            "#,
        );
    });
}

#[test]
fn unnamed_files_can_be_named_later() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(r#"python3 - <<'END'
import ctypes, os
fd = os.open("tmp", os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b"unnamed")
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
libc = ctypes.CDLL(None, use_errno=True)
path = f"/proc/self/fd/{fd}".encode()
assert libc.linkat(AT_FDCWD, path, AT_FDCWD, b"tmp/named", AT_SYMLINK_FOLLOW) == 0, ctypes.get_errno()
os.close(fd)
assert open("tmp/named").read() == "unnamed"
assert os.stat("tmp/named").st_mode & 0o777 == 0o640 & ~os.umask(0)
END"#);
    });
}

#[test]
fn seeks_see_what_is_not_yet_written_back() {
    // LSEEK is answered ENOSYS, so the kernel takes the whole file for data: right, if not clever.
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(r#"python3 - <<'END'
import os
fd = os.open("tmp/f", os.O_CREAT | os.O_RDWR)
os.pwrite(fd, b"x", 100000)
assert os.lseek(fd, 50000, os.SEEK_DATA) <= 100000
assert os.lseek(fd, 0, os.SEEK_HOLE) <= 100001
n = os.copy_file_range(fd, os.open("tmp/g", os.O_CREAT | os.O_RDWR), 100001, 0, 0)
assert n == 100001, n
assert os.stat("tmp/g").st_size == 100001
END"#);
    });
}

#[test]
fn renames_in_all_forms() {
    in_mount(Ids::One, &image(), |inside| {
        inside.sh(r#"python3 - <<'END'
import ctypes, os, stat
libc = ctypes.CDLL(None, use_errno=True)
def rename(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags): return ctypes.get_errno()
    return 0
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
open("tmp/a", "w").write("a"); open("tmp/b", "w").write("b")
assert rename("tmp/a", "tmp/b", NOREPLACE) == 17
assert rename("tmp/a", "tmp/b", EXCHANGE) == 0
assert open("tmp/a").read() == "b" and open("tmp/b").read() == "a"
assert rename("usr", "tmp/b", EXCHANGE) == 0
assert os.path.isdir("tmp/b/lib") and open("usr").read() == "a"
assert rename("tmp/a", "tmp/c", WHITEOUT) == 0
s = os.lstat("tmp/a")
assert stat.S_ISCHR(s.st_mode) and s.st_rdev == 0, oct(s.st_mode)
assert rename("tmp/b", "tmp/c", NOREPLACE | WHITEOUT) == 17
assert rename("tmp/c", "tmp/d", NOREPLACE | WHITEOUT) == 0
assert open("tmp/d").read() == "b" and stat.S_ISCHR(os.lstat("tmp/c").st_mode)
assert rename("tmp/d", "tmp/e", EXCHANGE | WHITEOUT) == 22
assert rename("tmp", "tmp/b/x", 0) == 22
END"#);
    });
}

#[test]
fn a_directory_of_a_hundred_thousand_names() {
    in_mount(Ids::One, &image(), |inside| {
        let dir = inside.path("tmp/many");
        fs::create_dir(&dir).unwrap();
        for number in 0..100_000 {
            // Links are the quickest names to make.
            match number % 1000 {
                0 => drop(File::create(dir.join(format!("{number:06}"))).unwrap()),
                _ => fs::hard_link(
                    dir.join(format!("{:06}", number / 1000 * 1000)),
                    dir.join(format!("{number:06}")),
                )
                .unwrap(),
            }
        }
        let names = || {
            fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
        };
        let all: std::collections::BTreeSet<_> = names().collect();
        assert_eq!((all.len(), names().count()), (100_000, 100_000));
        // Removing while listing skips nothing that stays and shows nothing twice.
        for (number, entry) in fs::read_dir(&dir).unwrap().enumerate() {
            if number % 2 == 0 {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        assert_eq!(names().count(), 50_000);
    });
}

#[test]
fn two_threads_write_side_by_side() {
    in_mount(Ids::One, &image(), |inside| {
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let dir = inside.path(&format!("tmp/{thread}"));
                scope.spawn(move || {
                    fs::create_dir(&dir).unwrap();
                    for number in 0..200u32 {
                        let data = vec![thread; 1 + number as usize * 97];
                        fs::write(dir.join(number.to_string()), &data).unwrap();
                        assert_eq!(fs::read(dir.join(number.to_string())).unwrap(), data);
                    }
                });
            }
        });
        assert_eq!(inside.sh("find tmp -type f | wc -l").trim(), "800");
    });
}

/// A getattr that is answered between an unlink and the kernel's own count for it would make that count it twice.
#[test]
fn a_name_that_goes_is_counted_once() {
    in_mount(Ids::One, &image(), |inside| {
        let (file, other) = (inside.path("tmp/file"), inside.path("tmp/other"));
        fs::write(&file, "").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
        let (mut wrong, mut rounds) = (0, 0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let flags = rustix::fs::AtFlags::STATX_FORCE_SYNC;
                    while !is_done() {
                        rustix::fs::statx(rustix::fs::CWD, &file, flags, rustix::fs::StatxFlags::BASIC_STATS)
                            .unwrap();
                    }
                });
            }
            while rounds < 5_000 {
                // What a stat has just told is what counts: nobody told link(2) before.
                if fs::hard_link(&file, &other).is_ok() {
                    fs::remove_file(&other).unwrap();
                    rounds += 1;
                }
                wrong += u32::from(fs::metadata(&file).unwrap().nlink() != 1);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(wrong, 0, "of {rounds}");
    });
}

#[test]
fn a_big_file_comes_back_as_written() {
    in_mounts(
        Ids::One,
        &image(),
        &[
            &|inside| {
                inside.sh("seq 1 6000000 > tmp/big; sync tmp/big; seq 1 6000000 | cmp - tmp/big");
                inside.sh("dd if=tmp/big of=tmp/direct bs=1M iflag=direct oflag=direct,append conv=notrunc status=none");
            },
            &|inside| drop(inside.sh("seq 1 6000000 | cmp - tmp/big; cmp tmp/big tmp/direct")),
        ],
    );
}

#[test]
fn a_dead_server_is_an_error_and_no_hang() {
    in_mount(Ids::One, &image(), |inside| {
        let file = File::open(inside.path("usr/lib/big")).unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(inside.server),
            nix::sys::signal::SIGKILL,
        )
        .unwrap();
        let mut byte = [0];
        let errno = loop {
            match file
                .read_exact_at(&mut byte, 200_000)
                .and_then(|()| fs::metadata(inside.path("etc")))
            {
                Err(error) => break error.raw_os_error(),
                // The kill is under way.
                Ok(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        };
        assert!(
            matches!(errno, Some(libc::ENOTCONN | libc::ECONNABORTED)),
            "{errno:?}"
        );
    });
}

#[test]
fn names_and_paths_at_their_limits() {
    in_mount(Ids::One, &image(), |inside| {
        let name = "n".repeat(255);
        fs::write(inside.path(&name), "x").unwrap();
        assert!(fs::metadata(inside.path(&name)).is_ok());
        let error = fs::write(inside.path(&"n".repeat(256)), "x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
        use std::os::unix::ffi::OsStrExt;
        let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe not utf-8 \n");
        fs::write(inside.root.join(odd), "y").unwrap();
        assert_eq!(fs::read(inside.root.join(odd)).unwrap(), b"y");
    });
}

#[test]
fn times_are_kept_to_the_nanosecond_before_1970_too() {
    in_mounts(
        Ids::One,
        &image(),
        &[
            &|inside| {
                inside.sh(
                    "touch -d '1969-12-31 23:59:58.75 UTC' etc/motd; touch -h -d '2040-01-01 UTC' usr/link",
                );
                check_times(inside);
            },
            &check_times,
        ],
    );
}

fn check_times(inside: &common::Inside) {
    let meta = fs::metadata(inside.path("etc/motd")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 750_000_000));
    assert_eq!(
        fs::symlink_metadata(inside.path("usr/link")).unwrap().mtime(),
        2_208_988_800
    );
}

#[test]
fn access_control_lists_work_as_on_any_filesystem() {
    in_mount(Ids::Range, &image(), |inside| {
        let script = r#"
            as() { setpriv --reuid $1 --regid $1 --clear-groups "${@:2}"; }
            say() { if "$@" 2>/dev/null; then echo "yes: ${*: -1}"; else echo "no: ${*: -1}"; fi >> said; }
            mkdir d; chmod 700 d; echo text > f; chmod 640 f
            setfacl -m u:33:rwx d; setfacl -d -m u:33:rw,g:44:r d; setfacl -m u:33:r f
            say as 33 cat f; say as 34 cat f; say as 33 touch d/made
            umask 077; as 33 touch d/masked; as 33 mkdir d/sub; umask 022
            chmod 600 f; say as 33 cat f; chmod g+r f; say as 33 cat f
            chmod 2755 d; chown 0:44 d
            getfacl -n d d/* f >> said; stat -c '%a %n' f d d/* >> said
            setfacl -b f; stat -c %a f >> said; say as 33 cat f
            for who in 33 0; do
                echo text > g$who; chown 33:44 g$who; chmod 2755 g$who
                as $who setfacl -m u:34:r g$who; stat -c '%a %n' g$who >> said
            done
            cat said"#;
        inside.sh("mkdir ours tmpfs; mount -t tmpfs none tmpfs; chmod 777 . ours tmpfs");
        let [ours, tmpfs] = ["ours", "tmpfs"].map(|dir| inside.sh(&format!("cd {dir}; {script}")));
        assert_eq!(ours, tmpfs);
        // Who is not in a file's group cannot keep its set-group-id bit.
        assert!(
            ours.contains("755 g33\n2755 g0\n") && !ours.contains("2755 g33"),
            "{ours}"
        );
    });
}

/// A list of access with ids that this user namespace cannot have, as layers of bigger machines hold them.
#[test]
fn a_list_that_names_who_cannot_be_here_rules_for_the_others() {
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, 4, 33),
        entry(2, 6, 4_000_000_000),
        entry(4, 0, u32::MAX),
        entry(8, 4, 3_900_000_000),
        entry(16, 6, u32::MAX),
        entry(32, 0, u32::MAX),
    ];
    let layer = Layer::new()
        .xattr("system.posix_acl_access", &list.concat())
        .file("shared", "for 33\n");
    in_mount(Ids::Range, &[layer], |inside| {
        assert_eq!(
            inside.sh("chmod 755 .; setpriv --reuid 33 --regid 33 --clear-groups cat shared"),
            "for 33\n"
        );
        inside.sh("! setpriv --reuid 34 --regid 34 --clear-groups cat shared");
        assert_eq!(
            inside.sh("getfacl -cn shared"),
            "user::rw-\nuser:33:r--\ngroup::---\nmask::rw-\nother::---\n\n"
        );
        // chmod goes on from the list as it is.
        inside.sh("chmod 664 shared");
        assert_eq!(
            inside.sh("setpriv --reuid 33 --regid 33 --clear-groups cat shared"),
            "for 33\n"
        );
    });
}

/// The kernel keeps a file's times with its pages, and tells them itself: when pages come is not when they were written.
#[test]
fn a_file_is_as_old_as_its_last_write_however_late_its_pages_come() {
    let written = std::cell::Cell::new(0);
    let name = |text: &'static str| Name::new(text.as_bytes()).unwrap();
    in_mounts(
        Ids::Range,
        &image(),
        &[
            &|inside| {
                let file = File::create(inside.path("tmp/late")).unwrap();
                (&file).write_all(&[7; 100_000]).unwrap();
                written.set(file.metadata().unwrap().mtime());
                std::thread::sleep(Duration::from_millis(2100));
                // The pages alone.
                posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
                let dir = inside.root.parent().unwrap();
                let end = Instant::now() + Duration::from_secs(30);
                let known = loop {
                    let lower = || Ok::<_, OpenError>(common::load(dir));
                    let seen = Tree::snapshot(&dir.join("upper"), lower).unwrap();
                    let tmp = seen.lookup(Ino::ROOT, name("tmp")).unwrap();
                    let late = seen.lookup(tmp.ino, name("late")).unwrap();
                    if late.size == 100_000 {
                        break late;
                    }
                    assert!(Instant::now() < end, "{late:?}");
                };
                let (known, written) = (known.mtime.sec, written.get());
                assert!(known <= written, "{known} of {written}");
                assert_eq!(file.metadata().unwrap().mtime(), written);
                fs::write(inside.path("tmp/when"), written.to_string()).unwrap();
            },
            // What the kernel said in the end.
            &|inside| {
                let when = fs::read_to_string(inside.path("tmp/when")).unwrap();
                let late = fs::metadata(inside.path("tmp/late")).unwrap();
                assert_eq!(late.mtime().to_string(), when);
            },
        ],
    );
}
