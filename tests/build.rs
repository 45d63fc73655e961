//! `build` as a user types it: what each instruction does to files and config, what fails and how, and what is left.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

#[path = "build/at_once.rs"]
mod at_once;
#[path = "build/attest.rs"]
mod attest;
#[path = "build/broken_off.rs"]
mod broken_off;
#[path = "build/cache.rs"]
mod cache;
#[path = "build/call.rs"]
mod call;
#[path = "build/checks.rs"]
mod checks;
mod common;
#[path = "build/contexts.rs"]
mod contexts;
#[path = "build/download.rs"]
mod download;
#[path = "build/files.rs"]
mod files;
#[path = "build/git.rs"]
mod git;
#[path = "build/go.rs"]
mod go;
#[path = "build/history.rs"]
mod history;
#[path = "build/holes.rs"]
mod holes;
#[path = "build/hostile.rs"]
mod hostile;
#[path = "build/kept.rs"]
mod kept;
#[path = "build/layout.rs"]
mod layout;
#[path = "build/linked.rs"]
mod linked;
#[path = "build/on_error.rs"]
mod on_error;
#[path = "build/output.rs"]
mod output;
#[path = "build/platforms.rs"]
mod platforms;
#[path = "build/podmans.rs"]
mod podmans;
#[path = "build/progress.rs"]
mod progress;
#[path = "build/reviewed.rs"]
mod reviewed;
#[path = "build/sequences.rs"]
mod sequences;
#[path = "build/settings.rs"]
mod settings;
#[path = "build/squash.rs"]
mod squash;
#[path = "build/stages.rs"]
mod stages;
#[path = "build/travel.rs"]
mod travel;
#[path = "build/twins.rs"]
mod twins;
#[path = "build/views.rs"]
mod views;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use common::{Built, Done, Project, fed, has_id_range};
use serde_json::json;

/// The last line, and what came before it.
fn last(said: &str) -> (&str, &str) {
    let (before, line) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    (line, before)
}

// --- config ---

#[test]
fn instructions_are_in_the_config() {
    let project = Project::new();
    project.build(
        "FROM base\n\
         MAINTAINER somebody\n\
         ENV ONE=1 TWO=\"two words\"\n\
         ENV THREE=$ONE-${TWO:-no}-${NONE:-none}\n\
         ENV OLD the form without an equals sign\n\
         LABEL a=b \"c d\"='e f'\n\
         LABEL a=again\n\
         EXPOSE 80 53/UDP 7000-7002\n\
         VOLUME /data [\"/other\"]\n\
         VOLUME [\"/json data\"]\n\
         STOPSIGNAL SIGUSR1\n\
         USER user:extra\n\
         WORKDIR /a\n\
         WORKDIR b/../c\n\
         SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n\
         HEALTHCHECK --interval=5s --timeout=1m --start-period=2s --retries=3 CMD [\"true\"]\n\
         ONBUILD RUN echo later\n\
         ENTRYPOINT [\"/bin/echo\", \"entry\"]\n\
         CMD a b $ONE\n",
        &[],
    );
    let config = project.config();
    assert_eq!(
        config["Env"],
        json!([
            "PATH=/bin:/usr/bin",
            "ONE=1",
            "TWO=two words",
            "THREE=1-two words-none",
            "OLD=the form without an equals sign"
        ])
    );
    assert_eq!(config["Labels"]["a"], "again");
    assert_eq!(config["Labels"]["c d"], "e f");
    assert_eq!(
        config["ExposedPorts"],
        json!({"80/tcp": {}, "53/udp": {}, "7000/tcp": {}, "7001/tcp": {}, "7002/tcp": {}})
    );
    assert_eq!(
        config["Volumes"],
        json!({"/data": {}, "[/other]": {}, "/json data": {}})
    );
    assert_eq!(config["StopSignal"], "SIGUSR1");
    assert_eq!(config["User"], "user:extra");
    assert_eq!(config["WorkingDir"], "/a/c");
    assert_eq!(config["Shell"], json!(["/bin/busybox", "sh", "-c"]));
    assert_eq!(
        config["Healthcheck"],
        json!({"Test": ["CMD", "true"], "Interval": 5_000_000_000_u64, "Timeout": 60_000_000_000_u64,
               "StartPeriod": 2_000_000_000_u64, "Retries": 3})
    );
    assert_eq!(config["OnBuild"], json!(["RUN echo later"]));
    assert_eq!(config["Entrypoint"], json!(["/bin/echo", "entry"]));
    assert_eq!(config["Cmd"], json!(["/bin/busybox", "sh", "-c", "a b $ONE"]));
    assert_eq!(project.image("made", "{{.Author}}"), "somebody");
}

