//! Equal steps that are wanted at once, by two builds or by two stages of one: are they carried out once?

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use crate::common::Project;

/// A build under way, which reads its own lines.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    pub(crate) fn start(project: &Project, text: &str, flags: &[&str]) -> Running {
        let mut child = project
            .command(text, flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let said = String::new();
        Running { child, lines, said }
    }

    /// Waits for a line with this in it.
    #[track_caller]
    pub(crate) fn says(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            let count = self.lines.read_line(&mut line).unwrap();
            assert!(count > 0, "it ended without {part:?}: {}", self.said);
            self.said += &line;
        }
    }

    /// All that it said, if it succeeded.
    #[track_caller]
    pub(crate) fn succeeds(mut self) -> String {
        while self.lines.read_line(&mut self.said).unwrap() > 0 {}
        assert!(self.child.wait().unwrap().success(), "{}", self.said);
        self.said
    }
}

/// Notes that it runs, and ends when it is let go.
const SLOW: &str = "FROM base\n\
    RUN --mount=type=cache,target=/c echo run >> /c/log; echo slow-runs; until [ -e /c/go ]; do sleep 0.05; done\n\
    COPY file /file\n";
const LOG: &str =
    "FROM base\nARG SALT\nRUN --mount=type=cache,target=/c cp /c/log /log; echo $SALT\nRUN cat /log\n";
const WAITS: &str = "waiting for an equal step";

fn project() -> Project {
    let project = Project::new();
    project.write("file", "x");
    project
}

/// Ends the slow steps.
pub(crate) fn let_go(project: &Project) {
    let caches = fs::read_dir(project.bryo.state().join("caches")).unwrap();
    let cache = caches
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir());
    fs::write(cache.unwrap().join("go"), "").unwrap();
}

/// How often the slow step ran.
fn runs(project: &Project) -> usize {
    project.build(LOG, &[]);
    project.sh("cat /log").lines().count()
}

fn locks(project: &Project) -> Vec<String> {
    let names = fs::read_dir(project.bryo.root().join("locks")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("step-")).collect()
}

#[test]
fn what_two_builds_want_is_made_once() {
    let project = project();
    let mut first = Running::start(&project, SLOW, &["-t", "first"]);
    first.says(" slow-runs\n");
    let mut second = Running::start(&project, SLOW, &["-t", "second"]);
    second.says(WAITS);
    let_go(&project);
    first.succeeds();
    let second = second.succeeds();
    assert!(
        second.contains("CACHED") && !second.contains(" slow-runs\n"),
        "{second}"
    );
    assert_eq!(runs(&project), 1);
    let layers = |name| project.image(name, "{{json .RootFS.Layers}}");
    assert_eq!(layers("first"), layers("second"));
    assert_eq!(locks(&project), Vec::<String>::new());
    project.is_clean();
}

#[test]
fn one_who_waits_for_a_killed_builder_makes_the_step() {
    let project = project();
    let mut first = Running::start(&project, SLOW, &[]);
    first.says(" slow-runs\n");
    let mut second = Running::start(&project, SLOW, &[]);
    second.says(WAITS);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    second.says(" slow-runs\n");
    let_go(&project);
    second.succeeds();
    assert_eq!(runs(&project), 2);
    project.becomes_clean();
}

#[test]
fn without_the_cache_a_build_waits_for_nobody_and_others_for_it() {
    let project = project();
    let mut first = Running::start(&project, SLOW, &["--no-cache"]);
    first.says(" slow-runs\n");
    let mut second = Running::start(&project, SLOW, &["--no-cache"]);
    second.says(" slow-runs\n");
    let mut third = Running::start(&project, SLOW, &[]);
    third.says(WAITS);
    let_go(&project);
    for build in [first, second] {
        let said = build.succeeds();
        assert!(!said.contains(WAITS) && !said.contains("CACHED"), "{said}");
    }
    assert!(third.succeeds().contains("CACHED"));
    assert_eq!(runs(&project), 2);
    project.is_clean();
}

#[test]
fn what_two_stages_want_is_made_once() {
    let project = Project::new();
    let step = "RUN --mount=type=cache,target=/c echo run >> /c/log; sleep 1; cat /proc/sys/kernel/random/uuid > /made\n";
    let text = format!(
        "FROM base AS one\n{step}RUN cp /made /one\nFROM base AS two\n{step}RUN cp /made /two\n\
         FROM base\nCOPY --from=one /one /\nCOPY --from=two /two /\nRUN cmp /one /two\n"
    );
    let built = project.build(&text, &["--jobs", "2"]);
    assert_eq!((built.cached.len(), built.run.len()), (1, 6), "{}", built.said);
    assert_eq!(runs(&project), 1);
    project.is_clean();
}
