//! Does Bryo run in Bryo: the same binary, its store in the outer container's tree?
//!
//! The outer container needs /dev/fuse, and a seccomp profile that lets it make user namespaces.

use std::process::Command;

use super::common::{Done, Registry, field, has_id_range, images};
use super::workloads;

const DEVICE: [&str; 2] = ["--device", "/dev/fuse"];
const NAMESPACES: [&str; 2] = ["--security-opt", "seccomp=unconfined"];
/// The inner container's /proc is the outer one, but where the outer one masks nothing.
const UNMASKED: [&str; 2] = ["--security-opt", "systempaths=unconfined"];

/// A command that runs `script` in an outer container, called `name`: bryo is on its PATH, an image in /busybox.tar.
fn outer(name: &str, flags: &[&str], script: &str) -> Command {
    let (bryo, image) = workloads();
    let binary = bryo.command(["--version"]).get_program().to_owned();
    let binary = format!("{}:/usr/local/bin/bryo:ro", binary.display());
    let archive = format!("{}:/busybox.tar:ro", images().join("busybox.oci.tar").display());
    let mut run = bryo.command(["run", "--name", name, "-v", &binary, "-v", &archive]);
    let pull = "image=$(bryo pull -q oci-archive:/busybox.tar)";
    run.args(flags).args([
        image,
        "bash",
        "-euo",
        "pipefail",
        "-c",
        &format!("{pull}\n{script}"),
    ]);
    run
}

/// Runs it, expects success; gives its output and what it said besides.
#[track_caller]
fn nested(name: &str, flags: &[&[&str]], script: &str) -> (String, String) {
    let done = Done::of(&mut outer(name, &flags.concat(), script));
    assert!(done.status.success(), "{flags:?} {done}");
    workloads().0.ok(["rm", name]);
    (done.stdout, done.stderr)
}

/// What a user does first: run, look, keep, stop, remove; by another's image store too.
const SESSION: &str = r#"
    run() { bryo run --rm --network host "$@"; }
    run $image sh -c 'echo inner > /file; cat /file; awk "\$2 == \"/\" { print \$1 }" /proc/mounts'
    mkdir /volume; run -v /volume:/v --read-only --tmpfs /t $image sh -c 'echo kept > /v/file; touch /t/file'; cat /volume/file
    run $image sh -c 'exit 7' || echo $?
    bryo run -d --network host --name one $image sh -c 'trap "exit 5" TERM; n=0; while :; do n=$((n + 1)); echo $n > /n; done' > /dev/null
    bryo ps --format '{{.Names}}'; until bryo diff one | grep -q /n; do sleep 0.05; done
    dead=$(bryo inspect -f '{{.State.FilesystemPid}}' one); kill -KILL $dead
    while [ $dead = "$(bryo inspect -f '{{.State.FilesystemPid}}' one)" ]; do sleep 0.05; done
    bryo stop one; bryo inspect -f '{{.State.ExitCode}} {{.State.FilesystemTakeovers.Servers}}' one; bryo diff one; bryo rm one
    bryo ps -aq; bryo store check | grep -o 'all whole'"#;
const SEEN: &str = "inner\nfuse-overlay\nkept\n7\none\none\n5 1\nA /n\none\nall whole\n";

#[test]
fn a_session_in_a_container() {
    let outer_proc = "the kernel refuses a fresh /proc";
    for (name, flags, is_masked) in [
        ("by-seccomp", &[&DEVICE[..], &NAMESPACES][..], true),
        ("by-capability", &[&DEVICE, &["--cap-add", "SYS_ADMIN"]], true),
        ("unmasked", &[&DEVICE, &NAMESPACES, &UNMASKED], false),
        ("privileged", &[&["--privileged"]], false),
    ] {
        let (said, besides) = nested(name, flags, SESSION);
        assert_eq!(said, SEEN, "{name}");
        assert_eq!(besides.contains(outer_proc), is_masked, "{name}: {besides}");
        let others = besides.lines().filter(|line| !line.contains(outer_proc));
        assert_eq!(others.count(), 0, "{name}: {besides}");
    }
}

