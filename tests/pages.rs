//! Do the names and files exist that the architecture's pages speak of, and the list of old holes?
#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Each page, and where the sources lie that it speaks of.
const PAGES: [(&str, &[&str]); 3] = [
    ("ARCHITECTURE.md", &["src", "fuse-overlay/src", "."]),
    (
        "fuse-overlay/ARCHITECTURE.md",
        &["fuse-overlay/src", "fuse-overlay"],
    ),
    ("tests/HOLES.md", &["tests", "."]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The founders' list has so many, `users.md` §4.
const HOLES: u32 = 30;

#[test]
fn every_old_hole_has_its_row() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/HOLES.md");
    let text = std::fs::read_to_string(page).unwrap();
    let mut numbers: Vec<u32> = Vec::new();
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [first, hole, containers, rest] = cells[..] else {
            panic!("{row}");
        };
        let listed: Vec<u32> = first
            .split(", ")
            .filter_map(|number| number.parse().ok())
            .collect();
        let is_answered = !hole.is_empty() && [containers, rest].iter().any(|cell| !cell.is_empty());
        assert!(listed.is_empty() || is_answered, "{row}");
        numbers.extend(listed);
    }
    assert_eq!(numbers, (1..=HOLES).collect::<Vec<_>>());
}

#[test]
fn names_and_files_on_the_pages_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "fuse-overlay/src", "fuse-overlay/tests", "tests"] {
        sources(&root.join(dir), &mut files);
    }
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
    let known: HashSet<&str> = texts.iter().flat_map(|text| words(text)).chain(stems).collect();
    let mut spoken_of = 0;
    for (page, places) in PAGES {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        for token in text.split(|c: char| !c.is_alphanumeric() && !"_:/.-".contains(c)) {
            let token = token.trim_matches(['.', ':', '/', '-']);
            if token.contains("::") {
                let missing = token.split("::").find(|name| !known.contains(name));
                assert_eq!(missing, None, "{page}: {token}");
                spoken_of += 1;
            } else if token.ends_with(".rs") && token.contains('/') {
                let exists = places.iter().any(|place| root.join(place).join(token).exists())
                    || files.iter().any(|file| file.ends_with(token));
                assert!(exists, "{page}: {token}");
                spoken_of += 1;
            }
        }
    }
    assert!(spoken_of > 60, "only {spoken_of}");
}
