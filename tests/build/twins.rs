//! Each kind of input that a step has, once changed so that the cache still serves, and once so that it must not: a hit that
//! has no twin which misses would also be had from a cache that looks at nothing. (`cache.rs` has those of the context's files
//! and of what an instruction says; `download.rs` and `git.rs` those that come over the network.)

use std::fs;
use std::process::Command;

use crate::common::{Done, Project};

/// What is done between two builds.
enum Change {
    /// Of the Dockerfile: this text for that.
    Text(&'static str, &'static str),
    /// Of the flags.
    Flags(&'static [&'static str]),
    /// Of what lies around.
    Around(fn(&Project)),
}

use Change::{Around, Flags, Text};

struct Twins {
    input: &'static str,
    text: &'static str,
    flags: &'static [&'static str],
    /// The cache serves: but for these steps, none is carried out.
    same: (Change, &'static [&'static str]),
    /// It does not: these are carried out.
    other: (Change, &'static [&'static str]),
}

const fn twins(
    input: &'static str,
    text: &'static str,
    flags: &'static [&'static str],
    same: (Change, &'static [&'static str]),
    other: (Change, &'static [&'static str]),
) -> Twins {
    Twins {
        input,
        text,
        flags,
        same,
        other,
    }
}

/// Writes to the cache mount `kept` by a step of no other use.
fn fill_cache(project: &Project) {
    let text =
        "FROM base\nRUN --mount=type=cache,id=kept,target=/c cat /proc/sys/kernel/random/uuid > /c/x\n";
    project.build(text, &["-t", "filler"]);
}

/// Makes the image `other` anew, with this in its two files.
fn image(project: &Project, used: &str, unused: &str) {
    let text = format!("FROM base\nRUN echo {used} > /used\nRUN echo {unused} > /unused\n");
    project.build(&text, &["-t", "other"]);
}

fn archive(project: &Project, content: &str, flag: &str) {
    project.write("packed/x", content);
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--mtime=@1", flag, "-C"])
        .arg(project.path("packed"));
    let done = Done::of(tar.arg("-f").arg(project.path("tree.tar")).args(["-c", "x"]));
    assert!(done.status.success(), "{done}");
}

