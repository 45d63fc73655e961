//! What is built for a comparison? The cases of `cases/*.txt`, whose first lines say how they are written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Dockerfile and what goes with it.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) name: String,
    /// A shell script that makes the context, run in it.
    pub(super) context: String,
    /// Flags of `build`, one a line.
    pub(super) flags: Vec<String>,
    /// A Dockerfile that is built before, from the same context, and named `parent`.
    pub(super) first: String,
    pub(super) dockerfile: String,
    /// Why the peer cannot build it.
    pub(super) unknown: Option<String>,
    /// Users that are not root are part of it.
    pub(super) needs_id_range: bool,
}

/// Where all of it lies.
pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compare")
}

/// The groups of cases.
pub(super) fn groups() -> Vec<String> {
    let entries = fs::read_dir(directory().join("cases")).expect("the cases");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let mut names: Vec<String> = names
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_str()
                .expect("a text")
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

/// The cases of a group.
pub(super) fn cases(group: &str) -> Vec<Case> {
    let file = directory().join("cases").join(format!("{group}.txt"));
    parse(&fs::read_to_string(file).expect("the group"))
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            let name = name.to_owned();
            assert!(
                cases.iter().all(|case| case.name != name),
                "{name} is there twice"
            );
            cases.push(Case {
                name,
                ..Case::default()
            });
            section = "comment";
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(named) = line.strip_prefix("-- ") {
            section = named;
            case.needs_id_range |= named == "needs an id range";
            case.unknown = named
                .strip_prefix("unknown to the peer: ")
                .map(String::from)
                .or(case.unknown.take());
            continue;
        }
        match section {
            "context" => case.context += &format!("{line}\n"),
            "flags" if !line.is_empty() => case.flags.push(line.to_owned()),
            "first" => case.first += &format!("{line}\n"),
            "dockerfile" => case.dockerfile += &format!("{line}\n"),
            _ => assert!(line.is_empty() || line.starts_with('#'), "{}: {line}", case.name),
        }
    }
    cases
}

impl Case {
    /// Makes the context and the Dockerfiles in an empty directory: `context`, `Dockerfile` and `first`. Files that the
    /// script gave no time are of September 2001.
    pub(super) fn write(&self, directory: &Path) {
        let context = directory.join("context");
        fs::create_dir(&context).expect("the context");
        let script = format!(
            "set -e\numask 022\n{}\nfind . -newermt 2010-01-01 -exec touch -h -d @1000000000 {{}} +\n",
            self.context
        );
        let status = Command::new("/bin/sh")
            .args(["-c", &script])
            .current_dir(&context)
            .status()
            .expect("a shell");
        assert!(status.success(), "the context of {}", self.name);
        fs::write(directory.join("Dockerfile"), &self.dockerfile).expect("the Dockerfile");
        fs::write(directory.join("first"), &self.first).expect("the Dockerfile before it");
    }
}
