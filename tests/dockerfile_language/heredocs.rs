//! Here-documents.

use bryo::build::dockerfile::{Heredoc, Instruction, Run, Source, parse_trigger};

use super::{step, steps};

fn run(text: &str) -> Run {
    match step(text) {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

/// Name, content, expand, chomp.
type Found<'a> = (&'a str, &'a str, bool, bool);

fn found(heredocs: &[Heredoc]) -> Vec<Found<'_>> {
    heredocs
        .iter()
        .map(|h| (h.name.as_str(), h.content.as_str(), h.expand, h.chomp))
        .collect()
}

/// `parser/parser_heredoc_test.go`, TestParseExtractsHeredoc and TestParseJSONHeredoc.
#[test]
fn names_and_contents() {
    let table: &[(&str, &[Found])] = &[
        ("RUN ls", &[]),
        ("RUN <<EMPTY\nEMPTY", &[("EMPTY", "", true, false)]),
        ("RUN 3<<EMPTY2\nEMPTY2", &[("EMPTY2", "", true, false)]),
        ("RUN \"<<NOHEREDOC\"", &[]),
        ("RUN '<<EOF'", &[]),
        (
            "RUN <<INDENT\n\tfoo\n\tbar\nINDENT",
            &[("INDENT", "\tfoo\n\tbar\n", true, false)],
        ),
        (
            "RUN <<-UNINDENT\n\tbaz\n\tquux\nUNINDENT",
            &[("UNINDENT", "\tbaz\n\tquux\n", true, true)],
        ),
        (
            "RUN <<-UNINDENT2\n\tbaz\n\tUNINDENT2",
            &[("UNINDENT2", "\tbaz\n", true, true)],
        ),
        (
            "RUN <<-'NOEXPAND'\n\tdon't $NAME\nNOEXPAND",
            &[("NOEXPAND", "\tdon't $NAME\n", false, true)],
        ),
        ("RUN <<-\"EOF\"\n\ta\n\tEOF", &[("EOF", "\ta\n", false, true)]),
        (
            "RUN <<COPY\necho hello\nCOPY",
            &[("COPY", "echo hello\n", true, false)],
        ),
        (
            "RUN <<C\n# internal\na # trailing\n\nb \\\nC",
            &[("C", "# internal\na # trailing\n\nb \\\n", true, false)],
        ),
        (
            "RUN --mount=type=cache,target=/foo <<M\necho hello\nM",
            &[("M", "echo hello\n", true, false)],
        ),
        (
            "RUN <<X <<Y cat\nY\nX\nX\nY",
            &[("X", "Y\n", true, false), ("Y", "X\n", true, false)],
        ),
        (
            "RUN <<COMPLEX python3\nprint('hello')\nCOMPLEX",
            &[("COMPLEX", "print('hello')\n", true, false)],
        ),
        (
            "RUN <<eo'f'\necho foo\neof",
            &[("eof", "echo foo\n", false, false)],
        ),
        (
            "RUN <<eo\\'f\necho foo\neo'f",
            &[("eo'f", "echo foo\n", true, false)],
        ),
        (
            "RUN <<'e'o\\'f\necho foo\neo'f",
            &[("eo'f", "echo foo\n", false, false)],
        ),
        (
            "RUN <<'one two'\necho bar\none two",
            &[("one two", "echo bar\n", false, false)],
        ),
        ("RUN <<$EOF\n$EOF", &[("$EOF", "", true, false)]),
        ("RUN <<  EOF\nEOF", &[("EOF", "", true, false)]),
        ("RUN <<  EOF  > foo\nEOF", &[("EOF", "", true, false)]),
        ("RUN << -EOF\n-EOF", &[("-EOF", "", true, false)]),
        ("RUN cat <<E > f\r\na\r\nE\r\n", &[("E", "a\r\n", true, false)]),
        ("RUN a \\\n <<E\nx\nE", &[("E", "x\n", true, false)]),
        ("RUN cat <<< text", &[]),
        ("RUN [\"<<EOF\"]", &[]),
        ("RUN [\"<<'EOF'\"]", &[]),
    ];
    for (text, expected) in table {
        assert_eq!(found(&run(text).heredocs), *expected, "{text:?}");
    }
}

/// `parser/parser_heredoc_test.go`: other instructions have none, so the next line is an instruction.
#[test]
fn only_three_instructions_have_them() {
    let user = steps("USER <<INVALID\nRUN x");
    assert_eq!(user[0].instruction, Instruction::User("<<INVALID".to_owned()));
    assert_eq!(user.len(), 2);
}

/// `instructions/parse_heredoc_test.go`, TestCopyHeredoc.
#[test]
fn copy_takes_them_as_files() {
    /// A path, or a name, its text and whether it is expanded.
    type Expected<'a> = (&'a str, Option<(&'a str, bool)>);
    let table: &[(&str, &[Expected], &str)] = &[
        ("COPY /foo /bar", &[("/foo", None)], "/bar"),
        ("COPY <<EOF /bar\nEOF", &[("EOF", Some(("", true)))], "/bar"),
        (
            "COPY <<EOF /bar\nTESTING\nEOF",
            &[("EOF", Some(("TESTING\n", true)))],
            "/bar",
        ),
        (
            "COPY <<-EOF /bar\n\tTESTING\nEOF",
            &[("EOF", Some(("TESTING\n", true)))],
            "/bar",
        ),
        (
            "COPY <<'EOF' /bar\nTESTING\nEOF",
            &[("EOF", Some(("TESTING\n", false)))],
            "/bar",
        ),
        (
            "COPY <<EOF1 <<EOF2 /bar\nfirst\nEOF1\nsecond\nEOF2",
            &[
                ("EOF1", Some(("first\n", true))),
                ("EOF2", Some(("second\n", true))),
            ],
            "/bar",
        ),
        (
            "COPY <<EOF foo.txt /bar\nthis is inline\nEOF",
            &[("EOF", Some(("this is inline\n", true))), ("foo.txt", None)],
            "/bar",
        ),
        (
            "COPY <<EOF /quotes\n\"quotes\"\nEOF",
            &[("EOF", Some(("\"quotes\"\n", true)))],
            "/quotes",
        ),
        (
            "COPY <<file.txt /dest\nhello world\nfile.txt",
            &[("file.txt", Some(("hello world\n", true)))],
            "/dest",
        ),
        (
            "COPY --chmod=777 <<EOF /all\ndummy\nEOF",
            &[("EOF", Some(("dummy\n", true)))],
            "/all",
        ),
    ];
    for (text, expected, dest) in table {
        let Instruction::Copy(copy) = step(text) else {
            panic!("{text}")
        };
        let sources: Vec<_> = copy
            .sources
            .iter()
            .map(|source| match source {
                Source::Path(path) => (path.clone(), None),
                Source::Inline(h) => (h.name.clone(), Some((h.text(), h.expand))),
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, c)| (n.to_string(), c.map(|(t, e)| (t.to_owned(), e))))
            .collect();
        assert_eq!((sources, copy.dest.as_str()), (expected, *dest), "{text:?}");
    }
}

/// `dockerfile2llb/convert.go`, dispatchRun, and `dockerfile_heredoc_test.go`: what the shell is given.
#[test]
fn run_gives_them_to_the_shell() {
    // (instruction, is it the whole command, the shell's text)
    let table = [
        ("RUN <<EOF\nls /\nwhoami\nEOF", true, "ls /\nwhoami\n"),
        ("RUN <<-EOF\n\techo \"\n\tbar\"\nEOF", true, "echo \"\nbar\"\n"),
        (
            "RUN <<EOF\n#!/bin/awk -f\nBEGIN {}\nEOF",
            true,
            "#!/bin/awk -f\nBEGIN {}\n",
        ),
        (
            "RUN <<'EOF' | python\nprint(\"hello\")\nEOF",
            false,
            "<<'EOF' | python\nprint(\"hello\")\nEOF",
        ),
        ("RUN cat <<EOF > f\na $x\nEOF", false, "cat <<EOF > f\na $x\nEOF"),
        ("RUN <<-EOF sh > f\n\ta\n\tEOF", false, "<<-EOF sh > f\n\ta\nEOF"),
        (
            "RUN <<EOF 3<<IN1 awk -f -\na\nEOF\nb\nIN1",
            false,
            "<<EOF 3<<IN1 awk -f -\na\nEOF\nb\nIN1",
        ),
        ("RUN ls", false, "ls"),
    ];
    for (text, sole, script) in table {
        let run = run(text);
        assert_eq!(
            (run.sole_heredoc().is_some(), run.script().as_deref()),
            (sole, Some(script)),
            "{text:?}"
        );
    }
    assert_eq!(run("RUN [\"ls\", \"/\"]").script(), None);
}

/// `instructions/parse.go`, parseOnBuild, and testOnBuildHeredoc: the trigger can be read again.
#[test]
fn triggers_keep_them() {
    let Instruction::OnBuild(text) = step("ONBUILD RUN <<EOF\necho \"hello world\" >> /dest\nEOF") else {
        panic!()
    };
    assert_eq!(text, "RUN <<EOF\necho \"hello world\" >> /dest\nEOF");
    let Instruction::Run(run) = parse_trigger(&text).unwrap().instruction else {
        panic!()
    };
    assert_eq!(run.script().as_deref(), Some("echo \"hello world\" >> /dest\n"));
}
