//! `build --on-error shell`: is the shell where the RUN failed, and does the build fail all the same?

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::common::{Done, Project, until};

/// A build on a terminal of its own, whose keys are written to its input.
fn on_terminal(project: &Project, dockerfile: &str, flags: &[&str]) -> Child {
    let build = project.command(dockerfile, &[&["--on-error", "shell"], flags].concat());
    let words = std::iter::once(build.get_program()).chain(build.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script
        .args(["-qec", &words.join(" "), "/dev/null"])
        .env("TERM", "xterm");
    for (name, value) in build.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until this was written; gives all of it.
fn read_until(terminal: &mut Child, wanted: &str) -> String {
    let mut said = Vec::new();
    let out = terminal.stdout.as_mut().unwrap();
    loop {
        let mut byte = [0];
        let count = out.read(&mut byte).unwrap();
        assert!(count > 0, "no {wanted:?}: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&byte);
        if said.ends_with(wanted.as_bytes()) {
            return String::from_utf8_lossy(&said).into_owned();
        }
    }
}

fn types(terminal: &mut Child, line: &str) {
    let input = terminal.stdin.as_mut().unwrap();
    input.write_all(line.as_bytes()).unwrap();
}

/// What is said after this, and the code.
fn ends(mut terminal: Child) -> (String, Option<i32>) {
    let mut said = String::new();
    terminal
        .stdout
        .as_mut()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (said, terminal.wait().unwrap().code())
}

const PROMPT: &str = "the build ends with it:";

#[test]
fn a_failed_step_is_looked_at_by_a_shell() {
    let project = Project::new();
    project.write("file", "of the context");
    let secret = project.bryo.scratch("secret");
    std::fs::write(&secret, "hidden").unwrap();
    let given = format!("id=s,src={}", secret.display());
    let text = "FROM base AS other\nRUN echo viewed > /file\n\
        FROM base\nENV COLOUR=red\nARG TOLD=an-argument\nWORKDIR /w\nRUN echo before > before\nUSER user\nUSER 0\n\
        RUN --mount=type=secret,id=s --mount=from=other,target=/o --mount=type=bind,source=file,target=/f \
        --network=none echo partial > /partial; echo '<output>'; exit 9\n";
    for shown in ["plain", "tty"] {
        let mut terminal = on_terminal(&project, text, &["--secret", &given, "--progress", shown]);
        let before = read_until(&mut terminal, PROMPT);
        assert!(
            before.contains("exit code: 9") && before.contains("<output>"),
            "{before}"
        );
        read_until(&mut terminal, "# ");
        let look = "cat /partial before /run/secrets/s /o/file /f; echo; echo $COLOUR-$TOLD-$(pwd)-$(id -u):$(id -g)-$((40+2)); \
            ls /sys/class/net; [ -t 0 ] && echo term''inal; exit 3\n";
        types(&mut terminal, look);
        let (after, code) = ends(terminal);
        let lines: Vec<&str> = after.lines().map(str::trim_end).collect();
        let found = lines
            .iter()
            .position(|line| *line == "partial")
            .unwrap_or_else(|| panic!("{after}"));
        assert_eq!(
            lines[found..][..7],
            [
                "partial",
                "before",
                "hiddenviewed",
                "of the context",
                "red-an-argument-/w-0:0-42",
                "lo",
                "terminal"
            ],
            "{after}"
        );
        assert!(
            after.contains("did not complete successfully: exit code: 9"),
            "{after}"
        );
        assert_eq!(code, Some(1), "{after}");
        project.is_clean();
    }
    // What was done by hand is in no layer, and what was finished is kept.
    let done = Done::of(&mut project.command(&text.replace("exit 9", "cat /partial"), &["--secret", &given]));
    assert!(done.status.success(), "{done}");
    assert_eq!(done.stderr.matches("CACHED").count(), 3, "{done}");
}

#[test]
fn a_build_that_does_not_fail_gives_no_shell_and_one_without_a_shell_says_so() {
    let project = Project::new();
    let terminal = on_terminal(&project, "FROM base\nRUN true\n", &[]);
    let (said, code) = ends(terminal);
    assert!(code == Some(0) && !said.contains(PROMPT), "{said}");
    let text = "FROM base AS bare\nFROM scratch\nCOPY --from=bare /bin/busybox /busybox\nRUN [\"/busybox\", \"false\"]\n";
    let (said, code) = ends(on_terminal(&project, text, &[]));
    assert!(said.contains("no shell: ") && said.contains("/bin/sh"), "{said}");
    assert!(said.contains("exit code: 1") && code == Some(1), "{said}");
    project.is_clean();
}

/// While somebody looks around, others make the step, or fail at it as well.
#[test]
fn nobody_waits_for_who_sits_in_the_shell() {
    let project = Project::new();
    let ready = project.bryo.scratch("ready");
    std::fs::create_dir(&ready).unwrap();
    let volume = format!("{}:/ready", ready.display());
    let text = "FROM base\nRUN echo first > /first\n\
        RUN --mount=type=cache,target=/c test -e /ready/now && echo made > /made\n";
    let flags = ["-v", &volume, "--progress", "plain"];
    let mut terminal = on_terminal(&project, text, &flags);
    read_until(&mut terminal, PROMPT);
    read_until(&mut terminal, "# ");
    let other = || {
        let mut build = project.command(text, &flags);
        let out = project.bryo.scratch("said");
        let mut build = build
            .stderr(std::fs::File::create(&out).unwrap())
            .spawn()
            .unwrap();
        let mut ended = None;
        until("the end of the other build", || {
            ended = build.try_wait().unwrap();
            ended.is_some()
        });
        (ended.unwrap().code(), std::fs::read_to_string(out).unwrap())
    };
    let (code, said) = other();
    assert!(
        code == Some(1) && said.contains("exit code: 1") && !said.contains("waiting for"),
        "{said}"
    );
    std::fs::write(ready.join("now"), "").unwrap();
    let (code, said) = other();
    assert!(code == Some(0) && !said.contains("waiting for"), "{said}");
    assert_eq!(project.sh("cat /first /made"), "first\nmade\n");
    types(&mut terminal, "ls /made; exit\n");
    let (said, code) = ends(terminal);
    assert!(code == Some(1) && said.contains("/made: No such file"), "{said}");
    project.is_clean();
}

#[test]
fn without_a_terminal_it_is_refused() {
    let project = Project::new();
    let done = Done::of(&mut project.command("FROM base\nRUN false\n", &["--on-error=shell"]));
    assert_eq!(done.status.code(), Some(125), "{done}");
    assert_eq!(
        done.stderr,
        "bryo: --on-error=shell needs a terminal as standard input and output\n"
    );
}
