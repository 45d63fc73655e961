//! `build --call`: the examples of BuildKit's tests (`frontend/dockerfile/dockerfile_outline_test.go`,
//! `dockerfile_targets_test.go`), and of docs.docker.com/reference/cli/docker/buildx/build (`--call`).

use serde_json::Value;

use crate::common::{Done, Project, fed};

#[track_caller]
fn asked(project: &Project, dockerfile: &str, flags: &[&str]) -> String {
    let done = Done::of(&mut project.command(dockerfile, flags));
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    done.stdout
}

#[track_caller]
fn json(project: &Project, dockerfile: &str, flags: &[&str]) -> Value {
    serde_json::from_str(&asked(project, dockerfile, flags)).expect("JSON")
}

fn line(value: &Value) -> &Value {
    &value["location"]["ranges"][0]["start"]["line"]
}

/// `testOutlineArgs`.
const ARGS: &str = "ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx=\"usy${inherited}\"

FROM b${sfx} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN true

FROM alpine${unused} AS second
ARG BAZ
RUN true

FROM scratch AS third
ARG ABC=a

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
";

#[test]
fn the_outline_has_the_arguments_of_what_is_needed() {
    let project = Project::new();
    let flags = ["--target=target", "--build-arg=BAR=678"];
    let outline = json(
        &project,
        ARGS,
        &["--call=outline,format=json", flags[0], flags[1]],
    );
    assert_eq!(outline["name"], "target");
    assert_eq!(outline["description"], "defines build target");
    assert_eq!(outline["sources"].as_array().unwrap().len(), 1);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let args: Vec<_> = outline["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| {
            (
                text(&arg["name"]),
                text(&arg["value"]),
                text(&arg["description"]),
                line(arg).as_u64().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("inherited", "box", "", 1),
        ("sfx", "usybox", "is a suffix", 5),
        ("FOO", "123", "", 9),
        ("BAR", "678", "is a number", 11),
        ("ABC", "a", "", 19),
    ];
    let wanted = wanted.map(|(name, value, said, line)| (name.into(), value.into(), said.into(), line));
    assert_eq!(args, wanted);
    let table = asked(&project, ARGS, &["--call=outline", flags[0], flags[1]]);
    assert_eq!(
        table,
        "TARGET:      target\n\
         DESCRIPTION: defines build target\n\
         \n\
         BUILD ARG   VALUE    DESCRIPTION\n\
         inherited   box      \n\
         sfx         usybox   is a suffix\n\
         FOO         123      \n\
         BAR         678      is a number\n\
         ABC         a        \n\
         \n"
    );
}

/// `testOutlineSecrets`.
#[test]
fn the_outline_has_the_secrets_and_agents() {
    let project = Project::new();
    let dockerfile = "
FROM busybox AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM alpine AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} true

FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required true

FROM second
";
    let flags = ["--target=target", "--build-arg=BAR=678"];
    let outline = json(
        &project,
        dockerfile,
        &["--call=outline,format=json", flags[0], flags[1]],
    );
    let told = |kind: &str| -> Vec<(String, bool, u64)> {
        let list = outline[kind].as_array().unwrap().iter();
        list.map(|wanted| {
            (
                wanted["name"].as_str().unwrap().into(),
                wanted["required"] == true,
                line(wanted).as_u64().unwrap(),
            )
        })
        .collect()
    };
    assert_eq!(
        told("secrets"),
        [("passwd".into(), true, 3), ("second678".into(), false, 10)]
    );
    assert_eq!(
        told("ssh"),
        [("default".into(), false, 3), ("ssh3".into(), true, 14)]
    );
    let table = asked(&project, dockerfile, &["--call=outline", flags[0], flags[1]]);
    assert!(table.ends_with("SECRET      REQUIRED\npasswd      true\nsecond678   \n\nSSH       REQUIRED\ndefault   \nssh3      true\n\n"), "{table}");
}

