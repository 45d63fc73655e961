//! Equal steps that are wanted at once, by two builds or by two stages of one: are they carried out once?

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use crate::common::Project;

/// A build under way, which reads its own lines. What it writes to standard output is left in the pipe until its end is
/// waited for.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    pub(crate) fn start(project: &Project, text: &str, flags: &[&str]) -> Running {
        let mut child = project
            .command(text, flags)
            .stdout(Stdio::piped())
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
        let mut out = self.child.stdout.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
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
    put(project, "go");
}

/// Puts a file into the cache that the steps mount.
fn put(project: &Project, name: &str) {
    let caches = fs::read_dir(project.bryo.state().join("caches")).unwrap();
    let cache = caches
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir());
    fs::write(cache.unwrap().join(name), "").unwrap();
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

/// Equal steps of two stages run beside each other, since nobody waits under `--no-cache`; the cache keeps the later layer.
#[test]
fn without_the_cache_each_stage_goes_on_from_its_own_layer() {
    let project = Project::new();
    let wait = |file: &str| format!("until [ -e /c/{file} ]; do sleep 0.05; done");
    let step = format!(
        "RUN --mount=type=cache,target=/c echo equal >> /c/log; mkdir /c/1 2> /dev/null || touch /c/2; {}; \
         cat /proc/sys/kernel/random/uuid > /made\n",
        wait("2")
    );
    // Neither ends before both have made the equal step.
    let after = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/c echo {own} >> /c/log; touch /c/{own}; {}; cp /made /copy\n",
            wait(other)
        )
    };
    let (one, two) = (after("one", "two"), after("two", "one"));
    let text = format!(
        "FROM base AS one\n{step}{one}FROM base AS two\n{step}{two}FROM base\n\
         COPY --from=one /made /copy /one/\nCOPY --from=two /made /copy /two/\n"
    );
    let built = project.build(&text, &["--no-cache", "--jobs", "2"]);
    assert_eq!((built.cached.len(), built.run.len()), (0, 6), "{}", built.said);
    project.sh("cmp /one/made /one/copy; cmp /two/made /two/copy; ! cmp -s /one/made /two/made");
    project.build(
        "FROM base\nRUN --mount=type=cache,target=/c sort /c/log > /log\n",
        &[],
    );
    assert_eq!(project.sh("cat /log"), "equal\nequal\none\ntwo\n");
    project.is_clean();
}

/// What another stage only found was not made by this build.
#[test]
fn a_stage_built_anew_takes_no_step_that_a_worker_found() {
    let project = Project::new();
    let step = "RUN cat /proc/sys/kernel/random/uuid > /made\n";
    let text = format!(
        "FROM base AS a\n{step}FROM base AS c\nRUN echo c > /c\n\
         FROM base AS b\n{step}COPY --from=a /made /a\nCOPY --from=c /c /c\n"
    );
    project.build(&text, &[]);
    let again = project.build(&text, &["--no-cache-filter", "b", "--jobs", "2"]);
    assert_eq!((again.cached.len(), again.run.len()), (2, 3), "{}", again.said);
    project.sh("! cmp -s /made /a");
    project.is_clean();
}

/// The cache has the layer of whichever build was the later one, when both take over what their workers did.
#[test]
fn without_the_cache_each_build_goes_on_from_its_own_layer() {
    let project = Project::new();
    let step = |runs: &str, go: &str| {
        format!(
            "RUN --mount=type=cache,target=/c echo run >> /c/log; echo {runs}; until [ -e /c/{go} ]; do sleep 0.05; done; \
             cat /proc/sys/kernel/random/uuid > /made\n"
        )
    };
    let (first, next) = (step("first-runs", "go"), step("next-runs", "on"));
    let text = format!(
        "FROM base AS slow\n{first}{next}FROM base AS other\nRUN echo > /other\n\
         FROM base\nCOPY --from=slow /made /\nCOPY --from=other /other /\n"
    );
    let start = || Running::start(&project, &text, &["--no-cache", "--jobs", "2"]);
    let mut builds = Vec::new();
    for _ in 0..2 {
        let mut build = start();
        build.says(" first-runs\n");
        builds.push(build);
    }
    let_go(&project);
    builds.iter_mut().for_each(|build| build.says(" next-runs\n"));
    put(&project, "on");
    for build in builds {
        let said = build.succeeds();
        assert!(!said.contains("CACHED"), "{said}");
    }
    assert_eq!(runs(&project), 4);
    project.is_clean();
}
