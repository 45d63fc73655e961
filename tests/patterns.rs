//! Does `.dockerignore` mean here what it means to Docker?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "common/dockerignore.rs"]
mod dockerignore;

use bryo::build::patterns::ignore::{Ignore, Verdict};
use dockerignore::Peer;
use proptest::prelude::*;

/// Checks one file's text with one path against what is wanted, here and in the second implementation.
#[track_caller]
fn check(text: &str, path: &str, excluded: bool) {
    let ignore = Ignore::parse(text.as_bytes()).unwrap();
    assert_eq!(ignore.excludes(path.as_bytes()), excluded, "{text:?} {path:?}");
    let peer = Peer::parse(text).unwrap();
    assert_eq!(peer.excludes(path), excluded, "the peer: {text:?} {path:?}");
}

/// The cases of moby/patternmatcher's `patternmatcher_test.go`, `TestMatches`, whose paths are clean.
#[test]
fn patternmatchers_own_cases() {
    let cases = [
        ("**", "file", true),
        ("**/", "file", true),
        ("**", "dir/file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\\\", "a\\", true),
        ("a\\*b", "a*b", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        (
            "dist/*.whl",
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            true,
        ),
        ("**\n!util/docker/web", "util/docker/web/foo", false),
        (
            "**\n!util/docker/web\nutil/docker/web/foo",
            "util/docker/web/foo",
            true,
        ),
        (
            "**\n!dist/*.whl",
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            false,
        ),
        // Its other tests.
        ("!fileutils.go\n*.go", "fileutils.go", true),
        ("*.go\n!fileutils.go", "fileutils.go", false),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs/\n!docs/README.md", "docs/README.md", false),
        ("docs/*\n!docs/README.md", "docs/README.md", false),
        ("docs\n  !docs/README.md", "docs/README.md", false),
        ("docs\n!docs/README.md  ", "docs/README.md", false),
        ("*.go", ".", false),
        // Go's own, where a directory above matches.
        ("a*", "ab/c", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a[^a][^a][^a]b", "a☺b", false),
        ("[a-ζ]*", "α", true),
    ];
    for (text, path, excluded) in cases {
        check(text, path, excluded);
    }
}

/// The examples of Docker's documentation, <https://docs.docker.com/build/concepts/context/#dockerignore-files>.
#[test]
fn the_documentations_examples() {
    let cases = [
        (
            "# comment\n*/temp*\n*/*/temp*\ntemp?\n",
            "somedir/temporary.txt",
            true,
        ),
        ("*/temp*", "somedir/temp", true),
        ("*/*/temp*", "somedir/subdir/temporary.txt", true),
        ("*/temp*", "temp", false),
        ("temp?", "tempa", true),
        ("temp?", "tempab", false),
        ("**/*.go", "main.go", true),
        ("**/*.go", "cmd/x/main.go", true),
        ("/foo/bar", "foo/bar", true),
        ("foo/bar", "foo/bar", true),
        ("foo/bar", "x/foo/bar", false),
        ("*.md\n!README.md", "README.md", false),
        ("*.md\n!README.md", "NEWS.md", true),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", false),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
        ("*\n!src", "src/a/b", false),
        ("*\n!src", "doc/a", true),
    ];
    for (text, path, excluded) in cases {
        check(text, path, excluded);
    }
}

/// From moby/patternmatcher's `ignorefile_test.go`, and what its reader does besides.
#[test]
fn lines_are_read_as_docker_reads_them() {
    let text = "test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /test1/not\n";
    for (path, excluded) in [
        ("test1", true),
        ("test2", true),
        ("a/file/here", true),
        ("lastfile", true),
        ("# this is a comment", false),
        ("test1/not", false),
        ("file/here", false),
    ] {
        check(text, path, excluded);
    }
    let cases = [
        // A byte order mark, DOS line ends, white space of all kinds.
        ("\u{feff}#a\r\nb\r\n", "b", true),
        ("\u{feff}#a\r\nb\r\n", "#a", false),
        ("\u{feff}c", "c", true),
        ("\u{a0}\ta b \u{2003}", "a b", true),
        // Only a `#` in the first column begins a comment.
        (" # no comment", "# no comment", true),
        ("a # b", "a # b", true),
        // Cleaning.
        ("./a//b/../c/", "a/c", true),
        ("/../a", "a", true),
        ("../a", "a", false),
        (".", "a", false),
        ("/", "a", false),
        ("a/..", "a", false),
        ("*\n!./a/../b", "b", false),
        // A `!` that cleaning brings to the front counts.
        ("*\n./!a", "a", false),
        ("**\\/a", "b/a", true),
        // The `**` that needs no slash, and those that do.
        ("**go", "a.go", true),
        ("**g?", "a.go", false),
        ("**g?", "b/go", true),
        ("a**b", "axb", false),
        ("a**b", "ab", true),
        ("a**b", "ax/b", true),
        ("a**", "ax", true),
        ("**\\go", "a.go", false),
        ("***", "a/b", true),
        // What patternmatcher's expressions get wrong has the meaning that is documented.
        ("^a*", "^ab", true),
        ("^a*", "ab", false),
        ("\\d*", "d1", true),
        ("\\d*", "1", false),
        ("[*]", "*", true),
        ("[*]", "a", false),
        ("a/**/b", "a/x\ny/b", true),
    ];
    for (text, path, excluded) in cases {
        check(text, path, excluded);
    }
}

#[test]
fn malformed_lines_are_refused_and_named() {
    for (text, named) in [
        ("a\n[", "'['"),
        ("a\\", "'a\\'"),
        ("!", "'!'"),
        ("! ", "'!'"),
        ("!/", "'!'"),
        ("[z-a]", "'[z-a]'"),
        // moby/moby issue 52203
        ("[Local-Only]/", "'[Local-Only]'"),
        ("![]", "'[]'"),
    ] {
        let error = Ignore::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(named), "{text:?}: {error}");
        assert!(Peer::parse(text).is_none(), "{text:?}");
    }
}

#[test]
fn names_need_no_encoding() {
    let ignore = Ignore::parse(b"a\xff\n*.\xe9\n!b.\xe9\n**/c?\n").unwrap();
    for (path, excluded) in [
        (b"a\xff".as_slice(), true),
        (b"a\xff/x", true),
        (b"a\xfe", false),
        (b"a.\xe9", true),
        (b"b.\xe9", false),
        (b"x/c\xc3", true),
        (b"x/c\xc3\xc3", false),
    ] {
        assert_eq!(ignore.excludes(path), excluded, "{path:?}");
    }
}

/// As for COPY --exclude, where a pattern is no line.
#[test]
fn a_pattern_of_a_flag_is_no_line() {
    let ignore = Ignore::new(["#a", "/b", " c "]).unwrap();
    assert!(ignore.excludes(b"#a"));
    assert!(!ignore.excludes(b"b"));
    assert!(ignore.excludes(b"c"));
}

#[test]
fn only_directories_with_exceptions_below_are_walked() {
    let walked = |text: &str, dir: &str| {
        let ignore = Ignore::parse(text.as_bytes()).unwrap();
        let mut verdict = Verdict::default();
        for end in dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]) {
            verdict = ignore.judge(&dir.as_bytes()[..end], verdict);
        }
        assert!(verdict.excluded(), "{text:?} {dir:?}");
        ignore.may_reinclude_below(dir.as_bytes(), verdict)
    };
    for (text, dir, wanted) in [
        ("node_modules", "node_modules", false),
        ("*\n!src/main.go", "src", true),
        ("*\n!src/main.go", "node_modules", false),
        ("*\n!src/main.go", "src/main", false),
        ("*\n!src/*.go", "node_modules", false),
        ("*\n!src/*.go", "src/x", false),
        ("*\n!s*/x/a", "sub/x", true),
        ("*\n!s*/x/a", "sub/y", false),
        ("*\n!**/*.go", "a/b/c", true),
        ("*\n!*.go", "a", false),
        // A directory that a later rule excludes stays so.
        ("!**/*.go\n*", "a", false),
        ("*\n!**/*.go\n**/node_modules", "a/node_modules", false),
        ("*\n!a/*/**", "a/b", true),
        ("*\n!a/**", "a", true),
    ] {
        assert_eq!(walked(text, dir), wanted, "{text:?} {dir:?}");
    }
}

