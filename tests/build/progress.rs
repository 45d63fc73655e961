//! `build --progress`: is what is shown on a terminal drawn anew, and what is shown elsewhere in lines, or JSON as BuildKit's
//! API has it (`client/graph.go`, `SolveStatus`)?

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Done, Project};

/// Builds on a terminal of a size; gives what came there.
fn on_terminal(project: &Project, dockerfile: &str, flags: &[&str]) -> String {
    on_kind_of_terminal(project, "xterm", dockerfile, flags)
}

fn on_kind_of_terminal(project: &Project, kind: &str, dockerfile: &str, flags: &[&str]) -> String {
    let build = project.command(dockerfile, flags);
    let words = std::iter::once(build.get_program()).chain(build.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let line = format!("stty cols {WIDTH} rows 12; {}; true", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", kind).env_remove("BUILDKIT_PROGRESS");
    Done::of(&mut script).stdout
}

/// Columns of the terminal.
const WIDTH: usize = 60;

/// What stays on the screen: terminals do as these controls say, and go to the next line when there is no column left.
fn screen(written: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut row, mut column) = (0, 0);
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(String::new());
                }
            }
            '\r' => column = 0,
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "{written:?}");
                let mut number = String::new();
                let end = loop {
                    match chars.next() {
                        Some(c) if c.is_ascii_digit() || ";?".contains(c) => number.push(c),
                        Some(c) => break c,
                        None => panic!("{written:?}"),
                    }
                };
                match end {
                    'A' => row -= number.parse::<usize>().unwrap_or(1),
                    'B' => row += number.parse::<usize>().unwrap_or(1),
                    'K' => lines[row] = lines[row].chars().take(column).collect(),
                    // To the end of the screen.
                    'J' => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                    'm' | 'l' | 'h' => {}
                    other => panic!("{other}: {written:?}"),
                }
            }
            c => {
                if column == WIDTH {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), String::new());
                }
                let mut line: Vec<char> = lines[row].chars().collect();
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                lines[row] = line.into_iter().collect();
                column += 1;
            }
        }
    }
    let ends = lines.into_iter().map(|line| line.trim_end().to_string());
    ends.filter(|line| !line.is_empty()).collect()
}

const SLOW: &str = "FROM base\n\
    RUN for n in 1 2 3 4 5 6 7 8 9; do echo \"line <$n>\"; done; sleep 1; printf '\\033[31mred\\033[0m\\n'\n\
    COPY . /there/\n";

#[test]
fn a_terminal_shows_what_is_under_way() {
    let project = Project::new();
    let written = on_terminal(&project, SLOW, &[]);
    let left = screen(&written);
    // Last lines were shown while it went on, and time moved on; all of that is gone.
    assert!(written.contains(" => => # line <9>"), "{written:?}");
    assert!(!written.contains("\u{1b}[31m"), "{written:?}");
    let times = written.matches("[+] Building 0.").count() + written.matches("[+] Building 1.").count();
    assert!(times > 3, "{times}: {written:?}");
    assert!(!left.iter().any(|line| line.contains("=> =>")), "{left:#?}");
    let titles: Vec<&str> = left
        .iter()
        .filter_map(|line| line.strip_prefix(" => "))
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(titles[0], "[1] FROM base", "{left:#?}");
    assert!(titles[1].starts_with("[2/3] RUN for n in 1 2"), "{left:#?}");
    assert_eq!(
        titles[2..],
        ["[3/3] COPY . /there/", "exporting to image"],
        "{left:#?}"
    );
    assert!(left.iter().all(|line| line.chars().count() < WIDTH), "{left:#?}");
    let last = left.last().unwrap();
    assert!(
        last.starts_with("[+] Building ") && last.ends_with("(4/4) FINISHED"),
        "{left:#?}"
    );

    let left = screen(&on_terminal(&project, SLOW, &["--progress=tty"]));
    let cached = left.iter().filter(|line| line.starts_with(" => CACHED ["));
    assert_eq!(cached.count(), 2, "{left:#?}");
    let plain = on_terminal(&project, SLOW, &["--progress=plain"]);
    assert!(
        plain.contains("CACHED") && !plain.contains("[+] Building"),
        "{plain:?}"
    );
}

