//! What a step of a build must not come to: the builder's program, its environment, the host's mounts, cgroups and groups. Old
//! holes of container engines, each tried in a RUN; `tests/HOLES.md` has the list.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Done, Project, copy_program, has_id_range, mode, until};
use crate::hostile::{is_untouched, outside, tar_of};
use crate::last;

/// The bytes of a program, as a digest.
fn digest(path: &Path) -> String {
    let done = Done::of(Command::new("sha256sum").arg("--").arg(path));
    assert!(done.status.success(), "{done}");
    done.stdout.split(' ').next().unwrap().to_owned()
}

/// CVE-2019-5736, as in a container that runs. The program is the user's own here, so only it stands in the way.
#[test]
fn a_run_cannot_overwrite_the_builders_program() {
    let project = Project::new();
    let own = project.bryo.scratch("bryo-of-the-user");
    assert!(copy_program(project.bryo.command([""]).get_program(), &own));
    mode(&own, 0o755);
    let before = digest(&own);
    let attack = "RUN for exe in /proc/[0-9]*/exe /proc/self/exe; do \
        case $(readlink $exe) in */busybox) continue;; esac; \
        (echo overwritten > $exe) 2> /dev/null && exit 11; (exec 9<> $exe) 2> /dev/null && exit 12; done; true";
    for (step, code) in [
        (attack, Some(0)),
        // What the runtime would execute is itself.
        ("RUN [\"/proc/self/exe\", \"version\"]", Some(1)),
        ("SHELL [\"/proc/self/exe\"]\nRUN version", Some(1)),
        (
            "RUN printf '#!/proc/self/exe\\n' > /script; chmod 755 /script\nRUN [\"/script\", \"version\"]",
            Some(1),
        ),
    ] {
        let prepared = project.command(&format!("FROM base\n{step}\n"), &[]);
        let mut command = project.bryo.command_of(&own, prepared.get_args());
        let done = Done::of(&mut command);
        assert_eq!(done.status.code(), code, "{step}: {done}");
        assert!(!done.stderr.contains("API version"), "{step}: {done}");
        assert_eq!(digest(&own), before, "{step}");
    }
    project.is_clean();
}

/// CVE-2021-3602: a RUN has the variables of its image, ARGs and flags; none of the builder, of another stage
/// (CVE-2020-14370), or of the secrets of the step before.
#[test]
fn a_run_sees_no_variables_of_others() {
    let project = Project::new();
    let text = "FROM base AS other\nENV OF_THE_OTHER=of-the-other\nARG ALSO=of-the-other\nRUN echo $OF_THE_OTHER > /other\n\
        FROM base\nCOPY --from=other /other /\nRUN --mount=type=secret,id=s,env=TOKEN test \"$TOKEN\" = of-the-host\n\
        RUN tr '\\0' '\\n' < /proc/self/environ > /seen; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n' > /all\n";
    for jobs in ["--jobs=1", "--jobs=2"] {
        let flags = ["--secret=id=s,env=OF_THE_HOST", "--no-cache", jobs];
        let mut command = project.command(text, &flags);
        project.built(command.env("OF_THE_HOST", "of-the-host"));
        let seen = project.sh("cat /seen");
        let mut names: Vec<&str> = seen.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "HOSTNAME", "PATH"], "{seen}");
        let all = project.sh("cat /all");
        assert!(all.contains("PATH=") && !all.contains("of-the-"), "{jobs}: {all}");
    }
}

/// CVE-2022-2990 and its like: the groups are those that the image's file says of the user, the first one included, and none
/// of whoever builds. CVE-2016-3697: a number is an id, and no name that is spelled the same.
#[test]
fn a_runs_groups_are_those_of_its_user() {
    let project = Project::new();
    let accounts = "FROM base\nRUN mkdir -m 777 /w && { echo 'someone:x:5:6::/:/bin/sh'; echo '42:x:7:7::/:/bin/sh'; } >> /etc/passwd && \
        { echo 'helpers:x:8:other,someone'; echo '42:x:9:someone'; echo 'others:x:10:other'; } >> /etc/group\n";
    project.write("file", "x");
    for (owner, found) in [
        ("42", "42/42"),
        ("42:42", "42/42"),
        ("someone", "5/6"),
        ("someone:helpers", "5/8"),
        ("5:42", "5/42"),
    ] {
        project.build(&format!("{accounts}COPY --chown={owner} file /w/file\n"), &[]);
        assert_eq!(project.owner("w/file"), found, "{owner}");
    }
    if !has_id_range() {
        // There is one id, and so no other user to be.
        return;
    }
    for (user, found) in [
        ("someone", "5 6 6 8 9\n"),
        ("5", "5 6 6 8 9\n"),
        ("someone:others", "5 10 10\n"),
        ("42", "42 0 0\n"),
        ("11:12", "11 12 12\n"),
    ] {
        let text = format!("{accounts}USER {user}\nRUN echo $(id -u) $(id -g) $(id -G) > /w/seen\n");
        project.build(&text, &[]);
        assert_eq!(project.sh("cat /w/seen"), found, "{user}");
    }
}

