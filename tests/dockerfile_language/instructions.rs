//! Each instruction and its flags.

use bryo::build::dockerfile::{
    Add, Arg, Command, Copy, Healthcheck, Instruction, Place, Source, parse_trigger,
};

use super::{step, steps, strings};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn shell(text: &str) -> Command {
    Command::Shell(text.to_owned())
}

fn exec(words: &[&str]) -> Command {
    Command::Exec(strings(words))
}

/// The reference, "ENV" and "LABEL"; `parser/parser_test.go`, TestParseWords; `parser/line_parsers.go`.
#[test]
fn env_and_label() {
    let table: &[(&str, &[(&str, &str)])] = &[
        ("MY_NAME=\"John Doe\"", &[("MY_NAME", "\"John Doe\"")]),
        ("MY_DOG=Rex\\ The\\ Dog", &[("MY_DOG", "Rex\\ The\\ Dog")]),
        (
            "MY_NAME=\"John Doe\" MY_DOG=Rex\\ The\\ Dog \\\n    MY_CAT=fluffy",
            &[
                ("MY_NAME", "\"John Doe\""),
                ("MY_DOG", "Rex\\ The\\ Dog"),
                ("MY_CAT", "fluffy"),
            ],
        ),
        // The old form: all behind the name is the value.
        ("MY_VAR my-value", &[("MY_VAR", "my-value")]),
        ("ONE TWO= THREE=world", &[("ONE", "TWO= THREE=world")]),
        ("a b c", &[("a", "b c")]),
        ("a   \"b\"  c", &[("a", "\"b\"  c")]),
        ("a=\"x y\" b=z", &[("a", "\"x y\""), ("b", "z")]),
        ("abc=hello", &[("abc", "hello")]),
        ("abc=bye def=$abc", &[("abc", "bye"), ("def", "$abc")]),
        ("a=", &[("a", "")]),
        ("a= b=\"\"", &[("a", ""), ("b", "\"\"")]),
        ("a=b=c", &[("a", "b=c")]),
        ("a='x \\' b=1", &[("a", "'x \\'"), ("b", "1")]),
        ("a=\"x \\\" y\" b=1", &[("a", "\"x \\\" y\""), ("b", "1")]),
        (
            "\"com.example.vendor\"=\"ACME Incorporated\"",
            &[("\"com.example.vendor\"", "\"ACME Incorporated\"")],
        ),
        (
            "com.example.label-with-value=\"foo\"",
            &[("com.example.label-with-value", "\"foo\"")],
        ),
        (
            "description=\"This text illustrates \\\nthat label-values can span multiple lines.\"",
            &[(
                "description",
                "\"This text illustrates that label-values can span multiple lines.\"",
            )],
        ),
        ("föo=\"âbc xÿz\"", &[("föo", "\"âbc xÿz\"")]),
        ("a=b\\", &[("a", "b")]),
    ];
    for (text, expected) in table {
        let last = if text.ends_with('\\') { " " } else { "" };
        assert_eq!(
            step(&format!("ENV {text}{last}")),
            Instruction::Env(pairs(expected)),
            "{text:?}"
        );
        assert_eq!(
            step(&format!("label {text}{last}")),
            Instruction::Label(pairs(expected)),
            "{text:?}"
        );
    }
}

/// The reference, "Shell and exec form" and "RUN"; `parser/json_test.go`: what is no JSON array is text.
#[test]
fn commands() {
    let table = [
        (
            "[\"/bin/bash\", \"-c\", \"echo hello\"]",
            exec(&["/bin/bash", "-c", "echo hello"]),
        ),
        ("[]", exec(&[])),
        ("[ \"a\" ]", exec(&["a"])),
        ("   [\"a\",\"b\"]  ", exec(&["a", "b"])),
        ("[\"c:\\\\windows\", \"\\u00e9\"]", exec(&["c:\\windows", "é"])),
        ("[\"a\"", shell("[\"a\"")),
        ("['a', 'b']", shell("['a', 'b']")),
        ("[\"a\"] b", shell("[\"a\"] b")),
        ("[\"c:\\windows\"]", shell("[\"c:\\windows\"]")),
        ("[ -f x ] && y", shell("[ -f x ] && y")),
        ("[ \"$a\" = 1 ]", shell("[ \"$a\" = 1 ]")),
        ("{\"a\": \"b\"}", shell("{\"a\": \"b\"}")),
        ("\"a\"", shell("\"a\"")),
        ("echo \"$HOME\" 'x'  y", shell("echo \"$HOME\" 'x'  y")),
        ("", shell("")),
    ];
    for (text, expected) in table {
        assert_eq!(
            step(&format!("CMD {text}")),
            Instruction::Cmd(expected.clone()),
            "{text:?}"
        );
        assert_eq!(
            step(&format!("ENTRYPOINT {text}")),
            Instruction::Entrypoint(expected.clone()),
            "{text:?}"
        );
        let Instruction::Run(run) = step(&format!("run {text}")) else {
            panic!()
        };
        assert_eq!(run.command, expected, "{text:?}");
    }
}

