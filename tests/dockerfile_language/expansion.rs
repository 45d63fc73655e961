//! Words with variables.

use bryo::build::dockerfile::{expand, expand_text, expand_words};

fn value<'a>(env: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_string())
    }
}

/// A table: environment, then word and what it becomes. `Err` is any error.
fn check(env: &[(&str, &str)], table: &[(&str, Result<&str, ()>)]) {
    for (word, expected) in table {
        let found = expand(word, '\\', &value(env));
        assert_eq!(found.as_deref().map_err(|_| ()), *expected, "{word}: {found:?}");
    }
}

/// `shell/envVarTest`, with its environment.
#[test]
fn words() {
    let env = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
    ];
    check(
        &env,
        &[
            ("hello", Ok("hello")),
            ("he'll'o", Ok("hello")),
            ("he'llo", Err(())),
            ("he\\'llo", Ok("he'llo")),
            ("he\\\\'llo", Err(())),
            ("abc\\tdef", Ok("abctdef")),
            ("\"abc\\tdef\"", Ok("abc\\tdef")),
            ("\"abc\\\\tdef\"", Ok("abc\\tdef")),
            ("'abc\\tdef'", Ok("abc\\tdef")),
            ("hello\\", Ok("hello")),
            ("hello\\\\", Ok("hello\\")),
            ("\"hello", Err(())),
            ("\"hello\\\"", Err(())),
            ("\"hel'lo\"", Ok("hel'lo")),
            ("'hello", Err(())),
            ("'hello\\'", Ok("hello\\")),
            ("'hello\\there'", Ok("hello\\there")),
            ("'hello\\\\there'", Ok("hello\\\\there")),
            ("\"''\"", Ok("''")),
            ("$.", Ok("$.")),
            ("he$1x", Ok("hex")),
            ("he$.x", Ok("he$.x")),
            ("he$pwd.", Ok("he.")),
            ("he$PWD", Ok("he/home")),
            ("he\\$PWD", Ok("he$PWD")),
            ("he\\\\$PWD", Ok("he\\/home")),
            ("\"he\\$PWD\"", Ok("he$PWD")),
            ("\"he\\\\$PWD\"", Ok("he\\/home")),
            ("\\${}", Ok("${}")),
            ("\\${}aaa", Ok("${}aaa")),
            ("he\\${}", Ok("he${}")),
            ("he\\${}xx", Ok("he${}xx")),
            ("${}", Err(())),
            ("${}aaa", Err(())),
            ("he${}", Err(())),
            ("he${}xx", Err(())),
            ("he${hi}", Ok("he")),
            ("he${hi}xx", Ok("hexx")),
            ("he${PWD}", Ok("he/home")),
            ("he${.}", Err(())),
            ("he${XXX:-000}xx", Ok("he000xx")),
            ("he${PWD:-000}xx", Ok("he/homexx")),
            ("he${XXX:-$PWD}xx", Ok("he/homexx")),
            ("he${XXX:-${PWD:-yyy}}xx", Ok("he/homexx")),
            ("he${XXX:-${YYY:-yyy}}xx", Ok("heyyyxx")),
            ("he${XXX:YYY}", Err(())),
            ("he${XXX?}", Err(())),
            ("he${XXX:?}", Err(())),
            ("he${PWD?}", Ok("he/home")),
            ("he${PWD:?}", Ok("he/home")),
            ("he${NULL?}", Ok("he")),
            ("he${NULL:?}", Err(())),
            ("he${XXX:+${PWD}}xx", Ok("hexx")),
            ("he${PWD:+${XXX}}xx", Ok("hexx")),
            ("he${PWD:+${SHELL}}xx", Ok("hebashxx")),
            ("he${XXX:+000}xx", Ok("hexx")),
            ("he${PWD:+000}xx", Ok("he000xx")),
            ("'he${XX}'", Ok("he${XX}")),
            ("\"he${PWD}\"", Ok("he/home")),
            ("\"he'$PWD'\"", Ok("he'/home'")),
            ("\"$PWD\"", Ok("/home")),
            ("'$PWD'", Ok("$PWD")),
            ("'\\$PWD'", Ok("\\$PWD")),
            ("'\"hello\"'", Ok("\"hello\"")),
            ("'he\\$PWD'", Ok("he\\$PWD")),
            ("he${PWD", Err(())),
            ("he${PWD:=000}xx", Err(())),
            ("he${PWD:+${PWD}:}xx", Ok("he/home:xx")),
            ("he${XXX:-\\$PWD:}xx", Ok("he$PWD:xx")),
            ("he${XXX:-\\${PWD}z}xx", Ok("he${PWDz}xx")),
            ("안녕하세요", Ok("안녕하세요")),
            ("안'녕'하세요", Ok("안녕하세요")),
            ("안'녕하세요", Err(())),
            ("안녕\\'하세요", Ok("안녕'하세요")),
            ("안$1x", Ok("안x")),
            ("안$.x", Ok("안$.x")),
            ("안${KOREAN}", Ok("안한국어")),
            ("안${XXX:-$KOREAN}z", Ok("안한국어z")),
            ("$KOREAN", Ok("한국어")),
            ("$@x$*x$#x$?x$-x$$x$!", Ok("xxxxxx")),
            ("$", Ok("$")),
            ("${", Err(())),
            ("${{PWD}}", Err(())),
            ("${:-x}", Err(())),
            ("${PWD-x}${XXX-y}${NULL-z}", Ok("/homey")),
        ],
    );
}

