//! What a container must not come to: the user's bus, the supervisor's sockets, the store, other containers, the host's cgroups.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use super::common::{Bryo, Done, field, parent, process};

/// Prints `reached` if the abstract name can be connected to.
const KNOCK: &str = "socket S, PF_UNIX, SOCK_STREAM, 0; print connect(S, pack 'Sa*', AF_UNIX, qq(\\0$ARGV[0])) ? 'reached' : 'refused'";

#[test]
fn an_abstract_socket_of_the_host_is_out_of_reach() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let name = format!("bryo-test-{}", std::process::id());
    let _bus = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    bryo.ok(["network", "create", "one"]);
    for (flags, expected) in [
        (&[][..], "refused"),
        (&["--privileged"], "refused"),
        (&["--network", "none"], "refused"),
        (&["--network", "one"], "refused"),
        // Who shares the host's network shares its names, as with Docker: so the question does find it.
        (&["--network", "host"], "reached"),
    ] {
        let run = ["run", "--rm"].iter().chain(flags);
        let seen = bryo.ok(run.chain(&[&image[..], "perl", "-MSocket", "-e", KNOCK, &name]));
        assert_eq!(seen, expected, "{flags:?}");
    }
}

#[test]
fn files_and_processes_of_others_are_out_of_reach() {
    let (bryo, image) = Bryo::with_image("busybox");
    let session = bryo.scratch("session");
    std::fs::create_dir(&session).unwrap();
    let _bus = UnixListener::bind(session.join("bus")).unwrap();
    let start = |name: &str, flags: &[&str]| {
        let mut command = bryo.command(["run", "-d", "--name", name]);
        command.args(flags).args([&image, "sh", "-c"]);
        command.arg(format!("echo {name} > /whose; exec sleep 1000"));
        command
            .env("XDG_RUNTIME_DIR", &session)
            .env(
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={}/bus", session.display()),
            )
            .env("OF_THE_HOST", "host-secret");
        let done = Done::of(&mut command);
        assert!(done.status.success(), "{done}");
    };
    start("other", &["-e", "OF_ANOTHER=other-secret"]);
    start("plain", &[]);
    start("strong", &["--privileged"]);
    start("beside", &["--network", "container:other"]);
    let (theirs, sockets) = (process(&bryo, "other", "Pid"), sockets(&bryo));
    assert!(!sockets.is_empty());
    let mut ways: Vec<String> = [
        bryo.root(),
        bryo.state(),
        bryo.dir().join("run"),
        session.join("bus"),
    ]
    .iter()
    .map(|path| path.display().to_string())
    .collect();
    ways.extend(sockets);
    for name in ["plain", "strong", "beside"] {
        let supervisor = parent(process(&bryo, name, "Pid"));
        let script = format!(
            "for p in /proc/[0-9]*; do
                 for way in {}; do for from in '' $p/root $p/cwd; do test -e $from$way && echo $from$way; done; done
                 grep -l -e 'other$' $p/root/whose; grep -a -l -e host-secret -e other-secret -e session/bus $p/environ
             done 2> /dev/null
             for pid in {theirs} {supervisor}; do kill -0 $pid 2> /dev/null && echo can kill $pid; done
             echo end; cat /whose",
            ways.join(" ")
        );
        let seen = bryo.ok(["exec", name, "sh", "-c", &script]);
        assert_eq!(seen, format!("end\n{name}\n"));
    }
    assert!(
        bryo.ok(["exec", "other", "cat", "/proc/1/environ"])
            .contains("other-secret")
    );
    // CVE-2020-14370: neither does a later one, or a restart, have what another was given.
    bryo.ok(["restart", "-t", "0", "plain"]);
    let environ = bryo.ok(["exec", "plain", "cat", "/proc/1/environ", "/proc/self/environ"]);
    assert!(
        !environ.contains("secret") && environ.contains("PATH="),
        "{environ}"
    );
    assert_eq!(field(&bryo, "other", "{{.State.Status}}"), "running");
}

