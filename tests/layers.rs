//! Do the arrows between modules point down, and does `unsafe` stay in `sys`?
//!
//! The order is `ARCHITECTURE.md`'s, "Arrows". Within one crate the compiler does not watch it, so this test reads
//! every path that starts with `crate::` or `super::`, in `use` lines and elsewhere.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::path::{Path, PathBuf};

/// The tool's modules, from the top. Those in one row may know each other.
const TOOL: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["build"],
    &["containers"],
    &["images", "net"],
    &["store"],
    &["host"],
    &["label", "line", "moment", "rooted", "stderr", "sys", "truth"],
];

/// The filesystem's.
const FUSE_OVERLAY: &[&[&str]] = &[
    &["bin"],
    &["fuse"],
    &["stack"],
    &["union"],
    &["upper"],
    &["layer"],
    &["index", "tar"],
    &["attr", "name", "error", "disk", "ledger", "sys"],
];

/// One source file: its path below `src` and its text.
struct Source {
    path: PathBuf,
    text: String,
}

fn sources(root: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let (mut found, mut waiting) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source {
                    path: path.strip_prefix(&root).unwrap().to_owned(),
                    text,
                });
            }
        }
    }
    assert!(found.len() > 5, "{} has no sources", root.display());
    found
}

/// The modules a file belongs to: `containers/runtime/mod.rs` → `[containers, runtime]`.
fn module(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    if names.last().is_some_and(|name| name == "mod" || name == "lib") {
        names.pop();
    }
    names
}

/// Code without line comments, so that links in docs are no arrows.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

/// The top modules that a file names.
fn named(source: &Source) -> Vec<String> {
    let here = module(&source.path);
    let code = code_lines(&source.text).collect::<Vec<_>>().join("\n");
    let mut tops = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        tops.extend(first_names(&code[at + "crate::".len()..]));
    }
    // `super::super::x` climbs; what stays inside a top module is no arrow between them.
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut climbed = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, climbed) = (after, climbed + 1);
        }
        if climbed == here.len() {
            tops.extend(first_names(rest));
        }
    }
    tops
}

/// The names that a path goes on with: `a::b` → a, `{a::b, c}` → a, c.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect::<String>()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && !c.is_whitespace() => {
                names.push(name(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Every arrow that does not point down.
fn wrong_arrows(sources: &[Source], order: &[&[&str]]) -> Vec<String> {
    let rank = |name: &str| order.iter().position(|row| row.contains(&name));
    let mut wrong = Vec::new();
    for source in sources {
        let Some(own) = module(&source.path).first().cloned() else {
            continue;
        };
        let Some(from) = rank(&own) else {
            wrong.push(format!(
                "{}: the module {own} has no place in tests/layers.rs",
                source.path.display()
            ));
            continue;
        };
        for name in named(source) {
            // What is not in the order is an item of the crate's root.
            let upward = rank(&name).is_some_and(|to| to < from);
            if upward {
                wrong.push(format!("{}: {own} must not know {name}", source.path.display()));
            }
        }
    }
    wrong
}

/// Every file but `sys` that has an `unsafe` of its own.
fn unsafe_outside_sys(sources: &[Source]) -> Vec<String> {
    let is_unsafe = |line: &str| {
        [
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "allow(unsafe_code)",
        ]
        .iter()
        .any(|what| line.contains(what))
    };
    let outside = sources
        .iter()
        .filter(|source| module(&source.path).first().is_none_or(|top| top != "sys"));
    let with = outside.filter(|source| code_lines(&source.text).any(is_unsafe));
    with.map(|source| source.path.display().to_string()).collect()
}

#[test]
fn arrows_of_the_tool_point_down() {
    assert_eq!(wrong_arrows(&sources("src"), TOOL), Vec::<String>::new());
}

#[test]
fn arrows_of_the_filesystem_point_down() {
    assert_eq!(
        wrong_arrows(&sources("fuse-overlay/src"), FUSE_OVERLAY),
        Vec::<String>::new()
    );
}

#[test]
fn unsafe_stays_in_sys() {
    assert_eq!(unsafe_outside_sys(&sources("src")), Vec::<String>::new());
    assert_eq!(
        unsafe_outside_sys(&sources("fuse-overlay/src")),
        Vec::<String>::new()
    );
}

#[test]
fn an_arrow_upward_is_found() {
    let file = |path: &str, text: &str| {
        vec![Source {
            path: path.into(),
            text: text.to_owned(),
        }]
    };
    let wrong = |path, text| wrong_arrows(&file(path, text), TOOL).len();
    assert_eq!(wrong("store/root.rs", "use crate::images::Image;"), 1);
    assert_eq!(
        wrong(
            "store/root.rs",
            "use crate::{\n    sys::a,\n    containers::{b, c},\n};"
        ),
        1
    );
    assert_eq!(wrong("store/root.rs", "let a = crate::cli::main();"), 1);
    assert_eq!(wrong("store/root.rs", "use super::super::images::Image;"), 1);
    assert_eq!(wrong("sys.rs", "use super::host::probe;"), 1);
    assert_eq!(wrong("unknown/a.rs", ""), 1);
    assert_eq!(
        wrong(
            "store/root.rs",
            "use super::images; use crate::{sys, store::a}; // see crate::cli"
        ),
        0
    );
    assert_eq!(wrong("images/mod.rs", "use crate::store::Store;"), 0);
    assert_eq!(
        unsafe_outside_sys(&file("store/a.rs", "fn a() { unsafe { b() } }")).len(),
        1
    );
    assert_eq!(
        unsafe_outside_sys(&file("sys/a.rs", "fn a() { unsafe { b() } }")).len(),
        0
    );
}
