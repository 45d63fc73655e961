//! `generate systemd`: are its units what systemd needs? There is no systemd here: a stand-in of these tests reads them, and
//! does with them what systemd.service(5) says.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::Duration;

use common::{Bryo, Done, field, parent, process, until};

/// A unit as systemd reads it: name and value of each line.
struct Unit {
    lines: Vec<(String, String)>,
}

impl Unit {
    fn generated(bryo: &Bryo, flags: &[&str]) -> Unit {
        let words = ["generate", "systemd"].into_iter().chain(flags.iter().copied());
        Unit::of(&bryo.ok(words))
    }

    fn of(text: &str) -> Unit {
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
        let lines = lines.filter_map(|line| line.split_once('='));
        let lines = lines.map(|(name, value)| (name.into(), value.into())).collect();
        Unit { lines }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| line.0 == name);
        lines.map(|line| line.1.as_str()).collect()
    }

    fn one(&self, name: &str) -> &str {
        let [value] = self.all(name)[..] else {
            panic!("{name}: {:?}", self.all(name));
        };
        value
    }

    /// The commands of one kind; one whose failure counts must succeed.
    fn run(&self, bryo: &Bryo, name: &str) {
        for line in self.all(name) {
            let done = Done::of(&mut self.command(bryo, line));
            assert!(done.status.success() || line.starts_with('-'), "{name}: {done}");
        }
    }

    fn command(&self, bryo: &Bryo, line: &str) -> Command {
        let words = words(line.trim_start_matches('-'));
        // The environment of the store is the unit's, as a test gives it.
        let mut command = bryo.command_of(&words[0], &words[1..]);
        if let [directory] = self.all("WorkingDirectory")[..] {
            command.current_dir(directory);
        }
        command
    }

    /// Starts it; gives the process that systemd would watch.
    fn start(&self, bryo: &Bryo) -> Main {
        self.run(bryo, "ExecStartPre");
        let mut command = self.command(bryo, self.one("ExecStart"));
        match self.one("Type") {
            "exec" => Main::Child(command.spawn().unwrap()),
            "notify" => {
                let path = bryo.scratch("notify");
                drop(fs::remove_file(&path));
                let socket = UnixDatagram::bind(&path).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let done = Done::of(command.env("NOTIFY_SOCKET", &path));
                assert!(done.status.success(), "{done}");
                let mut message = [0; 256];
                let length = socket.recv(&mut message).unwrap();
                let message = std::str::from_utf8(&message[..length]).unwrap();
                let pid = message
                    .strip_prefix("MAINPID=")
                    .unwrap()
                    .strip_suffix("\nREADY=1")
                    .unwrap();
                Main::Told(pid.parse().unwrap())
            }
            other => panic!("{other}"),
        }
    }

    fn stop(&self, bryo: &Bryo) {
        self.run(bryo, "ExecStop");
        self.run(bryo, "ExecStopPost");
    }
}

enum Main {
    Child(Child),
    Told(i32),
}

/// systemd.service(5), "Command lines".
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut inside, mut any) = (Vec::new(), String::new(), false, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (inside, any) = (!inside, true),
            '\\' => word.push(match letters.next().unwrap() {
                'n' => '\n',
                other => other,
            }),
            '%' | '$' => {
                assert_eq!(letters.next(), Some(letter), "a specifier or variable in {line}");
                word.push(letter);
            }
            ' ' if !inside => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            letter => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

const WAITS: &str = "trap 'echo ended; exit 0' TERM; echo up; while :; do sleep 0.05; done";

#[test]
fn a_container_that_stays_is_started_and_stopped() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "create",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        &format!("echo x >> /runs; {WAITS}"),
    ]);
    let unit = Unit::generated(
        &bryo,
        &[
            "--name",
            "-t",
            "7",
            "--restart-sec",
            "3",
            "--after",
            "db.service",
            "one",
        ],
    );
    let id = bryo.ok(["ps", "-aq", "--no-trunc"]);
    for (name, value) in [
        ("Description", "Bryo container-one.service"),
        ("Restart", "on-failure"),
        ("RestartSec", "3"),
        ("TimeoutStopSec", "67"),
        ("Type", "exec"),
        ("WantedBy", "default.target"),
        ("RequiresMountsFor", bryo.state().to_str().unwrap()),
    ] {
        assert_eq!(unit.one(name), value, "{name}");
    }
    assert_eq!(unit.all("After"), ["network-online.target", "db.service"]);
    assert!(
        unit.one("ExecStart").ends_with(" start -a one"),
        "{}",
        unit.one("ExecStart")
    );
    assert!(unit.one("ExecStop").ends_with(" stop -t 7 one"));
    for round in 1..=2 {
        let Main::Child(mut main) = unit.start(&bryo) else {
            panic!("told")
        };
        until("it runs", || {
            field(&bryo, "one", "{{.State.Status}}") == "running"
        });
        until("it is up", || {
            bryo.ok(["logs", "one"]).matches("up").count() == round
        });
        unit.stop(&bryo);
        // An end that was asked for is no failure.
        let code = main.wait().unwrap().code();
        assert!(code == Some(0), "{code:?}");
    }
    assert_eq!(bryo.ok(["ps", "-aq", "--no-trunc"]), id);
    bryo.ok(["start", "one"]);
    assert_eq!(bryo.ok(["exec", "one", "wc", "-l", "/runs"]), "3 /runs\n");
}