/// CVE-2023-25809: what of the host's cgroups a RUN has, it only reads; nor does it write to the kernel's settings.
#[test]
fn a_run_writes_nothing_of_the_kernels() {
    let project = Project::new();
    let text = "FROM base\nRUN for file in $(find /sys/fs/cgroup -maxdepth 3 \\( -name release_agent -o -name notify_on_release \
        -o -name cgroup.procs -o -name cgroup.subtree_control \\) 2> /dev/null | head -n 100) /proc/sys/kernel/core_pattern \
        /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do (: >> $file) 2> /dev/null && echo wrote $file >> /wrote; \
        done; for directory in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $directory/bryo-test 2> /dev/null && echo made $directory >> /wrote; \
        done; grep -E ' /sys(/| )' /proc/mounts > /mounts\n";
    for network in ["none", "default", "host"] {
        project.build(text, &["--network", network]);
        assert_eq!(project.sh("cat /wrote 2> /dev/null || true"), "", "{network}");
        let mounts = project.sh("cat /mounts");
        assert!(
            !mounts.is_empty()
                && mounts
                    .lines()
                    .all(|line| line.split(' ').nth(3).unwrap().starts_with("ro")),
            "{network}: {mounts}"
        );
    }
}

/// CVE-2019-19921, -2023-28642, -2026-47766: a link of the image where the kernel's filesystems go.
#[test]
fn a_link_where_the_kernels_filesystems_go_is_refused_to_a_run() {
    use tar::EntryType as Is;
    let project = Project::new();
    let outside = outside(&project);
    for name in ["proc", "sys", "dev"] {
        for to in ["/elsewhere", outside.as_str()] {
            let entries = [("elsewhere", Is::Directory, ""), (name, Is::Symlink, to)];
            project.write("evil.tar", tar_of(&entries));
            let text = "FROM base AS b\nFROM scratch\nCOPY --from=b /bin /bin\nADD evil.tar /\nRUN echo x > /dev/null && echo ran > /ran\n";
            let done = Done::of(&mut project.command(text, &["--network=none"]));
            is_untouched(&outside);
            if name == "dev" {
                // As with runc: it is a directory of the image's own, which that path means within it.
                assert!(done.status.success(), "{done}");
                continue;
            }
            assert_eq!(done.status.code(), Some(1), "{name}: {done}");
            assert!(done.stderr.contains("symbolic link"), "{name}: {done}");
        }
    }
    // CVE-2019-16884, CVE-2023-27561: nothing that could pass for the kernel's is mounted there.
    project.write("file", "x");
    for target in ["/proc", "/proc/self", "/proc/sys/kernel", "/x/../proc/1"] {
        for mount in ["tmpfs", "cache", "bind,source=file"] {
            let said = project.fails(
                &format!("FROM base\nRUN --mount=type={mount},target={target} true\n"),
                &[],
            );
            assert!(said.contains("nothing can be mounted below /proc"), "{said}");
        }
    }
    project.is_clean();
}

/// A build that goes on until it is told, and no longer than its test.
struct Swapper(Child);

