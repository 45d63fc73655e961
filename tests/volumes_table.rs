//! Volumes, line by line beside podman's: the same words, exit code and standard output. Where they are meant to differ, the
//! table says so. (Error texts are each tool's own.)

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Bryo, Done, Project, has_id_range};

/// How the two answer one line.
enum Meant {
    Same,
    /// Docker's answer, which is Bryo's, and podman's.
    Differing((i32, &'static str), (i32, &'static str)),
}
use Meant::{Differing, Same};

/// `@` is the image and what makes a run comparable; `sh:` a script in a container of it.
const TABLE: &[(&str, Meant)] = &[
    ("volume create data", Same),
    // Docker makes sure that it is there; podman wants --ignore for that.
    ("volume create data", Differing((0, "data\n"), (125, ""))),
    ("volume create a/b", Differing((1, ""), (125, ""))),
    (
        "volume create -o type=none -o device=relative -o o=bind bad",
        Differing((1, ""), (0, "bad\n")),
    ),
    ("volume create --label k=v --label only labelled", Same),
    ("volume ls -q --filter label=k=v", Same),
    ("volume ls -q --filter label=k", Same),
    ("volume ls -q --filter label=k=x", Same),
    ("volume ls -q --filter name=abel", Same),
    (
        "volume ls --format {{.Name}}={{.Driver}} --filter name=data",
        Same,
    ),
    (
        "volume inspect --format {{.Name}}-{{.Driver}}-{{.Scope}}-{{.Labels.k}} labelled",
        Same,
    ),
    ("volume inspect none", Differing((1, "[]\n"), (125, "[]\n"))),
    ("volume rm none", Same),
    // Docker says the name of what it was asked to force away.
    ("volume rm -f none", Differing((0, "none\n"), (0, ""))),
    ("volume rm labelled", Same),
    (
        "run --rm -v data:/data @ sh:cat /data/file; stat -c '%a %u:%g' /data /data/file; echo new > /data/new",
        Same,
    ),
    ("run --rm -v data:/data @ sh:ls /data; rm /data/file", Same),
    ("run --rm -v data:/data @ sh:ls /data", Same),
    (
        "run --rm -v data:/elsewhere:ro @ sh:cat /elsewhere/new; touch /elsewhere/x 2>/dev/null || echo refused",
        Same,
    ),
    ("run --rm -v made:/data:nocopy @ sh:ls -A /data", Same),
    // podman's copy from the image gives the top its owner back.
    (
        "run --rm -v own:/data:U -u 123:45 @ sh:stat -c '%u:%g' /data /data/file",
        Differing((0, "123:45\n123:45\n"), (0, "999:998\n123:45\n")),
    ),
    // podman 4.3 refuses readonly of a volume here.
    (
        "run --rm --mount type=volume,src=keyed,dst=/data,readonly @ sh:cat /data/file; touch /data/x 2>/dev/null || echo refused",
        Differing((0, "from the image\nrefused\n"), (125, "")),
    ),
    (
        "run --rm --mount type=volume,src=keyed,dst=/data @ sh:cat /data/file",
        Same,
    ),
    (
        "run --rm --mount type=volume,src=keyed,target=/data,bogus=1 @ sh:true",
        Same,
    ),
    ("run --rm --mount type=volume,src=keyed @ sh:true", Same),
    ("run --rm --mount type=bind,src=/none,dst=/b @ sh:true", Same),
    (
        "run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 @ sh:stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
        Same,
    ),
    ("run --rm -v data:/data:bogus @ sh:true", Same),
    ("run --rm -v a/b:/data @ sh:true", Same),
    ("run --rm -v data:relative @ sh:true", Same),
    ("run --rm -v data:/x -v data:/y @ sh:ls /x; ls /y", Same),
    ("run --rm -v data:/x -v keyed:/x @ sh:true", Same),
    ("run --rm -v ./sub:/h @ sh:echo x > /h/x; ls /h", Same),
    ("run --rm @ sh:cat /data/file", Same),
    // Nothing of the containers above is left but volumes with names.
    (
        "volume ls -q",
        Differing(
            (0, "data\nkeyed\nmade\nown\n"),
            (0, "bad\ndata\nkeyed\nmade\nown\n"),
        ),
    ),
    ("create --name user -v data:/x -v /unnamed @ sh:true", Same),
    ("volume rm data", Differing((1, ""), (2, ""))),
    ("volume ls -q --filter dangling=false", Same),
    // With several filters podman shows what any of them lets through, Docker what all do.
    (
        "volume ls -q --filter dangling=false --filter name=made",
        Differing((0, ""), (0, "ID\nID\ndata\nmade\n")),
    ),
    ("ps -a --filter volume=data --format {{.Names}}", Same),
    ("ps -a --filter volume=dat --format {{.Names}}", Same),
    (
        "run --rm --volumes-from user:ro @ sh:cat /x/new; touch /unnamed/x 2>/dev/null || echo refused",
        Same,
    ),
    ("run --rm --volumes-from nobody @ sh:true", Same),
    ("rm -v user", Same),
    ("volume ls -q --filter name=data", Same),
    // Since Docker 23 a prune takes what nobody named; podman's takes all.
    (
        "volume prune -f",
        Differing(
            (0, "Total reclaimed space: 0B\n"),
            (0, "bad\ndata\nkeyed\nmade\nown\n"),
        ),
    ),
    ("volume create data", Same),
    ("volume rm data", Same),
];