/// `shell/lex_test.go`, TestProcessWithMatches.
#[test]
fn set_empty_and_unset() {
    check(
        &[("FOO", "xxx"), ("BAR", "")],
        &[
            ("x", Ok("x")),
            ("x ${UNUSED}", Ok("x ")),
            ("x ${FOO}", Ok("x xxx")),
            ("${FOO-aaa} ${BAR-bbb} ${BAZ-ccc}", Ok("xxx  ccc")),
            ("${FOO:-aaa} ${BAR:-bbb} ${BAZ:-ccc}", Ok("xxx bbb ccc")),
            ("${FOO:-}", Ok("xxx")),
            ("${BAZ:-}", Ok("")),
            ("${FOO+aaa} ${BAR+bbb} ${BAZ+ccc}", Ok("aaa bbb ")),
            ("${FOO:+aaa} ${BAR:+bbb} ${BAZ:+ccc}", Ok("aaa  ")),
            ("${FOO?aaa}", Ok("xxx")),
            ("${BAR?bbb}", Ok("")),
            ("${BAZ?ccc}", Err(())),
            ("${FOO:?aaa}", Ok("xxx")),
            ("${BAR:?bbb}", Err(())),
            ("${BAZ:?ccc}", Err(())),
            ("${BAZ:?}", Err(())),
            ("${FOO=aaa}", Err(())),
            ("${FOO=:aaa}", Err(())),
            ("${BAZ=}", Err(())),
        ],
    );
}

/// A word, its environment, and what it becomes.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<&'a str, ()>);

/// `shell/lex_test.go`, TestProcessWithMatches: each case with its own environment.
#[test]
fn patterns() {
    let cases: &[Case] = &[
        (
            "${FOO#()[]{\\}^$.\\*\\?|\\\\}",
            &[("FOO", "()[]{}^$.*?|\\x")],
            Ok("x"),
        ),
        ("${FOO%%\\**}", &[("FOO", "xx**")], Ok("xx")),
        ("${FOO#*x*y}", &[("FOO", "xxyy")], Ok("y")),
        ("${FOO#*}", &[("FOO", "xxyy")], Ok("xxyy")),
        ("${FOO#$BAR}", &[("FOO", "xxyy"), ("BAR", "x")], Ok("xyy")),
        ("${FOO#$BAR}", &[("FOO", "xxyy"), ("BAR", "")], Ok("xxyy")),
        ("${FOO#}", &[("FOO", "xxyy")], Ok("xxyy")),
        ("${FOO##*x}", &[("FOO", "xxyy")], Ok("yy")),
        ("${FOO##}", &[("FOO", "xxyy")], Ok("xxyy")),
        ("${FOO#?\\?}", &[("FOO", "???y")], Ok("?y")),
        ("${ABC:-.}${FOO%x}${ABC:-.}", &[("FOO", "xxyy")], Ok(".xxyy.")),
        ("${FOO%%\\**\\*}", &[("FOO", "a***yy*")], Ok("a")),
        ("${FOO%}", &[("FOO", "xxyy")], Ok("xxyy")),
        ("${FOO%%$BAR}", &[("FOO", "xxyy"), ("BAR", "")], Ok("xxyy")),
        (
            "${FOO/$NEEDLE/.} - ${FOO//$NEEDLE/.}",
            &[("FOO", "/foo*/*/*.txt"), ("NEEDLE", "\\*/")],
            Ok("/foo.*/*.txt - /foo..*.txt"),
        ),
        (
            "${FOO/$NEEDLE/} - ${FOO//$NEEDLE/}",
            &[("FOO", "/tmp/tmp/bar.txt"), ("NEEDLE", "/tmp")],
            Ok("/tmp/bar.txt - /bar.txt"),
        ),
        (
            "${FOO/$NEEDLE/$REPLACEMENT} - ${FOO//$NEEDLE/$REPLACEMENT}",
            &[("FOO", "/a/foo/b/c.txt"), ("NEEDLE", "/?/"), ("REPLACEMENT", "/")],
            Ok("/foo/b/c.txt - /foo/c.txt"),
        ),
        (
            "${FOO/$NEEDLE/$REPLACEMENT}",
            &[
                ("FOO", "http://google.de"),
                ("NEEDLE", "http://"),
                ("REPLACEMENT", "https://"),
            ],
            Ok("https://google.de"),
        ),
        (
            "${FOO//\\//\\/}",
            &[("FOO", "/tmp/foo.txt")],
            Ok("\\/tmp\\/foo.txt"),
        ),
        ("${FOO/$BAR/ww}", &[("FOO", "xxyy"), ("BAR", "")], Ok("wwxxyy")),
        ("${FOO//ww}", &[("FOO", "xxyy")], Err(())),
        ("${FOO//}", &[("FOO", "xxyy")], Err(())),
        ("${FOO///}", &[("FOO", "xxyy")], Ok("xxyy")),
        ("${FOO///}", &[], Ok("")),
        // TestConvertShellPatternToRegex: what is no escape.
        ("${FOO#\\x}", &[("FOO", "x")], Err(())),
        ("${FOO#\\\\\\x}", &[("FOO", "x")], Err(())),
        // The reference, "Environment replacement".
        ("${str#f*b}", &[("str", "foobarbaz")], Ok("arbaz")),
        ("${str##f*b}", &[("str", "foobarbaz")], Ok("az")),
        ("${string%b*}", &[("string", "foobarbaz")], Ok("foobar")),
        ("${string%%b*}", &[("string", "foobarbaz")], Ok("foo")),
        ("${string/ba/fo}", &[("string", "foobarbaz")], Ok("fooforbaz")),
        ("${string//ba/fo}", &[("string", "foobarbaz")], Ok("fooforfoz")),
        // TestProcessWithMatchesPlatform.
        (
            "something-${VERSION}.${TARGETOS}-${TARGETARCH}${TARGETVARIANT:+-${TARGETVARIANT}}.tar.gz",
            &[
                ("VERSION", "v1.2.3"),
                ("TARGETOS", "linux"),
                ("TARGETARCH", "arm"),
                ("TARGETVARIANT", "v7"),
            ],
            Ok("something-v1.2.3.linux-arm-v7.tar.gz"),
        ),
        (
            "something-${VERSION}.${TARGETOS}-${TARGETARCH}${TARGETVARIANT:+-${TARGETVARIANT}}.tar.gz",
            &[
                ("VERSION", "v1.2.3"),
                ("TARGETOS", "linux"),
                ("TARGETARCH", "arm64"),
                ("TARGETVARIANT", ""),
            ],
            Ok("something-v1.2.3.linux-arm64.tar.gz"),
        ),
    ];
    for (word, env, expected) in cases {
        check(env, &[(word, *expected)]);
    }
}