impl Drop for Swapper {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// CVE-2021-30465, -2024-45310, -2025-31133, -2025-52565, -2025-52881: another build swaps directories and files of a cache of
/// both for links, while steps begin that mount below them.
#[test]
fn what_another_build_swaps_while_a_step_begins_leads_nowhere() {
    let project = Project::new();
    let outside = outside(&project);
    let cache = "--mount=type=cache,id=shared,target=/c";
    let swaps = format!(
        "FROM base\nRUN {cache} cd /c; mkdir real; ln -s {outside} evil; touch null; ln -s {outside}/file bad; ln -s /proc/sys/kernel/hostname worse; \
         touch ready; until [ -e end ]; do mv -T real x; mv -T evil real; mv -T null y; mv -T bad null; mv -T null bad; mv -T worse null; \
         mv -T real evil; mv -T x real; mv -T null worse; mv -T y null; done\n"
    );
    let other = project.bryo.scratch("Swaps");
    fs::write(&other, swaps).unwrap();
    let mut swapper = project.bryo.command(["build", "-q", "-f"]);
    swapper
        .arg(&other)
        .arg(project.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut swapper = Swapper(swapper.spawn().unwrap());
    let in_cache = |name: &str| {
        let caches = fs::read_dir(project.bryo.state().join("caches"));
        let mut entries = caches.into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.find(|path| path.join(name).exists())
    };
    until("it swaps", || in_cache("ready").is_some());
    project.write("file", "of the context");
    let check = "grep -q ' / /proc rw.* - proc ' /proc/self/mountinfo && grep -q ' /sys /proc/sys ro' /proc/self/mountinfo && \
        test -z \"$(cat /proc/timer_list /proc/keys 2> /dev/null)\" && ! { echo x > /proc/sys/kernel/hostname; } 2> /dev/null";
    let mut sound = 0;
    for mount in [
        "type=tmpfs,target=/c/real/deep/er",
        "type=bind,source=file,target=/c/null",
        "type=bind,target=/c/real",
        "type=cache,id=inner,target=/c/real/cache",
    ] {
        for turn in 0..5 {
            let text = format!("FROM base\nRUN {cache} --mount={mount} : {turn}; {check}\n");
            let done = Done::of(&mut project.command(&text, &["--network=none"]));
            sound += u32::from(done.status.success());
            // What is found swapped just then may be refused, before the command begins.
            let line = last(&done.stderr).0;
            let is_refused = done.status.code() == Some(1)
                && line.starts_with("bryo: ")
                && (!line.contains("did not complete") || line.ends_with("exit code: 125"));
            assert!(done.status.success() || is_refused, "{mount}: {done}");
            is_untouched(&outside);
        }
    }
    assert!(sound > 0, "all are refused");
    fs::write(in_cache("ready").unwrap().join("end"), "").unwrap();
    assert!(swapper.0.wait().unwrap().success());
    is_untouched(&outside);
    project.becomes_clean();
}

/// CVE-2019-14271, CVE-2026-41567: what the builder does with an image's files, it does itself. Were a program of the image
/// started for it, there would be a trace, inside or outside.
#[test]
fn the_builder_starts_nothing_of_the_image() {
    let project = Project::new();
    let trace = project.bryo.scratch("trace");
    fs::create_dir(&trace).unwrap();
    let program = format!(
        "#!/bin/busybox sh\necho > {}/started; echo > /started\n",
        trace.display()
    );
    project.write("program", program);
    project.write("unpacked/file", "x");
    let programs: Vec<String> = [
        "tar",
        "gzip",
        "xz",
        "bzip2",
        "git",
        "id",
        "getent",
        "chown",
        "chmod",
        "newuidmap",
        "sh",
    ]
    .iter()
    .map(|name| format!("/usr/bin/{name} /usr/sbin/{name} /sbin/{name} /bin/{name}"))
    .collect();
    let hostile = format!(
        "FROM base AS evil\nCOPY --chmod=755 program /\nRUN echo 'someone:x:5:6::/:/program' >> /etc/passwd; mkdir -p /usr/bin /usr/sbin /sbin; \
         for file in {}; do /bin/busybox rm -f $file; /bin/busybox cp /program $file; done; echo /program > /etc/ld.so.preload; /program && /bin/busybox test -e /started && \
         /bin/busybox rm /started\n",
        programs.join(" ")
    );
    let mut pack = Command::new("tar");
    let packed = pack
        .arg("-C")
        .arg(project.path(""))
        .arg("-cJf")
        .arg(project.path("packed.tar.xz"))
        .arg("unpacked");
    let done = Done::of(packed);
    assert!(done.status.success(), "{done}");
    let uses = "FROM evil\nCOPY --chown=someone --chmod=u=rwX unpacked /u/\nADD packed.tar.xz /\nUSER someone\nWORKDIR /w\n\
        COPY --from=evil --chown=someone:0 /bin /bins/\nHEALTHCHECK CMD /program\nUSER 0\n";
    let out = project.bryo.scratch("out").display().to_string();
    for flags in [
        &[][..],
        &["--squash"],
        &["--output", &out],
        &["--output", "type=oci,dest=/dev/null"],
    ] {
        let done = Done::of(&mut project.command(&format!("{hostile}{uses}"), flags));
        assert!(done.status.success(), "{flags:?}: {done}");
        assert_eq!(fs::read_dir(&trace).unwrap().count(), 0, "{flags:?}");
    }
    let flags = ["run", "--rm", "--entrypoint", "/bin/busybox", "made"];
    let seen = |words: &[&str]| project.bryo.run([&flags[..], words].concat());
    assert!(seen(&["test", "-e", "/program"]).status.success());
    assert!(!seen(&["test", "-e", "/started"]).status.success());
}
