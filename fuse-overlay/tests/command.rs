//! The program `fuse-overlay`, as an ordinary user has it: under `unshare -rm`, and with fusermount3. What it mounts is
//! compared with what other tools make of the same layers.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Bash functions for all scripts: `layers` makes base.tar and top/, `mounted` waits until the server in `$!` serves.
const PRELUDE: &str = r#"
set -euo pipefail
layers() {
    mkdir -p base/etc base/gone base/old top/etc top/old upper mnt
    echo one > base/etc/one; echo two > base/etc/two; echo x > base/gone/x; echo y > base/old/y
    ln -s one base/etc/link; ln base/etc/two base/etc/hard; mkfifo base/etc/pipe
    head -c 300000 /dev/urandom > base/big
    tar -C base --numeric-owner --owner=0 --group=0 -cf base.tar .
    # Over it: a changed file, a whiteout, an opaque directory.
    echo TWO > top/etc/two; : > top/.wh.gone; : > top/old/.wh..wh..opq; echo z > top/old/z
    head -c 200000 /dev/urandom > top/large; truncate -s 1M top/holes; ln top/large top/twin
}
mounted() {
    server=$!
    # A failed script must not leave it behind: it holds our pipes.
    trap 'kill -9 $server 2> /dev/null || true' EXIT
    until mountpoint -q mnt; do kill -0 $server; sleep 0.05; done
}
"#;

