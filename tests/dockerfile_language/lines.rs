//! Where instructions begin and end, and parser directives.

use bryo::build::dockerfile::{Instruction, Place, parse};

use super::steps;

fn texts(text: &str) -> Vec<String> {
    steps(text).into_iter().map(|step| step.text).collect()
}

/// The reference, "Format", and `parser/parser_test.go`, TestParseWarnsOnEmptyContinutationLine.
#[test]
fn continuation_comments_and_empty_lines() {
    let table: &[(&str, &[&str])] = &[
        ("RUN valid \\\n    continuation", &["RUN valid     continuation"]),
        (
            "RUN something \\\n\n    following \\\n\n    more",
            &["RUN something     following     more"],
        ),
        ("RUN another \\\n\n    thing", &["RUN another     thing"]),
        (
            "RUN non-indented \\\n# this is a comment\n   after-comment",
            &["RUN non-indented    after-comment"],
        ),
        (
            "RUN indented \\\n    # an indented comment\n    comment",
            &["RUN indented     comment"],
        ),
        // "Comments": not at a line's start, # is text.
        ("RUN echo hello \\\n# comment\nworld", &["RUN echo hello world"]),
        (
            "RUN echo 'we are running some # of cool things'",
            &["RUN echo 'we are running some # of cool things'"],
        ),
        (
            "        # this is a comment-line\n    RUN echo hello\nRUN echo world",
            &["RUN echo hello", "RUN echo world"],
        ),
        ("# this is a comment\n\n\nRUN a", &["RUN a"]),
        // Comments do not continue.
        ("# comment \\\nRUN a", &["RUN a"]),
        // parser.go: spaces and tabs may stand behind the escape character; two of them continue nothing.
        ("RUN a\\ \t\nb", &["RUN ab"]),
        ("RUN a\\\\\nRUN b", &["RUN a\\\\", "RUN b"]),
        ("RUN a \\\n\\\nb", &["RUN a b"]),
        ("RUN a \\", &["RUN a"]),
        ("RUN a\\\n  b\\\n  c", &["RUN a  b  c"]),
        ("RUN a\r\nRUN b \\\r\nc\r\n", &["RUN a", "RUN b c"]),
        ("RUN\ta\tb", &["RUN\ta\tb"]),
    ];
    for (text, expected) in table {
        assert_eq!(texts(text), *expected, "{text:?}");
    }
}

/// `parser/parser_test.go`, TestParseIncludesLineNumbers.
#[test]
fn places_are_lines() {
    let found: Vec<Place> = steps("\n# c\nRUN a \\\n\n  b\nCOPY <<E /\nx\nE\n")
        .iter()
        .map(|step| step.place)
        .collect();
    assert_eq!(found, [Place { first: 4, last: 6 }, Place { first: 7, last: 9 }]);
}

/// The reference, "Parser directives", and `parser/directives_test.go`.
#[test]
fn directives() {
    // (the file's start; syntax, escape, check)
    let table: &[(&str, Option<&str>, char, Option<&str>)] = &[
        ("", None, '\\', None),
        (
            "# syntax=docker/dockerfile:1\n",
            Some("docker/dockerfile:1"),
            '\\',
            None,
        ),
        ("#syntax = a/b:1 \n#  escape=`\n", Some("a/b:1"), '`', None),
        ("# escape=\\\n", None, '\\', None),
        ("# ESCAPE=`\n", None, '`', None),
        (
            "# check=skip=JSONArgsRecommended;error=true\n",
            None,
            '\\',
            Some("skip=JSONArgsRecommended;error=true"),
        ),
        ("\u{feff}# syntax=x\n", Some("x"), '\\', None),
        ("#!/usr/bin/env x\n# syntax=x\n", Some("x"), '\\', None),
        // Behind a comment, an empty line or another directive they are comments.
        ("# about\n# escape=`\n", None, '\\', None),
        ("\n# escape=`\n", None, '\\', None),
        ("# unknowndirective=value\n# syntax=x\n", None, '\\', None),
        // Whitespace before # is none of a directive's business.
        ("  # syntax=x\n", Some("x"), '\\', None),
        ("# syntax=x\r\n# escape=`\r\n", Some("x"), '`', None),
        // "Not a directive": no value.
        ("# escape=\n", None, '\\', None),
    ];
    for (start, syntax, escape, check) in table {
        let found = parse(&format!("{start}FROM scratch\n")).unwrap().directives;
        assert_eq!(
            (found.syntax.as_deref(), found.escape, found.check.as_deref()),
            (*syntax, *escape, *check),
            "{start:?}"
        );
    }
}

/// The reference, "escape": the Windows example.
#[test]
fn the_escape_directive_frees_the_backslash() {
    let file = parse("# escape=`\n\nFROM x\nCOPY testfile.txt c:\\\nRUN dir c:\\ `\n  /s\n").unwrap();
    let found: Vec<_> = file.stages[0]
        .steps
        .iter()
        .map(|step| step.text.as_str())
        .collect();
    assert_eq!(found, ["COPY testfile.txt c:\\", "RUN dir c:\\   /s"]);
}

/// The reference, "FROM" and "ARG": stages, and what may come before them.
#[test]
fn stages() {
    let file = parse(
        "ARG A=1 B\nARG C=\"x y\"\nFROM --platform=$BUILDPLATFORM img:$A AS Build.1\nRUN a\nfrom scratch as two\n\
         FROM build.1\nARG A\n",
    )
    .unwrap();
    let args: Vec<_> = file
        .args
        .iter()
        .map(|arg| (arg.name.as_str(), arg.default.as_deref()))
        .collect();
    assert_eq!(args, [("A", Some("1")), ("B", None), ("C", Some("\"x y\""))]);
    let stages: Vec<_> = file
        .stages
        .iter()
        .map(|s| {
            (
                s.from.image.as_str(),
                s.from.platform.as_deref(),
                s.from.name.as_deref(),
                s.steps.len(),
            )
        })
        .collect();
    assert_eq!(
        stages,
        [
            ("img:$A", Some("$BUILDPLATFORM"), Some("build.1"), 1),
            ("scratch", None, Some("two"), 0),
            ("build.1", None, None, 1),
        ]
    );
    assert!(matches!(&file.stages[2].steps[0].instruction, Instruction::Arg(args) if args.len() == 1));
    // convert.go, addState: two stages of one name are no error.
    assert_eq!(parse("FROM a AS x\nFROM b AS X\n").unwrap().stages.len(), 2);
}
