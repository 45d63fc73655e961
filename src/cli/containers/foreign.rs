//! Which flags of `docker run` and `podman run` mean nothing here?

use crate::cli::foreign::{ANY, Foreign, LOGIN, RUNTIME, Table, UNTRUSTED, switch, value};

const IO: &str = "who is not root gets no control over block devices: systemd gives users the controllers cpu, memory and pids";
const REALTIME: &str = "the kernel gives real-time schedules to root's cgroups alone";
const WINDOWS: &str = "it is for Windows";
const IDS: &str = "a container has the ids that /etc/subuid and /etc/subgid give the user";
const PODS: &str = "there are no pods: --network container:NAME shares a network";
const PASSWD: &str = "/etc/passwd is the image's, with nothing added";
const UNIT: &str = "systemd keeps order among units: see `bryo generate systemd`";

/// The table.
#[derive(Debug, Clone)]
pub(super) struct Run;

pub(super) type Flags = crate::cli::foreign::Flags<Run>;

impl Table for Run {
    const FLAGS: &'static [Foreign] = FLAGS;
}

const FLAGS: &[Foreign] = &[
    // What is done anyway.
    switch("disable-content-trust", ANY, UNTRUSTED),
    value("isolation", &["", "default"], WINDOWS),
    value(
        "cgroups",
        &["", "enabled", "no-conmon"],
        "a container is in a cgroup of its own where the user may make one, and else in bryo's",
    ),
    value(
        "seccomp-policy",
        &["", "default"],
        "the profile is Docker's, or --security-opt seccomp=FILE",
    ),
    value(
        "health-on-failure",
        &["", "none"],
        "what became of it is told by `bryo wait --condition unhealthy` and `bryo events`",
    ),
    switch("passwd", &["false"], PASSWD),
    value(
        "systemd",
        &["", "false"],
        "systemd as pid 1 wants a cgroup tree that it may write, which a container has not",
    ),
    switch(
        "oom-kill-disable",
        &["false"],
        "in version 2 of cgroups the kernel has nothing of the kind",
    ),
    // What cannot be.
    value("blkio-weight", &["0"], IO),
    value("blkio-weight-device", &[], IO),
    value("device-read-bps", &[], IO),
    value("device-read-iops", &[], IO),
    value("device-write-bps", &[], IO),
    value("device-write-iops", &[], IO),
    value(
        "device-cgroup-rule",
        &[],
        "who is not root can make no rules for devices: --device shows one",
    ),
    value("cpu-rt-period", &["0"], REALTIME),
    value("cpu-rt-runtime", &["0"], REALTIME),
    value("cpu-count", &["0"], WINDOWS),
    value("cpu-percent", &["0"], WINDOWS),
    value("io-maxbandwidth", &["0"], WINDOWS),
    value("io-maxiops", &["0"], WINDOWS),
    value("kernel-memory", &["0"], "Linux has given it up: use --memory"),
    value(
        "memory-swappiness",
        &["-1"],
        "in version 2 of cgroups the kernel has nothing of the kind",
    ),
    value(
        "cgroup-conf",
        &[],
        "limits are --memory, --cpus, --pids-limit and their kin",
    ),
    value(
        "gpus",
        &[],
        "nobody here finds a GPU's files: name them by --device /dev/… and -v",
    ),
    value("runtime", &[], RUNTIME),
    value("init-path", &[], "the init of --init is this program"),
    value(
        "link",
        &[],
        "containers find each other by name on a network of your own: `bryo network create`, --network, --network-alias",
    ),
    value(
        "link-local-ip",
        &[],
        "a container's devices have no link-local addresses to choose",
    ),
    switch(
        "use-api-socket",
        &["false"],
        "there is no daemon, and so no socket of one",
    ),
    value("uidmap", &[], IDS),
    value("gidmap", &[], IDS),
    value("subuidname", &[], IDS),
    value("subgidname", &[], IDS),
    value("hostuser", &[], PASSWD),
    value("passwd-entry", &[], PASSWD),
    value("pod", &[], PODS),
    value("pod-id-file", &[], PODS),
    value("requires", &[], UNIT),
    value(
        "chrootdirs",
        &[],
        "/etc/hosts and its kin are bound at their own places alone",
    ),
    value(
        "personality",
        &[],
        "a command runs as programs of this machine do",
    ),
    value(
        "secret",
        &[],
        "nothing keeps secrets: show a file by -v FILE:/run/secrets/NAME:ro",
    ),
    value("authfile", &[], LOGIN),
    value(
        "env-merge",
        &[],
        "variables of the image are known in the container alone: set them there",
    ),
];

