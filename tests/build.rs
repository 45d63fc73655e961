//! `build` as a user types it: what each instruction does to files and config, what fails and how, and what is left.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

#[path = "build/cache.rs"]
mod cache;
mod common;
#[path = "build/go.rs"]
mod go;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use common::{Built, Done, Project, fed, has_id_range, mode, until};
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

// --- files ---

#[test]
fn copies_land_where_docker_puts_them() {
    let project = Project::new();
    for name in ["a.txt", "b.txt", "c.md", "dir/one", "dir/sub/two", "sp ace"] {
        project.write(name, name);
    }
    symlink("one", project.path("dir/link")).unwrap();
    mode(&project.path("a.txt"), 0o4750);
    project.build(
        "FROM base\n\
         WORKDIR /w\n\
         COPY a.txt .\n\
         COPY a.txt renamed\n\
         COPY a.txt /new/place/\n\
         COPY dir /tree\n\
         COPY dir/ /tree2/\n\
         COPY *.txt dir/sub /both/\n\
         COPY [\"sp ace\", \"/sp aced\"]\n\
         COPY --chmod=711 dir/one ?.md /modes/\n\
         COPY dir/link /followed\n\
         COPY --exclude=sub --exclude=link dir /some\n\
         ADD c.md /added/\n",
        &[],
    );
    let found = project.sh("cd /; find w new tree tree2 both 'sp aced' modes followed some added | sort");
    let wanted = "added\nadded/c.md\nboth\nboth/a.txt\nboth/b.txt\nboth/two\nfollowed\nmodes\nmodes/c.md\nmodes/one\nnew\n\
         new/place\nnew/place/a.txt\nsome\nsome/one\nsp aced\ntree\ntree/link\ntree/one\ntree/sub\ntree/sub/two\ntree2\n\
         tree2/link\ntree2/one\ntree2/sub\ntree2/sub/two\nw\nw/a.txt\nw/renamed\n";
    assert_eq!(found, wanted);
    let stat = "stat -c '%a %u:%g %F %n' /w/a.txt /modes/one /modes /followed /tree/link";
    let wanted = "4750 0:0 regular file /w/a.txt\n711 0:0 regular file /modes/one\n755 0:0 directory /modes\n\
         644 0:0 regular file /followed\n777 0:0 symbolic link /tree/link\n";
    assert_eq!(project.sh(stat), wanted);
    assert_eq!(
        project.sh("cat '/sp aced' /followed; readlink /tree/link"),
        "sp acedir/oneone\n"
    );
}

#[test]
fn copies_have_the_owner_that_was_asked() {
    let project = Project::new();
    project.write("file", "x");
    fs::create_dir(project.path("empty")).unwrap();
    let text = "FROM base\n\
         RUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\n\
         COPY --chown=user file /1/f\n\
         COPY --chown=user:extra file /2/f\n\
         COPY --chown=12:34 file /3/f\n\
         COPY --chown=12 file /4/f\n\
         COPY --chown=:extra file /5/f\n\
         COPY --chown=late file /6/f\n\
         COPY --chown=12:34 empty /7/\n\
         USER user\nWORKDIR /8\nCOPY file /9/f\n";
    project.build(text, &[]);
    for (path, owner) in [
        ("1", "1000/1000"),
        ("1/f", "1000/1000"),
        ("2/f", "1000/2000"),
        ("3/f", "12/34"),
        ("4/f", "12/12"),
        ("5/f", "0/2000"),
        ("6/f", "77/78"),
        ("7", "12/34"),
        ("8", "1000/1000"),
        ("9", "0/0"),
        ("9/f", "0/0"),
    ] {
        assert_eq!(project.owner(path), owner, "{path}");
    }
    let said = project.fails("FROM base\nCOPY --chown=nobody-here file /\n", &[]);
    assert!(last(&said).0.contains("nobody-here"), "{said}");
}

#[test]
fn times_of_files_are_kept() {
    let project = Project::new();
    project.write("dir/file", "x");
    for (path, time) in [("dir/file", "@1000000000"), ("dir", "@1100000000")] {
        let done = Command::new("touch")
            .args(["-d", time])
            .arg(project.path(path))
            .status();
        assert!(done.unwrap().success());
    }
    fs::create_dir(project.path("outer")).unwrap();
    fs::rename(project.path("dir"), project.path("outer/dir")).unwrap();
    project.build("FROM base\nCOPY outer /to\n", &[]);
    assert_eq!(
        project.sh("stat -c %Y /to/dir/file /to/dir"),
        "1000000000\n1100000000\n"
    );
    // Places that were made to mount on are gone again, and nothing has a new time but what the command changed.
    project.build(
        "FROM scratch\nCOPY --from=base /bin /bin\nCOPY outer/dir /etc/\nENV PATH=/bin\nRUN touch /bin/new\n",
        &["-t", "bare"],
    );
    project.build("FROM base\nCOPY --from=bare / /bare\nCOPY no-such-name* /\n", &[]);
    assert_eq!(
        project.sh("ls -A /bare /bare/etc"),
        "/bare:\nbin\netc\n\n/bare/etc:\nfile\n"
    );
    let times = "FROM base\nWORKDIR /old\nRUN touch -d @5 /old /etc /\nRUN echo x > /old/x\n";
    project.build(
        &times.replace("RUN echo x > /old/x\n", "RUN echo x > /tmp/x\n"),
        &[],
    );
    assert_eq!(project.sh("stat -c %Y /old /etc"), "5\n5\n");
}

