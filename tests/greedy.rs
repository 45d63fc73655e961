//! What does a container that asks for too much cost its filesystem server, and who else feels it? Very many names, deep paths,
//! large attributes, inodes that are never forgotten, locks without end.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;

use common::{Bryo, field, process, until};

/// Most bytes of the server's own memory for an inode with its name, and for its extended attributes, and beside them.
/// ARCHITECTURE.md of fuse-overlay has the parts.
const INODE: u64 = 1024;
const ATTRIBUTES: u64 = 2 * 64 * 1024;
const BESIDE: u64 = 64 << 20;

/// A container with Python that does what `script` says and then stays.
fn greedy(script: &str) -> Bryo {
    let (bryo, image) = Bryo::with_image("software");
    let told = bryo.scratch("told");
    fs::create_dir(&told).unwrap();
    fs::write(told.join("script"), script).unwrap();
    let told = format!("{}:/told", told.display());
    bryo.ok([
        "run", "-d", "--name", "greedy", "--network", "none", "-v", &told, &image, "sh", "-c",
        "cd /; python3 /told/script > /told/out 2>&1; echo $? > /told/code.new; mv /told/code.new /told/code; sleep 10000",
    ]);
    bryo
}

/// Waits for the end of the script, which may take long; gives what it printed.
#[track_caller]
fn ended(bryo: &Bryo) -> String {
    let code = bryo.scratch("told/code");
    for _ in 0..20 {
        if code.exists() {
            break;
        }
        let end = std::time::Instant::now() + std::time::Duration::from_secs(15);
        while !code.exists() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    let out = fs::read_to_string(bryo.scratch("told/out")).unwrap();
    assert_eq!(fs::read_to_string(code).unwrap(), "0\n", "{out}");
    out
}

/// The bytes of memory that the container's server has for itself: no pages of files.
fn own_memory(bryo: &Bryo) -> u64 {
    let server = process(bryo, "greedy", "FilesystemPid");
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[track_caller]
fn takes_at_most(bryo: &Bryo, bytes: u64) -> u64 {
    let taken = own_memory(bryo);
    println!("{} KiB of {} KiB", taken >> 10, bytes >> 10);
    assert!(taken <= bytes, "{taken} bytes, more than {bytes}");
    let servers = field(
        bryo,
        "greedy",
        "{{with .State.FilesystemTakeovers}}{{.Servers}}{{end}}",
    );
    assert!(servers.is_empty() || servers == "0", "{servers} servers died");
    taken
}

/// Names of 200 bytes, of which the kernel forgets none while their files are open; and what is removed is given back.
#[test]
fn two_hundred_thousand_names_take_what_is_stated() {
    let bryo = greedy(
        "import os
os.mkdir('/n'); os.chdir('/n')
for n in range(200000):
    os.mknod(f'{n:0200}')
print(len(os.listdir('.')))
held = [os.open(f'{n:0200}', os.O_RDONLY) for n in range(500)]
for n in range(0, 200000, 1000):
    os.stat(f'{n:0200}')
print(os.path.exists(f'{199999:0200}'), os.path.exists('other'))",
    );
    assert_eq!(ended(&bryo), "200000\nTrue False\n");
    let taken = takes_at_most(&bryo, BESIDE + 200_000 * INODE);
    assert!(taken > 200_000 * 100, "nothing was kept in memory: {taken} bytes");
}

/// Each inode as much as it is given, until that is refused.
#[test]
fn attributes_take_what_is_stated() {
    let bryo = greedy(
        "import os, errno
os.mkdir('/x')
def fill(path, size):
    count = 0
    while True:
        try:
            os.setxattr(path, f'user.{size}.{count}', b'v' * size)
        except OSError as error:
            return count, errno.errorcode[error.errno]
        count += 1
for n in range(500):
    os.mknod(f'/x/{n}')
    large, small = fill(f'/x/{n}', 65536), fill(f'/x/{n}', 0)
print(large, small[1])
for n in range(500, 1000):
    os.mknod(f'/x/{n}')
    count, why = fill(f'/x/{n}', 0)
print(200 < count < 1000, why, len(os.listxattr('/x/999')) == count)
print(len(os.getxattr('/x/0', 'user.65536.0')))",
    );
    assert_eq!(ended(&bryo), "(1, 'ENOSPC') ENOSPC\nTrue ENOSPC True\n65536\n");
    let taken = takes_at_most(&bryo, BESIDE + 1000 * (INODE + ATTRIBUTES));
    assert!(taken > 500 * 65536, "nothing was kept in memory: {taken} bytes");
}

/// While one goes into the depths and fights about locks and one file, another container's work is done.
#[test]
fn nobody_else_waits_for_deep_paths_and_locks() {
    let bryo = greedy(
        "import os, fcntl, sys, time
for n in range(20000):
    os.mkdir('d'); os.chdir('d')
    if n % 1000 == 0:
        open('file', 'w').close()
try:
    os.mkdir('/' + 'd/' * 2000 + 'e')
except OSError as error:
    print('too long')
os.chdir('/')
for child in range(8):
    if os.fork() == 0:
        fd = os.open('/lock', os.O_CREAT | os.O_RDWR)
        while not os.path.exists('/told/go'):
            for n in range(1000):
                fcntl.lockf(fd, fcntl.LOCK_EX, 1, n); fcntl.lockf(fd, fcntl.LOCK_UN, 1, n)
            fcntl.flock(fd, fcntl.LOCK_EX); os.pwrite(fd, b'x', 0); os.fsync(fd); fcntl.flock(fd, fcntl.LOCK_UN)
        os._exit(0)
open('/told/busy', 'w').close()
print([os.wait()[1] for child in range(8)] == [0] * 8)",
    );
    let busy = bryo.scratch("told/busy");
    until("its depth", || {
        busy.exists() || bryo.scratch("told/code").exists()
    });
    assert!(
        busy.exists(),
        "{}",
        fs::read_to_string(bryo.scratch("told/out")).unwrap()
    );
    let image = field(&bryo, "greedy", "{{.Config.Image}}");
    let work =
        "mkdir /w; for n in $(seq 100); do echo $n > /w/$n; done; cat /w/* | sort -n | tail -1; sync /w/1";
    assert_eq!(bryo.sh(&image, work), "100\n");
    takes_at_most(&bryo, BESIDE + 20_000 * INODE);
    assert!(!bryo.scratch("told/code").exists(), "it had ended before");
    fs::write(bryo.scratch("told/go"), "").unwrap();
    assert_eq!(ended(&bryo), "True\n");
    // What no path can name has no place in a layer; the container can be removed all the same.
    assert!(bryo.fails(1, ["diff", "greedy"]).contains("File name too long"));
    bryo.ok(["rm", "-f", "greedy"]);
}