#[cfg(test)]
mod tests {
    use clap::{Arg, Parser as _};

    #[derive(Debug, clap::Parser)]
    #[command(disable_help_flag = true)]
    struct Sample {
        #[command(flatten)]
        run: crate::cli::containers::run::Run,
    }

    /// What `docker run --help` of 28.2 lists, and `podman run --help` of 4.3.
    const DOCKER: &str = "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile \
        cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus \
        cpuset-mems detach detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps \
        device-write-iops disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose \
        gpus group-add health-cmd health-interval health-retries health-start-interval health-start-period \
        health-timeout help hostname init interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory \
        label label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap \
        memory-swappiness mount name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid \
        pids-limit platform privileged publish publish-all pull quiet read-only restart rm runtime security-opt \
        shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket user userns \
        uts volume volume-driver volumes-from workdir";
    const PODMAN: &str = "add-host annotation arch attach authfile blkio-weight blkio-weight-device cap-add cap-drop cgroup-conf \
        cgroup-parent cgroupns cgroups chrootdirs cidfile conmon-pidfile cpu-period cpu-quota cpu-rt-period \
        cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device device-cgroup-rule \
        device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns dns-option \
        dns-search entrypoint env env-file env-host env-merge expose gidmap group-add health-cmd health-interval \
        health-on-failure health-retries health-start-period health-timeout help hostname hostuser http-proxy \
        image-volume init init-path interactive ip ip6 ipc label label-file log-driver log-opt mac-address memory \
        memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck no-hosts \
        oom-kill-disable oom-score-adj os passwd passwd-entry personality pid pidfile pids-limit platform pod \
        pod-id-file preserve-fds privileged publish publish-all pull quiet read-only read-only-tmpfs replace \
        requires restart rm rmi rootfs sdnotify seccomp-policy secret security-opt shm-size sig-proxy stop-signal \
        stop-timeout subgidname subuidname sysctl systemd timeout tls-verify tmpfs tty tz uidmap ulimit umask \
        unsetenv unsetenv-all user userns uts variant volume volumes-from workdir";

    #[test]
    fn every_flag_of_the_others_is_known() {
        let command = <Sample as clap::CommandFactory>::command();
        let known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
        let all = [DOCKER, PODMAN].into_iter().flat_map(str::split_whitespace);
        let unknown: Vec<&str> = all.filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn what_asks_for_nothing_is_accepted_and_the_rest_refused() {
        let checked = |words: &[&str]| {
            let words = ["run"].iter().chain(words).chain(&["image"]);
            let sample = Sample::try_parse_from(words).map_err(|error| error.to_string())?;
            sample.run.check().map_err(|failure| failure.message)
        };
        for words in [
            &["--isolation", "default"][..],
            &["--disable-content-trust", "--passwd=false"],
            &["--blkio-weight", "0", "--systemd=false"],
        ] {
            assert_eq!(checked(words), Ok(()));
        }
        for (words, what) in [
            (
                &["--gpus", "all"][..],
                "--gpus is not supported: nobody here finds",
            ),
            (
                &["--link", "a:b"],
                "--link is not supported: containers find each other",
            ),
        ] {
            let found = checked(words).unwrap_err();
            assert!(found.starts_with(what), "{found}");
        }
    }
}