/// `shell/lex_test.go`, TestShellParserMandatoryEnvVars: the message is expanded too.
#[test]
fn a_missing_value_is_said_in_the_files_words() {
    for word in ["${VAR:?message here$ARG}", "${VAR?message here$ARG}"] {
        let error = expand(word, '\\', &value(&[("ARG", "x")]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("VAR") && error.contains("message herex"),
            "{error}"
        );
    }
}

/// `shell/wordsTest`.
#[test]
fn several_words() {
    let env = [
        ("FOO", "foo"),
        ("BAR", "bar bar"),
        ("EMPTY", ""),
        ("TRAILING", "a b "),
    ];
    let table: &[(&str, &[&str])] = &[
        ("hello", &["hello"]),
        ("hello${hi}bye", &["hellobye"]),
        ("hello\\ bye", &["hello bye"]),
        ("hello bye", &["hello", "bye"]),
        ("  hello   bye  ", &["hello", "bye"]),
        ("'hello bye'", &["hello bye"]),
        ("\"hello bye\" x", &["hello bye", "x"]),
        ("$FOO$BAR", &["foobar", "bar"]),
        ("\"$BAR\"", &["bar bar"]),
        ("'$BAR'", &["$BAR"]),
        ("x$EMPTY y", &["x", "y"]),
        ("$EMPTY", &[]),
        ("", &[]),
        ("${TRAILING}c", &["a", "b", "c"]),
        ("${none:-a b}", &["a", "b"]),
        ("80 443/tcp", &["80", "443/tcp"]),
    ];
    for (word, expected) in table {
        assert_eq!(
            expand_words(word, '\\', &value(&env)).unwrap(),
            *expected,
            "{word}"
        );
    }
}

/// The reference, "escape": with a backtick, backslashes are text.
#[test]
fn another_escape_character() {
    let env = [("V", "v")];
    let table = [
        ("c:\\windows", "c:\\windows"),
        ("`$V\\$V", "$V\\v"),
        ("\"`\"`$V\"", "\"$V"),
        ("a` b", "a b"),
    ];
    for (word, expected) in table {
        assert_eq!(expand(word, '`', &value(&env)).unwrap(), expected, "{word}");
    }
}

/// `dockerfile_heredoc_test.go`, testCopyHeredocSpecialSymbols and testHeredocVarSubstitution.
#[test]
fn here_documents_keep_their_quotes() {
    let table = [
        ("\"quotes in file\"\n", "\"quotes in file\"\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("\\$\n", "$\n"),
        ("Hello ${name}!\n", "Hello world!\n"),
        ("Hello '${name}'!\n", "Hello 'world'!\n"),
        ("Hello \"${name}\"!\n", "Hello \"world\"!\n"),
        ("it's one quote\n", "it's one quote\n"),
    ];
    for (text, expected) in table {
        assert_eq!(
            expand_text(text, &value(&[("name", "world")])).unwrap(),
            expected,
            "{text:?}"
        );
    }
}
