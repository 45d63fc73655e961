//! Stages that need not wait for each other: are they built at the same time, and as if they had been built alone?

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::begun;
use crate::common::Project;

/// Each of the first two waits until the other runs.
const MEETING: &str = "FROM base AS one\n\
    RUN --mount=type=cache,target=/c touch /c/one; for i in $(seq 600); do [ -e /c/two ] && break; sleep 0.05; done; \
    [ -e /c/two ] && echo 1 > /made\n\
    FROM base AS two\n\
    RUN --mount=type=cache,target=/c touch /c/two; for i in $(seq 600); do [ -e /c/one ] && break; sleep 0.05; done; \
    [ -e /c/one ] && echo 2 > /made\n\
    FROM base\n\
    COPY --from=one /made /one\n\
    COPY --from=two /made /two\n";

#[test]
fn stages_are_built_at_the_same_time() {
    let project = Project::new();
    let built = project.build(MEETING, &["--jobs", "2"]);
    assert_eq!((built.run.len(), built.cached.len()), (4, 0), "{}", built.said);
    assert_eq!(project.sh("cat /one /two"), "1\n2\n");
    // Each step has its number and is told once.
    let mut numbers: Vec<&str> = built
        .said
        .lines()
        .filter(|line| line.starts_with('#') && line.contains(" DONE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "{}", built.said);
    let again = project.build(MEETING, &[]);
    assert_eq!((again.run.len(), again.cached.len()), (0, 4), "{}", again.said);
    assert_eq!(again.id, built.id);
    project.is_clean();
}

/// Writes a line each time that it is run, and has a context.
const COUNTED: &str = "FROM base AS one\n\
    COPY a /a\n\
    RUN --mount=type=cache,target=/c echo one >> /c/log; cat /a > /made\n\
    FROM base AS two\n\
    COPY b /b\n\
    RUN --mount=type=cache,target=/c echo two >> /c/log; cat /b > /made\n\
    FROM two AS three\n\
    ARG WHAT=x\n\
    RUN --mount=type=cache,target=/c echo three >> /c/log; echo $WHAT >> /made\n\
    FROM one\n\
    COPY --from=three /made /three\n\
    RUN --mount=type=bind,from=two,source=/made,target=/m cat /m > /two\n";

#[test]
fn what_is_made_is_the_same_and_made_once() {
    let project = Project::new();
    project.write("a", "A\n");
    project.write("b", "B\n");
    let epoch = [
        "--build-arg",
        "SOURCE_DATE_EPOCH=1700000000",
        "--build-arg",
        "WHAT=w",
        "--no-cache",
    ];
    let runs = |jobs: &'static str| {
        let built = project.build(COUNTED, &[&epoch[..], &["--jobs", jobs]].concat());
        assert_eq!(project.sh("cat /made /two /three"), "A\nB\nB\nw\n");
        let history = [
            "history",
            "--no-trunc",
            "--format",
            "{{.CreatedAt}} {{.CreatedBy}}",
            "made",
        ];
        (built, project.config(), project.bryo.ok(history))
    };
    let ((beside, config, history), after) = (runs("3"), runs("1"));
    assert_eq!((config, history), (after.1, after.2));
    assert_eq!((beside.run.len(), beside.cached.len()), (7, 0), "{}", beside.said);
    let log = "FROM base\nRUN --mount=type=cache,target=/c sort /c/log > /log\n";
    project.build(log, &[]);
    assert_eq!(project.sh("cat /log"), "one\none\nthree\nthree\ntwo\ntwo\n");
}

#[test]
fn a_failed_command_ends_the_other_stages() {
    let project = Project::new();
    let text = "FROM base AS slow\nRUN sleep 1000\nFROM base AS bad\nRUN sleep 0.5; echo why; exit 7\nFROM slow\n\
                COPY --from=bad / /\n";
    let said = project.fails(text, &["--jobs", "2"]);
    assert!(
        said.contains(" why\n") && said.contains(">>> RUN sleep 0.5"),
        "{said}"
    );
    assert!(said.trim_end().ends_with("exit code: 7"), "{said}");
    project.is_clean();
}

#[test]
fn other_failures_are_told_as_if_the_stage_were_alone() {
    let project = Project::new();
    let text = "FROM base AS slow\nRUN sleep 1000\nFROM base AS bad\nRUN echo fine\nCOPY missing /\nFROM slow\n\
                COPY --from=bad / /\n";
    let said = project.fails(text, &["--jobs", "2"]);
    assert!(said.contains(">>> COPY missing /"), "{said}");
    assert!(said.trim_end().ends_with("\"/missing\": not found"), "{said}");
    project.is_clean();
}

#[test]
fn a_stage_may_come_to_need_another_by_a_trigger() {
    let project = Project::new();
    project.build("FROM base\nONBUILD COPY --from=assets /a /b\n", &[]);
    project.bryo.ok(["tag", "made", "trigger"]);
    let text = "FROM base AS assets\nRUN echo x > /a\nFROM trigger AS mid\nFROM trigger AS other\nRUN echo y > /c\n\
                FROM mid\nCOPY --from=assets /a /d\nCOPY --from=other /c /\n";
    for jobs in ["1", "2"] {
        project.build(text, &["--no-cache", "--jobs", jobs]);
        assert_eq!(project.sh("cat /b /c /d"), "x\ny\nx\n");
    }
}

#[test]
fn stages_share_locked_caches_in_any_order() {
    let project = Project::new();
    let cache = |id| format!("--mount=type=cache,sharing=locked,id={id},target=/{id}");
    let (x, y) = (cache("x"), cache("y"));
    let mut text = String::new();
    for (stage, [first, second]) in [("one", [&x, &y]), ("two", [&y, &x])] {
        text += &format!("FROM base AS {stage}\n");
        for step in 0..5 {
            text += &format!("RUN {first} {second} echo {stage} {step} | tee -a /x/log /y/log\n");
        }
    }
    text +=
        &format!("FROM one\nCOPY --from=two / /\nRUN {x} {y} cmp /x/log /y/log && wc -l < /x/log > /count\n");
    project.build(&text, &["--jobs", "2"]);
    assert_eq!(project.sh("cat /count"), "10\n");
    project.is_clean();
}

/// The builder makes that stage itself then, and the one that prints much beside it must not wait to be heard.
#[test]
fn a_worker_that_is_killed_is_done_without() {
    let project = Project::new();
    let lock = "--mount=type=cache,sharing=locked,target=/c";
    let text = format!(
        "FROM base AS loud\nRUN {lock} [ -e /c/loud ] && seq 100000; touch /c/loud; seq 100000\n\
         FROM base AS killed\nRUN {lock} [ -e /c/once ] && again=1; touch /c/once; echo marker-of-killed; \
         [ \"$again\" ] || sleep 1000; echo made > /made\n\
         FROM loud\nCOPY --from=killed /made /\n"
    );
    let mut command = project.command(&text, &["--jobs", "2"]);
    let mut builder = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(builder.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" marker-of-killed\n") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the builder ended");
    }
    // Which of its children runs that stage, cannot be seen from outside; both may go.
    let children = format!("/proc/{0}/task/{0}/children", builder.id());
    for child in fs::read_to_string(children).unwrap().split_whitespace() {
        let _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
    }
    let rest = std::io::read_to_string(said).unwrap();
    assert!(builder.wait().unwrap().success(), "{rest}");
    assert_eq!(project.sh("cat /made"), "made\n");
    project.becomes_clean();
}

