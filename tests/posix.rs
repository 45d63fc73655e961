//! Is the container's tree a filesystem as POSIX and programs know it? pjdfstest and fsx (crates.io) say so, in the
//! container's tree and, as the yardstick, in a directory of the host's filesystem that is bound into the same container.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Bryo, Done, field, has_id_range};

/// What fails on the host's filesystem as well: who is root only of a user namespace makes no device nodes.
fn needs_devices(case: &str) -> bool {
    case.ends_with("::block")
        || matches!(
            case,
            "mknod::changed_times_success::char" | "mknod::device_files::char"
        )
}

/// What pjdfstest does not run on our tree alone, and why.
const NOT_RUN: [(&str, &str); 1] = [(
    "link::link_count_max",
    "the C library knows no LINK_MAX of FUSE; fuse-overlay's own tests make 65,000 links",
)];

/// Both of its users are in Debian's /etc/passwd. The nap is longer than a tick of the coarse clock, which stamps files.
const PJDFSTEST: &str = r#"
    [features]
    posix_fallocate = {}
    rename_ctime = {}
    stat_st_birthtime = {}
    utime_now = {}
    utimensat = {}
    [settings]
    naptime = 0.012
    allow_remount = false
    [dummy_auth]
    entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// No operation of no bytes: posix_fallocate(3) refuses one, and fsx takes that for a failure.
const FSX: &str = "
    flen = 1048576
    opsize = { min = 1 }
    [weights]
    close_open = 1
    read = 10
    write = 10
    mapread = 10
    mapwrite = 10
    invalidate = 1
    truncate = 3
    fsync = 1
    fdatasync = 1
    posix_fallocate = 2
    punch_hole = 3
    sendfile = 2
    posix_fadvise = 1
    copy_file_range = 3
";

/// Where `scripts/test.sh` installs the two programs.
fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    assert!(tools.is_dir(), "no {}: run scripts/test.sh", tools.display());
    tools
}

/// Runs a script in a container of `image` that has the tools in /tools, their settings in /settings, and a directory of the
/// host's in /host.
fn with_tools(bryo: &Bryo, image: &str, kill: Option<&str>, script: &str) -> Done {
    let settings = bryo.scratch("settings");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("pjdfstest.toml"), PJDFSTEST).unwrap();
    fs::write(settings.join("fsx.toml"), FSX).unwrap();
    let host = bryo.scratch("host");
    fs::create_dir_all(&host).unwrap();
    let volumes = [
        format!("{}:/tools:ro", tools().display()),
        format!("{}:/settings:ro", settings.display()),
        format!("{}:/host", host.display()),
    ];
    let mut run = bryo.command(["run", "--name", "examined", "--cap-add", "ALL"]);
    for volume in &volumes {
        run.args(["-v", volume]);
    }
    run.envs(kill.map(|kill| ("FUSE_OVERLAY_KILL", kill)));
    let done = Done::of(run.args([image, "bash", "-c", script]));
    let died: u32 = field(bryo, "examined", "{{.State.FilesystemTakeovers.Servers}}")
        .parse()
        .unwrap();
    assert_eq!(died > 10, kill.is_some(), "{died} servers died\n{done}");
    bryo.ok(["rm", "examined"]);
    done
}

/// The verdict on each case of pjdfstest in this directory of the container.
fn pjdfstest(bryo: &Bryo, image: &str, directory: &str) -> BTreeMap<String, String> {
    let script = format!(
        "mkdir -p {directory}; chmod 777 {directory}; /tools/pjdfstest -c /settings/pjdfstest.toml -p {directory}"
    );
    let done = with_tools(bryo, image, None, &script);
    let lines = done.stdout.lines().filter_map(|line| {
        let (case, verdict) = line.split_once(char::is_whitespace)?;
        let verdict = verdict.trim();
        let known = matches!(verdict, "ok" | "FAILED" | "skipped") && case.contains("::");
        known.then(|| (case.to_owned(), verdict.to_owned()))
    });
    let cases: BTreeMap<_, _> = lines.collect();
    assert!(cases.len() > 390, "{} cases\n{done}", cases.len());
    cases
}

#[test]
fn pjdfstest_finds_no_more_than_on_the_hosts_filesystem() {
    if !has_id_range() {
        println!("not run: nearly every case changes owners and users, which takes a range of ids");
        return;
    }
    let (bryo, image) = Bryo::with_image("debian:12");
    let (ours, hosts) = (
        pjdfstest(&bryo, &image, "/pjd"),
        pjdfstest(&bryo, &image, "/host"),
    );
    for (case, verdict) in &ours {
        if NOT_RUN.iter().any(|(not_run, _)| not_run == case) {
            assert_eq!(verdict, "skipped", "{case} runs now: take it off the list");
            continue;
        }
        assert_eq!(Some(verdict), hosts.get(case), "{case}, against the host's");
        assert_eq!(verdict == "FAILED", needs_devices(case), "{case}: {verdict}");
    }
    assert_eq!(ours.len(), hosts.len());
}

/// Four files at once, each with its own history, in the tree of the container.
fn fsx(operations: u32, kill: Option<&str>) {
    let (bryo, image) = Bryo::with_image("debian:12");
    let script = format!(
        "mkdir /f; cd /f
         for n in 1 2 3 4; do
             /tools/fsx -f /settings/fsx.toml -S $RANDOM -N {operations} -P /tmp f$n > log$n 2>&1 &
             pids=\"$pids $!\"
         done
         # Each by its pid: `wait -n` may miss one that has ended already.
         code=0
         for pid in $pids; do wait $pid || {{ code=1; echo \"$pid: $?\"; }}; done
         [ $code = 0 ] || tail -n 100 log*; exit $code"
    );
    let done = with_tools(&bryo, &image, kill, &script);
    assert!(done.status.success(), "{done}");
}

#[test]
fn fsx_reads_what_it_wrote() {
    fsx(20_000, None);
}

#[test]
fn fsx_reads_what_it_wrote_while_servers_die() {
    for point in ["read:157", "happened:151", "saved:163", "sent:149"] {
        fsx(2000, Some(point));
    }
}
