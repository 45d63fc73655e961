//! Does another union filesystem stand on Bryo's tree? The kernel's overlayfs in a container, by mount(8) and as buildah uses it:
//! it wants whiteouts by mknod and rename, and extended attributes of the user's.

use super::common::{Done, has_id_range, images};
use super::workloads;

/// Runs `script` in a container that may mount.
#[track_caller]
fn run(flags: &[&str], script: &str) -> String {
    let (bryo, image) = workloads();
    let words = ["run", "--rm", "--privileged", "--network", "none"];
    let tail = [image.as_str(), "bash", "-euo", "pipefail", "-c", script];
    let done = Done::of(&mut bryo.command([&words[..], flags, &tail].concat()));
    assert!(done.status.success(), "{done}");
    done.stdout
}

#[test]
fn overlayfs_has_its_upper_in_a_container() {
    let said = run(
        &[],
        r#"
        mkdir -p /o/lower/d /o/lower/gone /o/upper /o/work /o/m; cd /o
        echo a > lower/a; echo b > lower/d/b; echo g > lower/gone/g
        again() { mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,userxattr overlay m; }
        again
        echo more >> m/a; mv m/a m/c; ln m/c m/twin; rm -r m/d m/gone; mkdir m/d; echo n > m/d/n; setfattr -n user.x -v y m/c
        umount m
        # A whiteout by rename, one by mknod, an opaque directory.
        stat -c '%n %F %t,%T' upper/a upper/gone; getfattr --only-values -n user.overlay.opaque upper/d; echo
        again
        cat m/c m/twin; getfattr --only-values -n user.x m/c; echo; ls m m/d; stat -c %h m/twin; cat lower/a lower/d/b
        umount m"#,
    );
    let expected = "\
upper/a character special file 0,0
upper/gone character special file 0,0
y
a
more
a
more
y
m:
c
d
twin

m/d:
n
2
a
b
";
    assert_eq!(said, expected);
}

/// Owners but root's take an id range.
#[test]
fn buildah_keeps_its_images_by_overlayfs() {
    if !has_id_range() {
        return;
    }
    let archive = format!("{}:/busybox.tar:ro", images().join("busybox.oci.tar").display());
    // Of the same Debian as the image.
    let host = ["-v", "/usr:/usr:ro", "-v", "/etc/containers:/etc/containers:ro"];
    let said = run(
        &[&host[..], &["-v", &archive]].concat(),
        r#"
        export HOME=/root BUILDAH_ISOLATION=chroot
        b() { buildah --root /p/root --runroot /p/run --storage-driver overlay "$@"; }
        first=$(b from -q oci-archive:/busybox.tar)
        b run $first sh -c 'grep -o "^overlay /" /proc/mounts | head -n 1; echo hi > /file; rm /bin/wget; mv /home /house; chown 5:6 /file'
        b commit -q $first made > /dev/null
        second=$(b from -q made)
        b run $second sh -c 'cat /file; stat -c %u:%g /file; test ! -e /bin/wget -a ! -e /home; ls -d /house'"#,
    );
    assert_eq!(said, "overlay /\nhi\n5:6\n/house\n");
}
