//! Flags that say what the image says of itself, when it was made, and what its RUNs see.

use std::fs;

use serde_json::{Value, json};

use crate::common::sandbox::within;
use crate::common::{Bryo, Done, Mode, Project, Registry, skopeo};

fn raw(place: &str) -> Value {
    let done = skopeo(["inspect", "--tls-verify=false", "--raw", place]);
    assert!(done.status.success(), "{done}");
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn annotations_and_formats_are_those_of_the_manifest() {
    let project = Project::new();
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let text = "FROM base\nRUN echo made > /made\n";
    let name = registry.image("a:1");
    let annotated = ["--annotation", "a=b=c", "--annotation=manifest:d=e", "-t", &name];
    project.build(text, &annotated);
    project.bryo.ok(["push", "-q", &name]);
    let pushed = raw(&format!("docker://{name}"));
    assert_eq!(pushed["annotations"], json!({"a": "b=c", "d": "e"}));
    assert_eq!(pushed["mediaType"], "application/vnd.oci.image.manifest.v1+json");

    let to = project.bryo.scratch("oci");
    let to_layout = format!("type=oci,tar=false,annotation.f=g,dest={}", to.display());
    let flags = [&annotated[..], &["-o", &to_layout]].concat();
    let done = Done::of(&mut project.command(text, &flags));
    assert!(done.status.success(), "{done}");
    let saved = raw(&format!("oci:{}:latest", to.display()));
    assert_eq!(saved["annotations"], json!({"a": "b=c", "d": "e", "f": "g"}));
    assert_eq!(saved["layers"], pushed["layers"], "compressed alike");

    let name = registry.image("docker:1");
    project.build(text, &["--format", "docker", "-t", &name]);
    project.bryo.ok(["push", "-q", &name]);
    let pushed = raw(&format!("docker://{name}"));
    assert_eq!(
        pushed["mediaType"],
        "application/vnd.docker.distribution.manifest.v2+json"
    );
    assert_eq!(
        pushed["config"]["mediaType"],
        "application/vnd.docker.container.image.v1+json"
    );
    for layer in pushed["layers"].as_array().unwrap() {
        assert_eq!(
            layer["mediaType"],
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        );
    }
    let other = Bryo::new();
    other.ok(["pull", "-q", &name]);
    assert_eq!(other.sh(&name, "cat /made"), "made\n");

    let archive = format!("type=docker,dest={}", project.bryo.scratch("x.tar").display());
    let tree = format!("type=local,dest={}", project.bryo.scratch("tree").display());
    let where_it_can = "--provenance=inline-only=true";
    for flags in [
        &[][..],
        // What is said of the image goes where it can, which is nowhere here.
        &[where_it_can],
        &[where_it_can, "-o", &archive],
        &["--platform=linux/amd64,linux/arm64", "-o", &tree],
    ] {
        let flags = [&["--annotation=index:a=b"], flags].concat();
        let done = Done::of(&mut project.command(text, &flags));
        assert_eq!(done.status.code(), Some(125), "{flags:?}: {done}");
        assert!(done.stderr.contains("has no index to annotate"), "{done}");
    }
}

#[test]
fn variables_and_labels_come_and_go_by_flags() {
    let project = Project::new();
    project.build(
        "FROM base\nENV OLD=1 GONE=1\nLABEL old=1 gone=1\n",
        &["-t", "parent"],
    );
    let text =
        "FROM parent AS one\nRUN echo $NEW$GONE$OWN > /seen\nLABEL new=$NEW\nFROM one\nENV NEW=again\n";
    let mut command = project.command(
        text,
        &[
            "--env",
            "NEW=2",
            "--env",
            "OWN",
            "--env=NONE",
            "--unsetenv",
            "GONE",
            "--unsetlabel=gone",
            "--unsetlabel=io.buildah.version",
        ],
    );
    project.built(command.env("OWN", "3").env_remove("NONE"));
    let config = project.config();
    assert_eq!(
        config["Env"],
        json!(["PATH=/bin:/usr/bin", "OLD=1", "NEW=again", "OWN=3"])
    );
    assert_eq!(config["Labels"], json!({"old": "1", "new": "2"}));
    assert_eq!(project.sh("cat /seen"), "213\n");
    let other = project.build(text, &["--env", "NEW=3"]);
    assert_eq!(
        other.run.len(),
        1,
        "a RUN that sees another variable is another: {other:?}"
    );
}

#[test]
fn archives_that_cannot_say_it_are_refused() {
    let project = Project::new();
    let file = project.bryo.scratch("archive");
    for (kind, flag, value, why) in [
        ("docker", "--annotation", "a=b", "no manifest for annotations"),
        ("oci", "--format", "docker", "it has OCI's format, not Docker's"),
    ] {
        let output = format!("type={kind},dest={}", file.display());
        let done = Done::of(&mut project.command("FROM base\n", &["-o", &output, flag, value]));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(done.stderr.contains(why) && !file.exists(), "{done}");
    }
}

#[test]
fn a_stage_alone_is_built_anew() {
    let project = Project::new();
    let text = "FROM base AS One\nRUN echo one > /one\nFROM base AS two\nRUN echo two > /two\n\
        FROM base\nCOPY --from=one /one /\nCOPY --from=two /two /\n";
    project.build(text, &[]);
    let again = project.build(text, &["--no-cache-filter", "one,three"]);
    assert_eq!(again.run, ["RUN echo one > /one"], "{}", again.said);
    assert_eq!(again.cached.len(), 3);
    let warnings = again
        .said
        .matches("[Warning] --no-cache-filter: there is no stage");
    assert!(
        warnings.count() == 1 && again.said.contains("there is no stage three\n"),
        "{}",
        again.said
    );
    let all = project.build(
        text,
        &["--no-cache-filter=one", "--no-cache-filter=two", "--jobs=1"],
    );
    assert_eq!(all.run.len(), 2, "{}", all.said);
}

#[test]
fn volumes_and_limits_are_those_of_every_run() {
    let project = Project::new();
    let volume = project.bryo.scratch("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "theirs\n").unwrap();
    let volume = format!("{}:/mounted:ro", volume.display());
    let text = "FROM base\nRUN cat /mounted/file > /seen && ulimit -n >> /seen && ! touch /mounted/x\n";
    project.build(text, &["-v", &volume, "--ulimit", "nofile=123:456"]);
    assert_eq!(project.sh("cat /seen && test ! -e /mounted"), "theirs\n123\n");
    let other = project.build(text, &["-v", &volume, "--ulimit", "nofile=124"]);
    assert_eq!(other.run.len(), 1, "{}", other.said);
    for (flags, why) in [
        (["-v", "relative"], "invalid mount \"relative\""),
        (["--ulimit", "nofile"], "ulimit"),
    ] {
        let done = Done::of(&mut project.command(text, &flags));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(done.stderr.to_lowercase().contains(why), "{done}");
    }
}

/// The times of the files that the layers above the base's tell of.
fn times(project: &Project) -> Vec<(String, String)> {
    let layers: Vec<String> =
        serde_json::from_str(&project.image("made", "{{json .RootFS.Layers}}")).unwrap();
    let mut times = Vec::new();
    for layer in &layers[1..] {
        let tar = format!("{}.tar", layer.trim_start_matches("sha256:"));
        let mut list = std::process::Command::new("tar");
        list.args(["--full-time", "--utc", "-tvf"])
            .arg(project.bryo.root().join("layers").join(tar));
        for line in Done::of(&mut list).stdout.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            times.push((words[5].into(), format!("{} {}", words[3], words[4])));
        }
    }
    times
}

const TIMED: &str = "FROM base\nWORKDIR /work\nCOPY old new /work/\nRUN mkdir /work/dir && echo x > /work/dir/file && \
    ln -s file /work/dir/link && ln /work/dir/file /work/dir/hard && touch -d '1999-01-01 00:00:00' /work/dir/past\n";

#[test]
fn the_same_build_at_another_time_gives_the_same_digests() {
    let mut ids = Vec::new();
    let stamp = ["--output=type=docker,rewrite-timestamp=true"];
    for touched in ["2030-01-01", "2031-01-01"] {
        let project = Project::new();
        for (name, date) in [("old", "2001-01-01"), ("new", touched)] {
            project.write(name, name);
            let file = fs::File::options().write(true).open(project.path(name)).unwrap();
            let time: jiff::Timestamp = format!("{date}T00:00:00Z").parse().unwrap();
            file.set_modified(time.into()).unwrap();
        }
        let mut command = project.command(TIMED, &stamp);
        project.built(command.env("SOURCE_DATE_EPOCH", "1700000000"));
        ids.push(project.image("made", "{{.Id}} {{json .RootFS.Layers}} {{.Created}}"));
        let found = times(&project);
        assert!(found.len() >= 8, "{found:?}");
        for (name, time) in &found {
            let wanted = match name.rsplit('/').next().unwrap() {
                "old" => "2001-01-01 00:00:00",
                "past" => "1999-01-01 00:00:00",
                _ => "2023-11-14 22:13:20",
            };
            assert_eq!(time, wanted, "{name}");
        }
        // The cache keeps those layers apart from others.
        let own = project.build(TIMED, &[]);
        assert_eq!(own.run.len(), 3, "{}", own.said);
        assert!(
            times(&project)
                .iter()
                .any(|(_, time)| time.as_str() > "2023-11-15")
        );
        let flags = ["--source-date-epoch", "1700000000", "--rewrite-timestamp"];
        let cached = project.build(TIMED, &flags);
        assert_eq!(cached.run.len(), 0, "{}", cached.said);
        assert_eq!(ids.last().unwrap().split(' ').next(), Some(cached.id.as_str()));
        // All of them at one time.
        project.build(TIMED, &["--timestamp", "86400"]);
        assert!(
            times(&project)
                .iter()
                .all(|(_, time)| time == "1970-01-02 00:00:00"),
            "{:?}",
            times(&project)
        );
        assert!(
            project
                .image("made", "{{.Created}}")
                .starts_with("1970-01-02T00:00:00")
        );
        project.is_clean();
    }
    assert_eq!(ids[0], ids[1]);
    let project = Project::new();
    let none = project.build("FROM base\nRUN echo x > /x\n", &stamp);
    assert!(
        none.said.contains("SOURCE_DATE_EPOCH is not set"),
        "{}",
        none.said
    );
}

#[test]
fn what_does_not_work_here_is_refused_with_its_reason() {
    let project = Project::new();
    for (flags, why) in [
        (
            &["--memory", "2g"][..],
            "--memory is not supported: a RUN has no cgroup of its own yet",
        ),
        (&["--cgroup-parent=x"], "start it by `systemd-run"),
        (&["--isolation", "chroot"], "each RUN is isolated as a container"),
    ] {
        let done = Done::of(&mut project.command("FROM base\n", flags));
        assert_eq!(done.status.code(), Some(125), "{done}");
        assert!(
            done.stderr.contains(why) && done.stderr.lines().count() == 1,
            "{done}"
        );
    }
    project.build(
        "FROM base\n",
        &["--rm", "--force-rm=false", "--compress", "--provenance=false"],
    );
}

/// With a range of ids and with one alone, as in a user namespace that maps no more.
#[test]
fn one_id_and_many_give_the_same_digests() {
    let project = Project::new();
    project.write("old", "old");
    project.write("new", "new");
    let command = || {
        let mut command = project.command(TIMED, &["--no-cache", "--rewrite-timestamp"]);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        command
    };
    let own = project.built(&mut command());
    let wrapper = ["unshare", "--user", "--map-root-user"];
    let alone = project.built(&mut within(&wrapper, &command()));
    assert_eq!(alone.run.len(), 3, "{}", alone.said);
    assert_eq!(alone.id, own.id);
}

#[test]
fn podmans_words_for_base_and_context_are_taken() {
    let project = Project::new();
    project.build("FROM base\nRUN echo other > /which\n", &["-t", "other"]);
    let text = "FROM nowhere.invalid/base AS one\nFROM one\nRUN cat /which > /seen\n";
    project.build(text, &["--from", "other"]);
    assert_eq!(project.sh("cat /seen"), "other\n");

    let said = project.fails(text, &["--pull=never"]);
    assert!(said.contains("No such image: nowhere.invalid/base"), "{said}");
    project.build("FROM base\n", &["--pull=never"]);
    project.build("FROM base\n", &["--pull=missing"]);
    project.bryo.ok(["tag", "base", "127.0.0.1:1/base"]);
    let said = project.fails("FROM 127.0.0.1:1/base\n", &["--pull=always"]);
    assert!(said.contains("cannot reach registry 127.0.0.1:1"), "{said}");
    project.build("FROM 127.0.0.1:1/base\n", &["--pull=false"]);

    project.write("kept", "");
    project.write("left", "");
    project.write(".dockerignore", "kept\n");
    let ignore = project.bryo.scratch("ignore");
    fs::write(&ignore, "left\n.dockerignore\n").unwrap();
    project.build(
        "FROM base\nCOPY . /c\n",
        &["--ignorefile", ignore.to_str().unwrap()],
    );
    assert_eq!(project.sh("ls -A /c"), "kept\n");
    let said = project.fails("FROM base\n", &["--ignorefile", "/nowhere/x"]);
    assert!(said.contains("cannot read /nowhere/x: No such file"), "{said}");
}

/// The tag has moved on at its registry.
#[test]
fn a_newer_base_is_taken_if_asked_and_builds_anew() {
    let project = Project::new();
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let name = registry.image("moving:1");
    let other = Project::new();
    let publish = |what: &str| {
        other.build(&format!("FROM base\nRUN echo {what} > /which\n"), &["-t", &name]);
        other.bryo.ok(["push", "-q", &name]);
    };
    let text = format!("FROM {name}\nRUN cat /which > /seen\n");
    publish("old");
    project.build(&text, &[]);
    publish("new");
    assert_eq!(project.build(&text, &[]).run.len(), 0);
    assert_eq!(project.sh("cat /seen"), "old\n");
    let built = project.build(&text, &["--pull"]);
    assert_eq!(built.run, ["RUN cat /which > /seen"], "{}", built.said);
    assert_eq!(project.sh("cat /seen"), "new\n");
    assert_eq!(project.build(&text, &["--pull"]).run.len(), 0, "nothing is newer");
}

/// buildx's `manifest[PLATFORM]:` and lists of types; what is none of its types is part of the name.
#[test]
fn annotations_name_what_they_are_of() {
    let project = Project::new();
    let to = project.bryo.scratch("oci");
    let output = format!("type=oci,tar=false,dest={}", to.display());
    let host = project.image("base", "{{.Os}}/{{.Architecture}}");
    let own = format!("manifest[{host}]:a=b");
    let flags = ["--annotation", &own, "--annotation=x:y=z", "-o", &output];
    let done = Done::of(&mut project.command("FROM base\n", &flags));
    assert!(done.status.success(), "{done}");
    let manifest = raw(&format!("oci:{}:latest", to.display()));
    assert_eq!(manifest["annotations"], json!({"a": "b", "x:y": "z"}));
    for (annotation, why) in [
        ("manifest[linux/s390x]:a=b", "nothing is built for linux/s390x"),
        ("manifest[no platform]:a=b", "\"no platform\" is no platform"),
        (
            "manifest,manifest-descriptor:a=b",
            "descriptors are not annotated",
        ),
        ("index,manifest:a=b", "what is made has no index to annotate"),
    ] {
        let done = Done::of(&mut project.command("FROM base\n", &["--annotation", annotation]));
        assert!(
            done.status.code() == Some(125) && done.stderr.contains(why),
            "{done}"
        );
    }
}

/// BuildKit's own arguments need no ARG.
#[test]
fn arguments_of_the_builder_mean_what_they_mean_to_buildkit() {
    let project = Project::new();
    let text = "FROM base\nRUN --mount=type=cache,target=/c echo x >> /c/log; cp /c/log /log\n";
    let built = |space: &str, salt: &str| {
        let space = format!("BUILDKIT_CACHE_MOUNT_NS={space}");
        let flags = [
            "BUILDKIT_INLINE_CACHE=1",
            "BUILDKIT_SYNTAX=docker/dockerfile:1",
            &space,
        ];
        let flags: Vec<&str> = flags.iter().flat_map(|arg| ["--build-arg", arg]).collect();
        let said = project.build(
            &format!("{text}RUN echo {salt}\n"),
            &[&flags[..], &["--no-cache"]].concat(),
        );
        assert!(!said.said.contains("not consumed"), "{}", said.said);
        project.sh("cat /log")
    };
    assert_eq!([built("one", "1"), built("one", "2")], ["x\n", "x\nx\n"]);
    assert_eq!([built("two", "3"), built("", "4")], ["x\n", "x\n"]);
    let made = |flags: &[&str]| project.build(text, flags).id;
    let inline = made(&["--build-arg=BUILDKIT_INLINE_CACHE=1"]);
    assert_eq!(inline, made(&["--cache-to=type=inline"]));
    assert_ne!(inline, made(&["--build-arg=BUILDKIT_INLINE_CACHE=0"]));
}

#[test]
fn a_stage_that_is_missing_is_told_with_what_was_meant() {
    let project = Project::new();
    let text = "FROM base AS builder\nRUN true\nFROM base\n";
    for (more, flags, what) in [
        (
            "",
            &["--target", "bulider"][..],
            "target stage \"bulider\" could not be found (did you mean builder?)",
        ),
        (
            "COPY --from=biulder /bin /x\n",
            &["--pull=never"],
            "there is no stage biulder (did you mean builder?), and no such image can be had",
        ),
        (
            "FROM buildr\n",
            &["--pull=never"],
            "there is no stage buildr (did you mean builder?), and no such image can be had",
        ),
    ] {
        let said = project.fails(&format!("{text}{more}"), flags);
        assert!(said.contains(what), "{said}");
    }
    let said = project.fails(text, &["--target", "elsewhere"]);
    assert!(said.contains("\"elsewhere\" could not be found\n"), "{said}");
}

/// `-q` is quiet unless something fails, as buildx's is.
#[test]
fn quiet_builds_show_what_a_failing_step_said() {
    let project = Project::new();
    let fails = "FROM base\nRUN echo fore$((1+1))\nRUN echo why-it-failed; false\n";
    let said = project.fails(fails, &["-q"]);
    assert!(
        said.starts_with("why-it-failed\n") && !said.contains("fore2"),
        "{said}"
    );
    let aside = "FROM base AS a\nRUN echo why-it-failed; false\nFROM base AS b\nRUN echo fine\nFROM base\n\
        COPY --from=a /x /\nCOPY --from=b /x /\n";
    let said = project.fails(aside, &["--progress=quiet", "--no-cache"]);
    assert!(said.contains("why-it-failed\n"), "{said}");
    let done = Done::of(&mut project.command("FROM base\nRUN echo fine\n", &["-q"]));
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
}

/// As buildx passes it on, and podman.
#[test]
fn the_time_of_a_build_is_an_argument_too() {
    let project = Project::new();
    let text = "FROM base\nARG SOURCE_DATE_EPOCH=none\nRUN echo $SOURCE_DATE_EPOCH > /seen\n";
    for (flags, set, wanted) in [
        (&[][..], "", "none\n"),
        (&[], "1700000000", "1700000000\n"),
        (&["--source-date-epoch=1600000000"], "1700000000", "1600000000\n"),
        (
            &["--build-arg=SOURCE_DATE_EPOCH=1500000000"],
            "1700000000",
            "1500000000\n",
        ),
    ] {
        let built = project.built(project.command(text, flags).env("SOURCE_DATE_EPOCH", set));
        assert!(!built.said.contains("not consumed"), "{}", built.said);
        assert_eq!(project.sh("cat /seen"), wanted);
    }
}

#[test]
fn a_step_has_the_hostname_that_was_asked() {
    let project = Project::new();
    let text = "FROM base\nRUN hostname > /name; grep -q \"$(hostname)\" /etc/hosts && echo known >> /name\n";
    project.build(text, &[]);
    assert_eq!(project.sh("cat /name"), "buildkitsandbox\nknown\n");
    let flags = [
        "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=mine",
        "--build-arg=BUILDKIT_MULTI_PLATFORM=0",
        "--build-arg=BUILDKIT_BUILD_NAME=called",
    ];
    let other = project.build(text, &flags);
    assert_eq!(other.run.len(), 1, "{}", other.said);
    assert!(!other.said.contains("not consumed"), "{}", other.said);
    assert_eq!(project.sh("cat /name"), "mine\nknown\n");
    assert_eq!(project.build(text, &flags).run, [""; 0]);
    let long = format!("--build-arg=BUILDKIT_SANDBOX_HOSTNAME={}", "x".repeat(65));
    let said = project.fails(text, &[&long]);
    assert!(said.contains("set the host name: Invalid argument"), "{said}");
}
