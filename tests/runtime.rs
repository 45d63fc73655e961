//! Does the executor carry out a Spec, and keep what it starts inside? Real namespaces, an ordinary user, a root directory
//! that holds busybox; driven through `examples/oci-run.rs`, so by the Spec alone.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bryo::containers::runtime::seccomp::DEFAULT_CAPABILITIES;
use bryo::host::Probe;
use common::copy_program;
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";
/// The bits of [`DEFAULT_CAPABILITIES`] as /proc shows them; what Docker's containers have.
const DEFAULT_BITS: &str = "00000000a80425fb";

/// A bundle: a directory with a root and a Spec.
struct Bundle {
    directory: tempfile::TempDir,
    spec: Value,
}

impl Bundle {
    /// Runs `script` in a shell, with what a container has by default.
    fn new(script: &str) -> Bundle {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        assert!(
            copy_program(BUSYBOX, root.join("bin/busybox")),
            "busybox-static is needed"
        );
        symlink("busybox", root.join("bin/sleep")).unwrap();
        let host = Probe::now();
        let (uids, gids) = host.id_maps().to_spec();
        let kernel = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        let namespaces =
            ["user", "mount", "pid", "uts", "ipc", "cgroup", "network"].map(|kind| json!({"type": kind}));
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "hostname": "box",
            "annotations": {"bryo.seccomp": "default"},
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/busybox", "sh", "-c", script],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {"bounding": DEFAULT_CAPABILITIES, "effective": DEFAULT_CAPABILITIES, "permitted": DEFAULT_CAPABILITIES},
            },
            "mounts": [
                kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                kernel("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                kernel("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                kernel("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
                kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "uidMappings": uids, "gidMappings": gids,
                "namespaces": namespaces,
                "maskedPaths": ["/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/kcore", "/proc/not-there"],
                "readonlyPaths": ["/proc/sys", "/proc/irq"],
            },
        });
        Bundle { directory, spec }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    fn command(&self) -> Command {
        fs::write(self.directory.path().join("config.json"), self.spec.to_string()).unwrap();
        let mut command = Command::new(runner());
        command.arg(self.directory.path()).stdin(Stdio::null());
        command
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    /// What the command printed; it must succeed.
    fn output(&self) -> String {
        let output = self.run();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// Exit code and what was said on standard error.
    fn failure(&self) -> (i32, String) {
        let output = self.run();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Starts it and waits for the first line that the command prints.
    fn start(&self) -> (Child, String) {
        let mut child = self.command().stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (child, line.trim().to_owned())
    }
}

/// Cargo builds examples before it runs tests, beside them.
fn runner() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let runner = tests.ancestors().nth(2).unwrap().join("examples/oci-run");
    assert!(runner.exists(), "{} is not built", runner.display());
    runner
}

fn children(parent: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Init: the process that made it is reaped as soon as the command runs.
fn only_child(of: &Child) -> u32 {
    let mut found = Vec::new();
    soon("the supervisor has one child", || {
        found = children(of.id());
        found.len() == 1
    });
    found[0]
}

fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn root_inside_has_dockers_capabilities_and_none_to_inherit() {
    let out = Bundle::new("id -u; hostname; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status").output();
    let expected = format!(
        "0\nbox\nCapInh:\t{none}\nCapPrm:\t{some}\nCapEff:\t{some}\nCapBnd:\t{some}\nCapAmb:\t{none}\nNoNewPrivs:\t0\nSeccomp:\t2\n",
        none = "0".repeat(16),
        some = DEFAULT_BITS
    );
    assert_eq!(out, expected);
}

#[test]
fn another_user_has_capabilities_only_in_the_bounding_set() {
    let mut bundle = Bundle::new("id -u; id -g; grep -E '^Cap' /proc/self/status; touch /etc/x");
    bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 100, "additionalGids": [7]});
    if Probe::now().why_one_id().is_some() {
        let (code, error) = bundle.failure();
        assert_eq!(code, 125);
        assert!(
            error.contains("user 1000 does not exist in the container"),
            "{error}"
        );
        return;
    }
    let output = bundle.run();
    let out = String::from_utf8_lossy(&output.stdout);
    let none = "0".repeat(16);
    assert_eq!(
        out,
        format!(
            "1000\n100\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{DEFAULT_BITS}\nCapAmb:\t{none}\n"
        )
    );
    assert!(!output.status.success(), "/etc is root's");
}

#[test]
fn no_new_privileges_and_no_filter_are_the_specs_to_ask() {
    let mut bundle = Bundle::new("grep -E '^(NoNew|Seccomp:)' /proc/self/status");
    bundle.spec["process"]["noNewPrivileges"] = json!(true);
    assert_eq!(bundle.output(), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    bundle.spec["annotations"] = json!({});
    assert_eq!(bundle.output(), "NoNewPrivs:\t1\nSeccomp:\t0\n");
}

#[test]
fn the_filter_refuses_what_dockers_does() {
    let bundle = Bundle::new(
        "unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; chroot / /bin/busybox echo chroot works",
    );
    let out = bundle.output();
    assert_eq!(
        out.matches("Operation not permitted").count() + out.matches("permission denied").count(),
        2,
        "{out}"
    );
    assert!(out.ends_with("chroot works\n"), "{out}");
}

#[test]
fn a_custom_filter_is_compiled_from_the_spec() {
    let mut bundle = Bundle::new("mkdir /tmp/x 2>&1; echo still here");
    bundle.spec["annotations"] = json!({});
    bundle.spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
    let out = bundle.output();
    assert!(
        out.contains("No space left on device") && out.contains("still here"),
        "{out}"
    );
}

#[test]
fn masked_paths_are_empty_and_readonly_paths_are_read_only() {
    let script = "cat /proc/keys; ls /proc/acpi /sys/firmware | grep -v :; \
                  echo 1 > /proc/sys/kernel/domainname; touch /sys/x; ls -ld /proc/sys >/dev/null";
    let output = Bundle::new(script).run();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("Read-only file system").count(), 2, "{errors}");
}

#[test]
fn dev_holds_what_every_container_has() {
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; readlink /dev/fd; readlink /dev/ptmx; \
                  ls /dev/pts; touch /dev/shm/x; ls /dev";
    let out = Bundle::new(script).output();
    let names = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert_eq!(out, format!("3\n3\n/proc/self/fd\npts/ptmx\nptmx\n{names}"));
}

#[test]
fn only_three_descriptors_reach_the_command() {
    let bundle = Bundle::new(
        "for fd in 0 1 2 3 4 5 6 7 8 9 11 12; do [ -e /proc/$$/fd/$fd ] && echo -n \"$fd \"; done; true",
    );
    let command = bundle.command();
    let mut shell = Command::new("/bin/sh");
    // Descriptors that the caller leaks, below and above what the executor opens itself.
    shell
        .arg("-c")
        .arg("exec 3</etc/passwd 9</etc/passwd; exec \"$@\"")
        .arg("sh")
        .arg(command.get_program());
    let output = shell
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    // The shell's own, from 10 on, are its business.
    let theirs: Vec<&str> = out
        .split_whitespace()
        .filter(|fd| fd.parse::<u32>().is_ok_and(|fd| fd < 10))
        .collect();
    assert_eq!(theirs, ["0", "1", "2"], "{out}");
}

#[test]
fn a_working_directory_cannot_be_a_descriptor_of_ours() {
    for number in 0..32 {
        let mut bundle = Bundle::new("echo inside; cat ../../../../etc/shadow");
        bundle.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        // One that is not there, or one that leads nowhere within.
        let refused = |(code, error): (i32, String)| assert!([125, 127].contains(&code), "{number}: {error}");
        refused(bundle.failure());
        symlink(format!("/proc/self/fd/{number}"), bundle.root().join("work")).unwrap();
        bundle.spec["process"]["cwd"] = json!("/work");
        refused(bundle.failure());
    }
}

#[test]
fn a_missing_working_directory_is_made_inside() {
    let mut bundle = Bundle::new("pwd");
    symlink("/tmp", bundle.root().join("link")).unwrap();
    bundle.spec["process"]["cwd"] = json!("/link/deep/work");
    assert_eq!(bundle.output(), "/tmp/deep/work\n");
    assert!(bundle.root().join("tmp/deep/work").is_dir());
}

#[test]
fn a_link_at_proc_is_refused() {
    let bundle = Bundle::new("true");
    symlink("/tmp", bundle.root().join("proc")).unwrap();
    let (code, error) = bundle.failure();
    assert!(code == 125 && error.contains("symbolic link"), "{code} {error}");
}

#[test]
fn a_volume_cannot_lie_in_proc() {
    for target in ["/proc", "/proc/self", "/proc/sys", "/way/sys"] {
        let mut bundle = Bundle::new("true");
        symlink("/proc", bundle.root().join("way")).unwrap();
        bundle.mount(json!({"destination": target, "type": "bind", "source": "/tmp", "options": ["rbind"]}));
        let (code, error) = bundle.failure();
        assert!(code == 125 && error.contains("/proc"), "{target}: {code} {error}");
    }
}

#[test]
fn a_volume_follows_links_inside_only() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "from the host").unwrap();
    let mut bundle = Bundle::new("cat /etc/data/file; touch /etc/data/new");
    let victim = tempfile::tempdir().unwrap();
    // Inside, this leads to a path that does not exist; outside, to a real directory.
    symlink(victim.path(), bundle.root().join("trap")).unwrap();
    symlink("/etc", bundle.root().join("link")).unwrap();
    let source = outside.path().to_str().unwrap();
    bundle
        .mount(json!({"destination": "/link/data", "type": "bind", "source": source, "options": ["rbind"]}));
    assert_eq!(bundle.output(), "from the host");
    assert!(outside.path().join("new").exists());

    bundle.mount(json!({"destination": "/trap/sub", "type": "bind", "source": source, "options": ["rbind"]}));
    assert_eq!(bundle.output(), "from the host");
    let made = victim.path().strip_prefix("/").unwrap().join("sub");
    assert!(
        bundle.root().join(made).is_dir(),
        "the link's place inside is made"
    );
    assert_eq!(
        fs::read_dir(victim.path()).unwrap().count(),
        0,
        "nothing is made outside the root"
    );
}

