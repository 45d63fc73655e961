//! `RUN --mount=from=`: does it show the tree of another stage as it is, without a copy, and drop what is written to it?

use std::fs;
use std::io::Read as _;
use std::path::Path;

use nix::sys::signal;
use nix::unistd::Pid;

use crate::begun;
use crate::common::Project;

/// Bytes of all files below.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        match entry.file_type().ok()?.is_dir() {
            true => Some(size(&entry.path())),
            false => Some(entry.metadata().ok()?.len()),
        }
    });
    sizes.sum()
}

const BIG: u64 = 32 << 20;

/// A stage with a big file.
fn big() -> String {
    format!("FROM base AS big\nRUN head -c {BIG} /dev/urandom > /big && mkdir /d && ln /big /d/again\n")
}

#[test]
fn a_stage_that_is_mounted_is_not_copied() {
    let project = Project::new();
    let text = format!(
        "{}FROM base\nRUN --mount=from=big,target=/ro --mount=from=big,target=/rw,rw \
         cmp /ro/big /rw/d/again && echo here; sleep 1000\n",
        big()
    );
    let (mut builder, _said) = begun(&mut project.command(&text, &[]), 1);
    let state = size(&project.bryo.state());
    builder.kill().unwrap();
    builder.wait().unwrap();
    assert!(state < BIG / 2, "{state} bytes");
    project.becomes_clean();
}

#[test]
fn what_is_written_to_a_stage_that_is_mounted_is_dropped() {
    let project = Project::new();
    let text = "FROM base AS other\nRUN mkdir /d && echo one > /d/file && ln -s file /d/link && chmod 4711 /d/file\n\
        FROM base\n\
        RUN --mount=from=other,target=/a,rw --mount=from=other,source=d,target=/b,rw --mount=from=other,target=/c \
          echo two > /a/d/file && rm /a/bin/busybox && cat /a/d/file /b/file /c/d/link > /seen && \
          test -e /c/bin/busybox && stat -c %a /c/d/file >> /seen && echo x > /b/new && ! touch /c/d/file\n\
        RUN --mount=from=other,source=d/link,target=/f cat /f >> /seen; ls -A /a /b /c >> /seen 2>&1 || true\n\
        COPY --from=other /d /d\n";
    project.build(text, &[]);
    let seen = project.sh("cat /seen; ls /d; cat /d/file");
    let (before, after) = seen.split_once("ls:").expect(&seen);
    assert_eq!(before, "two\none\none\n4711\none\n");
    assert!(after.ends_with("file\nlink\none\n"), "{seen}");
    project.is_clean();
}

/// Their owners are the image's, as in BuildKit, and as such files of the step's own tree: a copy would have lost them. (With
/// one id alone, all are root's.)
#[test]
fn files_of_a_stage_that_is_mounted_are_whose_they_are() {
    let project = Project::new();
    project.write("f", "");
    let text = "FROM base AS other\nCOPY --chown=7:8 f /f\n\
        FROM other\nRUN --mount=from=other,target=/m stat -c %u:%g /f /m/f > /seen\n";
    project.build(text, &[]);
    let seen = project.sh("cat /seen");
    let (own, mounted) = seen.split_once('\n').unwrap();
    assert_eq!(mounted.trim_end(), own);
    assert!(["7:8", "0:0"].contains(&own), "{seen}");
}

/// The filesystem servers below a process.
fn servers(above: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let known: Vec<(u32, u32, bool)> = stats
        .filter_map(|stat| {
            let (head, tail) = stat.rsplit_once(") ")?;
            let (pid, name) = head.split_once(" (")?;
            let parent = tail.split(' ').nth(1)?.parse().ok()?;
            Some((pid.parse().ok()?, parent, name == "bryo-server"))
        })
        .collect();
    let (mut below, mut found) = (vec![above], Vec::new());
    while let Some(next) = below.pop() {
        for (pid, _, is_server) in known.iter().filter(|(_, parent, _)| *parent == next) {
            below.push(*pid);
            found.extend(is_server.then_some(pid.cast_signed()));
        }
    }
    found
}

/// As that of a container's own tree: another takes over.
#[test]
fn a_server_of_a_stage_that_is_mounted_may_be_killed() {
    let project = Project::new();
    let text = "FROM base AS other\nRUN echo one > /file && echo two > /second\n\
        FROM base\nRUN --mount=target=/ctx --mount=from=other,target=/ro --mount=from=other,target=/rw,rw \
         echo three > /rw/new; cat /ro/file > /seen; echo here; \
         until [ -e /ctx/go ]; do sleep 0.1; done; cat /ro/second /rw/new /rw/file >> /seen\n";
    let (mut builder, mut said) = begun(&mut project.command(text, &[]), 1);
    let found = servers(builder.id());
    assert_eq!(found.len(), 3, "{found:?}");
    for pid in found {
        signal::kill(Pid::from_raw(pid), signal::Signal::SIGKILL).unwrap();
    }
    project.write("go", "");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(builder.wait().unwrap().success(), "{rest}");
    assert_eq!(project.sh("cat /seen"), "one\ntwo\nthree\none\n");
    project.is_clean();
}

/// No image of that name is looked for.
#[test]
fn scratch_has_no_files() {
    let project = Project::new();
    let text = "FROM base\n\
        RUN --mount=from=scratch,target=/none --mount=from=scratch,target=/some,rw \
          test -d /none -a -z \"$(ls -A /none /some | grep -v :)\" && touch /some/x && ! touch /none/x\n\
        COPY --from=scratch / /empty/\n";
    project.build(text, &[]);
    assert_eq!(project.sh("ls -A /empty; test ! -e /some"), "");
    let said = project.fails("FROM base\nCOPY --from=scratch /x /\n", &[]);
    assert!(said.trim_end().ends_with("\"/x\": not found"), "{said}");
    // A stage of that name is one.
    project.build(
        "FROM base AS scratch\nRUN echo 1 > /x\nFROM base\nCOPY --from=scratch /x /\n",
        &[],
    );
    assert_eq!(project.sh("cat /x"), "1\n");
    project.is_clean();
}