/// Runs a script in a new directory, with `$fo` the program; `prefix` before bash.
fn run(prefix: &[&str], script: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let words = [prefix, &["bash", "-c"]].concat();
    Command::new("timeout")
        .args(["-k", "5", "100"])
        .args(&words)
        .arg(format!("{PRELUDE}{script}"))
        .env("fo", env!("CARGO_BIN_EXE_fuse-overlay"))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a script printed; panics if it failed.
fn printed(prefix: &[&str], script: &str) -> String {
    let output = run(prefix, script);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

const INSIDE: &[&str] = &["unshare", "-rm"];

#[test]
fn a_tar_and_a_directory_are_one_tree_with_an_upper_above() {
    let said = printed(
        INSIDE,
        r#"
layers
$fo mount --layer base.tar --layer top --upper upper mnt &
mounted
(cd mnt; find . | sort | tr '\n' ' '; echo; cat etc/one etc/two etc/hard etc/link; stat -c %h twin)
cmp mnt/big base/big; cmp mnt/large top/large; cmp mnt/holes top/holes
echo more >> mnt/large; rm mnt/etc/one; mkdir mnt/new; echo n > mnt/new/n
cmp mnt/twin mnt/large; ! cmp -s mnt/large top/large
$fo diff --layer base.tar --layer top --upper upper
kill -TERM $server; wait $server; ! mountpoint -q mnt
# Again: what was written is there.
$fo mount --layer base.tar --layer top --upper upper mnt &
mounted
cat mnt/new/n; tail -c 5 mnt/twin
umount mnt; wait $server
$fo check --layer base.tar --layer top --upper upper
"#,
    );
    let expected = "\
. ./big ./etc ./etc/hard ./etc/link ./etc/one ./etc/pipe ./etc/two ./holes ./large ./old ./old/z ./twin 
one\nTWO\ntwo\none\n2
C /\nC /etc\nD /etc/one\nC /large\nA /new\nA /new/n\nC /twin\nn\nmore\n";
    assert_eq!(said, expected);
}

/// Whether the journal has a list of its inodes is said by its version.
#[test]
fn an_upper_of_many_files_is_closed_with_a_list() {
    let said = printed(
        INSIDE,
        r#"
layers
serve() { $fo mount --layer base.tar --layer top --upper upper mnt & mounted; }
end() { umount mnt; wait $server; od -An -tu4 -j8 -N4 upper/journal; }
serve; echo few > mnt/few; end
serve; mkdir mnt/many; seq -f mnt/many/%05g 9000 | xargs touch; echo late > mnt/etc/one; end
(cd mnt; find .) > /dev/null
serve; ls mnt/many | wc -l; cat mnt/etc/one mnt/few; rm mnt/many/00001; echo "$(stat -c %h mnt/etc/two)"
# One that is killed leaves what it had, and the list.
kill -9 $server; wait $server 2> /dev/null || true; umount mnt
serve; ls mnt/many | wc -l; echo again > mnt/many/00002; cat mnt/many/00002; end
# And whoever has lost it reads all.
dd if=/dev/zero of=upper/journal bs=512 seek=3 count=1 conv=notrunc status=none
serve; ls mnt/many | wc -l; cat mnt/many/00002; end
"#,
    );
    let words: Vec<&str> = said.split_whitespace().collect();
    let expected = "2 3 9000 late few 1 8999 again 3 8999 again 3";
    assert_eq!(words, expected.split(' ').collect::<Vec<_>>());
}

/// The README's session prints what it says.
#[test]
fn the_readme_is_true() {
    let readme = include_str!("../README.md");
    let block = |fence: &str| {
        let (_, rest) = readme.split_once(fence).unwrap();
        rest.split_once("\n```").unwrap().0
    };
    let session = block("```sh\n");
    let program =
        "fuse-overlay() { if [ $1 = mount ]; then exec \"$fo\" \"$@\"; else \"$fo\" \"$@\"; fi; }\n";
    let said = printed(INSIDE, &format!("{program}{session}"));
    assert_eq!(said.trim_end(), block("prints\n\n```\n"));
}

#[test]
fn fusermount_serves_a_user_outside_a_user_namespace() {
    let said = printed(
        &[],
        r#"
layers
$fo mount --layer base.tar --layer top --upper upper mnt &
mounted
cat mnt/etc/two; echo new > mnt/old/z 2> /dev/null || true
findmnt -no FSTYPE mnt; ls mnt/old
if [ "$(id -u)" = 0 ]; then umount mnt; else fusermount3 -u mnt; fi
wait $server
$fo mount --layer base.tar --layer top --upper upper mnt &
mounted
kill -INT $server; wait $server; ! mountpoint -q mnt
"#,
    );
    assert_eq!(said, "TWO\nfuse.overlay\nz\n");
}

#[test]
fn a_file_below_that_changed_or_became_a_symlink_is_refused() {
    let said = printed(
        INSIDE,
        r#"
layers
echo secret > secret
$fo mount --layer top --upper upper mnt 2> log &
mounted
# Nothing of these is in the kernel's cache yet.
rm top/etc/two; ln -s ../../secret top/etc/two
cat mnt/etc/two 2>&1 || true
echo longer than it was > top/old/z
cat mnt/old/z 2>&1 || true
mv top/large top/large.0; mkfifo top/large
cat mnt/large 2>&1 || true
mv top/etc aside; ln -s ../aside top/etc
umount mnt; wait $server
# The directory is another now, and the upper belongs to the old one.
! $fo mount --layer top --upper upper mnt 2>> log || exit 1
for file in etc/two old/z large; do grep -q "as it was scanned.*$file" log; done; echo logged; ! grep -q secret log
"#,
    );
    assert_eq!(said.matches("Input/output error").count(), 3, "{said}");
    assert!(said.ends_with("\nlogged\n"), "{said}");
}

#[test]
fn overlayfs_marks_in_a_directory_hide_what_is_below() {
    let said = printed(
        INSIDE,
        r#"
mkdir -p low/a low/b up/a up/b upper mnt
touch low/a/below low/b/below up/a/above up/b/above
setfattr -n user.overlay.opaque -v y up/a
setfattr -n user.kept -v 1 up/b
$fo mount --layer low --layer up --upper upper mnt &
mounted
(cd mnt; find . | sort | tr '\n' ' '; getfattr --absolute-names -m - a b)
umount mnt; wait $server
"#,
    );
    assert_eq!(
        said,
        ". ./a ./a/above ./b ./b/above ./b/below # file: b\nuser.kept\n\n"
    );
}

#[test]
fn check_finds_a_flipped_byte() {
    let output = run(
        &[],
        r#"
layers
$fo check --layer base.tar --layer top
$fo diff --layer base.tar --upper upper
touch -r base.tar stamp
printf X | dd of=base.tar bs=1 seek=$(($(stat -c %s base.tar) / 2)) conv=notrunc status=none
touch -r stamp base.tar
echo checked
$fo check --layer base.tar --upper upper
"#,
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("checked\nbase.tar: "), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "fuse-overlay: 1 finding\n"
    );
}

#[test]
fn what_is_not_understood_is_refused() {
    for args in [
        "mount --upper u m",
        "mount --layer l --upper u --tar x m",
        "diff --layer l --upper u extra",
        "check --layer l --threads 2",
        "unmount",
    ] {
        let output = run(&[], &format!("exec $fo {args}"));
        assert_eq!(output.status.code(), Some(2), "{args}");
    }
}

/// The tree as `find` and checksums tell it.
const TREE: &str = r#"
tree() (cd "$1"; find . \( -type d -printf '%p d %m\n' \) -o \( -type l -printf '%p l %l\n' \) \
    -o -printf '%p %y %m %n %s %t\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum)
"#;

#[test]
fn umoci_makes_the_same_tree_of_a_written_layer() {
    assert!(Path::new("/usr/bin/umoci").exists(), "install umoci");
    let script = r#"
layers
umoci init --layout image; umoci new --image image:latest
umoci raw add-layer --image image:latest base.tar
$fo mount --layer base.tar --upper upper mnt &
mounted
echo more >> mnt/big; rm -r mnt/gone; rm mnt/etc/link; mkdir -p mnt/deep/er; echo d > mnt/deep/er/d
ln mnt/etc/one mnt/etc/uno; chmod 600 mnt/etc/two; mv mnt/old mnt/moved; ln -s ../deep mnt/etc/one.link
mkdir mnt/gone; echo again > mnt/gone/z; truncate -s 100000 mnt/deep/sparse
tree mnt > served
umount mnt; wait $server
$fo diff --layer base.tar --upper upper --tar layer.tar
umoci raw add-layer --image image:latest layer.tar
umoci raw unpack --rootless --image image:latest unpacked
diff <(tree unpacked) served
# And so does the crate itself, with an upper of its own.
mkdir upper2
$fo mount --layer base.tar --layer layer.tar --upper upper2 mnt &
mounted
diff <(tree mnt) served
umount mnt; wait $server
wc -l < served
"#;
    let said = printed(INSIDE, &format!("{TREE}{script}"));
    assert!(said.trim().parse::<u32>().unwrap() > 20, "{said}");
}

/// The tests above need these, and a test that runs elsewhere must not be passed by silence.
#[test]
fn the_tools_are_there() {
    for tool in ["/usr/bin/fusermount3", "/usr/bin/getfattr"] {
        assert!(
            fs::exists(tool).unwrap(),
            "{tool} is missing: scripts/test.sh installs it"
        );
    }
}
