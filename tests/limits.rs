//! What containers may use, and how they stop for a while, in cgroups that the user may make. `scripts/test.sh` gives these
//! tests such groups (`delegate_groups`), if it can make any; without them they say that they are not run. Without groups of
//! one's own: `tests/undelegated.rs`.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use common::{Bryo, has_id_range, process, until};
use nix::sys::signal::{Signal, kill};

/// The group of this test in the hierarchy of version 1 of `controller`, `""` for the unified one; `None`, told, if there is
/// no such hierarchy, or it is not the user's.
fn own(controller: &str) -> Option<PathBuf> {
    let group = group_of("self", controller);
    let made = std::env::var_os("BRYO_TEST_GROUPS").is_some();
    if let Some(path) = group.as_ref().filter(|path| is_delegated(path)) {
        return Some(path.clone());
    }
    assert!(
        group.is_none() || !made,
        "{group:?} is not the user's, though scripts/test.sh has made some that are"
    );
    // Not by a macro, whose words the harness would keep to itself.
    let name = if controller.is_empty() {
        "version 2"
    } else {
        controller
    };
    let line = format!("not run: no cgroup of {name} is the user's\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}

fn is_delegated(path: &std::path::Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// The directory of the group that a process is in.
fn group_of(pid: &str, controller: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        let is_it = names.split(',').any(|name| name == controller);
        is_it.then(|| fields.next().unwrap().trim_start_matches('/'))
    })?;
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let point = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let is_it = match controller {
            "" => fields[2] == "cgroup2",
            name => fields[2] == "cgroup" && fields[3].split(',').any(|option| option == name),
        };
        is_it.then(|| fields[1].to_string())
    })?;
    Some(PathBuf::from(point).join(path))
}

/// A container `one` that waits, with these flags.
fn waiting(flags: &[&str]) -> Bryo {
    running(flags, "trap 'exit 7' TERM; while :; do sleep 0.05; done")
}

fn running(flags: &[&str], script: &str) -> Bryo {
    let (bryo, image) = Bryo::with_image("busybox");
    let mut words = vec!["run", "-d", "--name", "one"];
    words.extend(flags);
    words.extend([&image, "sh", "-c", script]);
    let done = bryo.run(&words);
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    bryo
}

/// The group of the container `one`.
fn group(bryo: &Bryo, controller: &str) -> PathBuf {
    group_of(&process(bryo, "one", "Pid").to_string(), controller).unwrap()
}

fn kill_supervisor(bryo: &Bryo) {
    kill(common::parent(process(bryo, "one", "Pid")), Signal::SIGKILL).unwrap();
}

fn said(path: PathBuf) -> String {
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_string()
}

fn shown(bryo: &Bryo, template: &str) -> String {
    bryo.ok(["inspect", "-f", template, "one"]).trim().to_string()
}

#[test]
fn limits_are_in_the_containers_own_group() {
    let (Some(above), Some(_), Some(_)) = (own("memory"), own("cpu"), own("pids")) else {
        return;
    };
    let bryo = waiting(&[
        "-m",
        "64m",
        "--memory-swap",
        "96m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "0.5",
        "-c",
        "512",
        "--pids-limit",
        "20",
        "--cpuset-cpus",
        "0",
    ]);
    let memory = group(&bryo, "memory");
    assert_eq!(memory.parent(), Some(above.as_path()));
    assert_eq!(said(memory.join("memory.limit_in_bytes")), "67108864");
    assert_eq!(said(memory.join("memory.memsw.limit_in_bytes")), "100663296");
    assert_eq!(said(memory.join("memory.soft_limit_in_bytes")), "33554432");
    let cpu = group(&bryo, "cpu");
    assert_eq!(said(cpu.join("cpu.cfs_quota_us")), "50000");
    assert_eq!(said(cpu.join("cpu.shares")), "512");
    assert_eq!(said(group(&bryo, "pids").join("pids.max")), "20");
    assert_eq!(said(group(&bryo, "cpuset").join("cpuset.cpus")), "0");
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} \
                  {{.HostConfig.PidsLimit}} {{.HostConfig.CpusetCpus}}";
    assert_eq!(shown(&bryo, limits), "67108864 100663296 500000000 512 20 0");
    // What keeps the container going is not limited with it.
    let supervisor = common::parent(process(&bryo, "one", "Pid"));
    for beside in [process(&bryo, "one", "FilesystemPid"), supervisor] {
        assert_eq!(group_of(&beside.to_string(), "memory"), Some(above.clone()));
    }
    let stats = bryo.ok(["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}"]);
    assert!(stats.contains(" / 64MiB "), "{stats}");
    bryo.ok(["stop", "one"]);
    assert!(!memory.exists() && !cpu.exists());
}

