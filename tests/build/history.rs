//! `build history`: is there a record of each build, however it ended, in the shapes of `docker buildx history`
//! (docs.docker.com/reference/cli/docker/buildx/history, and `commands/history` of buildx)?

use std::fs;

use serde_json::Value;

use crate::begun;
use crate::common::{Done, Project, until};

fn told(project: &Project, words: &[&str]) -> String {
    project.bryo.ok([&["build", "history"], words].concat())
}

/// What `ls` tells of each build, the newest first.
fn listed(project: &Project, flags: &[&str]) -> Vec<Value> {
    let said = told(project, &[&["ls", "--format=json"], flags].concat());
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(project: &Project, flags: &[&str]) -> Vec<String> {
    let said = told(project, &[&["ls", "--format={{.Ref}}"], flags].concat());
    said.lines().map(String::from).collect()
}

fn inspected(project: &Project, words: &[&str]) -> Value {
    let said = told(project, &[&["inspect", "--format=json"], words].concat());
    serde_json::from_str(&said).unwrap()
}

/// What `logs` shows: on standard error, as buildx does.
fn logs(project: &Project, words: &[&str]) -> String {
    let done = project.bryo.run([&["build", "history", "logs"], words].concat());
    assert!(done.status.success(), "{done}");
    done.stderr
}

#[test]
fn a_build_has_a_record() {
    let project = Project::new();
    let text = "FROM base AS one\nARG A\nRUN echo some; echo output\nFROM one AS two\nRUN echo more\n";
    let meta = project.path("meta.json");
    let metadata = format!("--metadata-file={}", meta.display());
    project.build(
        text,
        &["--target=one", "--build-arg=A=value", "--label=l=m", &metadata],
    );
    project.build(text, &["--target=one", "--build-arg=A=value"]);
    let [again, first] = &listed(&project, &[])[..] else {
        panic!("two")
    };
    assert_eq!(
        (&first["status"], &again["status"]),
        (&"Completed".into(), &"Completed".into())
    );
    assert_eq!(
        (&first["cached_steps"], &again["cached_steps"]),
        (&0.into(), &1.into())
    );
    assert_eq!(first["total_steps"], first["completed_steps"]);
    let metadata: Value = serde_json::from_slice(&fs::read(&meta).unwrap()).unwrap();
    assert_eq!(metadata["buildx.build.ref"], first["ref"]);

    let id = first["ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let record = inspected(&project, &[id]);
    for reference in [first["ref"].as_str().unwrap(), "^1"] {
        assert_eq!(inspected(&project, &[reference]), record);
    }
    assert_eq!(
        (&record["Ref"], &record["Status"]),
        (&id.into(), &"completed".into())
    );
    assert_eq!(record["Target"], "one");
    assert!(record["Dockerfile"].as_str().unwrap().ends_with("/Dockerfile"));
    assert_eq!(
        record["BuildArgs"],
        serde_json::json!([{ "Name": "A", "Value": "value" }])
    );
    assert_eq!(
        record["Labels"],
        serde_json::json!([{ "Name": "l", "Value": "m" }])
    );
    let materials = record["Materials"].to_string();
    assert!(materials.contains("pkg:docker/"), "{materials}");
    assert_eq!(
        record["Attachments"][0]["Digest"],
        metadata["containerimage.digest"]
    );
    assert!(record.get("Error").is_none(), "{record}");
    assert_eq!(
        told(&project, &["inspect", "--format={{.Target}} {{.Status}}"]),
        "one completed\n"
    );
    let pretty = told(&project, &["inspect", id]);
    for part in [
        "Target:\t\tone\n",
        "Build Steps:\t",
        "BUILD ARG\tVALUE\nA\t\tvalue\n",
        "Materials:\nURI",
    ] {
        assert!(pretty.contains(part), "{part}: {pretty}");
    }
    assert!(
        pretty.ends_with(&format!("build history logs {id}\n")),
        "{pretty}"
    );
    let table = told(&project, &["ls"]);
    let title: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(title.join(" "), "BUILD ID NAME STATUS CREATED AT DURATION");
}

#[test]
fn what_a_build_showed_is_shown_again() {
    let project = Project::new();
    let text = "FROM base AS a\nRUN echo from a\nFROM base AS b\nRUN echo from b; printf unfinished\n\
        FROM base\nCOPY --from=a / /a\nCOPY --from=b / /b\n";
    let mut build = project.command(text, &["--progress=plain"]);
    let shown = Done::of(&mut build);
    assert!(shown.status.success(), "{shown}");
    let again = logs(&project, &[]);
    // Numbers of steps that go on side by side, and times to the millisecond, may differ.
    let lines = |text: &str| {
        let line = |line: &str| match line.split_once(' ') {
            Some((_, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                rest.split_once(' ').map_or("", |(_, rest)| rest).to_string()
            }
            Some((_, rest)) if rest.starts_with("DONE") => "DONE".into(),
            Some((_, rest)) => rest.to_string(),
            None => String::new(),
        };
        let mut lines: Vec<String> = text.lines().map(line).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&again), lines(&shown.stderr));
    let raw = logs(&project, &["--progress=rawjson"]);
    let documents: Vec<Value> = raw
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named = |name: &str| {
        documents.iter().any(|one| {
            one["vertexes"][0]["name"]
                .as_str()
                .is_some_and(|is| is.contains(name))
        })
    };
    assert!(named("RUN echo from a") && named("RUN echo from b"), "{raw}");
}

#[test]
fn a_failed_build_says_why() {
    let project = Project::new();
    project.fails("FROM base\nRUN echo so far; exit 7\n", &[]);
    assert_eq!(listed(&project, &[])[0]["status"], "Error");
    let record = inspected(&project, &[]);
    assert_eq!(record["Status"], "failed");
    let message = record["Error"]["Message"].as_str().unwrap();
    assert!(message.contains("exit code: 7"), "{record}");
    let pretty = told(&project, &["inspect"]);
    assert!(
        pretty.contains("exit code: 7") && pretty.contains(">>> RUN echo so far"),
        "{pretty}"
    );
    assert!(logs(&project, &[]).contains(" so far\n"));
    project.build("FROM base\n", &[]);
    assert_eq!(ids(&project, &["--filter=status=error"]).len(), 1);
    assert_eq!(ids(&project, &["--filter=status!=error"]).len(), 1);
    assert_eq!(ids(&project, &["--filter=startedAt>1h"]).len(), 2);
    assert_eq!(ids(&project, &["--filter=duration>1h"]).len(), 0);
    let wrong = project.bryo.run(["build", "history", "ls", "--filter=status"]);
    assert!(
        !wrong.status.success() && wrong.stderr.contains("invalid filter"),
        "{wrong}"
    );
}

#[test]
fn a_build_that_goes_on_is_running_and_a_killed_one_failed() {
    let project = Project::new();
    let text = "FROM base\nRUN echo here; sleep 1000\n";
    let (mut builder, _said) = begun(&mut project.command(text, &[]), 1);
    assert_eq!(listed(&project, &[])[0]["status"], "Running");
    assert!(told(&project, &["ls"]).trim_end().ends_with("s+"));
    assert_eq!(inspected(&project, &[])["Status"], "running");
    let id = ids(&project, &[]).remove(0);
    let kept = project.bryo.run(["build", "history", "rm", &id]);
    assert!(
        !kept.status.success() && kept.stderr.contains("goes on"),
        "{kept}"
    );
    builder.kill().unwrap();
    builder.wait().unwrap();
    // What the builder forked has its lock a moment longer.
    until("the record tells", || {
        listed(&project, &[])[0]["status"] == "Error"
    });
    let record = inspected(&project, &[]);
    assert_eq!(record["Error"]["Message"], "the build was killed");
    assert_eq!(
        (&record["NumTotalSteps"], &record["NumCompletedSteps"]),
        (&2.into(), &1.into())
    );
    assert!(logs(&project, &[]).contains(" here\n"));
    project.becomes_clean();
}

#[test]
fn an_interrupted_build_was_canceled() {
    let project = Project::new();
    let text = "FROM base\nRUN echo here; sleep 1000\n";
    let (mut builder, _said) = begun(&mut project.command(text, &[]), 1);
    let pid = nix::unistd::Pid::from_raw(builder.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(!builder.wait().unwrap().success());
    assert_eq!(ids(&project, &["--filter=status=canceled"]).len(), 1);
    assert_eq!(inspected(&project, &[])["Status"], "canceled");
}

#[test]
fn records_are_removed() {
    let project = Project::new();
    for _ in 0..3 {
        project.build("FROM base\n", &[]);
    }
    let all = ids(&project, &[]);
    told(&project, &["rm", &all[1]]);
    assert_eq!(ids(&project, &[]), [all[0].clone(), all[2].clone()]);
    let gone = project.bryo.run(["build", "history", "rm", &all[1]]);
    assert!(
        !gone.status.success() && gone.stderr.contains("no record found"),
        "{gone}"
    );
    project.bryo.ok(["builder", "history", "rm", "--all"]);
    assert_eq!(ids(&project, &[]), [""; 0]);
    let none = project.bryo.run(["build", "history", "inspect"]);
    assert!(
        !none.status.success() && none.stderr.contains("no records found"),
        "{none}"
    );
}

#[test]
fn secrets_are_in_no_record() {
    let project = Project::new();
    project.write("secret", "do-not-tell");
    let flag = format!("--secret=id=mine,src={}", project.path("secret").display());
    project.build(
        "FROM base\nRUN --mount=type=secret,id=mine test -s /run/secrets/mine\n",
        &[&flag],
    );
    let directory = project.bryo.state().join("history");
    let files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("do-not-tell"), "{}", file.display());
    }
}

/// As for Docker's commands: what is no command is a path.
#[test]
fn a_context_may_be_called_history() {
    let project = Project::new();
    project.write("history/Dockerfile", "FROM base\nRUN echo built\n");
    let mut command = project.bryo.command(["build", "-t", "other", "./history"]);
    let done = Done::of(command.current_dir(project.path("")));
    assert!(done.status.success(), "{done}");
    // Behind a flag there is no command.
    let mut command = project.bryo.command(["build", "-t", "other", "history"]);
    let done = Done::of(command.current_dir(project.path("")));
    assert!(done.status.success(), "{done}");
    assert_eq!(listed(&project, &[])[0]["name"], "history");
}