/// An image with systemd-resolved has /etc/resolv.conf so; what a dangling link names is made, in the root and nowhere else.
#[test]
fn a_volume_over_a_dangling_link_lies_where_the_link_leads() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "bound").unwrap();
    let name = format!("bryo-dangling-{}", std::process::id());
    let up = format!("../../../../../../{name}");
    for (links, place) in [
        (
            &[("etc/file", "../run/systemd/resolve/stub.conf")][..],
            "run/systemd/resolve/stub.conf",
        ),
        (&[("etc/file", "/run/stub.conf")], "run/stub.conf"),
        (&[("etc/file", &up)], &name),
        (
            &[
                ("etc/file", "first"),
                ("etc/first", "/second/./third"),
                ("second", "/tmp/fourth"),
            ],
            "tmp/fourth/third",
        ),
    ] {
        let mut bundle = Bundle::new("cat /etc/file");
        for (at, to) in links {
            symlink(to, bundle.root().join(at)).unwrap();
        }
        let outside: Vec<PathBuf> = [Path::new("/"), bundle.directory.path(), Path::new("/tmp")]
            .map(|directory| directory.join(&name))
            .into();
        bundle.mount(
            json!({"destination": "/etc/file", "type": "bind", "source": file.path(), "options": ["bind"]}),
        );
        assert_eq!(bundle.output(), "bound", "{links:?}");
        assert!(bundle.root().join(place).is_file(), "{links:?}");
        assert!(outside.iter().all(|path| !path.exists()), "{links:?}");
    }
    // In a circle, and over a file.
    for (links, why) in [
        (
            &[("etc/file", "other"), ("etc/other", "file")][..],
            "too many links",
        ),
        (&[("etc/file", "/bin/busybox/x")], "Not a directory"),
    ] {
        let mut bundle = Bundle::new("cat /etc/file");
        for (at, to) in links {
            symlink(to, bundle.root().join(at)).unwrap();
        }
        bundle.mount(
            json!({"destination": "/etc/file", "type": "bind", "source": file.path(), "options": ["bind"]}),
        );
        let (code, error) = bundle.failure();
        assert!(code == 125 && error.contains(why), "{code} {error}");
    }
}