#[test]
fn an_entrypoint_takes_the_bases_command_away_but_not_its_own_stages() {
    let project = Project::new();
    project.build("FROM base\nENTRYPOINT [\"/bin/echo\"]\n", &[]);
    assert_eq!(project.config()["Cmd"], json!(null));
    project.build("FROM base\nCMD [\"mine\"]\nENTRYPOINT [\"/bin/echo\"]\n", &[]);
    assert_eq!(project.config()["Cmd"], json!(["mine"]));
    assert_eq!(project.bryo.ok(["run", "--rm", "made"]), "mine\n");
    project.build("FROM base\nHEALTHCHECK CMD test -e /ok\n", &[]);
    assert_eq!(
        project.config()["Healthcheck"]["Test"],
        json!(["CMD-SHELL", "test -e /ok"])
    );
    project.build("FROM base\nHEALTHCHECK NONE\n", &[]);
    assert_eq!(project.config()["Healthcheck"]["Test"], json!(["NONE"]));
}

#[test]
fn onbuild_waits_for_the_next_build() {
    let project = Project::new();
    project.write("file", "content");
    let first = project.build(
        "FROM base\nWORKDIR /w\nONBUILD COPY file .\nONBUILD RUN cat file > copy\n",
        &["-t", "parent"],
    );
    assert_eq!(first.run, ["WORKDIR /w"]);
    let second = project.build("FROM parent\nRUN echo own >> copy\n", &[]);
    assert_eq!(
        second.run,
        ["COPY file .", "RUN cat file > copy", "RUN echo own >> copy"]
    );
    assert_eq!(project.sh("cat copy"), "contentown\n");
    assert_eq!(project.config()["OnBuild"], json!(null));
}

