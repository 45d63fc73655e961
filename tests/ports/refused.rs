//! Flags about networks that cannot be done as asked.

use super::busybox;

#[test]
fn flags_that_cannot_be_are_refused_with_the_reason() {
    let (bryo, image) = busybox();
    bryo.ok(["run", "-d", "--name", "other", &image, "sleep", "1000"]);
    for (flags, why) in [
        (&["-p", "x:80"][..], "invalid hostPort: x"),
        (&["-p", "8000-8001:80-82"], "invalid ranges specified"),
        (&["-p", "80/sctp"], "sctp ports cannot be published"),
        (&["-p", "8.8.8.8:8099:80"], "the host has no address 8.8.8.8"),
        (&["--expose", "0"], "invalid port: 0"),
        (&["--network", "far"], "network far not found"),
        (
            &["--network", "pasta:--netns=/x"],
            "is no option of pasta's for a container",
        ),
        (
            &["--network", "slirp4netns:far=1"],
            "far is not supported (supported: ",
        ),
        (
            &["--network", "slirp4netns", "-p", "[::1]::80"],
            "by IPv4 alone, not at ::1",
        ),
        (
            &["--network", "pasta", "--ip", "10.0.2.7"],
            "user specified IP address",
        ),
        (&["--network", "container:nobody"], "No such container: nobody"),
        (
            &["--network", "none", "-P"],
            "conflicting options: port publishing",
        ),
        (
            &["--network", "container:other", "-p", "80"],
            "conflicting options: port publishing",
        ),
        (
            &["--network", "container:other", "--hostname", "x"],
            "conflicting options: hostname",
        ),
        (
            &["--network", "container:other", "--dns", "::1"],
            "conflicting options: dns",
        ),
        (
            &["--network", "container:other", "--add-host", "a:::1"],
            "conflicting options: custom host-to-IP",
        ),
        (
            &["--ip", "10.0.2.7"],
            "user specified IP address is supported on user defined networks only",
        ),
        (&["--mac-address", "02:00:00:00:00:01"], "without Ethernet"),
    ] {
        let said = bryo.fails(
            125,
            ["run", "--rm"].iter().chain(flags).chain(&[&image[..], "true"]),
        );
        assert!(
            said.contains(why) && said.lines().count() == 1,
            "{flags:?}: {said}"
        );
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = start.trim().parse().unwrap();
    if first > 1 {
        let publish = format!("{}:80", first - 1);
        let said = bryo.fails(125, ["run", "--rm", "-p", &publish, &image, "true"]);
        assert!(
            said.contains("ip_unprivileged_port_start") && said.lines().count() == 1,
            "{said}"
        );
    }
    assert_eq!(bryo.ok(["ps", "-aq"]).lines().count(), 1);
    let done = bryo.run(["run", "--rm", "--network", "host", "-p", "80", &image, "true"]);
    assert!(
        done.status.success()
            && done
                .stderr
                .contains("ports are discarded when using host network mode"),
        "{done}"
    );
}