#[test]
fn info_says_what_can_be_limited() {
    if own("memory").is_none() || own("cpu").is_none() {
        return;
    }
    let bryo = Bryo::new();
    let fields = "{{.CgroupDriver}} {{.MemoryLimit}} {{.CpuCfsQuota}} {{.PidsLimit}}";
    assert_eq!(bryo.ok(["info", "-f", fields]), "cgroupfs true true true\n");
    assert!(
        bryo.ok(["info"])
            .contains("\nLimits by cgroups: memory, cpu, cpuset, pids, freezer, cpuacct\n")
    );
}

#[test]
fn nobody_in_a_container_changes_its_limits() {
    if own("memory").is_none() {
        return;
    }
    let bryo = waiting(&["--memory", "64m"]);
    let script = "find /sys/fs/cgroup -type f -name '*.procs' -o -name '*limit_in_bytes' -o -name '*.max' | while read f; do \
                  (echo 0 > $f) 2>/dev/null && echo $f; done; true";
    assert_eq!(bryo.ok(["exec", "one", "sh", "-c", script]), "");
    assert_eq!(
        said(group(&bryo, "memory").join("memory.limit_in_bytes")),
        "67108864"
    );
}

#[test]
fn a_limit_of_processes_is_kept() {
    if own("pids").is_none() {
        return;
    }
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait";
    let (bryo, image) = Bryo::with_image("busybox");
    let error = bryo.fails(
        2,
        ["run", "--rm", "--pids-limit", "5", &image, "sh", "-c", script],
    );
    assert!(error.contains("can't fork"), "{error}");
    // What makes the container does not count.
    bryo.ok(["run", "--rm", "--pids-limit", "1", &image, "true"]);
}

#[test]
fn what_is_out_of_memory_is_killed_and_told() {
    if own("memory").is_none() {
        return;
    }
    let (bryo, image) = Bryo::with_image("busybox");
    let hog = "exec dd if=/dev/zero of=/dev/shm/x bs=1M count=50";
    let flags = [
        "run",
        "--name",
        "one",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        &image,
        "sh",
        "-c",
        hog,
    ];
    bryo.fails(137, flags);
    assert_eq!(
        shown(&bryo, "{{.State.OOMKilled}} {{.State.ExitCode}}"),
        "true 137"
    );
    let events = bryo.ok([
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--format",
        "{{.Action}}",
    ]);
    assert!(events.contains("oom\ndie\n"), "{events}");
    // Enough is enough.
    bryo.ok(["update", "-m", "512m", "--memory-swap", "-1", "one"]);
    bryo.ok(["start", "-a", "one"]);
    assert_eq!(
        shown(&bryo, "{{.State.OOMKilled}} {{.State.ExitCode}}"),
        "false 0"
    );
}

#[test]
fn processor_time_is_kept_short() {
    if own("cpu").is_none() {
        return;
    }
    let bryo = running(&["--cpus", "0.1"], "while :; do :; done");
    let stat = group(&bryo, "cpu").join("cpu.stat");
    until("it is held back", || {
        let text = said(stat.clone());
        text.lines().any(|line| {
            line.strip_prefix("nr_throttled ")
                .is_some_and(|count| count != "0")
        })
    });
}

