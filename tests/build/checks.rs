//! Build checks: the examples of docs.docker.com/reference/build-checks, bad and good, in the words of BuildKit's rules
//! (`frontend/dockerfile/linter/ruleset.go`), and the ways of buildx to show them.

use std::fs;

use crate::common::{Done, Project};

/// What `--check` finds: `Rule line: detail`.
#[track_caller]
fn found(project: &Project, dockerfile: &str, flags: &[&str]) -> Vec<String> {
    let all: Vec<&str> = ["--check"].iter().chain(flags).copied().collect();
    let done = Done::of(&mut project.command(dockerfile, &all));
    let mut lines = done.stdout.lines();
    let mut findings = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(rule) = line.strip_prefix("WARNING: ") {
            let (rule, _) = rule
                .split_once(" - https://docs.docker.com/go/dockerfile/rule/")
                .unwrap();
            let (detail, place) = (lines.next().unwrap(), lines.next().unwrap());
            findings.push(format!(
                "{rule} {}: {detail}",
                place.strip_prefix("Dockerfile:").unwrap()
            ));
        }
    }
    assert_eq!(
        done.status.code(),
        Some(i32::from(!findings.is_empty())),
        "{done}"
    );
    assert_eq!(done.stderr, "");
    findings
}

/// A Dockerfile and what is found in it; then one without a finding.
const TABLE: &[(&str, &[&str], &str)] = &[
    (
        "FROM base AS BuilderBase\n",
        &["StageNameCasing 1: Stage name 'BuilderBase' should be lowercase"],
        "FROM base AS builder-base\n",
    ),
    (
        "FROM base as builder\n",
        &["FromAsCasing 1: 'as' and 'FROM' keywords' casing do not match"],
        "from base as builder\n",
    ),
    (
        "FROM base\nEXPOSE \\\n\n80\n",
        &["NoEmptyContinuation 4: Empty continuation line"],
        "FROM base\nEXPOSE \\\n# Port\n80\n",
    ),
    (
        "From base\nRun echo hello > /greeting.txt\nEntRYpOiNT [\"cat\", \"/greeting.txt\"]\n",
        &[
            "ConsistentInstructionCasing 1: Command 'From' should match the case of the command majority (uppercase)",
            "ConsistentInstructionCasing 2: Command 'Run' should match the case of the command majority (uppercase)",
            "ConsistentInstructionCasing 3: Command 'EntRYpOiNT' should match the case of the command majority (uppercase)",
        ],
        "from base\nrun echo hello > /greeting.txt\nentrypoint [\"cat\", \"/greeting.txt\"]\n",
    ),
    (
        "from base\nRUN one\nrun two\n",
        &[
            "ConsistentInstructionCasing 2: Command 'RUN' should match the case of the command majority (lowercase)",
        ],
        "FROM base\nRUN one\n",
    ),
    (
        "FROM base AS builder\nFROM base AS builder\n",
        &["DuplicateStageName 2: Duplicate stage name \"builder\", stage names should be unique"],
        "FROM base AS builder\nFROM base AS runner\n",
    ),
    (
        "FROM base AS scratch\nFROM base AS context\n",
        &[
            "ReservedStageName 1: Stage name should not use the same name as reserved stage \"scratch\"",
            "ReservedStageName 2: Stage name should not use the same name as reserved stage \"context\"",
        ],
        "FROM base AS builder\n",
    ),
    (
        "FROM base\nENTRYPOINT my-program start\nCMD more\n",
        &[
            "JSONArgsRecommended 2: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
            "JSONArgsRecommended 3: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ],
        "FROM base\nSHELL [\"/bin/sh\", \"-c\"]\nENTRYPOINT my-program start\n",
    ),
    (
        "FROM base\nMAINTAINER moby@example.com\n",
        &["MaintainerDeprecated 2: Maintainer instruction is deprecated in favor of using label"],
        "FROM base\nLABEL org.opencontainers.image.authors=\"moby@example.com\"\n",
    ),
    (
        "ARG VARIANT=x\nFROM base${VARIANTS}\n",
        &["UndefinedArgInFrom 2: FROM argument 'VARIANTS' is not declared (did you mean VARIANT?)"],
        "ARG VARIANT\nFROM base${VARIANT}\n",
    ),
    (
        "FROM base\nWORKDIR usr/share/nginx/html\nWORKDIR more\n",
        &[
            "WorkdirRelativePath 2: Relative workdir \"usr/share/nginx/html\" can have unexpected results if the base image changes",
        ],
        "FROM base\nWORKDIR /usr\nWORKDIR share\n",
    ),
    (
        "FROM base AS one\nARG foo\nCOPY $foo .\nFROM base\nCOPY $foo .\n",
        &["UndefinedVar 5: Usage of undefined variable '$foo'"],
        "FROM base AS one\nENV foo=1\nCOPY $foo .\nFROM one\nCOPY $foo ${bar:-x} ${baz-y} '$quoted' \\$escaped .\n",
    ),
    (
        "FROM base\nENV A=1\nENV PATH=$PAHT:/app B=$A\nRUN echo $undefined\n",
        &["UndefinedVar 3: Usage of undefined variable '$PAHT' (did you mean $PATH?)"],
        "FROM scratch\nENV PATH=$PATH:/app\n",
    ),
    (
        "FROM base\nENTRYPOINT [\"echo\", \"Hello\"]\nENTRYPOINT [\"echo\", \"Hello, Norway!\"]\nCMD [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]\n",
        &[
            "MultipleInstructionsDisallowed 2: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
            "MultipleInstructionsDisallowed 4: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ],
        "FROM base AS one\nENTRYPOINT [\"echo\"]\nFROM one\nENTRYPOINT [\"echo\"]\nCMD [\"a\"]\n",
    ),
    (
        "FROM base\nENV DIR /app\nLABEL key value\n",
        &[
            "LegacyKeyValueFormat 2: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "LegacyKeyValueFormat 3: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
        ],
        "FROM base\nENV DIR=/app\nLABEL \"a b\"=c\n",
    ),
    (
        "FROM --platform=$TARGETPLATFORM base AS one\nFROM --platform=${TARGETPLATFORM} base\n",
        &[
            "RedundantTargetPlatform 1: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            "RedundantTargetPlatform 2: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
        ],
        "FROM --platform=$BUILDPLATFORM base\n",
    ),
    (
        "FROM base\nARG AWS_SECRET_ACCESS_KEY\nENV API_TOKEN=x apikey=1\n",
        &[
            "SecretsUsedInArgOrEnv 2: Do not use ARG or ENV instructions for sensitive data (ARG \"AWS_SECRET_ACCESS_KEY\")",
            "SecretsUsedInArgOrEnv 3: Do not use ARG or ENV instructions for sensitive data (ENV \"API_TOKEN\")",
            "SecretsUsedInArgOrEnv 3: Do not use ARG or ENV instructions for sensitive data (ENV \"apikey\")",
        ],
        "FROM base\nENV PUBLIC_KEY=x KEYBOARD=de AUTHOR=me\n",
    ),
    (
        "ARG TAG\nFROM base:${TAG}\n",
        &[
            "InvalidDefaultArgInFrom 2: Default value for ARG base:${TAG} results in empty or invalid base image name",
        ],
        "ARG TAG=latest\nFROM base:${TAG}\n",
    ),
    (
        "FROM --platform=linux/amd64 base AS build\n",
        &[
            "FromPlatformFlagConstDisallowed 1: FROM --platform flag should not use constant value \"linux/amd64\"",
        ],
        "FROM --platform=linux/amd64 base AS build_amd64\n",
    ),
    (
        "FROM base\nEXPOSE 80/TcP 127.0.0.1:80:80\n",
        &[
            "ExposeProtoCasing 2: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
            "ExposeInvalidFormat 2: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ],
        "FROM base\nEXPOSE 80/tcp $PORT\n",
    ),
    // These two only if they are asked for.
    (
        "# check=experimental=all\nFROM base\nCOPY ignored /x\nADD ignored /y\n",
        &[
            "CopyIgnoredFile 3: Attempting to Copy file \"ignored\" that is excluded by .dockerignore",
            "CopyIgnoredFile 4: Attempting to Add file \"ignored\" that is excluded by .dockerignore",
        ],
        "FROM base\nCOPY ignored /x\n",
    ),
    (
        "# check=experimental=InvalidDefinitionDescription\n\n# another thing\nFROM base AS build\n# version of it\nARG version=1\n# what it is\nARG name\n",
        &[
            "InvalidDefinitionDescription 4: Comment for FROM should follow the format: `# build <description>`",
            "InvalidDefinitionDescription 8: Comment for ARG should follow the format: `# name <description>`",
        ],
        "# another thing\nFROM base AS build\n",
    ),
];

#[test]
fn each_check_finds_the_bad_example_and_not_the_good_one() {
    let project = Project::new();
    project.write(".dockerignore", "ignored\n");
    for (bad, wanted, good) in TABLE {
        assert_eq!(&found(&project, bad, &[]), wanted, "{bad}");
        assert_eq!(found(&project, good, &[]), [""; 0], "{good}");
    }
}

#[test]
fn findings_are_shown_and_left_out_as_asked() {
    let project = Project::new();
    let text = "FROM base AS One\nRUN true\nCMD echo\n";
    let done = Done::of(&mut project.command(text, &["--call=check"]));
    let wanted = "Check complete, 2 warnings have been found!\n\n\
        WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
        Stage name 'One' should be lowercase\n\
        Dockerfile:1\n--------------------\n   1 | >>> FROM base AS One\n   2 |     RUN true\n   3 |     CMD echo\n--------------------\n\n\
        WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n\
        JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n\
        Dockerfile:3\n--------------------\n   1 |     FROM base AS One\n   2 |     RUN true\n   3 | >>> CMD echo\n--------------------\n";
    assert_eq!(done.stdout, wanted);
    let done = Done::of(&mut project.command("FROM base\n", &["--check"]));
    assert_eq!(done.stdout, "Check complete, no warnings found.\n");
    // Nothing was built.
    assert!(!project.bryo.ok(["images"]).contains("made"));
    let skip = |what: &str| format!("# check=skip={what}\n{text}");
    assert_eq!(found(&project, &skip("StageNameCasing"), &[]).len(), 1);
    assert_eq!(
        found(&project, &skip("StageNameCasing, JSONArgsRecommended"), &[]).len(),
        0
    );
    assert_eq!(found(&project, &skip("all"), &[]).len(), 0);
    let instead = [
        "--build-arg",
        "BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended",
    ];
    assert_eq!(found(&project, &skip("all"), &instead).len(), 1);
    let said = project.fails("# check=nonsense\nFROM base\n", &["--check"]);
    assert!(said.ends_with("invalid check option \"nonsense\"\n"), "{said}");
    let said = project.fails("FROM base\nRUNN x\n", &["--check"]);
    assert!(said.contains(">>> RUNN x"), "{said}");
}

#[test]
fn a_build_ends_with_what_was_found() {
    let project = Project::new();
    let text = "FROM base AS One\nCMD echo\n";
    let built = project.build(text, &["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=false"]);
    let wanted = "\n 2 warnings found (use --check to expand):\n - StageNameCasing: Stage name 'One' should be lowercase (line 1)\n \
        - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)\n";
    assert!(
        built.said.ends_with(wanted) && !built.said.contains("not consumed"),
        "{}",
        built.said
    );
    let done = Done::of(&mut project.command(text, &["-q"]));
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
    // Also of a build that fails, before it says why.
    let said = project.fails("FROM base AS One\nRUN false\n", &[]);
    let found = said.find("1 warning found").unwrap();
    assert!(found < said.find("Dockerfile:2").unwrap(), "{said}");
    assert!(said.trim_end().ends_with("exit code: 1"), "{said}");
    // As errors, they come before anything is done.
    let said = project.fails(&format!("# check=error=true\n{text}RUN touch /made\n"), &[]);
    assert!(
        said.contains("2 warnings found") && !said.contains("RUN touch"),
        "{said}"
    );
    let last = "lint violation found for rules: StageNameCasing, JSONArgsRecommended\n";
    assert!(said.ends_with(last), "{said}");
    project.build("# check=error=true\nFROM base\nRUN true\n", &[]);
}

#[test]
fn only_stages_that_are_needed_count_but_how_the_file_is_written_does() {
    let project = Project::new();
    let text = "FROM base AS used\nENV A 1\nFROM base AS Unused\nENV B 2\nMAINTAINER me\nFROM base AS last\n\
        RUN --mount=from=used,target=/m true\nFROM last\n";
    let rules = |flags: &[&str]| -> Vec<String> {
        let found = found(&project, text, flags).into_iter();
        found
            .map(|finding| finding.split(':').next().unwrap().to_owned())
            .collect()
    };
    let all = [
        "LegacyKeyValueFormat 2",
        "StageNameCasing 3",
        "LegacyKeyValueFormat 4",
        "MaintainerDeprecated 5",
    ];
    assert_eq!(rules(&[]), all);
    assert_eq!(rules(&["--target", "last"]), [&all[..2], &all[3..]].concat());
    assert_eq!(rules(&["--target", "unused"]), all[1..]);
    assert_eq!(rules(&["--target", "1"]), all[1..]);
    let built = project.build(text, &[]);
    assert!(built.said.contains("3 warnings found"), "{}", built.said);
}

#[test]
fn a_base_that_is_not_there_yet_brings_no_false_findings() {
    let project = Project::new();
    let text = "FROM nowhere.example/base\nENV A=$OF_THE_BASE\n";
    assert_eq!(found(&project, text, &[]), [""; 0]);
    fs::write(
        project.bryo.scratch("parent"),
        "FROM base\nENV OF_THE_BASE=1\nSHELL [\"/bin/sh\", \"-c\"]\n",
    )
    .unwrap();
    let mut parent = project.bryo.command(["build", "-q", "-t", "parent", "-f"]);
    parent.arg(project.bryo.scratch("parent")).arg(project.path(""));
    assert!(Done::of(&mut parent).status.success());
    let text = "FROM parent\nENV A=$OF_THE_BASE B=$OF_NOBODY\nCMD echo\n";
    let wanted = ["UndefinedVar 2: Usage of undefined variable '$OF_NOBODY'"];
    assert_eq!(found(&project, text, &[]), wanted);
}

#[test]
fn a_base_for_another_machine_is_told() {
    let project = Project::new();
    let foreign = ["--platform", "linux/s390x", "-t", "foreign"];
    project.build("FROM scratch\nLABEL a=b\n", &foreign);
    project.build("FROM scratch\nLABEL a=b\n", &["-t", "native"]);
    let host = project.image("native", "{{.Os}}/{{.Architecture}}");
    let text = "FROM native AS one\nFROM foreign AS other\nFROM one\n";
    let wanted = format!(
        "InvalidBaseImagePlatform 2: Base image foreign was pulled with platform \"linux/s390x\", \
         expected \"{host}\" for current build"
    );
    assert_eq!(found(&project, text, &[]), [wanted.as_str()]);
    assert_eq!(found(&project, text, &["--target", "other"]), [wanted.as_str()]);
    // Not needed; asked for; left out; or in its place another.
    let asked = "FROM --platform=$BUILDPLATFORM foreign\n";
    let skipped = format!("# check=skip=InvalidBaseImagePlatform\n{text}");
    for (text, flags) in [
        (text, ["--target", "one"]),
        (text, ["--platform", "linux/s390x"]),
        (asked, ["--target", "0"]),
        (&skipped, ["--target", "other"]),
        (text, ["--build-context", "foreign=docker-image://native"]),
    ] {
        assert_eq!(found(&project, text, &flags), [""; 0], "{flags:?}");
    }
}

/// What is given on the command line can take a base's place, or set what no line sets.
#[test]
fn what_is_given_for_the_build_counts_for_its_checks() {
    let project = Project::new();
    project.build("FROM base\nENV FOO=foo\n", &["-t", "withfoo"]);
    let strict = |text: &str| format!("# check=error=true\n{text}");
    let both = "FROM base AS first\nFROM first\nWORKDIR /$FOO\n";
    let beside = "FROM base AS other\nENV FOO foo\nFROM base\nCOPY --from=other /foo /$FOO\n";
    for (text, flag, value) in [
        (both, "--env", "FOO=foo"),
        (both, "--from", "withfoo"),
        (both, "--build-context", "base=docker-image://withfoo"),
        // It comes before the stage of its name.
        (both, "--build-context", "FIRST=docker-image://withfoo"),
    ] {
        assert_eq!(found(&project, text, &[flag, value]), [""; 0], "{flag} {value}");
        project.build(&strict(text), &[flag, value]);
        assert_eq!(project.sh("cd /foo; pwd"), "/foo\n");
    }
    let undefined = ["UndefinedVar 3: Usage of undefined variable '$FOO'"];
    for (flag, value) in [
        ("--env", "FO=foo"),
        ("--from", "base"),
        ("--build-context", "a=docker-image://withfoo"),
    ] {
        let said = found(&project, both, &[flag, value]);
        assert!(said.len() == 1 && said[0].starts_with(undefined[0]), "{said:?}");
    }
    project.write("foo", "file");
    let context = format!("other={}", project.path("").display());
    project.build(
        &strict(beside),
        &["--env", "FOO=foo", "--build-context", &context],
    );
    assert_eq!(project.sh("cat /foo"), "file");
}

/// A hostile file: each unknown name would be compared with a thousand long ones.
#[test]
fn names_are_proposed_as_far_as_it_costs_little() {
    let project = Project::new();
    let name = |number: usize| format!("{}{number:04}", "A".repeat(56));
    let mut text = String::from("FROM base\n");
    (0..1000).for_each(|number| text += &format!("ARG {}\n", name(number)));
    (0..9).for_each(|number| text += &format!("USER ${}x\n", name(number)));
    let found = found(&project, &text, &[]);
    let is_proposed: Vec<bool> = found.iter().map(|line| line.contains("did you mean")).collect();
    assert_eq!(is_proposed.len(), 9, "{found:?}");
    assert!(is_proposed[0] && !is_proposed[8], "{found:?}");
}