/// The sockets of this store's supervisors.
fn sockets(bryo: &Bryo) -> Vec<String> {
    let mut find = Command::new("find");
    let done = Done::of(find.arg(bryo.dir()).args(["-type", "s", "-path", "*/run/*"]));
    done.stdout.lines().map(str::to_owned).collect()
}

/// (The groups that are the user's own, `bryo-tests-USER` in these tests, are the user's own in a container, too.)
/// CVE-2023-25809: whoever writes to the host's cgroups has a program of its own started there.
#[test]
fn cgroups_of_the_host_are_not_written() {
    let (bryo, image) = Bryo::with_image("busybox");
    let script = "for top in /sys /hostsys; do
            for file in $(find $top/fs/cgroup -maxdepth 3 \\( -name release_agent -o -name notify_on_release -o -name cgroup.procs \
                -o -name cgroup.subtree_control \\) 2> /dev/null | grep -v /bryo-tests- | head -n 100); do
                (: >> $file) 2> /dev/null && echo wrote $file
            done
            for directory in $top/fs/cgroup $top/fs/cgroup/*/; do
                mkdir $directory/bryo-test 2> /dev/null && echo made $directory
            done
        done
        grep -E ' /sys(/| )' /proc/mounts | grep -vE '^[^ ]+ [^ ]+ [^ ]+ ro[, ]' | grep -vE '^[^ ]+ /sys/fs/cgroup '
        grep ' /sys/fs/cgroup ' /proc/mounts | tail -n 1 | grep -c -E ' rw[, ]'
        true";
    for flags in [&["--network", "host"][..], &["-v", "/sys:/hostsys"], &[]] {
        let run = ["run", "--rm"].iter().chain(flags);
        assert_eq!(
            bryo.ok(run.chain(&[&image[..], "sh", "-c", script])),
            "0\n",
            "{flags:?}"
        );
    }
}

/// What a command gains by `--privileged` ends at the container's own bounds.
#[test]
fn a_privileged_exec_stays_within_the_containers_bounds() {
    let (bryo, image) = Bryo::with_image("busybox");
    let bound = bryo.scratch("bound");
    std::fs::create_dir(&bound).unwrap();
    let volume = format!("{}:/ro:ro", bound.display());
    bryo.ok([
        "run", "-d", "--name", "one", "-v", &volume, &image, "sleep", "1000",
    ]);
    let supervisor = parent(process(&bryo, "one", "Pid"));
    let outside = bound.display();
    // Files of the kernel's are opened only: were it to succeed, nothing would happen to the machine.
    let script = format!(
        "for file in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /sys/kernel/uevent_helper; do
             (: >> $file) 2> /dev/null && echo opened $file
         done
         test $(head -c 1 /proc/kcore 2> /dev/null | wc -c) = 0 || echo read kcore
         mount -o remount,rw,bind /proc/sys 2> /dev/null && (: >> /proc/sys/kernel/core_pattern) 2> /dev/null && echo sys
         mknod /disk b 254 0 2> /dev/null && head -c 1 /disk > /dev/null 2>&1 && echo read a disk
         for p in /proc/[0-9]*; do test -e $p/root{outside} && echo out by $p; done
         kill -0 {supervisor} 2> /dev/null && echo can kill
         grep Seccomp: /proc/self/status; grep NoNewPrivs /proc/self/status; wc -l < /proc/self/uid_map"
    );
    let plain = bryo.ok(["exec", "one", "sh", "-c", &script]);
    let privileged = bryo.ok(["exec", "--privileged", "one", "sh", "-c", &script]);
    assert!(plain.starts_with("Seccomp:"), "{plain}");
    assert_eq!(privileged, plain);
    assert_eq!(std::fs::read_dir(&bound).unwrap().count(), 0);
}