/// `testTargetsList`, and the table of the reference.
#[test]
fn the_targets_are_the_stages() {
    let project = Project::new();
    let dockerfile = "
# build defines stage for compiling the binary
FROM alpine AS build
RUN true

FROM busybox as second
RUN false

FROM alpine
RUN false

# binary returns the compiled binary
FROM second AS binary
";
    let list = json(&project, dockerfile, &["--call=targets,format=json"]);
    let targets = list["targets"].as_array().unwrap();
    let of = |field: &str| -> Vec<&str> {
        let fields = targets
            .iter()
            .map(|target| target[field].as_str().unwrap_or_default());
        fields.collect()
    };
    assert_eq!(of("name"), ["build", "second", "", "binary"]);
    assert_eq!(of("base"), ["alpine", "busybox", "alpine", "second"]);
    assert_eq!(
        of("description"),
        [
            "defines stage for compiling the binary",
            "",
            "",
            "returns the compiled binary"
        ]
    );
    let lines: Vec<_> = targets.iter().map(|target| line(target).as_u64()).collect();
    assert_eq!(lines, [Some(3), Some(6), Some(9), Some(13)]);
    let default: Vec<bool> = targets.iter().map(|target| target["default"] == true).collect();
    assert_eq!(default, [false, false, false, true]);
    assert_eq!(
        asked(&project, dockerfile, &["--print=targets"]),
        "TARGET           DESCRIPTION\n\
         build            defines stage for compiling the binary\n\
         second           \n\
         \u{20}                \n\
         binary (default) returns the compiled binary\n"
    );
}

/// The reference, "Descriptions"; directives and empty comments are none.
#[test]
fn descriptions_are_comments_before() {
    let project = Project::new();
    let dockerfile = "# syntax=docker/dockerfile:1

# GO_VERSION sets the Go version for the build
ARG GO_VERSION=1.22
# GO is cut off by an empty comment
#
ARG GO=${GO_VERSION}

# base-builder is the base stage for building the project
FROM golang:${GO} AS base-builder
";
    assert_eq!(
        asked(&project, dockerfile, &["--call=outline"]),
        "TARGET:      base-builder\n\
         DESCRIPTION: is the base stage for building the project\n\
         \n\
         BUILD ARG    VALUE   DESCRIPTION\n\
         GO_VERSION   1.22    sets the Go version for the build\n\
         GO           1.22    \n\
         \n"
    );
}

/// `frontend/subrequests/lint/lint.go`.
#[test]
fn a_check_answers_in_json_too() {
    let project = Project::new();
    let dockerfile = "FROM base AS Upper\n";
    let flags = ["--call=check,format=json"];
    let done = Done::of(&mut project.command(dockerfile, &flags));
    assert_eq!(done.status.code(), Some(1), "{done}");
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    let warning = &found["warnings"][0];
    assert_eq!(warning["ruleName"], "StageNameCasing");
    assert_eq!(warning["description"], "Stage names should be lowercase");
    assert_eq!(warning["detail"], "Stage name 'Upper' should be lowercase");
    assert_eq!(
        warning["url"],
        "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"
    );
    assert_eq!(line(warning), 1);
    assert_eq!(found["sources"][0]["filename"], "Dockerfile");
    // The Dockerfile, as base64.
    assert_eq!(found["sources"][0]["data"], "RlJPTSBiYXNlIEFTIFVwcGVyCg==");
    let done = Done::of(&mut project.command(dockerfile, &["--call=check,ignorestatus=true"]));
    assert_eq!(done.status.code(), Some(0), "{done}");
}

#[test]
fn an_answer_is_metadata_and_nothing_is_built() {
    let project = Project::new();
    let file = project.bryo.scratch("metadata");
    let flag = format!("--metadata-file={}", file.display());
    let dockerfile = "# a\nFROM base AS a\nRUN touch /x\n";
    asked(&project, dockerfile, &["--call=targets", &flag]);
    let metadata: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(metadata["result.json"]["targets"][0]["name"], "a");
    let images = project.bryo.ok(["images", "-q", "made"]);
    assert_eq!(images, "");
}

#[test]
fn wrong_questions_are_told() {
    let project = Project::new();
    let said = project.fails("FROM base\n", &["--call=outline", "--target=none"]);
    assert!(
        said.contains("target stage \"none\" could not be found"),
        "{said}"
    );
    let said = project.fails("FROM base\nARG a=${b?missing}\n", &["--call=outline"]);
    assert!(said.contains("b: missing"), "{said}");
    let mut command = project.bryo.command(["build", "--call=dance", "-"]);
    let done = fed(&mut command, "FROM base\n");
    assert!(!done.status.success());
    assert!(
        done.stderr
            .contains("the methods are build, check, outline and targets"),
        "{done}"
    );
}