#[test]
fn what_the_outer_container_lacks_is_said() {
    for (name, flags, words) in [
        (
            "no-device",
            &NAMESPACES[..],
            ["/dev/fuse", "this container was not given the device"],
        ),
        (
            "no-namespaces",
            &DEVICE,
            ["user namespace", "its seccomp profile must allow"],
        ),
    ] {
        let (_, said) = nested(
            name,
            &[flags],
            "code=0; bryo run --rm --network host $image true || code=$?; [ $code = 125 ]",
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn the_store_is_filled_over_the_hosts_network() {
    let registry = Registry::shared();
    let script = format!("bryo run -q --rm {} echo pulled", registry.image("debian:12"));
    let (said, _) = nested("pulls", &[&DEVICE, &NAMESPACES, &["--network", "host"]], &script);
    assert_eq!(said, "pulled\n");
}

/// Without the device for one of its own, a container shares the outer one's network.
#[test]
fn the_outer_containers_network_is_shared() {
    let script = "bryo run --rm $image readlink /proc/self/ns/net; readlink /proc/self/ns/net";
    let (said, besides) = nested("shares", &[&DEVICE, &NAMESPACES, &UNMASKED], script);
    let (inner, outer) = said.trim_end().split_once('\n').unwrap();
    assert_eq!(inner, outer);
    assert!(
        besides.contains("shares the host's network") && besides.contains("/dev/net/tun"),
        "{besides}"
    );
    // With it, the same user makes a network in a network.
    let flags = [&DEVICE[..], &["--device", "/dev/net/tun"], &NAMESPACES, &UNMASKED];
    let (said, _) = nested("nests", &flags, "bryo run --rm $image ls /sys/class/net");
    assert_eq!(said, "eth0\nlo\n");
}

/// Where the kernel refuses a fresh /sys.
#[test]
fn a_network_namespace_of_its_own() {
    let script = "bryo run --rm --network none $image sh -c 'cat /proc/net/dev | wc -l; ! touch /sys/class/net/lo/mtu 2> /dev/null'";
    let (said, besides) = nested("alone", &[&DEVICE, &NAMESPACES], script);
    // Two lines of headers, and lo.
    assert_eq!(said, "3\n");
    assert!(besides.contains("the kernel refuses a fresh /sys"), "{besides}");
}

#[test]
fn a_container_three_deep_needs_a_proc_of_its_own() {
    let script = "bryo run --rm --device /dev/fuse --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
        -v /usr/local/bin/bryo:/bin/bryo -v /busybox.tar:/busybox.tar $image \
        sh -c 'image=$(bryo pull -q oci-archive:/busybox.tar); bryo run --rm $image echo third'";
    let (said, _) = nested("three", &[&DEVICE, &NAMESPACES, &UNMASKED], script);
    assert_eq!(said, "third\n");
    let script = format!("! {script}");
    let (_, said) = nested("three-masked", &[&DEVICE, &NAMESPACES], &script);
    let why = "no container can be started here: /proc is not this pid namespace's";
    assert!(said.lines().any(|line| line.contains(why)), "{said}");
}

/// What both users of the outer container, root and another, see of ids in their containers.
#[test]
fn ids_are_those_that_the_outer_container_has() {
    let alone = "echo root:100000:65536 > /etc/subuid; echo root:100000:65536 > /etc/subgid
        bryo run --rm --network host $image sh -c 'wc -l < /proc/self/uid_map'; bryo info | grep ^Ids";
    let (said, _) = nested("beyond", &[&DEVICE, &NAMESPACES, &UNMASKED], alone);
    let remedy = if has_id_range() {
        "root has no id range in /etc/subuid and /etc/subgid; an administrator can give one: \
         usermod --add-subuids 1-65536 --add-subgids 1-65536 root"
    } else {
        "this container has one user and one group only itself"
    };
    assert_eq!(
        said,
        format!("1\nIds in containers: one user, one group: {remedy}\n")
    );
    if !has_id_range() {
        println!("not run: the rest, which needs more ids than one in the outer container");
        return;
    }
    // A set-uid newuidmap would need CAP_SYS_ADMIN.
    let ranges = "for kind in uid gid; do printf 'root:1:65536\\nuser:2000:60000\\n' > /etc/sub$kind; done
        useradd -m user; sed -i '/user:[^2]/d' /etc/subuid /etc/subgid
        chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap
        setcap cap_setuid+ep /usr/bin/newuidmap; setcap cap_setgid+ep /usr/bin/newgidmap
        own='touch /f; chown 1000:2000 /f; stat -c %u:%g /f; awk \"{ n += \\$3 } END { print n }\" /proc/self/uid_map'
        bryo run --rm --network host $image sh -c \"$own\"
        echo \"bryo run --rm --network host \\$(bryo pull -q oci-archive:/busybox.tar) sh -c '$own'\" > /run.sh
        su - user -c 'bash /run.sh'";
    let (said, besides) = nested(
        "ranges",
        &[&DEVICE, &NAMESPACES, &UNMASKED, &["--cap-add", "SETFCAP"]],
        ranges,
    );
    assert_eq!(
        (said.as_str(), besides.as_str()),
        ("1000:2000\n65537\n1000:2000\n60001\n", "")
    );
}

/// Servers of both die at once: the outer one's at its n-th request, the inner one's whenever the outer shell likes.
#[test]
fn nobody_notices_the_death_of_servers() {
    const WORK: &str = "mkdir /w; cd /w; for n in $(seq 150); do mkdir $n; echo $n > $n/file; ln $n/file $n/linked
        mv $n/file $n/moved; cat $n/linked; done > out; tar -cf - [0-9]* | tar -C /tmp -xf -; cat /tmp/*/moved | md5sum
        md5sum < out; rm -r [0-9]*; ls";
    let script = format!(
        "bryo run --rm --network host $image sh -ec '{WORK}' > /undisturbed
        bryo run -d --network host --name work -v /:/outer $image sh -ec '{{ {WORK}; }} > /outer/disturbed' > /dev/null
        died=0
        while [ \"$(bryo inspect -f '{{{{.State.Status}}}}' work)\" = running ]; do
            server=$(bryo inspect -f '{{{{.State.FilesystemPid}}}}' work)
            [ $server = 0 ] || ! kill -KILL $server 2> /dev/null || died=$((died + 1))
            sleep 0.1
        done
        [ $died -gt 2 ] || echo \"only $died died\"
        bryo inspect -f '{{{{.State.ExitCode}}}} {{{{.State.Error}}}}' work
        cmp /undisturbed /disturbed; wc -l < /disturbed"
    );
    let (bryo, _) = workloads();
    let flags = [&DEVICE[..], &NAMESPACES, &UNMASKED].concat();
    let mut run = outer("dying", &flags, &script);
    let done = Done::of(run.env("FUSE_OVERLAY_KILL", "saved:151"));
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    let died: u32 = field(bryo, "dying", "{{.State.FilesystemTakeovers.Servers}}")
        .parse()
        .unwrap();
    assert!(died > 2, "{died} outer servers died");
    bryo.ok(["rm", "dying"]);
    assert_eq!(done.stdout, "0 \n3\n");
}