#[test]
fn names_labels_and_the_id_go_where_they_were_asked() {
    let project = Project::new();
    let iid = project.bryo.scratch("iid");
    let built = project.build(
        "FROM base\nLABEL a=file\nLABEL b=file\n",
        &[
            "-t",
            "other:1",
            "--tag",
            "quay.io/x/y",
            "--label",
            "a=flag",
            "--label",
            "empty",
            "--iidfile",
            iid.to_str().unwrap(),
        ],
    );
    assert_eq!(fs::read_to_string(iid).unwrap(), built.id);
    for name in ["other:1", "quay.io/x/y:latest", "made"] {
        assert_eq!(project.image(name, "{{.Id}}"), built.id);
        assert!(built.said.contains("naming to "), "{}", built.said);
    }
    let labels = &project.config()["Labels"];
    assert_eq!(
        (&labels["a"], &labels["b"], &labels["empty"]),
        (&json!("flag"), &json!("file"), &json!(""))
    );
    let quiet = Done::of(&mut project.command("FROM base\nRUN echo loud\n", &["-q"]));
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet}");
    assert_eq!(quiet.stdout.trim_end(), project.image("made", "{{.Id}}"));
    // A name that is taken leaves the image that had it without one.
    let ids = project
        .bryo
        .ok(["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    assert_eq!(ids, "");
    project.build("FROM base\nRUN echo 2 > /2\n", &[]);
    let ids = project
        .bryo
        .ok(["images", "-q", "--no-trunc", "--filter", "dangling=true"]);
    assert_eq!(ids, quiet.stdout);
}

// --- variables ---

#[test]
fn an_argument_counts_from_its_line_to_the_end_of_its_stage() {
    let project = Project::new();
    let text = "ARG BASE=nowhere\nARG GLOBAL=global\nARG TAG=${GLOBAL}tag\n\
         FROM $BASE AS one\n\
         RUN echo \"[$GLOBAL] [$LATER]\" > /one\n\
         ARG LATER=later GLOBAL\nARG UNSET\n\
         RUN echo \"[$GLOBAL] [$LATER] [${UNSET-none}]\" >> /one\n\
         ENV LATER=by-env\n\
         RUN echo \"[$LATER]\" >> /one\n\
         FROM one\n\
         RUN echo \"[$GLOBAL]\" >> /one\n\
         FROM $BASE\nCOPY --from=1 /one /\nARG TAG\n\
         RUN echo \"[$GLOBAL] [$LATER] [$TAG]\" >> /one\n";
    project.build(text, &["--build-arg", "BASE=base"]);
    let wanted = "[] []\n[global] [later] [none]\n[by-env]\n[global]\n[] [] [globaltag]\n";
    assert_eq!(project.sh("cat /one"), wanted);
    let flags = [
        "--build-arg",
        "BASE=base",
        "--build-arg",
        "LATER=given",
        "--build-arg",
        "GLOBAL=g",
    ];
    project.build(text, &flags);
    let wanted = "[] []\n[g] [given] [none]\n[by-env]\n[g]\n[] [] [gtag]\n";
    assert_eq!(project.sh("cat /one"), wanted);
}

#[test]
fn arguments_come_from_the_environment_and_unused_ones_are_said() {
    let project = Project::new();
    let mut command = project.command(
        "FROM base\nARG A\nARG B=default\nRUN echo $A $B $HTTP_PROXY > /args\n",
        &[
            "--build-arg",
            "A",
            "--build-arg",
            "B",
            "--build-arg",
            "C=1",
            "--build-arg",
            "HTTP_PROXY=http://p",
        ],
    );
    let built = project.built(command.env("A", "from outside").env_remove("B"));
    assert_eq!(project.sh("cat /args"), "from outside default http://p\n");
    let warning = "[Warning] One or more build-args [C] were not consumed";
    assert!(built.said.contains(warning), "{}", built.said);
    // Proxies are nobody's business afterwards.
    let history = project.bryo.ok(["image", "inspect", "made"]);
    assert!(!history.contains("http://p"), "{history}");
    project.build(
        "FROM --platform=$BUILDPLATFORM base\nARG TARGETPLATFORM TARGETOS BUILDARCH\nRUN echo $TARGETPLATFORM $TARGETOS $BUILDARCH > /args\n",
        &[],
    );
    assert_eq!(project.sh("cat /args"), "linux/amd64 linux amd64\n");
}

// --- stages and commands ---

#[test]
fn stages_are_used_by_name_and_number_and_only_if_needed() {
    let project = Project::new();
    project.bryo.ok(["tag", "base", "another"]);
    let text = "FROM base AS first\nCOPY --chown=7:8 one /1\nRUN ln /1 /hard\nENV FIRST=1\n\
         FROM base\nRUN echo 2 > /2\n\
         FROM first AS Third\nRUN echo 3 > /3\nUSER user\n\
         FROM base AS unneeded\nRUN false\n\
         FROM scratch AS last\nCOPY --from=0 /1 /\nCOPY --from=1 /2 /\nCOPY --from=third /3 /\nCOPY --from=another /bin /bin/\n";
    project.write("one", "1\n");
    let built = project.build(text, &[]);
    assert!(!built.said.contains("RUN false"), "{}", built.said);
    assert_eq!(project.sh("cat /1 /2 /3"), "1\n2\n3\n");
    assert_eq!(project.owner("1"), "7/8");
    let built = project.build(text, &["--target", "third"]);
    assert_eq!((built.run.len(), built.cached.len()), (0, 3), "{built:?}");
    assert_eq!(project.config()["User"], "user");
    assert!(project.config()["Env"].to_string().contains("FIRST=1"));
    project.build(text, &["--target", "1"]);
    assert_eq!(
        project.sh("cat /2; ls /1 2>&1 || true"),
        "2\nls: /1: No such file or directory\n"
    );
    let said = project.fails(text, &["--target", "fourth"]);
    assert!(
        last(&said)
            .0
            .contains("target stage \"fourth\" could not be found"),
        "{said}"
    );
    let said = project.fails(
        "FROM base\nCOPY --from=late /x /\nFROM base AS late\n",
        &["--target", "0"],
    );
    assert!(last(&said).0.contains("late"), "{said}");
}

#[test]
fn a_dockerfile_is_taken_from_where_it_was_said() {
    let project = Project::new();
    project.write("file", "x");
    let in_context = |bryo: &[&str]| {
        let mut command = project.bryo.command(bryo);
        command.current_dir(project.path(""));
        command
    };
    let done = fed(
        &mut in_context(&["build", "-t", "made", "-"]),
        "FROM base\nRUN echo stdin > /x\n",
    );
    assert!(done.status.success(), "{done}");
    assert_eq!(project.sh("cat /x"), "stdin\n");
    let done = fed(
        &mut in_context(&["build", "-t", "made", "-"]),
        "FROM base\nCOPY file /\n",
    );
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(last(&done.stderr).0.contains("no build context"), "{done}");
    // A here-document needs none; ADD is told as ADD, and once.
    let done = fed(
        &mut in_context(&["build", "-t", "made", "-"]),
        "FROM base\nADD <<end /text\nhere\nend\n",
    );
    assert_eq!(done.stderr.matches("] ADD <<end").count(), 1, "{done}");
    assert_eq!(project.sh("cat /text"), "here\n");
    let history = project
        .bryo
        .ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]);
    assert!(history.starts_with("ADD <<end /text"), "{history}");
    let done = fed(
        &mut in_context(&["build", "-t", "made", "-f", "-", "."]),
        "FROM base\nCOPY file /\n",
    );
    assert!(done.status.success(), "{done}");
    let done = Done::of(&mut in_context(&["build", "-t", "made", "."]));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("failed to read dockerfile: open "), "{done}");
    project.write("Containerfile", "FROM base\nRUN echo podman > /x\n");
    assert!(
        Done::of(&mut in_context(&["build", "-t", "made", "."]))
            .status
            .success()
    );
    assert_eq!(project.sh("cat /x"), "podman\n");
    project.write("Dockerfile", "FROM base\nRUN echo docker > /x\n");
    assert!(
        Done::of(&mut in_context(&["build", "-t", "made", "."]))
            .status
            .success()
    );
    assert_eq!(project.sh("cat /x"), "docker\n");
    let done = Done::of(&mut in_context(&["build", "no-such-directory"]));
    assert_eq!(done.status.code(), Some(1), "{done}");
}

