//! Records what another builder makes of the cases of `tests/compare`, so that tests can compare without it; see
//! `scripts/record-buildkit.sh`, which starts the builder.
//!
//!     record-builds CONTEXTS SEEN-AS COMMAND…
//!
//! Contexts are made in the empty directory CONTEXTS, which the builder sees as SEEN-AS; COMMAND is `docker`, which has
//! the image `base`.
#![allow(missing_docs, clippy::expect_used)] // It is run by hand, and fails by panicking.

#[path = "../tests/compare/case.rs"]
mod case;
#[path = "../tests/compare/shown.rs"]
mod shown;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use case::Case;
use shown::Image;

struct Peer {
    contexts: PathBuf,
    seen_as: String,
    command: Vec<String>,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut word = || {
        words
            .next()
            .expect("usage: record-builds CONTEXTS SEEN-AS COMMAND…")
    };
    let (contexts, seen_as, first) = (word(), word(), word());
    let peer = Peer {
        contexts: contexts.into(),
        seen_as,
        command: std::iter::once(first).chain(words).collect(),
    };
    let base = peer.image("base");
    for group in case::groups() {
        let mut records = Map::new();
        for case in case::cases(&group).iter().filter(|case| case.unknown.is_none()) {
            println!("{group}: {}", case.name);
            records.insert(case.name.clone(), peer.record(case, &base));
        }
        let text = serde_json::to_string_pretty(&records).expect("JSON") + "\n";
        let file = case::directory().join("buildkit").join(group + ".json");
        fs::write(file, text).expect("the record");
    }
}

impl Peer {
    fn record(&self, case: &Case, base: &Image) -> Value {
        let directory = self.contexts.join("case");
        // Of a context that the engine saw before, it takes only what is other by size and time.
        assert!(
            self.run(&["builder", "prune", "--all", "--force"])
                .status
                .success()
        );
        fs::create_dir(&directory).expect("an empty directory for the contexts");
        case.write(&directory);
        let record = self.build(case).map_or_else(
            |said| json!({ "fails": said }),
            |()| self.image("made").shown(base),
        );
        fs::remove_dir_all(directory).expect("to remove the context");
        record
    }

    fn build(&self, case: &Case) -> Result<(), String> {
        if !case.first.is_empty() {
            self.build_file("first", "parent", &[])?;
        }
        self.build_file("Dockerfile", "made", &case.flags)
    }

    /// Says how it failed, in its last line.
    fn build_file(&self, file: &str, tag: &str, flags: &[String]) -> Result<(), String> {
        let at = |name: &str| format!("{}/case/{name}", self.seen_as);
        let (dockerfile, context) = (at(file), at("context"));
        let mut words = vec!["build", "--network", "host", "-t", tag, "-f", &dockerfile];
        words.extend(flags.iter().map(String::as_str));
        words.push(&context);
        let done = self.run(&words);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        match done.status.success() {
            true => Ok(()),
            false => Err(said.trim_end().rsplit('\n').next().unwrap_or_default().to_owned()),
        }
    }

    fn image(&self, name: &str) -> Image {
        let done = self.run(&["save", name]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Image::of_docker_archive(&done.stdout)
    }

    fn run(&self, words: &[&str]) -> Output {
        let [program, before @ ..] = self.command.as_slice() else {
            panic!("no command");
        };
        let mut command = Command::new(Path::new(program));
        let command = command.args(before).args(words).stdin(Stdio::null());
        command.output().expect("the builder's command")
    }
}
