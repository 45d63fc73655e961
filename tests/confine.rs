//! What may a container do? The flags that give and take rights, each by what a command inside can do then.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::{Bryo, Done, has_id_range};

fn busybox() -> (Bryo, String) {
    Bryo::with_image("busybox")
}

/// Runs a shell script with these flags.
fn with(bryo: &Bryo, image: &str, flags: &[&str], script: &str) -> Done {
    let mut words = vec!["run", "--rm"];
    words.extend(flags);
    words.extend([image, "sh", "-c", script]);
    bryo.run(words)
}

/// A group of Docker's profile for those who have CAP_SYS_ADMIN is no group for all: the profile's own file gives what
/// the default gives.
#[test]
fn a_seccomp_profiles_conditions_hold() {
    let (bryo, image) = busybox();
    let profile = concat!(
        "seccomp=",
        env!("CARGO_MANIFEST_DIR"),
        "/src/containers/runtime/seccomp/default.json"
    );
    let script = "unshare -U true; chroot / echo chroot works";
    let done = with(&bryo, &image, &["--security-opt", profile], script);
    assert_eq!(done.stdout, "chroot works\n", "{done}");
    assert!(done.stderr.contains("Operation not permitted"), "{done}");
    let more = ["--security-opt", profile, "--cap-add", "SYS_ADMIN"];
    let done = with(&bryo, &image, &more, "unshare -U echo made");
    assert_eq!(done.stdout, "made\n", "{done}");
}

/// What a process reads of filters that are not wanted: with one id there is one that refuses nothing, for chown(2).
fn unfiltered() -> u8 {
    if has_id_range() { 0 } else { 2 }
}

#[test]
fn security_options_do_what_they_say() {
    let (bryo, image) = busybox();
    let status = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; unshare -U echo made 2> /dev/null";
    for (option, expected) in [
        ("no-new-privileges", "NoNewPrivs:\t1\nSeccomp:\t2\n"),
        ("no-new-privileges=false", "NoNewPrivs:\t0\nSeccomp:\t2\n"),
        ("seccomp=builtin", "NoNewPrivs:\t0\nSeccomp:\t2\n"),
        (
            "seccomp=unconfined",
            &format!("NoNewPrivs:\t0\nSeccomp:\t{}\nmade\n", unfiltered()),
        ),
    ] {
        let done = with(&bryo, &image, &["--security-opt", option], status);
        assert_eq!(done.stdout, expected, "{done}");
    }
    let count = "grep -c ' /proc/sys ' /proc/mounts";
    for (flags, mounts) in [
        (&[][..], "1\n"),
        (&["--security-opt", "systempaths=unconfined"], "0\n"),
    ] {
        let done = with(&bryo, &image, flags, count);
        assert_eq!(done.stdout, mounts, "{done}");
    }

    let file = bryo.scratch("no-mkdir.json");
    let option = format!("seccomp={}", file.display());
    let refuses = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    std::fs::write(&file, refuses).unwrap();
    let done = with(
        &bryo,
        &image,
        &["--security-opt", &option],
        "mkdir /x; touch /y && echo made",
    );
    assert_eq!(done.stdout, "made\n", "{done}");
    assert!(done.stderr.contains("No space left on device"), "{done}");
}