#[test]
fn ignored_files_are_not_there() {
    let project = Project::new();
    for name in [
        "keep",
        "a.log",
        "b.log",
        "deep/a.log",
        "node/x",
        "node/keep/y",
        "node/z",
        "top.md",
        "deep/other.md",
    ] {
        project.write(name, name);
    }
    project.write(
        ".dockerignore",
        "# comment\n*.log\n!b.log\nnode\n!node/keep\n**/*.md\n!top.md\n.dockerignore\n",
    );
    project.build("FROM base\nCOPY . /all/\nCOPY node /node/\n", &[]);
    assert_eq!(
        project.sh("cd /all; find . -type f | sort; find /node -type f"),
        "./b.log\n./deep/a.log\n./keep\n./node/keep/y\n./top.md\n/node/keep/y\n"
    );
    for hidden in ["a.log", "node/x"] {
        let said = project.fails(&format!("FROM base\nCOPY {hidden} /\n"), &[]);
        assert!(
            last(&said).0.ends_with(&format!("\"/{hidden}\": not found")),
            "{said}"
        );
    }
    // The Dockerfile's own list comes first.
    fs::write(project.bryo.scratch("Dockerfile.dockerignore"), "*\n!keep\n").unwrap();
    project.build("FROM base\nCOPY . /all/\n", &[]);
    assert_eq!(project.sh("ls -A /all"), "keep\n");
}

#[test]
fn nothing_outside_the_context_is_copied() {
    let project = Project::new();
    fs::write(project.bryo.scratch("secret"), "secret").unwrap();
    project.write("file", "x");
    symlink("../secret", project.path("up")).unwrap();
    symlink(project.bryo.scratch("secret"), project.path("absolute")).unwrap();
    symlink("..", project.path("parent")).unwrap();
    for source in ["../secret", "up", "absolute", "parent/secret", "/../secret"] {
        let said = project.fails(&format!("FROM base\nCOPY {source} /x\n"), &[]);
        assert!(!project.bryo.ok(["images"]).contains("made"), "{source}: {said}");
    }
    // Within a directory the link itself is copied, and a destination is within the image.
    project.build(
        "FROM base\nRUN ln -s /../../etc /out && ln -s / /top\nCOPY . /all/\nCOPY file /out/new\nCOPY file /top/../../../at-top\n",
        &[],
    );
    assert_eq!(
        project.sh("readlink /all/up; ls /etc/new /at-top"),
        "../secret\n/at-top\n/etc/new\n"
    );
}

#[test]
fn here_documents_are_files_and_scripts() {
    let project = Project::new();
    project.build(
        "FROM base\nARG WHO=world\n\
         RUN <<EOF\necho one > /script\necho $WHO >> /script\nEOF\n\
         COPY <<one <<\"two\" /docs/\nhello $WHO\none\nhello $WHO\ntwo\n\
         COPY --chmod=700 <<-EOF /tabs\n\t\tindented\n\tEOF\n\
         RUN cat <<A >/shell && cat <<B >>/shell\na $WHO\nA\nb\nB\n",
        &[],
    );
    assert_eq!(
        project.sh("cat /script /docs/one /docs/two /tabs /shell; stat -c %a /tabs"),
        "one\nworld\nhello world\nhello $WHO\nindented\na world\nb\n700\n"
    );
}

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