/// Starts a build of two stages that never end; both run when this returns.
fn endless(project: &Project) -> (Child, BufReader<std::process::ChildStderr>) {
    let text = "FROM base AS one\nRUN echo here; sleep 1000\nFROM base AS two\nRUN echo here; exec sleep 1000\n\
                FROM one\nCOPY --from=two / /\n";
    begun(&mut project.command(text, &["--jobs", "2"]), 2)
}

#[test]
fn a_signal_ends_all_stages() {
    let project = Project::new();
    let (mut builder, _said) = endless(&project);
    kill(Pid::from_raw(builder.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(builder.wait().unwrap().code(), Some(128 + 15));
    project.is_clean();
}

#[test]
fn a_killed_builder_takes_its_workers_along() {
    let project = Project::new();
    let (mut builder, _said) = endless(&project);
    builder.kill().unwrap();
    builder.wait().unwrap();
    project.becomes_clean();
}

/// BuildKit's spelling, and podman's.
#[test]
fn a_named_context_may_be_an_image() {
    let project = Project::new();
    for kind in ["docker-image", "container-image"] {
        let flag = format!("--build-context=named={kind}://base");
        project.build("FROM named\nRUN echo yes > /is\n", &[&flag]);
        assert_eq!(project.sh("cat /is"), "yes\n");
    }
}