/// All paths of up to four parts that a walk of the tree keeps, going down only where it must.
fn walk(ignore: &Ignore, dir: &str, above: Verdict, kept: &mut Vec<String>) {
    for name in NAMES {
        let path = if dir.is_empty() {
            (*name).to_owned()
        } else {
            format!("{dir}/{name}")
        };
        let verdict = ignore.judge(path.as_bytes(), above);
        if !verdict.excluded() {
            kept.push(path.clone());
        }
        let below = !verdict.excluded() || ignore.may_reinclude_below(path.as_bytes(), verdict);
        if below && path.matches('/').count() < 3 {
            walk(ignore, &path, verdict, kept);
        }
    }
}

/// Few names, so that patterns meet them.
const NAMES: &[&str] = &["a", "ab", "b.c", "é"];

fn all_paths() -> Vec<String> {
    let mut all = Vec::new();
    walk(&Ignore::default(), "", Verdict::default(), &mut all);
    all
}

/// Lines of pieces that mean something, in any order.
fn lines() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "ab", "b.c", "é", ".", "/", "/", "*", "**", "**/", "?", "[ab]", "[^a]", "[a-é]", "\\a",
        "\\*", "c", "..", "[", "]", "^", " ", "{", "+",
    ]);
    let line = (
        prop::sample::select(vec!["", "", "!", "/", "#"]),
        prop::collection::vec(piece, 1..6),
    );
    let line = line.prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()));
    prop::collection::vec(line, 1..5).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn two_implementations_and_a_walk_agree(text in lines()) {
        let (ignore, peer) = (Ignore::parse(text.as_bytes()), Peer::parse(&text));
        prop_assert_eq!(ignore.is_ok(), peer.is_some(), "{:?}", text);
        let (Ok(ignore), Some(peer)) = (ignore, peer) else { return Ok(()) };
        let mut kept = Vec::new();
        walk(&ignore, "", Verdict::default(), &mut kept);
        let kept: std::collections::HashSet<_> = kept.into_iter().collect();
        for path in all_paths() {
            let excluded = ignore.excludes(path.as_bytes());
            prop_assert_eq!(excluded, peer.excludes(&path), "{:?} {:?}", text, path);
            prop_assert_eq!(excluded, !kept.contains(&path), "walked: {:?} {:?}", text, path);
        }
    }
}
