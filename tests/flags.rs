//! Flags of `run` that few need, each by what becomes of it inside; and which fields `inspect` has.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::{Bryo, misfits, until};
use serde_json::Value;

/// What `run --rm FLAGS busybox sh -c SCRIPT` prints.
fn printed(bryo: &Bryo, image: &str, flags: &[&str], script: &str) -> String {
    let mut words = vec!["run", "--rm"];
    words.extend(flags);
    words.extend([image, "sh", "-c", script]);
    bryo.ok(&words)
}

fn refused(bryo: &Bryo, image: &str, flags: &[&str]) -> String {
    let mut words = vec!["run", "--rm"];
    words.extend(flags);
    words.extend([image, "true"]);
    bryo.fails(125, &words)
}

#[test]
fn namespaces_of_the_host() {
    let (bryo, image) = Bryo::with_image("busybox");
    let namespace = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    for (flags, kind) in [
        (["--ipc", "host"], "ipc"),
        (["--uts", "host"], "uts"),
        (["--cgroupns", "host"], "cgroup"),
    ] {
        let script = format!("readlink /proc/self/ns/{kind}");
        let own = printed(&bryo, &image, &[], &script);
        let host = printed(&bryo, &image, &flags, &script);
        assert_eq!(host.trim(), namespace(kind).to_str().unwrap(), "{kind}");
        assert_ne!(own, host, "{kind}");
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(printed(&bryo, &image, &["--uts", "host"], "hostname"), name);
    let script = "test -e /dev/shm || echo none";
    assert_eq!(printed(&bryo, &image, &["--ipc", "none"], script), "none\n");
    assert_eq!(printed(&bryo, &image, &["--ipc", "shareable"], script), "");
    // The host's /dev/shm is the very same.
    let file = format!("/dev/shm/bryo-test-{}", std::process::id());
    printed(&bryo, &image, &["--ipc", "host"], &format!("echo x > {file}"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x\n");
    printed(&bryo, &image, &["--ipc", "host"], &format!("rm {file}"));
    let error = refused(&bryo, &image, &["--uts", "host", "--hostname", "x"]);
    assert!(error.contains("conflicting options: hostname"), "{error}");
    for flags in [["--ipc", "container:x"], ["--pid", "container:x"]] {
        refused(&bryo, &image, &flags);
    }
    for flags in [["--ipc", "ns:/x"], ["--pid", "shareable"]] {
        refused(&bryo, &image, &flags);
    }
}

#[test]
fn kernel_parameters_and_names() {
    let (bryo, image) = Bryo::with_image("busybox");
    let flags = ["--network", "none", "--sysctl", "net.ipv4.ip_default_ttl=77"];
    let script = "cat /proc/sys/net/ipv4/ip_default_ttl";
    assert_eq!(printed(&bryo, &image, &flags, script), "77\n");
    for flags in [
        &["--sysctl", "vm.swappiness=1"][..],
        &["--network", "host", "--sysctl", "net.ipv4.ip_default_ttl=77"],
        &["--sysctl", "nonsense"],
        &["--annotation", "bryo.init=true"],
    ] {
        refused(&bryo, &image, flags);
    }
    let script = "cat /proc/sys/kernel/domainname";
    let domain = printed(&bryo, &image, &["--domainname", "example.org"], script);
    assert_eq!(domain, "example.org\n");
}

#[test]
fn variables() {
    let (bryo, image) = Bryo::with_image("busybox");
    let run = |flags: &[&str], script: &str| {
        let mut command = bryo.command(["run", "--rm"]);
        command.args(flags).args([&image, "sh", "-c", script]);
        command.env("OF_HOST", "here").env("http_proxy", "http://proxy:1");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let script = "echo ${OF_HOST-unset} ${http_proxy-unset}";
    assert_eq!(run(&[], script), "unset unset\n");
    assert_eq!(run(&["--env-host"], script), "here http://proxy:1\n");
    assert_eq!(
        run(&["--env-host", "-e", "OF_HOST=x"], script),
        "x http://proxy:1\n"
    );
    assert_eq!(run(&["--http-proxy"], script), "unset http://proxy:1\n");
    let script = "echo ${HOSTNAME-unset}";
    assert_eq!(
        run(
            &["--hostname", "h", "--unsetenv", "HOSTNAME"],
            "env | grep -c ^HOSTNAME="
        ),
        "0\n"
    );
    assert_eq!(run(&["--hostname", "h"], script), "h\n");
    assert_eq!(
        run(&["--unsetenv-all", "-e", "A=1"], "env | grep -E '^(HOSTNAME|A)='"),
        "A=1\n"
    );
}

#[test]
fn podmans_own() {
    let (bryo, image) = Bryo::with_image("busybox");
    let run = |flags: &[&str], script: &str| printed(&bryo, &image, flags, script);
    assert_eq!(run(&["--umask", "0077"], "umask"), "0077\n");
    let script = "touch /tmp/x /run/x && touch /x 2>/dev/null || echo ro";
    assert_eq!(run(&["--read-only", "--read-only-tmpfs"], script), "ro\n");
    let zone = std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo");
    match zone.is_file() {
        true => assert_eq!(run(&["--tz", "Asia/Tokyo"], "date +%z"), "+0900\n"),
        false => assert!(refused(&bryo, &image, &["--tz", "Asia/Tokyo"]).contains("there is no")),
    }
    refused_usage(&bryo, &image, &["--tz", "../../etc/passwd"]);
    refused_usage(&bryo, &image, &["--umask", "999"]);
    bryo.fails(137, ["run", "--rm", "--timeout", "1", &image, "sleep", "1000"]);
    // Both have the name, one after the other.
    let first = bryo.ok(["create", "--name", "one", &image, "true"]);
    let second = bryo.ok(["create", "--name", "one", "--replace", &image, "true"]);
    assert_ne!(first, second);
    bryo.fails(1, ["inspect", first.trim()]);
    bryo.fails(125, ["run", "--replace", &image, "true"]);
    bryo.ok(["rm", "one"]);
    bryo.ok(["tag", &image, "gone"]);
    bryo.ok(["run", "--rmi", "gone", "true"]);
    bryo.fails(1, ["image", "inspect", "gone"]);
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

fn refused_usage(bryo: &Bryo, image: &str, flags: &[&str]) {
    assert!(!refused(bryo, image, flags).is_empty());
}

#[test]
fn streams_by_name() {
    let (bryo, image) = Bryo::with_image("busybox");
    let run = |flags: &[&str]| {
        let mut command = bryo.command(["run", "--rm"]);
        command
            .args(flags)
            .args([&image, "sh", "-c", "echo out; echo err >&2"]);
        let done = command.output().unwrap();
        [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(run(&["-a", "stdout"]), ["out\n", ""]);
    assert_eq!(run(&["-a", "STDERR"]), ["", "err\n"]);
    assert_eq!(run(&["-a", "stdout", "-a", "stderr"]), ["out\n", "err\n"]);
    refused(&bryo, &image, &["-a", "stdout", "-d"]);
    refused(&bryo, &image, &["-a", "stdin"]);
}

#[test]
fn labels_of_files() {
    let (bryo, image) = Bryo::with_image("busybox");
    let file = bryo.scratch("labels");
    std::fs::write(&file, "# these\na=1\nb=2\n").unwrap();
    let file = file.to_str().unwrap();
    bryo.ok([
        "create",
        "--name",
        "one",
        "--label-file",
        file,
        "-l",
        "b=3",
        &image,
    ]);
    let labels = bryo.ok([
        "inspect",
        "-f",
        "{{.Config.Labels.a}} {{.Config.Labels.b}}",
        "one",
    ]);
    assert_eq!(labels, "1 3\n");
}

/// The fields of `GET /containers/{id}/json` in Docker's API (github.com/moby/moby, api/types/container, v28.2), with
/// what JSON has for them: s(tring), n(umber), b(oolean), a(rray), o(bject); `?` may be null.
const DOCKER: &str = "Id:s Created:s Path:s Args:a State:o Image:s ResolvConfPath:s HostnamePath:s HostsPath:s LogPath:s \
    Name:s RestartCount:n Driver:s Platform:s MountLabel:s ProcessLabel:s AppArmorProfile:s ExecIDs:a? HostConfig:o \
    GraphDriver:o SizeRw:n SizeRootFs:n Mounts:a Config:o NetworkSettings:o \
    State.Status:s State.Running:b State.Paused:b State.Restarting:b State.OOMKilled:b State.Dead:b State.Pid:n \
    State.ExitCode:n State.Error:s State.StartedAt:s State.FinishedAt:s GraphDriver.Name:s GraphDriver.Data:o \
    Config.Hostname:s Config.Domainname:s Config.User:s Config.AttachStdin:b Config.AttachStdout:b Config.AttachStderr:b \
    Config.ExposedPorts:o? Config.Tty:b Config.OpenStdin:b Config.StdinOnce:b Config.Env:a Config.Cmd:a Config.Image:s \
    Config.Volumes:o? Config.WorkingDir:s Config.Entrypoint:a? Config.OnBuild:a? Config.Labels:o Config.StopSignal:s \
    Config.StopTimeout:n HostConfig.Binds:a? HostConfig.ContainerIDFile:s HostConfig.LogConfig:o \
    HostConfig.LogConfig.Type:s HostConfig.LogConfig.Config:o HostConfig.NetworkMode:s HostConfig.PortBindings:o \
    HostConfig.RestartPolicy:o HostConfig.RestartPolicy.Name:s HostConfig.RestartPolicy.MaximumRetryCount:n \
    HostConfig.AutoRemove:b HostConfig.VolumeDriver:s HostConfig.VolumesFrom:a? HostConfig.ConsoleSize:a \
    HostConfig.Annotations:o HostConfig.CapAdd:a? HostConfig.CapDrop:a? HostConfig.CgroupnsMode:s HostConfig.Dns:a \
    HostConfig.DnsOptions:a HostConfig.DnsSearch:a HostConfig.ExtraHosts:a? HostConfig.GroupAdd:a? HostConfig.IpcMode:s \
    HostConfig.Cgroup:s HostConfig.Links:a? HostConfig.OomScoreAdj:n HostConfig.PidMode:s HostConfig.Privileged:b \
    HostConfig.PublishAllPorts:b HostConfig.ReadonlyRootfs:b HostConfig.SecurityOpt:a? HostConfig.StorageOpt:o? \
    HostConfig.Tmpfs:o HostConfig.UTSMode:s HostConfig.UsernsMode:s HostConfig.ShmSize:n HostConfig.Sysctls:o \
    HostConfig.Runtime:s HostConfig.Isolation:s HostConfig.CpuShares:n HostConfig.Memory:n HostConfig.NanoCpus:n \
    HostConfig.CgroupParent:s HostConfig.BlkioWeight:n HostConfig.BlkioWeightDevice:a? HostConfig.BlkioDeviceReadBps:a? \
    HostConfig.BlkioDeviceWriteBps:a? HostConfig.BlkioDeviceReadIOps:a? HostConfig.BlkioDeviceWriteIOps:a? \
    HostConfig.CpuPeriod:n HostConfig.CpuQuota:n HostConfig.CpuRealtimePeriod:n HostConfig.CpuRealtimeRuntime:n \
    HostConfig.CpusetCpus:s HostConfig.CpusetMems:s HostConfig.Devices:a? HostConfig.DeviceCgroupRules:a? \
    HostConfig.DeviceRequests:a? HostConfig.MemoryReservation:n HostConfig.MemorySwap:n HostConfig.MemorySwappiness:n? \
    HostConfig.OomKillDisable:b? HostConfig.PidsLimit:n? HostConfig.Ulimits:a? HostConfig.CpuCount:n HostConfig.CpuPercent:n \
    HostConfig.IOMaximumIOps:n HostConfig.IOMaximumBandwidth:n HostConfig.MaskedPaths:a HostConfig.ReadonlyPaths:a \
    NetworkSettings.Bridge:s NetworkSettings.SandboxID:s NetworkSettings.SandboxKey:s NetworkSettings.Ports:o \
    NetworkSettings.HairpinMode:b NetworkSettings.LinkLocalIPv6Address:s NetworkSettings.LinkLocalIPv6PrefixLen:n \
    NetworkSettings.SecondaryIPAddresses:a? NetworkSettings.SecondaryIPv6Addresses:a? NetworkSettings.EndpointID:s \
    NetworkSettings.Gateway:s NetworkSettings.GlobalIPv6Address:s NetworkSettings.GlobalIPv6PrefixLen:n \
    NetworkSettings.IPAddress:s NetworkSettings.IPPrefixLen:n NetworkSettings.IPv6Gateway:s NetworkSettings.MacAddress:s \
    NetworkSettings.Networks:o NetworkSettings.Networks.none:o NetworkSettings.Networks.none.IPAMConfig:o? \
    NetworkSettings.Networks.none.Links:a? NetworkSettings.Networks.none.Aliases:a? \
    NetworkSettings.Networks.none.MacAddress:s NetworkSettings.Networks.none.DriverOpts:o? \
    NetworkSettings.Networks.none.NetworkID:s NetworkSettings.Networks.none.EndpointID:s \
    NetworkSettings.Networks.none.Gateway:s NetworkSettings.Networks.none.IPAddress:s \
    NetworkSettings.Networks.none.IPPrefixLen:n NetworkSettings.Networks.none.IPv6Gateway:s \
    NetworkSettings.Networks.none.GlobalIPv6Address:s NetworkSettings.Networks.none.GlobalIPv6PrefixLen:n";

#[test]
fn inspect_has_dockers_fields() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "one",
        &image,
        "sleep",
        "1000",
    ]);
    let all: Value = serde_json::from_str(&bryo.ok(["inspect", "--size", "one"])).unwrap();
    let wrong = misfits(&all[0], DOCKER);
    assert!(wrong.is_empty(), "{wrong:#?}");
    bryo.ok(["rm", "-f", "one"]);
    until("it is gone", || bryo.ok(["ps", "-aq"]).is_empty());
}

#[test]
fn inspect_tells_what_was_asked() {
    let (bryo, image) = Bryo::with_image("busybox");
    let flags = "create --name one --group-add 0 --device /dev/null:/dev/mine --tmpfs /t:size=1m --sysctl kernel.msgmax=9000 \
        --annotation a=b --ipc none --uts host --cgroupns host -a stdout";
    let words: Vec<&str> = flags.split_whitespace().chain([image.as_str(), "true"]).collect();
    bryo.ok(&words);
    let shown = bryo.ok([
        "inspect",
        "-f",
        "{{with .HostConfig}}{{json .GroupAdd}} {{json .Devices}} {{json .Tmpfs}} {{json .Sysctls}} {{json .Annotations}} \
         {{.IpcMode}} {{.UTSMode}} {{.CgroupnsMode}}{{end}} {{.Config.AttachStdout}} {{.Config.AttachStderr}}",
        "one",
    ]);
    let expected = r#"["0"] [{"PathOnHost":"/dev/null","PathInContainer":"/dev/mine","CgroupPermissions":"rwm"}] {"/t":"size=1m"} {"kernel.msgmax":"9000"} {"a":"b"} none host host true false"#;
    assert_eq!(shown.trim(), expected);
}