#[test]
fn a_read_only_volume_and_root_are_read_only() {
    let outside = tempfile::tempdir().unwrap();
    let mut bundle = Bundle::new("touch /data/x; touch /x; touch /tmp/x; echo done");
    let source = outside.path().to_str().unwrap();
    bundle
        .mount(json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}));
    bundle.spec["root"]["readonly"] = json!(true);
    let output = bundle.run();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr)
            .matches("Read-only file system")
            .count(),
        2
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
}

#[test]
fn exit_codes_are_dockers() {
    let bundle = |arguments: Value| {
        let mut bundle = Bundle::new("");
        bundle.spec["process"]["args"] = arguments;
        fs::write(bundle.root().join("etc/plain"), "text").unwrap();
        fs::write(bundle.root().join("etc/odd"), "\x7fELF").unwrap();
        fs::set_permissions(bundle.root().join("etc/odd"), fs::Permissions::from_mode(0o755)).unwrap();
        bundle.failure()
    };
    assert_eq!(bundle(json!(["busybox", "sh", "-c", "exit 7"])).0, 7);
    assert_eq!(
        bundle(json!(["busybox", "sh", "-c", "kill -9 $$; sleep 9"])).0,
        128 + 9 - 128 - 9
    ); // pid 1 cannot kill itself
    for (arguments, code, text) in [
        (json!(["nothing"]), 127, "executable file not found in $PATH"),
        (json!(["/nothing"]), 127, "no such file"),
        (json!(["/etc/plain"]), 126, "Permission denied"),
        (json!(["/etc"]), 126, "Permission denied"),
        (json!(["/etc/odd"]), 126, "Exec format error"),
    ] {
        let (got, error) = bundle(arguments.clone());
        assert!(got == code && error.contains(text), "{arguments}: {got} {error}");
    }
}