/// podman with a storage of its own.
struct Podman {
    dir: PathBuf,
}

impl Podman {
    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.dir.join("root"));
        command.arg("--runroot").arg(self.dir.join("run"));
        command.env("XDG_RUNTIME_DIR", self.runtime());
        command.stdin(Stdio::null());
        command
    }

    fn runtime(&self) -> PathBuf {
        self.dir.with_extension("xdg")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What it holds belongs to other ids; what podman makes anew at its end does not.
        drop(
            self.command()
                .args(["unshare", "rm", "-rf"])
                .arg(&self.dir)
                .output(),
        );
        drop(std::fs::remove_dir_all(&self.dir));
        // It leaves a process that holds its user namespace.
        let pause = std::fs::read_to_string(self.runtime().join("libpod/tmp/pause.pid"));
        if let Some(pid) = pause.ok().and_then(|text| text.trim().parse().ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        drop(std::fs::remove_dir_all(self.runtime()));
    }
}

/// A line's words.
fn words(line: &str, podman: bool) -> Vec<String> {
    let (line, script) = line
        .split_once(" sh:")
        .map_or((line, None), |(line, script)| (line, Some(script)));
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match word {
            "@" => {
                words.extend(["--network", "none"].map(String::from));
                if podman {
                    words.extend(["--cgroups", "disabled"].map(String::from));
                }
                words.push("localhost/made:latest".into());
            }
            word => words.push(word.into()),
        }
    }
    words.extend(
        script
            .iter()
            .flat_map(|script| ["sh", "-c", script].map(String::from)),
    );
    words
}

/// Exit code, and standard output without what is each one's own: ids, and prune's words.
fn answer(line: &str, mut command: Command, here: &std::path::Path) -> (i32, String) {
    let done = Done::of(command.current_dir(here));
    let is_id = |line: &str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let shown = |line: &str| format!("{}\n", if is_id(line) { "ID" } else { line });
    let mut lines: Vec<String> = done.stdout.lines().map(shown).collect();
    // Of volumes without a name, it is chance where they stand.
    if line.starts_with("volume ls") {
        lines.sort();
    }
    let text = lines.concat();
    (done.status.code().unwrap(), text)
}

fn loaded(bryo: &Bryo) -> Podman {
    let podman = Podman {
        dir: bryo.dir().with_extension("podman"),
    };
    std::fs::create_dir(&podman.dir).unwrap();
    std::fs::create_dir(podman.runtime()).unwrap();
    let archive = bryo.scratch("made.tar");
    let archive = archive.to_str().unwrap();
    bryo.ok(["tag", "made", "localhost/made:latest"]);
    bryo.ok(["save", "-o", archive, "localhost/made:latest"]);
    let done = Done::of(podman.command().args(["load", "-q", "-i", archive]));
    assert!(done.status.success(), "{done}");
    podman
}

#[test]
fn as_podman_answers() {
    if !has_id_range() {
        println!("not run: podman cannot unpack the image with one id");
        return;
    }
    let project = Project::new();
    project.write("data/file", "from the image\n");
    project.build(
        "FROM base\nCOPY --chown=999:998 data /data\nRUN chmod 751 /data\nVOLUME /data\n",
        &[],
    );
    let (bryo, podman) = (&project.bryo, loaded(&project.bryo));
    let [ours, theirs] = ["here", "there"].map(|name| bryo.scratch(name));
    for here in [&ours, &theirs] {
        std::fs::create_dir_all(here.join("sub")).unwrap();
    }
    let mut wrong = Vec::new();
    for (line, meant) in TABLE {
        let found = answer(line, bryo.command(words(line, false)), &ours);
        let mut command = podman.command();
        command.args(words(line, true));
        let peer = answer(line, command, &theirs);
        let is_as_meant = match meant {
            Same => found == peer,
            Differing(own, other) => {
                [&found, &peer]
                    == [own, other]
                        .map(|(code, text)| (*code, text.to_string()))
                        .each_ref()
            }
        };
        if !is_as_meant {
            wrong.push(format!("{line}\n  bryo   {found:?}\n  podman {peer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}