#[test]
fn commands_see_what_the_stage_says() {
    let project = Project::new();
    let text = "FROM base\nENV A=1\nUSER user:extra\nWORKDIR /tmp\n\
         RUN id -u > id; id -g >> id; pwd >> id; echo $A $HOME >> id\n\
         USER root\nRUN [\"/bin/sh\", \"-c\", \"id -u >> id; hostname > /name\"]\n";
    if has_id_range() {
        project.build(text, &[]);
        assert_eq!(project.sh("cat /tmp/id"), "1000\n2000\n/tmp\n1 /home\n0\n");
    } else {
        let said = project.fails(text, &[]);
        assert!(
            last(&said)
                .0
                .contains("user 1000 does not exist in the container"),
            "{said}"
        );
    }
    let built = project.build(
        "FROM base\nSHELL [\"/bin/echo\", \"prefix\"]\nRUN --network=none said by echo\n",
        &["--no-cache"],
    );
    assert!(built.said.contains(" prefix said by echo\n"), "{}", built.said);
    project.build(
        "FROM base\nRUN --network=none ls /sys/class/net > /net\nRUN cat /etc/hosts > /seen; df -k /dev/shm | tail -1 > /shm\n",
        &["--add-host", "there:10.1.2.3", "--shm-size", "2m"],
    );
    let seen = project.sh("cat /net /seen /shm /etc/hosts");
    assert!(
        seen.starts_with("lo\n") && seen.matches("10.1.2.3").count() == 1,
        "{seen}"
    );
    assert!(seen.contains(" 2048 "), "{seen}");
}

