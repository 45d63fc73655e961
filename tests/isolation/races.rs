//! CVE-2021-30465, -2023-27561, -2025-31133, -2025-52565, -2025-52881: what a container has at /proc and /dev, and where its mounts
//! are, while another one swaps directories of a volume of both for links.

use std::path::Path;

use super::common::{Bryo, field, until};

/// Masked and read-only is what has to be, whatever was mounted beside.
const CHECK: &str = "grep -q ' / /proc rw.* - proc ' /proc/self/mountinfo && grep -q ' /sys /proc/sys ro' /proc/self/mountinfo \
                     && test -z \"$(cat /proc/timer_list /proc/keys 2> /dev/null)\" && test \"$(cat /proc/1/comm)\" = sh \
                     && ! { echo x > /proc/sys/kernel/hostname; } 2> /dev/null && echo sound";

/// A volume in which `real`, a directory, and `null`, a file, are links to the host's `outside` half of the time.
fn swapper(bryo: &Bryo, image: &str, outside: &Path) {
    let script = format!(
        "cd /v; mkdir real; ln -s {0} evil; touch null; ln -s {0}/null bad; ln -s /proc/sys/kernel/hostname worse; touch ready; while :; do \
         mv -T real x; mv -T evil real; mv -T null y; mv -T bad null; mv -T null bad; mv -T worse null; \
         mv -T real evil; mv -T x real; mv -T null worse; mv -T y null; done",
        outside.display()
    );
    bryo.ok([
        "run",
        "-d",
        "--name",
        "swapper",
        "-v",
        "shared:/v",
        image,
        "sh",
        "-c",
        &script,
    ]);
    until("it swaps", || {
        bryo.run(["exec", "swapper", "test", "-e", "/v/ready"])
            .status
            .success()
    });
}

#[test]
fn what_is_swapped_while_a_container_starts_leads_nowhere() {
    let (bryo, image) = Bryo::with_image("busybox");
    let outside = bryo.scratch("outside");
    std::fs::create_dir(&outside).unwrap();
    swapper(&bryo, &image, &outside);
    // Mounts below what is swapped, a directory to work in, and devices there.
    let below = [
        "-v",
        "inner:/v/real/deep/er",
        "--tmpfs",
        "/v/real/memory",
        "-v",
        "shared:/v",
    ];
    let work = ["-w", "/v/real/work", "-v", "shared:/v"];
    let devices = ["-v", "shared:/dev", "-t"];
    let parts = ["--mount", "type=volume,src=shared,dst=/s,volume-subpath=real"];
    for (flags, usual) in [
        (&below[..], true),
        (&work, true),
        (&devices, false),
        (&parts, true),
    ] {
        let mut sound = 0;
        for _ in 0..12 {
            let tail = ["--network", "none", &image, "sh", "-c", CHECK];
            let done = bryo.run(["run", "--rm"].iter().chain(flags).chain(&tail));
            let is_sound = done.status.success() && done.stdout.trim_end().ends_with("sound");
            // What it finds swapped just then may be refused, in one line; a directory to work in that is not there, with 127
            // or 126, as Docker says it.
            let code = done.status.code();
            let is_refused = (code == Some(125) || flags[0] == "-w" && matches!(code, Some(126 | 127)))
                && done.stderr.starts_with("bryo: ")
                && done.stderr.lines().count() == 1;
            assert!(is_sound || is_refused, "{flags:?}: {done}");
            sound += u32::from(is_sound);
        }
        assert!(sound > 0 || !usual, "{flags:?}: all are refused");
    }
    assert_eq!(field(&bryo, "swapper", "{{.State.Status}}"), "running");
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "something was made on the host"
    );
    bryo.ok(["rm", "-f", "swapper"]);
}

/// CVE-2019-19921, -2023-28642: a link of the image where the kernel's filesystems go.
#[test]
fn a_link_where_the_kernels_filesystems_go_is_refused() {
    let bryo = Bryo::new();
    for name in ["proc", "sys", "dev"] {
        let root = bryo.scratch(&format!("root-{name}"));
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir(root.join("elsewhere")).unwrap();
        assert!(super::copy_program("/bin/busybox", root.join("bin/busybox")));
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "--rootfs",
            root.to_str().unwrap(),
            "/bin/sh",
            "-c",
            "echo ran",
        ];
        assert_eq!(bryo.ok(run), "ran\n");
        std::os::unix::fs::symlink("/elsewhere", root.join(name)).unwrap();
        if name == "dev" {
            // As with runc: it is the container's own directory, where the devices are found by both names.
            let run = run.map(|word| {
                if word == "echo ran" {
                    "echo x > /dev/null && test -c /elsewhere/null && echo ran"
                } else {
                    word
                }
            });
            assert_eq!(bryo.ok(run), "ran\n");
            continue;
        }
        let said = bryo.fails(125, run);
        assert!(
            said.contains("symbolic link") && said.lines().count() == 1,
            "{said}"
        );
    }
}
