//! What is wrong, where, and what was probably meant.

use bryo::build::dockerfile::{Place, parse};

/// (what follows `FROM scratch`, a word of the message)
fn check(table: &[(&str, &str)]) {
    for (text, word) in table {
        let error = match parse(&format!("FROM scratch\n{text}")) {
            Err(error) => error,
            Ok(file) => panic!("{text:?}: {:?}", file.stages),
        };
        let line = error.to_string();
        assert!(line.contains(word), "{text:?}: {line}");
        assert!(!line.contains(char::is_control), "{text:?}: {line:?}");
        assert!(error.place().first >= 2, "{text:?}");
    }
}

/// `instructions/parse_test.go`: the counts of arguments, TestErrorCases; `parser/testfiles-negative`.
#[test]
fn arguments() {
    check(&[
        ("MAINTAINER", "exactly one argument"),
        ("WORKDIR", "exactly one argument"),
        ("USER ", "exactly one argument"),
        ("STOPSIGNAL", "exactly one argument"),
        ("ENV", "at least one argument"),
        ("LABEL", "at least one argument"),
        ("ONBUILD", "at least one argument"),
        ("HEALTHCHECK", "at least one argument"),
        ("EXPOSE", "at least one argument"),
        ("VOLUME", "at least one argument"),
        ("VOLUME []", "at least one argument"),
        ("ARG", "at least one argument"),
        ("SHELL", "at least one argument"),
        ("SHELL []", "at least one argument"),
        ("SHELL bash -c", "JSON"),
        ("ADD arg1", "destination"),
        ("COPY arg1", "destination"),
        ("COPY", "destination"),
        ("COPY [\"a\"]", "destination"),
        ("COPY\t\n\t\tquux \\\n      bar", "destination"),
        ("ENV a", "two arguments"),
        ("LABEL a", "two arguments"),
        ("ENV =arg2", "a name is empty"),
        ("LABEL =arg2", "a name is empty"),
        ("ARG =x", "a name is empty"),
        ("ENV a=b c", "no = in \"c\""),
        ("LABEL a=b \"c d\"", "no = in"),
        ("CMD [1]", "only strings"),
        ("CMD [\"a\", [\"b\"]]", "only strings"),
        ("RUN [\"a\", null]", "only strings"),
        ("VOLUME [{\"a\": \"b\"}]", "only strings"),
        ("COPY [1, \"a\"]", "only strings"),
        ("VOLUME [\"\"]", "empty"),
        ("VOLUME [\"/a\", \"  \"]", "empty"),
        ("FROM", "FROM takes"),
        ("FROM a b", "FROM takes"),
        ("FROM a as", "FROM takes"),
        ("FROM a is b", "FROM takes"),
        ("FROM a AS b c", "FROM takes"),
        ("FROM a AS 1", "cannot name a stage"),
        ("FROM a AS 1b", "cannot name a stage"),
        ("FROM a AS b/c", "cannot name a stage"),
        ("FROM a AS -b", "cannot name a stage"),
        ("FROM a AS ä", "cannot name a stage"),
        ("FROM a AS b$c", "cannot name a stage"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK CMD", "needs a command"),
        ("HEALTHCHECK CMD []", "needs a command"),
        ("HEALTHCHECK curl x", "needs CMD or NONE"),
    ]);
}

/// `instructions/bflag_test.go` and `instructions/parse.go`.
#[test]
fn flags() {
    check(&[
        ("MAINTAINER --boo joe@example.com", "no flag --boo"),
        ("COPY --form=x a b", "did you mean --from?"),
        ("COPY --chow=x a b", "did you mean --chown?"),
        ("COPY --unpack a b", "no flag --unpack"),
        ("ADD --from=x a b", "no flag --from"),
        ("ADD --parents a b", "no flag --parents"),
        ("COPY --CHOWN=x a b", "did you mean --chown?"),
        ("COPY --chown a b", "--chown needs a value"),
        ("COPY --chown=1 --chown=2 a b", "twice"),
        ("COPY --link --link a b", "twice"),
        ("COPY --link= a b", "--link needs a value"),
        ("COPY --link=yes a b", "true or false, not \"yes\""),
        ("COPY --from=$X a b", "variables are not expanded"),
        ("COPY --exclude a b", "--exclude needs a value"),
        ("RUN --mout=type=cache x", "did you mean --mount?"),
        ("RUN --network=bridge x", "only default, none and host"),
        ("RUN --network= x", "only default, none and host"),
        ("RUN --security=none x", "only sandbox and insecure"),
        ("FROM --platfrom=x a", "did you mean --platform?"),
        ("ENV --a=b", "no flag --a"),
        ("ARG --a b", "no flag --a"),
        ("STOPSIGNAL --a b", "no flag --a"),
        ("HEALTHCHECK --interval=50ns CMD x", "less than 1ms"),
        ("HEALTHCHECK --interval=-1s CMD x", "less than 1ms"),
        ("HEALTHCHECK --interval=5 CMD x", "no duration"),
        ("HEALTHCHECK --timeout=1x CMD x", "no duration"),
        ("HEALTHCHECK --retries=-1 CMD x", "no number"),
        ("HEALTHCHECK --retries=a CMD x", "no number"),
        ("HEALTHCHECK --retries=3000000000 CMD x", "no number"),
    ]);
}

/// `instructions/commands_runmount.go`.
#[test]
fn mounts() {
    check(&[
        ("RUN --mount x", "--mount needs a value"),
        ("RUN --mount=type=bnd,target=/t x", "did you mean bind?"),
        ("RUN --mount=type=cache,targt=/t x", "did you mean target?"),
        (
            "RUN --mount=type=cache,target=/t,sharing=lockd x",
            "did you mean locked?",
        ),
        ("RUN --mount=type=cache,target x", "no key=value pair"),
        ("RUN --mount=type=cache,target=/t,mode=9 x", "octal"),
        ("RUN --mount=type=cache,target=/t,uid=root x", "no number"),
        ("RUN --mount=type=cache,target=/t,uid=-1 x", "no number"),
        ("RUN --mount=target=/t,mode=0755 x", "type bind has no mode"),
        ("RUN --mount=target=/t,uid=1 x", "type bind has no uid"),
        (
            "RUN --mount=type=tmpfs,target=/t,gid=1 x",
            "type tmpfs has no gid",
        ),
        (
            "RUN --mount=target=/t,sharing=shared x",
            "type bind has no sharing",
        ),
        (
            "RUN --mount=type=cache,target=/t,size=1m x",
            "type cache has no size",
        ),
        ("RUN --mount=type=tmpfs,target=/t,size=x x", "size"),
        ("RUN --mount=target=/t,required x", "type bind has no required"),
        ("RUN --mount=type=secret,id=a,from=b x", "type secret has no from"),
        ("RUN --mount=type=secret x", "needs id, source or target"),
        ("RUN --mount=type=secret,id=a,source=b x", "either id or source"),
        ("RUN --mount=from=$X,target=/t x", "variables"),
        ("RUN --mount=target=/t,ro=maybe x", "true or false"),
        ("RUN --mount=\\\"target=/t x", "partner"),
    ]);
}

/// `instructions/parse_test.go`, TestErrorCases, and `parser/parser.go`.
#[test]
fn instructions() {
    check(&[
        ("FOO bar", "unknown instruction \"FOO\""),
        ("foo bar", "unknown instruction \"foo\""),
        ("RUNN x", "did you mean RUN?"),
        ("COPPY a b", "did you mean COPY?"),
        ("entrypont x", "did you mean ENTRYPOINT?"),
        ("FORM x", "did you mean FROM?"),
        ("INCLUDE x", "unknown instruction \"INCLUDE\""),
        ("\\", "unknown instruction"),
        ("ONBUILD FROM scratch", "FROM cannot be a trigger"),
        ("ONBUILD ONBUILD RUN touch foobar", "ONBUILD cannot be a trigger"),
        ("ONBUILD MAINTAINER x", "MAINTAINER cannot be a trigger"),
        ("ONBUILD RUNN x", "did you mean RUN?"),
        ("COPY /foo <<EOF\nEOF", "here-document as its destination"),
        ("RUN <<EOF\nx", "has no end"),
        ("COPY <<A <<B /\nA\nx", "\"B\" has no end"),
    ]);
}

/// parser.go and convert.go: errors of the file as a whole, and their places.
#[test]
fn whole_files() {
    let table = [
        ("", "no instructions", 1, 1),
        ("# only a comment\n\n", "no instructions", 2, 2),
        ("ARG a\n", "FROM is missing", 1, 1),
        ("ARG a\nRUN x\nFROM y\n", "RUN comes before the first FROM", 2, 2),
        ("# escape=x\nFROM y\n", "the escape directive takes", 1, 1),
        ("# escape=`\n# escape=`\nFROM y\n", "only once", 2, 2),
        ("# syntax=a\n# syntax=b\nFROM y\n", "only once", 2, 2),
        ("FROM y\n\nCOPY \\\n  # c\n  a\nRUN z", "destination", 3, 5),
        ("FROM y\nRUN <<E\na\nb", "has no end", 2, 4),
    ];
    for (text, word, first, last) in table {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(word), "{text:?}: {error}");
        assert_eq!(error.place(), Place { first, last }, "{text:?}");
    }
}