/// Stops and goes on by the freezer that these flags leave it.
fn pauses(flags: &[&str], of: &str) {
    let bryo = running(
        flags,
        "trap 'exit 7' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done",
    );
    let group = group(&bryo, of);
    assert!(
        group.ends_with(format!("bryo-{}", shown(&bryo, "{{.Id}}"))),
        "{}",
        group.display()
    );
    until("it counts", || bryo.ok(["logs", "one"]).lines().count() > 3);
    assert_eq!(
        bryo.fails(1, ["unpause", "one"]),
        "bryo: Container one is not paused\n"
    );
    assert_eq!(bryo.ok(["pause", "one"]), "one\n");
    // What was under way in pipes.
    let mut before = String::new();
    until("all is heard", || {
        let now = bryo.ok(["logs", "one"]);
        std::mem::replace(&mut before, now.clone()) == now
    });
    assert_eq!(
        bryo.ok([
            "ps",
            "--filter",
            "status=paused",
            "--format",
            "{{.State}} {{.Names}}"
        ]),
        "paused one\n"
    );
    assert!(bryo.ok(["ps", "--format", "{{.Status}}"]).ends_with("(Paused)\n"));
    assert_eq!(bryo.ok(["ps", "-q", "--filter", "status=running"]), "");
    assert_eq!(
        shown(&bryo, "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"),
        "paused true true"
    );
    let refused = |words: &[&str], why: &str| {
        let error = bryo.fails(1, words);
        assert!(error.contains(why), "{error}");
    };
    refused(&["pause", "one"], "Container one is already paused");
    refused(
        &["exec", "one", "true"],
        "Container one is paused, unpause the container before exec",
    );
    refused(
        &["attach", "one"],
        "You cannot attach to a paused container, unpause it first",
    );
    refused(
        &["start", "one"],
        "cannot start a paused container, try unpause instead",
    );
    refused(&["rm", "one"], "container is paused and must be unpaused first");
    // Its tree is served by who is not paused.
    bryo.ok(["cp", "one:/etc/passwd", bryo.scratch("passwd").to_str().unwrap()]);
    assert_eq!(bryo.ok(["logs", "one"]), before);
    bryo.ok(["unpause", "one"]);
    until("it goes on", || bryo.ok(["logs", "one"]).len() > before.len());
    bryo.ok(["pause", "one"]);
    assert_eq!(bryo.ok(["stop", "-t", "60", "one"]), "one\n");
    assert_eq!(shown(&bryo, "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    for end in [["kill", "one"].as_slice(), &["rm", "-f", "one"]] {
        bryo.ok(["start", "one"]);
        bryo.ok(["pause", "one"]);
        bryo.ok(end);
    }
    assert!(!group.exists());
}

#[test]
fn it_pauses_by_the_unified_hierarchy() {
    if own("").is_some() {
        pauses(&[], "");
    }
}

/// Groups `pauses`-only in some hierarchies leave the others without.
#[test]
fn it_pauses_by_the_freezer_of_version_1() {
    let Some(own) = own("freezer") else { return };
    let only = own.join(format!("only-{}", std::process::id()));
    fs::create_dir(&only).unwrap();
    let name = only.file_name().unwrap().to_str().unwrap();
    pauses(&["--cgroup-parent", name], "freezer");
    let bryo = waiting(&["--cgroup-parent", name]);
    // The frozen do not die there: who finds it without a supervisor lets them.
    bryo.ok(["pause", "one"]);
    kill_supervisor(&bryo);
    until("it has ended", || {
        bryo.ok(["ps", "-aq", "--filter", "exited=137"]).lines().count() == 1
    });
    drop(bryo);
    fs::remove_dir(&only).unwrap();
}

#[test]
fn commands_of_exec_are_in_the_group_and_helpers_are_not() {
    let Some(above) = own("pids") else { return };
    let bryo = waiting(&["--pids-limit", "50"]);
    bryo.ok(["exec", "-d", "one", "sleep", "611"]);
    let group = group(&bryo, "pids");
    let names = || -> Vec<String> {
        let pids = said(group.join("cgroup.procs"));
        let names = pids
            .lines()
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        names.map(|words| words.replace('\0', " ")).collect()
    };
    until("it is there", || {
        names().iter().any(|name| name.starts_with("sleep 611"))
    });
    let all = names();
    assert!(
        all.iter()
            .all(|name| name.starts_with("sh ") || name.starts_with("sleep ") || name.is_empty()),
        "{all:?}"
    );
    if !has_id_range() {
        // Processes beside the container and the command answer for owners; its memory is not theirs.
        let beside = said(above.join("cgroup.procs"));
        let supervisor = common::parent(process(&bryo, "one", "Pid")).to_string();
        let is_helper = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.starts_with("Name:\tbryo-owners\n") && status.contains(&format!("PPid:\t{supervisor}\n"))
        };
        assert!(beside.lines().any(is_helper), "{beside}");
    }
    assert!(
        bryo.ok(["exec", "one", "cat", "/proc/self/cgroup"])
            .contains(":pids:/\n")
    );
}