#[test]
fn with_init_pid_1_is_ours_and_closed_to_the_container() {
    let script = "trap 'echo got it; exit 3' TERM; readlink /proc/1/exe && echo seen; ls /proc/1/fd; cat /proc/1/maps; \
                  echo $$; while :; do sleep 0.05; done";
    let mut bundle = Bundle::new(script);
    bundle.spec["annotations"]["bryo.init"] = json!("true");
    let mut child = bundle
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_ne!(line.trim(), "1");
    let init = only_child(&child);
    let mut rest = String::new();
    // The trap is set before the line was printed.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(init as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(
        (rest.as_str(), done.status.code()),
        ("got it\n", Some(3)),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(
        errors.contains("/proc/1/fd") && errors.contains("/proc/1/maps"),
        "{errors}"
    );
}

#[test]
fn the_binary_that_starts_containers_is_out_of_their_reach() {
    let before = fs::read(runner()).unwrap();
    let mut bundle = Bundle::new("");
    symlink("/proc/self/exe", bundle.root().join("bin/self")).unwrap();
    fs::write(bundle.root().join("bin/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(
        bundle.root().join("bin/script"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    for arguments in [
        json!(["/proc/self/exe"]),
        json!(["/bin/self"]),
        json!(["/bin/script"]),
    ] {
        bundle.spec["process"]["args"] = arguments;
        assert_eq!(bundle.failure().0, 126);
    }
    assert!(fs::read(runner()).unwrap() == before);
}

#[test]
fn the_container_dies_with_its_supervisor() {
    for user in [0, 1000] {
        if user != 0 && Probe::now().why_one_id().is_some() {
            continue; // such a user does not exist then, see above
        }
        let mut bundle = Bundle::new("echo up; sleep 1000");
        bundle.spec["process"]["user"] = json!({"uid": user, "gid": user});
        let (mut child, line) = bundle.start();
        assert_eq!(line, "up");
        // Init is the supervisor's own child; the process that made it is reaped as soon as the command runs.
        let init = [only_child(&child)];
        child.kill().unwrap();
        child.wait().unwrap();
        soon("init outlives its supervisor", || {
            !Path::new(&format!("/proc/{}", init[0])).exists()
        });
    }
}

#[test]
fn nothing_is_mounted_outside_and_the_tree_is_the_containers_alone() {
    let bundle = Bundle::new("echo up; sleep 1000");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (mut child, _) = bundle.start();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert!(!bundle.root().join("proc/self").exists());
    let init = only_child(&child);
    let inside = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
    assert!(
        !inside.contains(" shared:") && !inside.contains(" master:"),
        "every mount is private:\n{inside}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn containers_of_one_user_share_a_holder_until_the_last_is_gone() {
    let script = "readlink /proc/self/ns/user; sleep 1000";
    let (first, second, third) = (
        Bundle::new(script),
        Bundle::new(script),
        Bundle::new("readlink /proc/self/ns/user"),
    );
    let run = first.directory.path().join("holders");
    let start = |bundle: &Bundle| {
        let mut child = bundle.command().arg(&run).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (child, line)
    };
    let (mut one, namespace) = start(&first);
    let (mut two, same) = start(&second);
    assert_eq!(namespace, same);
    one.kill().unwrap(); // and leaves its record behind
    one.wait().unwrap();
    let (mut three, still) = start(&third);
    assert_eq!(namespace, still, "the second keeps it");
    three.wait().unwrap();
    two.kill().unwrap();
    two.wait().unwrap();
    let (mut four, other) = start(&third);
    four.wait().unwrap();
    assert!(other.starts_with("user:"), "a new one is made: {other}");
}

#[test]
fn limits_and_the_mask_are_the_specs() {
    let mut bundle = Bundle::new("umask; ulimit -n; cat /proc/self/oom_score_adj");
    bundle.spec["process"]["user"]["umask"] = json!(0o077);
    bundle.spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]);
    bundle.spec["process"]["oomScoreAdj"] = json!(500);
    assert_eq!(bundle.output(), "0077\n77\n500\n");
}

#[test]
fn the_hosts_network_comes_with_the_hosts_sys_unwritable() {
    let mut bundle =
        Bundle::new("readlink /proc/self/ns/net; touch /sys/fs/cgroup/x 2>/dev/null || echo refused");
    let kinds = ["user", "mount", "pid", "uts", "ipc", "cgroup"].map(|kind| json!({"type": kind}));
    bundle.spec["linux"]["namespaces"] = json!(kinds);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(bundle.output(), format!("{}\nrefused\n", own.display()));
}

#[test]
fn a_terminal_is_the_containers_own() {
    let mut bundle =
        Bundle::new("tty; stty size; echo there > /dev/console; echo here > /dev/tty; ls /dev/pts");
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    assert_eq!(
        bundle.output(),
        "/dev/pts/0\r\n33 77\r\nthere\r\nhere\r\n0     ptmx\r\n"
    );
}