#[test]
fn a_step_that_fails_on_a_terminal_says_why() {
    let project = Project::new();
    // By one stream: two are two pipes, and which is read first is chance.
    let dockerfile = "FROM base AS one\nRUN sleep 0.2; echo one-is-well\n\
        FROM base AS two\nRUN echo first >&2; echo why-it-fails >&2; printf unfinished >&2; exit 3\n\
        FROM one\nCOPY --from=two . /\n";
    let left = screen(&on_terminal(&project, dockerfile, &["--jobs=2"])).join("\n");
    for text in [
        " => ERROR [two 2/2] RUN echo first",
        "\nfirst\nwhy-it-fails\nunfinished\n------",
        "Dockerfile:4\n",
        "did not complete successfully: exit code: 3",
    ] {
        assert!(left.contains(text), "{text}: {left}");
    }
}

/// An editor's shell, or a CI's: nothing that is drawn can be drawn anew there.
#[test]
fn a_terminal_that_cannot_go_back_gets_lines() {
    let project = Project::new();
    let written = on_kind_of_terminal(&project, "dumb", SLOW, &["--jobs=2"]);
    for text in [" line <9>", "DONE", "COPY . /there/"] {
        assert!(written.contains(text), "{text}: {written:?}");
    }
    assert!(!written.contains("[+] Building"), "{written:?}");
    let refused = on_kind_of_terminal(&project, "dumb", SLOW, &["--progress=tty"]);
    assert!(
        refused.contains("--progress=tty needs a terminal, and TERM is unset, or dumb"),
        "{refused:?}"
    );
}

#[test]
fn elsewhere_are_lines() {
    let project = Project::new();
    let said = project.build(SLOW, &[]).said;
    assert!(
        said.contains(" line <9>\n") && !said.contains("[+] Building"),
        "{said}"
    );
    let done = Done::of(&mut project.command(SLOW, &["--progress=tty"]));
    assert_eq!(done.status.code(), Some(125), "{done}");
    assert!(done.stderr.contains("--progress=tty needs a terminal"), "{done}");
    let done = Done::of(project.command(SLOW, &[]).env("BUILDKIT_PROGRESS", "quiet"));
    assert_eq!((done.status.code(), done.stderr.as_str()), (Some(0), ""));
    let done = Done::of(project.command(SLOW, &[]).env("BUILDKIT_PROGRESS", "tty"));
    assert!(done.status.success() && done.stderr.contains("CACHED"), "{done}");
    let done = Done::of(project.command(SLOW, &[]).env("BUILDKIT_PROGRESS", "loud"));
    assert!(done.stderr.contains("there is no progress \"loud\""), "{done}");
}

#[test]
fn raw_progress_is_buildkits_documents() {
    let project = Project::new();
    let told = |dockerfile: &str, code: i32| -> Vec<Value> {
        let done = Done::of(&mut project.command(dockerfile, &["--progress=rawjson"]));
        assert_eq!(done.status.code(), Some(code), "{done}");
        let documents = done.stderr.lines().filter(|line| line.starts_with('{'));
        documents
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let of = |all: &[Value], kind: &str| -> Vec<Value> {
        let parts = all.iter().filter_map(|document| document[kind].as_array());
        parts.flatten().cloned().collect()
    };
    let dockerfile = "FROM base\nRUN echo hello; echo more\n";
    let all = told(dockerfile, 0);
    let vertexes = of(&all, "vertexes");
    let step: Vec<&Value> = vertexes
        .iter()
        .filter(|vertex| vertex["name"] == "[2/2] RUN echo hello; echo more")
        .collect();
    let [begins, ends] = step[..] else {
        panic!("{vertexes:?}")
    };
    assert_eq!(begins["digest"], ends["digest"]);
    assert!(begins.get("completed").is_none() && ends["completed"].is_string());
    // RFC 3339 of one zone is ordered as text is.
    assert!(ends["started"].as_str() <= ends["completed"].as_str());
    let logs = of(&all, "logs");
    let text: String = logs
        .iter()
        .filter(|log| log["vertex"] == begins["digest"])
        .map(|log| log["data"].as_str().unwrap().to_string())
        .collect();
    // base64 of "hello\n" …
    assert!(text.starts_with("aGVsbG8K"), "{text}");
    let cached = of(&told(dockerfile, 0), "vertexes");
    assert!(cached.iter().any(|vertex| vertex["cached"] == true), "{cached:?}");
    let failed = of(&told("FROM base\nRUN exit 4\n", 1), "vertexes");
    assert!(
        failed.iter().any(|vertex| vertex["error"].is_string()),
        "{failed:?}"
    );
}