#[test]
fn a_killed_supervisor_leaves_no_group() {
    let Some(above) = own("") else { return };
    let bryo = waiting(&[]);
    let group = group(&bryo, "");
    assert_eq!(group.parent(), Some(above.as_path()));
    kill_supervisor(&bryo);
    // It may take a moment to die, and has the lock until then.
    until("the next command removes it", || {
        bryo.ok(["ps", "-a"]);
        !group.exists()
    });
    // One that was killed before it could tell that the container runs.
    fs::create_dir(&group).unwrap();
    let seat = serde_json::json!({"seats": [{"path": group, "version": "Two", "controllers": ["freezer"]}]});
    let directory = bryo.state().join("containers").join(shown(&bryo, "{{.Id}}"));
    fs::write(directory.join("cgroup.json"), seat.to_string()).unwrap();
    bryo.ok(["ps", "-a"]);
    assert!(!group.exists() && !directory.join("cgroup.json").exists());
}

#[test]
fn limits_are_changed_while_it_runs_and_kept() {
    if own("memory").is_none() || own("cpu").is_none() {
        return;
    }
    let bryo = waiting(&["-m", "64m"]);
    assert_eq!(
        bryo.ok([
            "update",
            "-m",
            "128m",
            "--cpus",
            "0.75",
            "--pids-limit",
            "33",
            "one"
        ]),
        "one\n"
    );
    let memory = || said(group(&bryo, "memory").join("memory.limit_in_bytes"));
    assert_eq!(memory(), "134217728");
    assert_eq!(said(group(&bryo, "cpu").join("cpu.cfs_quota_us")), "75000");
    assert_eq!(said(group(&bryo, "pids").join("pids.max")), "33");
    assert_eq!(
        shown(&bryo, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"),
        "134217728 33"
    );
    bryo.ok(["update", "-m", "32m", "one"]);
    assert_eq!(memory(), "33554432");
    let error = bryo.fails(1, ["update", "-m", "1m", "one"]);
    assert!(error.contains("Minimum memory limit allowed is 6MB"), "{error}");
    bryo.ok(["restart", "-t", "0", "one"]);
    assert_eq!(memory(), "33554432");
}

#[test]
fn what_the_kernel_refuses_ends_the_start() {
    let Some(above) = own("cpuset") else { return };
    let (bryo, image) = Bryo::with_image("busybox");
    let error = bryo.fails(
        125,
        ["run", "--name", "one", "--cpuset-cpus", "4000", &image, "true"],
    );
    assert!(error.contains("the kernel refuses --cpuset-cpus"), "{error}");
    assert!(!above.join(format!("bryo-{}", shown(&bryo, "{{.Id}}"))).exists());
}

#[test]
fn standard_input_of_a_paused_one_waits() {
    if own("").is_none() {
        return;
    }
    let (bryo, image) = Bryo::with_image("busybox");
    let mut tool = bryo
        .command(["run", "-i", "--name", "one", &image, "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("it runs", || bryo.ok(["ps", "-q"]).lines().count() == 1);
    bryo.ok(["pause", "one"]);
    tool.stdin.take().unwrap().write_all(b"later\n").unwrap();
    bryo.ok(["unpause", "one"]);
    let output = tool.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "later\n");
}

#[test]
fn who_is_paused_is_not_asked_how_he_is() {
    if own("").is_none() {
        return;
    }
    let bryo = waiting(&[
        "--health-cmd",
        "true",
        "--health-interval",
        "50ms",
        "--health-retries",
        "1",
        "--health-timeout",
        "1s",
    ]);
    let checks = || {
        let last = shown(&bryo, "{{(index .State.Health.Log 0).End}}");
        (shown(&bryo, "{{.State.Health.Status}}"), last)
    };
    until("it is healthy", || {
        shown(&bryo, "{{.State.Health.Status}}") == "healthy"
    });
    until("five are kept", || {
        shown(&bryo, "{{len .State.Health.Log}}") == "5"
    });
    bryo.ok(["pause", "one"]);
    // One may have been under way.
    let mut before = checks();
    until("it is left alone", || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        std::mem::replace(&mut before, checks()) == checks()
    });
    assert_eq!(before.0, "healthy");
    bryo.ok(["unpause", "one"]);
    until("it is asked again", || checks() != before);
    assert_eq!(checks().0, "healthy");
}
