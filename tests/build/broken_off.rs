//! Builds that are broken off: killed at any moment, without room on the disk, without the right to write, by Ctrl-C. What is
//! left is whole, is what it claims to be, and goes on from where it was.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::hostile::{Answer, Hostile};
use crate::common::sandbox::{filtered, in_own_namespaces, within};
use crate::common::{Bryo, Done, Project, images, mode, until};

const TEXT: &str =
    "FROM base\nARG TRY\nWORKDIR /w\nCOPY file ./\nRUN cat file > copy; echo $TRY > try\nLABEL a=b\n";

/// Before each of its writes in turn. What the cache has then is believed by the next build, which must make the same image
/// as one that believes nothing.
#[test]
fn killed_anywhere_a_build_leaves_no_step_that_is_wrong() {
    let project = Project::new();
    project.write("file", "content\n");
    let mut kills = 0;
    // Some seventy of them; each third is enough for a day.
    for step in (1..).step_by(3) {
        // No step of another try is of use.
        let arg = format!("TRY={step}");
        let flags = ["--build-arg", &arg, "--timestamp", "1700000000", "--jobs", "1"];
        let done = Done::of(
            project
                .command(TEXT, &flags)
                .env("BRYO_FAILPOINT", step.to_string()),
        );
        let check = project.bryo.run(["store", "check"]);
        assert!(
            check.status.success() && !check.stdout.contains("lost"),
            "killed at step {step}: {check}"
        );
        if done.status.success() {
            break;
        }
        kills += 1;
        let again = project.build(TEXT, &flags);
        if step % 15 == 1 {
            let clean = project.build(TEXT, &[&flags[..], &["--no-cache"]].concat());
            assert_eq!(again.id, clean.id, "killed at step {step}: {}", done.stderr);
        }
        assert_eq!(
            project.sh("cd /w; cat file copy try"),
            format!("content\ncontent\n{step}\n")
        );
    }
    assert!(
        kills > 10,
        "only {kills} steps: are there no failpoints in this build?"
    );
    project.becomes_clean();
}

/// A project whose store, state and context have this room together; the way to pull is an archive.
fn on_a_small_disk(size: &str) -> Project {
    let bryo = Bryo::new();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]);
    assert!(mount.arg(bryo.dir()).status().unwrap().success());
    let archive = images().join("busybox.oci.tar");
    bryo.ok(["pull", "-q", &format!("oci-archive:{}", archive.display())]);
    bryo.ok(["tag", "busybox:oci", "base"]);
    fs::create_dir(bryo.scratch("context")).unwrap();
    Project { bryo }
}