// --- failures ---

#[test]
fn a_failed_step_says_where() {
    let project = Project::new();
    let said = project.fails(
        "FROM base\nRUN echo before\n\nRUN echo out; \\\n    false\nRUN echo after\n",
        &[],
    );
    let (line, before) = last(&said);
    assert_eq!(
        line,
        "bryo: failed to build: failed to solve: process \"/bin/sh -c echo out;     false\" did not complete successfully: exit code: 1"
    );
    let excerpt = "Dockerfile:4\n--------------------\n   2 |     RUN echo before\n   3 |\n   4 | >>> RUN echo out; \\\n   5 | >>>     false\n\
         \x20  6 |     RUN echo after\n--------------------";
    assert!(before.ends_with(excerpt), "{said}");
    assert!(!said.contains("[4/4]"), "{said}");
    let said = project.fails("FROM base\nRUN false\n", &[]);
    assert!(
        last(&said)
            .0
            .ends_with("process \"/bin/sh -c false\" did not complete successfully: exit code: 1"),
        "{said}"
    );
    let said = project.fails("FROM base\nRUN [\"/no/such\"]\n", &[]);
    assert!(last(&said).0.ends_with("exit code: 127"), "{said}");
    // What went before it is kept.
    let built = project.build("FROM base\nRUN echo before\nRUN true\n", &[]);
    assert_eq!((built.cached.len(), built.run.len()), (1, 1), "{built:?}");
    project.is_clean();
}