const TWINS: &[Twins] = &[
    twins(
        "extended attributes of the context's files, which no copy takes, and the files",
        "FROM base\nCOPY attributed /\n",
        &[],
        (
            Around(|project| {
                let mut set = Command::new("setfattr");
                let done = Done::of(
                    set.args(["-n", "user.a", "-v", "b"])
                        .arg(project.path("attributed")),
                );
                assert!(done.status.success(), "{done}");
            }),
            &[],
        ),
        (
            Around(|project| project.write("attributed", "other")),
            &["COPY attributed /"],
        ),
    ),
    twins(
        "an ARG of another stage, and of this one",
        "FROM base AS other\nARG A=1\nRUN echo $A\nCOPY beside /file\n\
         FROM base\nARG A=1\nCOPY --from=other /file /\nRUN echo one\n",
        &[],
        (
            Text("other\nARG A=1", "other\nARG A=2"),
            // It writes nothing, so what follows it there is as it was.
            &["RUN echo $A"],
        ),
        (Flags(&["--build-arg", "A=3"]), &["RUN echo $A", "RUN echo one"]),
    ),
    twins(
        "a bind of the context",
        "FROM base\nRUN --mount=type=bind,source=bound,target=/m cat /m/x\n",
        &[],
        (Around(|project| project.write("beside", "other")), &[]),
        (
            Around(|project| project.write("bound/x", "other")),
            &["RUN --mount=type=bind,source=bound,target=/m cat /m/x"],
        ),
    ),
    twins(
        "a bind of a stage's directory, and what else the stage has",
        "FROM base AS from\nRUN echo 1 > /unused\nRUN mkdir /d; echo 1 > /d/used\n\
         FROM base\nRUN --mount=from=from,source=/d,target=/m cat /m/used\n",
        &[],
        (
            Text("echo 1 > /unused", "echo 2 > /unused"),
            &["RUN echo 2 > /unused", "RUN mkdir /d; echo 1 > /d/used"],
        ),
        (
            Text("echo 1 > /d/used", "echo 2 > /d/used"),
            &[
                "RUN --mount=from=from,source=/d,target=/m cat /m/used",
                "RUN mkdir /d; echo 2 > /d/used",
            ],
        ),
    ),
    twins(
        "what is copied of an image, and what else it has",
        "FROM base\nCOPY --from=other /used /\n",
        &[],
        (Around(|project| image(project, "1", "2")), &[]),
        (
            Around(|project| image(project, "2", "2")),
            &["COPY --from=other /used /"],
        ),
    ),
    twins(
        "a cache mount's content, and its name",
        "FROM base\nRUN --mount=type=cache,id=kept,target=/c ls /c\n",
        &[],
        (Around(fill_cache), &[]),
        (
            Text("id=kept", "id=another"),
            &["RUN --mount=type=cache,id=another,target=/c ls /c"],
        ),
    ),
    twins(
        "where a mount is",
        "FROM base\nRUN --mount=type=tmpfs,target=/memory,size=1m true\n",
        &[],
        (Text("target=/memory,size=1m", "size=1m,target=/memory"), &[]),
        (
            Text("target=/memory", "target=/elsewhere"),
            &["RUN --mount=type=tmpfs,target=/elsewhere,size=1m true"],
        ),
    ),
    twins(
        "the size of one in memory",
        "FROM base\nRUN --mount=type=tmpfs,target=/memory,size=2m true\n",
        &[],
        (
            Text("type=tmpfs,target=/memory", "target=/memory,type=tmpfs"),
            &[],
        ),
        (
            Text("size=2m", "size=3m"),
            &["RUN --mount=type=tmpfs,target=/memory,size=3m true"],
        ),
    ),
    twins(
        "a secret's value, and its id",
        "FROM base\nRUN --mount=type=secret,id=one cat /run/secrets/*\n",
        &["--secret", "id=one,env=PATH"],
        (Flags(&["--secret", "id=one,env=BRYO_ROOT"]), &[]),
        (
            Text("id=one cat", "id=one,target=/run/secrets/two cat"),
            &["RUN --mount=type=secret,id=one,target=/run/secrets/two cat /run/secrets/*"],
        ),
    ),
    twins(
        "a here-document, and its name",
        "FROM base\nRUN <<A\necho one\nA\n",
        &[],
        (Text("RUN <<A\necho one\nA", "RUN <<B\necho one\nB"), &[]),
        (Text("echo one", "echo two"), &["RUN <<A"]),
    ),
    twins(
        "a file that is a here-document",
        "FROM base\nCOPY <<A /a\none\nA\n",
        &[],
        (Text("FROM base\n", "FROM base\nLABEL a=b\n"), &[]),
        (Text("one", "two"), &["COPY <<A /a"]),
    ),
    twins(
        "the form of a command, and of the words in it",
        "FROM base\nRUN [ \"echo\", \"one\" ]\n",
        &[],
        (Text("[ \"echo\", \"one\" ]", "[\"echo\",\"one\"]"), &[]),
        (Text("[ \"echo\", \"one\" ]", "echo  one"), &["RUN echo  one"]),
    ),
    twins(
        "the platform, where something says it",
        "FROM scratch\nARG TARGETARCH\nCOPY packed /$TARGETARCH/\n",
        &["--platform", "linux/amd64"],
        (Text("ARG TARGETARCH", "ARG TARGETARCH TARGETOS"), &[]),
        (
            Flags(&["--platform", "linux/arm64"]),
            &["COPY packed /$TARGETARCH/"],
        ),
    ),
    twins(
        "a named context",
        "FROM base\nCOPY --from=named x /\n",
        &["--build-context", "named=CONTEXT/named"],
        (Around(|project| project.write("named/y", "other")), &[]),
        (
            Around(|project| project.write("named/x", "other")),
            &["COPY --from=named x /"],
        ),
    ),
    twins(
        "what a volume holds, and where it is",
        "FROM base\nRUN ls /volume\n",
        &["--volume", "CONTEXT/named:/volume:ro"],
        (Around(|project| project.write("named/z", "other")), &[]),
        (Flags(&["--volume", "CONTEXT/named:/volume"]), &["RUN ls /volume"]),
    ),
    twins(
        "limits, and how many builds go on at once",
        "FROM base\nRUN ulimit -n\n",
        &["--ulimit", "nofile=100:100"],
        (Flags(&["--ulimit", "nofile=100:100", "--jobs", "1"]), &[]),
        (Flags(&["--ulimit", "nofile=101:101"]), &["RUN ulimit -n"]),
    ),
    twins(
        "a variable for all stages, and one that the image loses",
        "FROM base\nRUN echo $GIVEN\n",
        &["--env", "GIVEN=1"],
        (Flags(&["--env", "GIVEN=1", "--unsetenv", "GIVEN"]), &[]),
        (Flags(&["--env", "GIVEN=2"]), &["RUN echo $GIVEN"]),
    ),
    twins(
        "the time of all",
        "FROM base\nRUN echo timed > /x\n",
        &["--timestamp", "1000"],
        (Flags(&["--timestamp", "1000", "-t", "more"]), &[]),
        (Flags(&["--timestamp", "1001"]), &["RUN echo timed > /x"]),
    ),
    twins(
        "an archive, and how it is compressed",
        "FROM base\nADD tree.tar /there/\n",
        &[],
        (Around(|project| archive(project, "1", "--gzip")), &[]),
        (
            Around(|project| archive(project, "2", "--gzip")),
            &["ADD tree.tar /there/"],
        ),
    ),
    twins(
        "settings that no command sees, and one that it does",
        "FROM base\nENV SEEN=1\nRUN echo $SEEN\n",
        &[],
        (
            Text(
                "ENV SEEN=1\n",
                "EXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\nHEALTHCHECK NONE\nENTRYPOINT [\"x\"]\nONBUILD RUN y\nENV SEEN=1\n",
            ),
            &[],
        ),
        (Text("SEEN=1", "SEEN=2"), &["RUN echo $SEEN"]),
    ),
    twins(
        "the directories above a source",
        "FROM base\nCOPY --parents bound/x /p/\n",
        &[],
        (Text("bound/x", "./bound/x"), &[]),
        (Text("bound/x", "bound/./x"), &["COPY --parents bound/./x /p/"]),
    ),
    twins(
        "the trigger of a base",
        "FROM other\nRUN echo triggered\n",
        &[],
        (
            Around(|project| drop(project.bryo.ok(["tag", "other", "again"]))),
            &[],
        ),
        (
            Around(|project| {
                let text = "FROM again\nONBUILD COPY bound /by-trigger\n";
                project.build(text, &["-t", "other"]);
            }),
            &["COPY bound /by-trigger", "RUN echo triggered"],
        ),
    ),
];