/// Fills the disk but for so many KiB; removing the file frees it again.
fn fill(project: &Project, room: u64) -> PathBuf {
    let path = project.bryo.scratch("filler");
    let mut file = File::create(&path).unwrap();
    while file.write(&[1; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(room << 10)).unwrap();
    path
}

/// The disk gets full at one place after the other: in a command, in a layer, in what is remembered.
#[test]
fn a_full_disk_fails_a_build_and_takes_nothing() {
    in_own_namespaces("broken_off::a_full_disk_fails_a_build_and_takes_nothing", || {
        let project = on_a_small_disk("32m");
        project.write("file", vec![b'x'; 1 << 20]);
        for (step, bytes) in [
            ("COPY --chmod=600 file /big", 1 << 20),
            (
                "RUN yes | head -c 1048576 > /big && sync /big && test $(wc -c < /big) = 1048576",
                1 << 20,
            ),
            // What it wrote is refused when it is gone.
            ("RUN yes | head -c 1048576 > /big", 1 << 20),
        ] {
            let failed = fails_until_there_is_room(&project, step, bytes);
            assert!(failed.contains(">>> RUN echo"), "{failed}");
            assert!(failed.contains(&format!(">>> {step}")), "{failed}");
        }
    });
}

/// Gives more and more room to a build of a small step and this one, which writes so many bytes to `/big`, until it
/// succeeds; gives what was said of its failures.
fn fails_until_there_is_room(project: &Project, step: &str, bytes: u64) -> String {
    let mut seen = String::new();
    let small = [0, 12, 24, 36, 48, 60, 80, 100].into_iter();
    for room in small.chain((1..).map(|step| step * 256)) {
        let text = format!("FROM base\nRUN echo {room} > /first\n{step}\n");
        // Before the disk is full: the Dockerfile lies on it, too.
        let mut command = project.command(&text, &["--network=none"]);
        let filler = fill(project, room);
        let done = Done::of(&mut command);
        fs::remove_file(filler).unwrap();
        if done.status.success() {
            assert!(room << 10 > bytes, "{room}: {done}");
            break;
        }
        assert_eq!(done.status.code(), Some(1), "{room}: {done}");
        assert!(done.stderr.contains("No space left on device"), "{room}: {done}");
        assert_eq!(done.stderr.matches("bryo: failed").count(), 1, "{room}: {done}");
        let last = done.stderr.lines().last().unwrap();
        assert!(last.starts_with("bryo: failed"), "{room}: {done}");
        seen += &done.stderr;
        project.is_clean();
        project.build(&text, &["--network=none"]);
        assert_eq!(
            project.sh("cat /first; wc -c < /big"),
            format!("{room}\n{bytes}\n")
        );
        project.bryo.ok(["rmi", "made"]);
        project.bryo.ok(["builder", "prune", "-af"]);
        project.bryo.ok(["image", "prune", "-f"]);
    }
    seen
}

/// A place of the store or the state that may only be read.
#[test]
fn what_cannot_be_written_to_is_said() {
    let project = Project::new();
    project.write("file", "x");
    let text = |number: usize| {
        format!(
            "FROM base\nRUN --mount=type=cache,id={number},target=/c echo {number} > /c/x; cat /c/x > /n\nCOPY --chmod=700 file /{number}\n"
        )
    };
    let id = project.build(&text(0), &[]).id;
    let (root, state) = (project.bryo.root(), project.bryo.state());
    let places = [
        root.join("layers"),
        root.join("steps"),
        root.join("tmp"),
        root.join("claims"),
        root.join("blobs/sha256"),
        root.join("merged"),
        root.join("locks"),
        state.join("builds"),
        state.join("containers"),
        state.join("caches"),
    ];
    for (number, place) in places.iter().enumerate() {
        mode(place, 0o500);
        let done = Done::of(&mut project.command(&text(number + 1), &["--jobs", "1"]));
        let cached = Done::of(&mut project.command(&text(0), &[]));
        mode(place, 0o700);
        let said = done.stderr.lines().last().unwrap_or_default();
        assert_eq!(done.status.code(), Some(1), "{done}");
        assert!(
            said.starts_with("bryo: failed to build: failed to solve: cannot ")
                && said.contains(place.to_str().unwrap())
                && said.contains("Permission denied"),
            "{done}"
        );
        // What all the cache has needs nothing but a claim, and a file for the list.
        let needed = [root.join("tmp"), root.join("claims")].contains(place);
        assert_eq!(cached.status.success(), !needed, "{}: {cached}", place.display());
        project.is_clean();
        project.build(&text(number + 1), &[]);
    }
    assert_eq!(project.build(&text(0), &[]).id, id);
}

/// Sends a signal to the group of processes that the terminal would send it to.
fn interrupt(pid: u32) {
    kill(Pid::from_raw(-pid.cast_signed()), Signal::SIGINT).unwrap();
}

/// Ctrl-C: in a command, in a copy, in a download. What was finished stays.
#[test]
fn an_interrupt_ends_a_build_and_keeps_its_finished_steps() {
    let project = Project::new();
    let server = Hostile::serve(|_| Answer::new(200, "slow").waiting(std::time::Duration::from_secs(600)));
    File::create(project.path("endless"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let first = "FROM base\nRUN echo first > /first\n";
    for step in [
        "RUN trap '' INT; echo here; sleep 1000".to_string(),
        "COPY endless /".into(),
        format!("ADD http://{}/file /", server.address()),
    ] {
        let mut command = project.command(&format!("{first}{step}\n"), &[]);
        command.process_group(0);
        let said = if step.starts_with("RUN") { " here\n" } else { &step };
        let mut builder = until_said(&mut command, said);
        interrupt(builder.id());
        // It dies of the signal, or says that its command did.
        let ended = soon(&mut builder, &step);
        assert!(
            ended.code() == Some(128 + 2) || ended.signal() == Some(2),
            "{step}: {ended}"
        );
        project.becomes_clean();
        let built = project.build(&format!("{first}RUN true\n"), &[]);
        assert_eq!(built.cached, ["RUN echo first > /first"], "{}", built.said);
        project.bryo.ok(["builder", "prune", "-af"]);
    }
}

/// How a process ended, which does so in far less time than the steps here would take.
fn soon(process: &mut std::process::Child, what: &str) -> std::process::ExitStatus {
    let last = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(ended) = process.try_wait().unwrap() {
            return ended;
        }
        if std::time::Instant::now() > last {
            process.kill().unwrap();
            panic!("{what}: the build goes on");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Starts a build, and waits until it tells of a step.
fn until_said(command: &mut Command, step: &str) -> std::process::Child {
    use std::io::BufRead as _;
    let mut builder = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(builder.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(step) {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the builder ended");
    }
    // What it says later must find a reader.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    builder
}

/// What a user finds at a place that something is written to, by names: the bytes of each file.
fn found(place: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut ahead: Vec<_> = place.exists().then(|| place.to_owned()).into_iter().collect();
    while let Some(path) = ahead.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => ahead.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => drop(found.insert(
                path.strip_prefix(place).unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )),
        }
    }
    found
}

/// Nobody has files without names: opening one is EOPNOTSUPP, as on NFS.
fn without_nameless_files(tool: &Command) -> Command {
    // Of openat (257), the third argument's bits of O_TMPFILE.
    let program = filtered(
        "(0x20, 0, 0, 0), (0x15, 0, 4, 257), (0x20, 0, 0, 32), (0x54, 0, 0, 0x410000), (0x15, 0, 1, 0x410000), \
         (0x06, 0, 0, 0x0005005f), (0x06, 0, 0, 0x7fff0000)",
    );
    within(&["python3", "-c", &program], tool)
}

/// Kills a command before each of its writes in turn, until it gets through, and in the middle by Ctrl-C. At the end and after
/// each kill, there is what was there before, or what will be, file by file; and after a prune nothing else.
fn killed_at_each_write(project: &Project, top: &Path, old: &[u8], command: &dyn Fn() -> Command) {
    let place = top.join("place");
    // What the last one left is of another kind, perhaps.
    match place.is_dir() {
        true => fs::remove_dir_all(&place).unwrap(),
        false => drop(fs::remove_file(&place)),
    }
    let done = Done::of(&mut command());
    assert!(done.status.success(), "{done}");
    let whole = found(&place);
    assert!(whole.values().all(|bytes| bytes.len() > 1000), "{done}");
    let restore = || match (place.is_dir(), old) {
        (true, b"") => fs::remove_dir_all(&place).unwrap(),
        (false, b"") => drop(fs::remove_file(&place)),
        (true, old) => whole
            .keys()
            .for_each(|path| fs::write(place.join(path), old).unwrap()),
        (false, old) => fs::write(&place, old).unwrap(),
    };
    let is_sound = |done: &dyn std::fmt::Display| {
        let strays = || {
            let names = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
            let mut strays: Vec<_> = names.filter(|path| *path != place).collect();
            strays.extend(found(&place).into_keys().filter(|path| !whole.contains_key(path)));
            strays
        };
        if !strays().is_empty() {
            project.bryo.ok(["image", "prune", "-f"]);
        }
        assert_eq!(strays(), Vec::<PathBuf>::new(), "{done}");
        for (path, bytes) in found(&place) {
            let is_whole = whole.get(&path) == Some(&bytes) || bytes == old;
            assert!(is_whole, "{} is {} bytes: {done}", path.display(), bytes.len());
        }
    };
    let mut last = 0;
    for step in 1.. {
        restore();
        let done = Done::of(command().env("BRYO_FAILPOINT", step.to_string()));
        is_sound(&done);
        if done.status.success() {
            assert_eq!(found(&place), whole);
            break;
        }
        last = step;
    }
    assert!(last > 2, "only {last} steps");
    restore();
    let met = project.bryo.scratch("met");
    let mut stopped = command();
    stopped
        .env("BRYO_FAILPOINT", format!("{}:stop", last / 2 + 1))
        .env("BRYO_FAILPOINT_MET", &met)
        .stdout(Stdio::null())
        .process_group(0);
    let mut stopped = stopped.spawn().unwrap();
    until("one of its writes", || {
        fs::read_to_string(&met).is_ok_and(|text| text.ends_with('\n'))
    });
    interrupt(stopped.id());
    kill(Pid::from_raw(-stopped.id().cast_signed()), Signal::SIGCONT).unwrap();
    let ended = stopped.wait().unwrap();
    assert!(
        ended.signal() == Some(2) || ended.code() == Some(128 + 2),
        "{ended}"
    );
    is_sound(&ended);
    fs::remove_file(met).unwrap();
    restore();
}

#[test]
fn killed_anywhere_a_users_file_is_whole_or_as_it_was() {
    let project = Project::new();
    project.write("one", vec![b'1'; 100_000]);
    project.write("two", vec![b'2'; 50_000]);
    let text = "FROM scratch\nCOPY one two /\n";
    let top = project.bryo.scratch("top");
    fs::create_dir(&top).unwrap();
    let place = top.join("place").display().to_string();
    let built = |kind: &str| {
        let to = format!("{kind},dest={place}");
        let flags = ["-q", "--timestamp=1700000000", "-o", &to];
        let mut command = project.command(text, &flags);
        // That counts; the variable is there to be passed on.
        command.env("SOURCE_DATE_EPOCH", "1");
        command
    };
    project.build(text, &["--timestamp=1700000000"]);
    let saved = |format: &str| {
        project
            .bryo
            .command(["save", "--format", format, "-o", &place, "made"])
    };
    for kind in ["type=oci", "type=docker", "type=tar", "type=local"] {
        for old in [&b""[..], b"old"] {
            killed_at_each_write(&project, &top, old, &|| built(kind));
            killed_at_each_write(&project, &top, old, &|| without_nameless_files(&built(kind)));
        }
    }
    for format in ["docker-archive", "oci-archive"] {
        for old in [&b""[..], b"old"] {
            killed_at_each_write(&project, &top, old, &|| saved(format));
            killed_at_each_write(&project, &top, old, &|| without_nameless_files(&saved(format)));
        }
    }
    project.becomes_clean();
}

/// Who watches may go away. The build goes on, and how it ends is told by its exit code.
#[test]
fn nobody_need_listen() {
    let project = Project::new();
    for (text, flags, code) in [
        ("FROM base\nRUN echo x\n", &[][..], 0),
        ("FROM base\nRUN exit 3\n", &["--progress=plain"][..], 1),
        ("FROM base\nRUN exit 3\n", &["-q"][..], 1),
        ("FROM\n", &[][..], 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = project.command(text, flags).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{text} {flags:?}: {status}");
    }
}

/// A socket beside other files is left out; one that is asked for is an error.
/// The kernel's file of random ids is another at each look: what its hash was of is not what would be in the layer.
#[test]
fn a_file_that_changes_while_it_is_copied_fails_the_build() {
    let project = Project::new();
    let dockerfile = project.bryo.scratch("Changing");
    fs::write(&dockerfile, "FROM base\nCOPY uuid /\n").unwrap();
    let mut command = project.bryo.command(["build", "-f"]);
    let done = Done::of(command.arg(dockerfile).arg("/proc/sys/kernel/random"));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("uuid changed while it was copied"), "{done}");
    project.is_clean();
}

#[test]
fn sockets_are_not_copied_in_silence() {
    let project = Project::new();
    project.write("sub/file", "x");
    let _bound = std::os::unix::net::UnixListener::bind(project.path("sub/socket")).unwrap();
    project.build("FROM base\nCOPY sub /sub\nCOPY sub/* /other/\n", &[]);
    assert_eq!(project.sh("ls /sub /other"), "/other:\nfile\n\n/sub:\nfile\n");
    let done = Done::of(&mut project.command("FROM base\nCOPY sub/socket /socket\n", &[]));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("sub/socket\" is a socket"), "{done}");
}