/// The reference: arguments by white space or as JSON, and the rest of the line as one.
#[test]
fn lists_and_lines() {
    let table = [
        (
            "EXPOSE 80/tcp 80/udp",
            Instruction::Expose(strings(&["80/tcp", "80/udp"])),
        ),
        (
            "EXPOSE 8000-9000 $PORTS",
            Instruction::Expose(strings(&["8000-9000", "$PORTS"])),
        ),
        (
            "VOLUME [\"/data\", \"/x y\"]",
            Instruction::Volume(strings(&["/data", "/x y"])),
        ),
        (
            "VOLUME /var/log /var/db",
            Instruction::Volume(strings(&["/var/log", "/var/db"])),
        ),
        ("VOLUME [\" /a \"]", Instruction::Volume(strings(&["/a"]))),
        ("WORKDIR /path to/x", Instruction::Workdir("/path to/x".into())),
        (
            "WORKDIR $DIRPATH/$DIRNAME",
            Instruction::Workdir("$DIRPATH/$DIRNAME".into()),
        ),
        ("USER  patrick:staff ", Instruction::User("patrick:staff".into())),
        (
            "USER ${UID:-1000}:100",
            Instruction::User("${UID:-1000}:100".into()),
        ),
        ("STOPSIGNAL SIGKILL", Instruction::StopSignal("SIGKILL".into())),
        (
            "MAINTAINER Jo <jo@x.y>",
            Instruction::Maintainer("Jo <jo@x.y>".into()),
        ),
        (
            "SHELL [\"powershell\", \"-command\"]",
            Instruction::Shell(strings(&["powershell", "-command"])),
        ),
        ("onbuild  run a  b", Instruction::OnBuild("run a  b".into())),
        (
            "ONBUILD COPY --from=x . /y",
            Instruction::OnBuild("COPY --from=x . /y".into()),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(step(text), expected, "{text}");
    }
}

/// The reference, "ARG"; `instructions/parse_test.go`, TestCommentsDetection: several on a line.
#[test]
fn arg() {
    let arg = |name: &str, default: Option<&str>| Arg {
        name: name.into(),
        default: default.map(Into::into),
        place: Place { first: 2, last: 2 },
        description: None,
    };
    let table = [
        ("ARG user1", vec![arg("user1", None)]),
        ("ARG user1=someuser", vec![arg("user1", Some("someuser"))]),
        ("ARG bar baz=123", vec![arg("bar", None), arg("baz", Some("123"))]),
        ("ARG a= b=\"\"", vec![arg("a", Some("")), arg("b", Some("\"\""))]),
        ("ARG a=x=y", vec![arg("a", Some("x=y"))]),
        (
            "ARG CONT_IMG_VER=${V:-v1.0.0}",
            vec![arg("CONT_IMG_VER", Some("${V:-v1.0.0}"))],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(step(text), Instruction::Arg(expected), "{text}");
    }
}

fn paths(paths: &[&str]) -> Vec<Source> {
    paths.iter().map(|path| Source::Path(path.to_string())).collect()
}

/// The reference, "COPY" and its flags.
#[test]
fn copy() {
    let plain = Copy {
        sources: paths(&["a"]),
        dest: "/b".into(),
        from: None,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
    };
    let table = [
        ("COPY a /b", plain.clone()),
        ("COPY [\"a\", \"/b\"]", plain.clone()),
        (
            "COPY file*.txt x /dir/",
            Copy {
                sources: paths(&["file*.txt", "x"]),
                dest: "/dir/".into(),
                ..plain.clone()
            },
        ),
        (
            "COPY [\"x y\", \"/d e/\"]",
            Copy {
                sources: paths(&["x y"]),
                dest: "/d e/".into(),
                ..plain.clone()
            },
        ),
        (
            "COPY --from=build a /b",
            Copy {
                from: Some("build".into()),
                ..plain.clone()
            },
        ),
        (
            "COPY --from=nginx:1$ a /b",
            Copy {
                from: Some("nginx:1$".into()),
                ..plain.clone()
            },
        ),
        ("COPY --from= a /b", plain.clone()),
        (
            "COPY --chown=55:mygroup a /b",
            Copy {
                chown: Some("55:mygroup".into()),
                ..plain.clone()
            },
        ),
        (
            "COPY --chown=$U a /b",
            Copy {
                chown: Some("$U".into()),
                ..plain.clone()
            },
        ),
        (
            "COPY --chmod=u=rwX,go=rX a /b",
            Copy {
                chmod: Some("u=rwX,go=rX".into()),
                ..plain.clone()
            },
        ),
        (
            "COPY --link a /b",
            Copy {
                link: true,
                ..plain.clone()
            },
        ),
        ("COPY --link=false a /b", plain.clone()),
        (
            "COPY --link=TRUE a /b",
            Copy {
                link: true,
                ..plain.clone()
            },
        ),
        (
            "COPY --parents --link a /b",
            Copy {
                link: true,
                parents: true,
                ..plain.clone()
            },
        ),
        (
            "COPY --exclude=*.txt --exclude=*.md a /b",
            Copy {
                exclude: strings(&["*.txt", "*.md"]),
                ..plain.clone()
            },
        ),
        (
            "COPY --exclude=\"x y\" a /b",
            Copy {
                exclude: strings(&["x y"]),
                ..plain.clone()
            },
        ),
        (
            "COPY --exclude=x\\ y a /b",
            Copy {
                exclude: strings(&["x y"]),
                ..plain.clone()
            },
        ),
        (
            "COPY -- --a /b",
            Copy {
                sources: paths(&["--a"]),
                ..plain.clone()
            },
        ),
        // Flags stand only before the arguments.
        (
            "COPY a --link /b",
            Copy {
                sources: paths(&["a", "--link"]),
                ..plain.clone()
            },
        ),
    ];
    for (text, expected) in table {
        assert_eq!(step(text), Instruction::Copy(expected), "{text}");
    }
}

/// The reference, "ADD" and its flags.
#[test]
fn add() {
    let plain = Add {
        sources: paths(&["a"]),
        dest: "/b".into(),
        chown: None,
        chmod: None,
        link: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: None,
        unpack: None,
    };
    let url = "https://github.com/moby/buildkit.git#v0.10.1";
    let table = [
        ("ADD a /b".to_owned(), plain.clone()),
        (
            "add --checksum=sha256:24 a /b".to_owned(),
            Add {
                checksum: Some("sha256:24".into()),
                ..plain.clone()
            },
        ),
        (
            format!("ADD --keep-git-dir=true {url} /b"),
            Add {
                sources: paths(&[url]),
                keep_git_dir: Some(true),
                ..plain.clone()
            },
        ),
        (
            "ADD --keep-git-dir=false a /b".to_owned(),
            Add {
                keep_git_dir: Some(false),
                ..plain.clone()
            },
        ),
        (
            "ADD --unpack a /b".to_owned(),
            Add {
                unpack: Some(true),
                ..plain.clone()
            },
        ),
        (
            "ADD --unpack=false a /b".to_owned(),
            Add {
                unpack: Some(false),
                ..plain.clone()
            },
        ),
        (
            "ADD --link --chown=1 --chmod=600 --exclude=x a /b".to_owned(),
            Add {
                link: true,
                chown: Some("1".into()),
                chmod: Some("600".into()),
                exclude: strings(&["x"]),
                ..plain.clone()
            },
        ),
    ];
    for (text, expected) in table {
        assert_eq!(step(&text), Instruction::Add(expected), "{text}");
    }
}

/// The reference, "HEALTHCHECK"; `instructions/parse_test.go`, TestHealthCheckCmd and TestParseOptInterval.
#[test]
fn healthcheck() {
    let check = |command| Healthcheck::Check {
        interval: None,
        timeout: None,
        start_period: None,
        start_interval: None,
        retries: None,
        command,
    };
    let interval = |flag: &str| match step(&format!("HEALTHCHECK --interval={flag} CMD x")) {
        Instruction::Healthcheck(Healthcheck::Check { interval, .. }) => interval,
        other => panic!("{other:?}"),
    };
    let table = [
        ("HEALTHCHECK NONE", Healthcheck::None),
        ("HEALTHCHECK none", Healthcheck::None),
        ("HEALTHCHECK CMD hello world", check(shell("hello world"))),
        ("HEALTHCHECK cmd [\"a\", \"b\"]", check(exec(&["a", "b"]))),
        (
            "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --start-interval=1ms --retries=3 \\\n  CMD a || exit 1",
            Healthcheck::Check {
                interval: Some(300_000_000_000),
                timeout: Some(3_000_000_000),
                start_period: Some(90_000_000_000),
                start_interval: Some(1_000_000),
                retries: Some(3),
                command: shell("a || exit 1"),
            },
        ),
        ("HEALTHCHECK --retries=0 CMD x", check(shell("x"))),
    ];
    for (text, expected) in table {
        assert_eq!(step(text), Instruction::Healthcheck(expected), "{text}");
    }
    // Go's time.ParseDuration.
    for (flag, expected) in [
        ("0ms", None),
        ("0", None),
        ("1ms", Some(1_000_000)),
        ("1.5s", Some(1_500_000_000)),
        (".5h", Some(1_800_000_000_000)),
        ("1h1m1s1ms1us1ns", Some(3_661_001_001_001)),
        ("+2000µs", Some(2_000_000)),
    ] {
        assert_eq!(interval(flag), expected, "{flag}");
    }
}

/// `dockerfile2llb/convert.go`, dispatchOnBuildTriggers: a trigger is one instruction, read with the usual escapes.
#[test]
fn triggers() {
    assert_eq!(parse_trigger("RUN a \\\n b").unwrap().text, "RUN a  b");
    for text in [
        "",
        "# only",
        "RUN a\nRUN b",
        "FROM x",
        "ONBUILD RUN x",
        "MAINTAINER x",
        "RUNN x",
    ] {
        assert!(parse_trigger(text).is_err(), "{text:?}");
    }
}

/// Names of instructions have no case; the text keeps it.
#[test]
fn case() {
    assert_eq!(steps("run x")[0].text, "run x");
    assert_eq!(step("Cmd x"), Instruction::Cmd(shell("x")));
}