/// Flags, with the context's place in them.
fn flags(project: &Project, flags: &[&str]) -> Vec<String> {
    let place = project.path("");
    let place = place.to_str().unwrap().trim_end_matches('/');
    flags.iter().map(|flag| flag.replace("CONTEXT", place)).collect()
}

#[test]
fn each_input_has_a_change_that_counts_and_one_that_does_not() {
    let project = Project::new();
    for path in ["attributed", "beside", "bound/x", "named/x"] {
        project.write(path, path);
    }
    archive(&project, "1", "--no-auto-compress");
    image(&project, "1", "1");
    fill_cache(&project);
    for twins in TWINS {
        let what = twins.input;
        let build = |change: &Change| {
            let (mut text, mut given) = (twins.text.to_string(), twins.flags);
            match change {
                Text(old, new) => {
                    text = text.replacen(old, new, 1);
                    assert_ne!(text, twins.text, "{what}");
                }
                Flags(flags) => given = flags,
                Around(done) => done(&project),
            }
            let given = flags(&project, given);
            project.build(&text, &given.iter().map(String::as_str).collect::<Vec<_>>())
        };
        build(&Flags(twins.flags));
        for (change, runs) in [&twins.same, &twins.other] {
            let mut built = build(change);
            // Stages are built side by side.
            built.run.sort_unstable();
            assert_eq!(built.run, *runs, "{what}\n{}", built.said);
        }
    }
    fs::remove_file(project.path("tree.tar")).unwrap();
}