#[test]
fn mistakes_in_a_dockerfile_are_shown() {
    let project = Project::new();
    for (text, place, wanted) in [
        (
            "FROM base\nRUM true\n",
            ":2\n",
            "dockerfile parse error on line 2: unknown instruction \"RUM\" (did you mean RUN?)",
        ),
        (
            "FROM base\nCOPY --form=x a b\n",
            ":2\n",
            "COPY has no flag --form (did you mean --from?)",
        ),
        (
            "RUN true\n",
            ":1\n",
            "RUN comes before the first FROM; only ARG may",
        ),
        ("FROM base\nENV\n", ":2\n", "ENV needs at least one argument"),
        (
            "FROM base\nRUN <<EOF\ntrue\n",
            ":2\n",
            "the here-document \"EOF\" has no end",
        ),
        ("FROM base\nCOPY missing /\n", ":2\n", "\"/missing\": not found"),
        ("FROM base\nENV A=\"${B:?must be set}\"\n", ":2\n", "must be set"),
        (
            "FROM base\nEXPOSE many\n",
            ":2\n",
            "invalid containerPort \"many\"",
        ),
        ("FROM base\nSTOPSIGNAL NONE\n", ":2\n", "NONE"),
        ("FROM base\nCOPY --chmod=rwx . /\n", ":2\n", "rwx"),
        ("FROM $NOTHING\n", ":1\n", "NOTHING"),
        (
            "FROM base AS a\nCOPY --from=a /x /\n",
            ":2\n",
            "--from=a: a stage can use only those before it",
        ),
        (
            "FROM base AS a\nCOPY --from=b / /\nFROM base AS b\nCOPY --from=a / /\n",
            ":2\n",
            "--from=b: a stage can use only those before it",
        ),
        (
            "FROM base AS a\nRUN --mount=from=1,target=/m true\nFROM a\n",
            ":2\n",
            "--from=1: a stage can use only those before it",
        ),
        (
            "ARG X\nARG A=\"${B:?must be set}\"\nFROM base\n",
            ":2\n",
            "must be set",
        ),
        ("", "", "the file has no instructions"),
    ] {
        let said = project.fails(text, &[]);
        assert!(last(&said).0.contains(wanted), "{text}{said}");
        assert!(
            place.is_empty() || said.contains(&format!("Dockerfile{place}")),
            "{text}{said}"
        );
        assert_eq!(said.matches("bryo: ").count(), 1, "{said}");
    }
    for (flags, wanted) in [
        (["-t", "UPPER"], "invalid argument \"UPPER\" for \"-t, --tag\""),
        (
            ["--shm-size", "much"],
            "invalid argument \"much\" for \"--shm-size\"",
        ),
    ] {
        let done = Done::of(&mut project.command("FROM base\n", &flags));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(done.stderr.contains(wanted), "{done}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let project = Project::new();
    for step in [
        "RUN --security=insecure true",
        "RUN --device=vendor.com/device true",
    ] {
        let said = project.fails(&format!("FROM base\n{step}\n"), &[]);
        let (line, before) = last(&said);
        assert!(line.ends_with(" is not supported yet"), "{said}");
        assert!(
            before.contains(&format!(" >>> {step}\n")) && !before.contains("bryo: "),
            "{said}"
        );
    }
}

// --- what is left ---

/// Starts a build, and waits until its commands have said "here" so many times.
fn begun(command: &mut Command, times: usize) -> (Child, BufReader<ChildStderr>) {
    let mut builder = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(builder.stderr.take().unwrap());
    for _ in 0..times {
        let mut line = String::new();
        while !line.ends_with(" here\n") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the builder ended");
        }
    }
    (builder, said)
}

#[test]
fn a_killed_builder_leaves_nothing_that_prune_does_not_remove() {
    let project = Project::new();
    let text = "FROM base\nRUN echo first > /first\nRUN echo big > /big; echo here; sleep 1000\n";
    let (mut builder, _said) = begun(&mut project.command(text, &[]), 1);
    builder.kill().unwrap();
    builder.wait().unwrap();
    project.becomes_clean();
    let built = project.build("FROM base\nRUN echo first > /first\nRUN echo second\n", &[]);
    assert_eq!((built.cached.len(), built.run.len()), (1, 1), "{built:?}");
}

#[test]
fn the_base_may_be_removed_during_and_after_a_build() {
    let project = Project::new();
    let text = "FROM base\nRUN echo here; sleep 2; echo done > /done\nRUN cat /done > /copy\n";
    let (mut builder, said) = begun(&mut project.command(text, &[]), 1);
    let id = project.image("base", "{{.Id}}");
    project.bryo.ok(["rmi", "-f", &id]);
    project.bryo.ok(["image", "prune", "-af"]);
    let rest = std::io::read_to_string(said).unwrap();
    assert!(builder.wait().unwrap().success(), "{rest}");
    project.bryo.ok(["image", "prune", "-f"]);
    assert_eq!(project.sh("cat /copy"), "done\n");
    assert_eq!(project.bryo.ok(["images", "-q"]).lines().count(), 1);
    project.is_clean();
    project.bryo.ok(["rmi", "made"]);
    project.bryo.ok(["builder", "prune", "-f"]);
    project.bryo.ok(["image", "prune", "-f"]);
    let layers: Vec<_> = fs::read_dir(project.bryo.root().join("layers"))
        .unwrap()
        .collect();
    assert!(layers.is_empty(), "{layers:?}");
}

#[test]
fn builds_at_once_do_not_disturb_each_other() {
    let project = Project::new();
    project.write("file", "x");
    let text = "FROM base\nWORKDIR /w\nCOPY file .\nRUN cat file > copy\nRUN cat copy > again\n";
    let commands: Vec<Command> = (0..4)
        .map(|number| project.command(text, &["-t", &format!("number:{number}")]))
        .collect();
    let dones: Vec<Done> = std::thread::scope(|scope| {
        let running: Vec<_> = commands
            .into_iter()
            .map(|mut command| scope.spawn(move || Done::of(&mut command)))
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (number, done) in dones.iter().enumerate() {
        assert!(done.status.success(), "{done}");
        let seen = project.bryo.sh(&format!("number:{number}"), "cat /w/again");
        assert_eq!(seen, "x");
    }
    project.is_clean();
    let Built { run, .. } = project.build(text, &[]);
    assert!(run.is_empty(), "{run:?}");
}