#[test]
fn a_profile_that_cannot_be_kept_stops_the_start() {
    let (bryo, image) = busybox();
    let file = bryo.scratch("bad.json");
    let option = format!("seccomp={}", file.display());
    for (text, why) in [
        ("{", "EOF"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#,
            "flags",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let message = bryo.fails(125, ["run", "--rm", "--security-opt", &option, &image, "true"]);
        assert!(
            message.contains("bad.json") && message.contains(why) && message.lines().count() == 1,
            "{message}"
        );
    }
    std::fs::remove_file(&file).unwrap();
    let message = bryo.fails(125, ["run", "--rm", "--security-opt", &option, &image, "true"]);
    assert!(
        message.contains("bad.json") && message.contains("No such file"),
        "{message}"
    );
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

#[test]
fn a_device_of_the_host_can_be_used() {
    let (bryo, image) = busybox();
    // By its number, and by opening it; a mount of another name too.
    let host = nix::sys::stat::stat("/dev/fuse").unwrap().st_rdev;
    let number = format!(
        "{:x} {:x}\n",
        nix::sys::stat::major(host),
        nix::sys::stat::minor(host)
    );
    for (flag, place) in [
        ("/dev/fuse", "/dev/fuse"),
        ("/dev/fuse:rw", "/dev/fuse"),
        ("/dev/fuse:/dev/mine:rwm", "/dev/mine"),
    ] {
        let script = format!("stat -c '%t %T' {place} && exec 3<> {place}");
        let done = with(&bryo, &image, &["--device", flag], &script);
        assert_eq!((done.status.code(), &*done.stdout), (Some(0), &*number), "{done}");
    }
    let done = with(&bryo, &image, &[], "ls /dev/fuse");
    assert!(!done.status.success(), "it is there unasked: {done}");
}

#[test]
fn what_a_device_flag_cannot_do_is_refused() {
    let (bryo, image) = busybox();
    let file = bryo.scratch("file");
    std::fs::write(&file, "").unwrap();
    for (flag, why) in [
        ("/dev/fuse:r", "cannot be enforced"),
        ("/dev/fuse:/dev/fuse:wm", "cannot be enforced"),
        (file.to_str().unwrap(), "not a device node"),
        ("/etc", "not a device node"),
        ("/dev/not-there", "No such file or directory"),
    ] {
        let message = bryo.fails(125, ["run", "--rm", "--device", flag, &image, "true"]);
        assert!(message.contains(why) && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn capabilities_are_dockers_and_what_was_asked_for() {
    let (bryo, image) = busybox();
    let sets = "grep -E '^Cap(Eff|Bnd)' /proc/self/status | cut -f 2 | uniq";
    for (flags, bits) in [
        (&[][..], "00000000a80425fb"),
        (&["--cap-add", "SYS_ADMIN"], "00000000a82425fb"),
        (
            &["--cap-drop", "CHOWN", "--cap-drop", "cap_kill"],
            "00000000a80425da",
        ),
        (&["--cap-drop", "ALL"], "0000000000000000"),
        (&["--cap-drop", "all", "--cap-add", "chown"], "0000000000000001"),
    ] {
        let done = with(&bryo, &image, flags, sets);
        assert_eq!(done.stdout.trim_end(), bits, "{done}");
    }
    // Not only by number.
    let mount = "mount -t tmpfs none /tmp && echo mounted; chroot / echo changed";
    let done = with(&bryo, &image, &["--cap-drop", "SYS_CHROOT"], mount);
    assert_eq!(done.stdout, "", "{done}");
    let done = with(&bryo, &image, &["--cap-add", "SYS_ADMIN"], mount);
    assert_eq!(done.stdout, "mounted\nchanged\n", "{done}");
    let message = bryo.fails(125, ["run", "--rm", "--cap-add", "FLY", &image, "true"]);
    assert!(message.contains("FLY"), "{message}");
}

#[test]
fn a_privileged_container_has_all_that_its_user_has() {
    let (bryo, image) = busybox();
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let all = (1_u64 << (last.trim().parse::<u32>().unwrap() + 1)) - 1;
    let script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs none /tmp && echo mounted; \
                  unshare -U echo made; grep -cE ' /proc/(sys|kcore) ' /proc/mounts";
    let done = with(&bryo, &image, &["--privileged"], script);
    let expected = format!(
        "CapEff:\t{all:016x}\nSeccomp:\t{}\nmounted\nmade\n0\n",
        unfiltered()
    );
    assert_eq!(done.stdout, expected, "{done}");
}

#[test]
fn limits_are_those_asked_for() {
    let (bryo, image) = busybox();
    let flags = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--shm-size",
        "1m",
    ];
    let script =
        "ulimit -Sn; ulimit -Hn; ulimit -Hc; df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2";
    let done = with(&bryo, &image, &flags, script);
    assert_eq!(done.stdout, "100\n200\n0\n1024\n", "{done}");
    let done = with(
        &bryo,
        &image,
        &[],
        "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2",
    );
    assert_eq!(done.stdout, "65536\n", "{done}");
    for bad in [["--ulimit", "nofile=2:1"], ["--shm-size", "much"]] {
        let words = ["run", "--rm", bad[0], bad[1], &image, "true"];
        assert!(bryo.fails(125, words).contains(bad[1]), "{bad:?}");
    }
}

/// What tells a container of the machine and its neighbours is not there, and what changes the machine cannot be written.
#[test]
fn what_docker_hides_is_hidden() {
    let (bryo, image) = busybox();
    let script = "for file in interrupts kcore keys latency_stats sched_debug timer_list timer_stats; do
            if [ -e /proc/$file ]; then head -c 100 /proc/$file | wc -c; fi; done | sort -u
        ls -A /proc/acpi /proc/asound /proc/scsi /sys/firmware /sys/devices/virtual/powercap 2> /dev/null | grep -v : | grep .
        for path in bus fs irq sys sysrq-trigger; do
            if [ -e /proc/$path ]; then grep -c \" /proc/$path proc ro,\" /proc/self/mounts; fi; done | sort -u
        echo mine > /proc/sys/kernel/domainname";
    let done = with(&bryo, &image, &[], script);
    assert_eq!(done.stdout, "0\n1\n", "{done}");
    assert!(
        done.stderr
            .contains("/proc/sys/kernel/domainname: Read-only file system"),
        "{done}"
    );
}
