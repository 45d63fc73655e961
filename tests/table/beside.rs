//! How is a line typed to both, and what of their answers is each one's own?

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use regex::Regex;

use crate::common::{Done, Podman, Project, has_id_range};

/// How the two answer one line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meant {
    Same,
    /// Both refuse, and say why; by 1 as Docker, where podman has 125, or others of its own.
    Refused,
    /// Docker's answer, which is Bryo's, and podman's.
    Differing((i32, &'static str), (i32, &'static str)),
}

/// A line, and how it is answered.
///
/// It is one of bash, without the tool's name, which is put before it; one that begins with `$ ` is a script in which `t` is
/// the tool. `@` is the image with what makes a run comparable; what follows ` sh:` is a script in a container.
pub(crate) type Line = (&'static str, Meant);

/// Standard output and, marked, what of standard error is a container's; `!` is a word of the tool's own there.
type Answer = (i32, String);

/// What differs from run to run, and what is put in its place.
static CHANCE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\b[0-9a-f]{64}\b", "ID"),
        (r"\b[0-9a-f]{12}\b", "ID"),
        (r"\b(?:[0-9]+[a-f]|[a-f]+[0-9])[0-9a-f]*\b", "ID"),
        // Of two parts, of which one may have digits or letters alone.
        (r"\bID-[0-9a-f]+\b", "ID-ID"),
        (r"\b[0-9a-f]+-ID\b", "ID-ID"),
        (
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d| [+-]\d{4} \w+)",
            "TIME",
        ),
        (
            r"(Less than a|About a|About an|\d+) (second|minute|hour)s?( ago)?",
            "AGE",
        ),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).unwrap(), name))
    .into()
});

fn without_chance(line: &str) -> String {
    CHANCE.iter().fold(line.to_owned(), |line, (pattern, name)| {
        pattern.replace_all(&line, *name).into_owned()
    })
}

/// What one of both says in its own name.
fn is_tools(line: &str) -> bool {
    ["bryo: ", "Error", "error"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// podman's of the machine, or in several lines.
fn is_left_out(line: &str) -> bool {
    [
        "WARN[",
        "time=\"",
        "Usage:",
        "See 'podman",
        "ERRO[",
        " * ",
        "Try 'podman",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

fn answer(line: &str, tool: &Command, at: &str, here: &Path) -> Answer {
    let (line, script) = line.split_once(" sh:").unwrap_or((line, ""));
    let line = match line.strip_prefix("$ ") {
        Some(script) => script.to_owned(),
        None if script.is_empty() => format!("t {line}"),
        None => format!("t {line} sh -c \"$script\""),
    };
    let words: Vec<String> = std::iter::once(tool.get_program())
        .chain(tool.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut bash = Command::new("timeout");
    bash.args(["60", "bash", "-c"])
        .arg(format!(
            "set -o pipefail; t() {{ {} \"$@\"; }}\n{}",
            words.join(" "),
            line.replace('@', at)
        ))
        .env("script", script)
        .current_dir(here)
        .stdin(Stdio::null());
    for (name, value) in tool.get_envs() {
        bash.env(name, value.unwrap());
    }
    told(&Done::of(&mut bash))
}

fn told(done: &Done) -> Answer {
    let mut lines: Vec<String> = done.stdout.lines().map(without_chance).collect();
    let errors = done.stderr.lines().filter(|line| !is_left_out(line));
    let (own, theirs): (Vec<&str>, Vec<&str>) = errors.partition(|line| is_tools(line));
    lines.extend(theirs.iter().map(|line| format!("2> {}", without_chance(line))));
    lines.extend((!own.is_empty()).then(|| "!".into()));
    let text = lines.iter().map(|line| format!("{line}\n")).collect();
    (done.status.code().unwrap(), text)
}

/// podman with the image `made` of a project.
fn loaded(project: &Project) -> Podman {
    let podman = Podman::beside(&project.bryo);
    let archive = project.bryo.scratch("made.tar");
    let archive = archive.to_str().unwrap();
    project.bryo.ok(["tag", "made", "localhost/made:latest"]);
    let names = project
        .bryo
        .ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    for name in names.lines().filter(|name| *name != "localhost/made:latest") {
        project.bryo.ok(["rmi", name]);
    }
    project.bryo.ok(["save", "-o", archive, "localhost/made:latest"]);
    let done = Done::of(podman.command().args(["load", "-q", "-i", archive]));
    assert!(done.status.success(), "{done}");
    podman
}

/// Types each line to both, in the order of the table, each in a directory of its own.
#[track_caller]
pub(crate) fn compare(dockerfile: &str, table: &[Line]) {
    if !has_id_range() {
        println!("not run: podman cannot unpack the image with one id");
        return;
    }
    let project = Project::new();
    project.write("data/file", "from the image\n");
    project.build(dockerfile, &[]);
    let podman = loaded(&project);
    let [ours, theirs] = ["here", "there"].map(|name| project.bryo.scratch(name));
    for here in [&ours, &theirs] {
        fs::create_dir_all(here.join("sub")).unwrap();
        fs::write(here.join("file"), "of the host\n").unwrap();
    }
    let bryo = project.bryo.command::<&str>([]);
    let made = "--network none localhost/made:latest";
    let theirs_made = format!("--cgroups disabled {made}");
    let mut wrong = Vec::new();
    for (line, meant) in table {
        let found = answer(line, &bryo, made, &ours);
        let ask = || answer(line, &podman.command(), &theirs_made, &theirs);
        let mut peer = ask();
        // podman 4.3 now and then loses what a short command wrote.
        if line.starts_with("run --rm") && peer == (found.0, String::new()) {
            peer = ask();
        }
        let is_as_meant = match meant {
            Meant::Same => found == peer,
            Meant::Refused => found == (1, "!\n".into()) && peer.0 != 0 && peer.1 == "!\n",
            Meant::Differing(own, other) => {
                let owned = |(code, text): &(i32, &str)| (*code, text.to_string());
                (&found, &peer) == (&owned(own), &owned(other))
            }
        };
        if !is_as_meant {
            wrong.push(format!("{line}\n  bryo   {found:?}\n  podman {peer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}