#[test]
fn mounts_are_there_for_one_command_and_leave_no_trace() {
    let project = Project::new();
    project.write("a/f", "from the context\n");
    fs::write(project.bryo.scratch("secret"), "hidden\n").unwrap();
    let secret = format!("id=s,src={}", project.bryo.scratch("secret").display());
    let text = "FROM base AS other\nRUN echo from a stage > /f\n\
         FROM base\n\
         RUN --mount=type=cache,target=/c/d echo x >> /c/d/f; wc -l < /c/d/f > /count\n\
         RUN --mount=type=tmpfs,target=/t touch /t/x\n\
         RUN --mount=type=bind,source=a,target=/b,rw cat /b/f >> /seen && echo y > /b/g\n\
         RUN --mount=from=other,target=/o cat /o/f >> /seen; touch /o/x || echo read-only >> /seen\n\
         RUN --mount=type=secret,id=s wc -c < /run/secrets/s >> /seen\n\
         RUN --mount=type=secret,id=s,env=S echo ${#S} >> /seen; env | grep -c ^S= >> /seen\n\
         RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n";
    let built = project.build(text, &["--secret", &secret]);
    assert!(!built.said.contains("hidden"), "{}", built.said);
    let seen = "from the context\nfrom a stage\nread-only\n7\n7\n1\n";
    let look = "cat /count /seen; ls -d /c /t /b /o /run/secrets 2> /dev/null || true";
    assert_eq!(project.sh(look), format!("1\n{seen}"));
    assert!(!project.path("a/g").exists());
    // A cache outlives its build, and is no part of the key; neither is a secret's value.
    fs::write(project.bryo.scratch("secret"), "another\n").unwrap();
    assert_eq!(
        project.build(text, &["--secret", &secret]).run,
        Vec::<String>::new()
    );
    project.build(text, &["--secret", &secret, "--no-cache"]);
    assert!(project.sh(look).starts_with("2\n"));
    project.write("a/f", "changed\n");
    let built = project.build(text, &["--secret", &secret]);
    assert_eq!(built.cached.len(), 3, "{}", built.said);
    let said = project.fails(
        "FROM base\nRUN --mount=type=secret,id=s,required=true true\n",
        &[],
    );
    assert!(
        said.contains(" >>> RUN --mount=type=secret") && said.contains("bryo: "),
        "{said}"
    );
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let project = Project::new();
    project.write("tree/a/file", "content\n");
    symlink("file", project.path("tree/a/link")).unwrap();
    mode(&project.path("tree/a/file"), 0o640);
    for (name, flag) in [
        ("plain.tar", "-c"),
        ("by-content", "-cz"),
        ("x.tar.xz", "-cJ"),
        ("z.tar.zst", "--zstd"),
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--owner=7", "--group=8", "--mtime=@5", flag]);
        if flag == "--zstd" {
            tar.arg("-c");
        }
        tar.arg("-f")
            .arg(project.path(name))
            .arg("-C")
            .arg(project.path("tree"))
            .arg("a");
        assert!(tar.status().unwrap().success());
    }
    project.write("no.tar", "this is none");
    project.build(
        "FROM base\nADD plain.tar /1\nADD by-content /2/\nADD z.tar.zst /3/\n\
         ADD --chown=1:2 plain.tar /5/\nADD no.tar /6/\nCOPY plain.tar /7/\nADD --unpack=false plain.tar /8/\nADD tree /9/\n",
        &[],
    );
    for place in 1..=3 {
        assert_eq!(project.owner(&format!("{place}/a/file")), "7/8");
        let stat = format!("cd /{place}/a; stat -c '%n %a %Y' file; readlink link; cat file");
        assert_eq!(project.sh(&stat), "file 640 5\nfile\ncontent\n", "{place}");
    }
    assert_eq!(project.owner("5/a/file"), "1/2");
    assert_eq!(
        project.sh("ls /6 /7 /8 /9"),
        "/6:\nno.tar\n\n/7:\nplain.tar\n\n/8:\nplain.tar\n\n/9:\na\n"
    );
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
        "COPY --parents a /",
        "ADD https://example.com/file /",
        "ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.com/f /",
    ] {
        let said = project.fails(&format!("FROM base\n{step}\n"), &[]);
        let (line, before) = last(&said);
        assert!(line.ends_with(" is not supported yet"), "{said}");
        assert!(
            before.contains(&format!(" >>> {step}\n")) && !before.contains("bryo: "),
            "{said}"
        );
    }
    let done = Command::new("tar")
        .arg("-cJf")
        .arg(project.path("x.tar.xz"))
        .arg("/etc/hostname")
        .status();
    assert!(done.unwrap().success());
    let said = project.fails("FROM base\nADD x.tar.xz /\n", &[]);
    assert!(
        last(&said).0.contains("xz or bzip2 cannot be unpacked yet"),
        "{said}"
    );
    let said = project.fails("FROM --platform=linux/riscv64 base\n", &[]);
    assert!(last(&said).0.contains("building for another platform"), "{said}");
    let done = Done::of(&mut project.command("FROM base\n", &["--platform", "linux/riscv64"]));
    assert_eq!(
        (done.status.code(), done.stderr.lines().count()),
        (Some(125), 1),
        "{done}"
    );
    let line = project
        .bryo
        .fails(1, ["build", "https://example.com/repository.git"]);
    assert_eq!(line.lines().count(), 1, "{line}");
}

// --- what is left ---

#[test]
fn a_killed_builder_leaves_nothing_that_prune_does_not_remove() {
    let project = Project::new();
    let text = "FROM base\nRUN echo first > /first\nRUN echo big > /big; echo here; sleep 1000\n";
    let mut builder = project.command(text, &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(builder.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" here\n") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the builder ended");
    }
    builder.kill().unwrap();
    builder.wait().unwrap();
    until("the end of all its processes", || {
        project.bryo.ok(["image", "prune", "-f"]);
        let left = fs::read_dir(project.bryo.state().join("containers")).unwrap();
        left.count() == 0
    });
    project.is_clean();
    let built = project.build("FROM base\nRUN echo first > /first\nRUN echo second\n", &[]);
    assert_eq!((built.cached.len(), built.run.len()), (1, 1), "{built:?}");
}

#[test]
fn the_base_may_be_removed_during_and_after_a_build() {
    let project = Project::new();
    let text = "FROM base\nRUN echo here; sleep 2; echo done > /done\nRUN cat /done > /copy\n";
    let mut builder = project.command(text, &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(builder.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" here\n") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the builder ended");
    }
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