#[test]
fn a_container_of_new_is_another_each_time() {
    let (bryo, image) = Bryo::with_image("busybox");
    let directory = bryo.scratch("data");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "50% of $HOME\n").unwrap();
    let mut first = bryo.command([
        "run",
        "-d",
        "--name",
        "one",
        "--restart=always",
        "-v",
        "./data:/data",
        "-e",
        "A=50% $B \"c\"",
    ]);
    first
        .args([&image, "sh", "-c", &format!("echo $A; cat /data/file; {WAITS}")])
        .current_dir(bryo.dir());
    let done = Done::of(&mut first);
    assert!(done.status.success(), "{done}");
    let unit = Unit::generated(&bryo, &["--new", "--restart-policy", "always", "one"]);
    assert_eq!(
        (unit.one("Restart"), unit.one("Type"), unit.one("NotifyAccess")),
        ("always", "notify", "all")
    );
    let begin = words(unit.one("ExecStart"));
    assert!(!begin.contains(&"--restart=always".into()), "{begin:?}");
    assert_eq!(
        begin[1..7],
        ["run", "-d", "--rm", "--sdnotify=conmon", "--name", "one"]
    );
    let mut ids = vec![done.stdout.trim_end().to_string()];
    for _ in 0..2 {
        let Main::Told(main) = unit.start(&bryo) else {
            panic!("not told")
        };
        assert_eq!(main, parent(process(&bryo, "one", "Pid")).as_raw());
        let id = field(&bryo, "one", "{{.Id}}");
        assert!(!ids.contains(&id), "{ids:?}");
        ids.push(id);
        until("its output", || {
            bryo.ok(["logs", "one"]) == "50% $B \"c\"\n50% of $HOME\nup\n"
        });
        unit.stop(&bryo);
        assert_eq!(bryo.ok(["ps", "-aq"]), "");
    }
}

#[test]
fn files_are_written_where_one_stands() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok([
        "create",
        "--name",
        "one",
        "--sdnotify",
        "conmon",
        &image,
        "sh",
        "-c",
        WAITS,
    ]);
    let mut command = bryo.command([
        "generate",
        "systemd",
        "-f",
        "-n",
        "--container-prefix",
        "c",
        "--separator",
        "_",
        "one",
    ]);
    let done = Done::of(command.current_dir(bryo.dir()));
    let path = bryo.scratch("c_one.service");
    assert_eq!(done.stdout, format!("{}\n", path.display()), "{done}");
    let text = fs::read_to_string(path).unwrap();
    assert!(
        text.starts_with("# c_one.service\n") && text.contains("loginctl enable-linger"),
        "{text}"
    );
    // It tells of itself, if it was made so.
    let unit = Unit::of(&text);
    assert_eq!(unit.one("Type"), "notify");
    let Main::Told(main) = unit.start(&bryo) else {
        panic!("not told")
    };
    assert_eq!(main, parent(process(&bryo, "one", "Pid")).as_raw());
    unit.stop(&bryo);
    assert_eq!(bryo.ok(["ps", "-q"]), "");
    let plain = bryo.ok(["generate", "systemd", "--no-header", "one"]);
    assert!(
        plain.starts_with("[Unit]\nDescription=Bryo container-"),
        "{plain}"
    );
    assert!(!plain.contains(" one\n"), "{plain}");
}

/// systemd has another environment than the shell in which a unit was generated.
#[test]
fn a_unit_finds_its_store_in_any_environment() {
    let (bryo, image) = Bryo::with_image("busybox");
    let data = bryo.scratch("my 100% data");
    let archive = bryo.scratch("archive");
    bryo.ok(["save", "-o", archive.to_str().unwrap(), &image]);
    let without = |command: &mut Command| {
        for name in ["BRYO_ROOT", "BRYO_STATE", "BRYO_RUN", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
    };
    let shell = |words: &[&str]| {
        let mut command = bryo.command(words);
        without(&mut command);
        let done = Done::of(command.env("XDG_DATA_HOME", &data));
        assert!(done.status.success(), "{done}");
        done.stdout
    };
    shell(&["load", "-q", "-i", archive.to_str().unwrap()]);
    shell(&["create", "--name", "one", &image, "echo", "out of the unit"]);
    let unit = Unit::of(&shell(&["generate", "systemd", "--name", "one"]));
    let environment: Vec<String> = unit.all("Environment").into_iter().flat_map(words).collect();
    let root = data.join("bryo").display().to_string();
    assert_eq!(
        environment,
        [format!("BRYO_ROOT={root}"), format!("BRYO_STATE={root}/state")]
    );
    let mut command = unit.command(&bryo, unit.one("ExecStart"));
    without(&mut command);
    let pairs = environment.iter().filter_map(|pair| pair.split_once('='));
    let done = Done::of(command.envs(pairs).env("HOME", bryo.scratch("nobody's")));
    assert_eq!(done.stdout, "out of the unit\n", "{done}");
    shell(&["rm", "one"]);
}

#[test]
fn what_no_unit_can_do_is_refused() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["create", "--name", "again", "--restart", "always", &image, "true"]);
    bryo.ok(["create", "--name", "gone", "--rm", &image, "true"]);
    for (code, flags, why) in [
        (125, &["again"][..], "update --restart no"),
        (125, &["gone"], "--new"),
        (125, &["nobody"], "No such container"),
        (125, &["--restart-policy", "often", "gone"], "invalid argument"),
        (125, &["--template", "gone"], "--template"),
        (125, &["--wants", "a.service\nb", "gone"], "names of units"),
        (125, &["--container-prefix", "../x", "gone"], "names of units"),
    ] {
        let words = ["generate", "systemd"].into_iter().chain(flags.iter().copied());
        let error = bryo.fails(code, words);
        assert!(error.contains(why), "{error}");
    }
    bryo.ok(["generate", "systemd", "--new", "gone"]);
}
