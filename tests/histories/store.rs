//! Steps carried out on a real store, and what is found there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::{Bryo, Done, parent};
use crate::model::{Container, Model, Name, Outcome, Pauses, State};
use crate::step::{Step, command};

/// A store with an image, `base`, in which one history after the other happens.
pub(crate) struct Stand {
    pub(crate) bryo: Bryo,
    /// The directory's own name, with which all containers' begin.
    token: String,
    /// Can they be paused?
    pub(crate) pauses: Pauses,
}

/// A command's exit code, and what it printed.
#[derive(Debug)]
pub(crate) struct Answer {
    code: i32,
    said: String,
    complained: String,
}

/// How long a container may take to come to where it is to be.
const PATIENCE: Duration = Duration::from_secs(120);

const SHOWN: &str = "{{.Name}} {{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.RestartCount}} \
                     {{.State.Pid}} {{.State.FilesystemPid}} {{.State.Error}}";

impl Stand {
    pub(crate) fn new() -> Stand {
        let (bryo, image) = Bryo::with_image("busybox");
        bryo.ok(["tag", &image, "base"]);
        let name = bryo.dir().file_name().unwrap().to_str().unwrap();
        let token = name.replace(|char: char| !char.is_ascii_alphanumeric(), "");
        let pauses = pauses(&bryo);
        Stand { bryo, token, pauses }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Does a step; one that waits for the end of what runs has it killed.
    pub(crate) fn carry_out(&self, step: &Step, model: &Model) -> Answer {
        let Some(words) = command(step, &self.token) else {
            let Step::Shoot(name, victim) = step else {
                unreachable!()
            };
            return self.shoot(name, victim, model);
        };
        if let Step::Wait(name) = step
            && matches!(
                model.0.get(name).map(|container| &container.state),
                Some(State::Running(_) | State::Paused(_))
            )
        {
            let mut wait = self.bryo.command(words);
            wait.stdout(Stdio::piped()).stderr(Stdio::piped());
            let waiting = wait.spawn().unwrap();
            self.bryo.run(["kill", &format!("{}-{name}", self.token)]);
            let output = waiting.wait_with_output().unwrap();
            return Answer {
                code: output.status.code().unwrap(),
                said: String::from_utf8(output.stdout).unwrap(),
                // It may come when all is over.
                complained: String::from_utf8(output.stderr).unwrap(),
            };
        }
        let Done {
            status,
            stdout,
            stderr,
            ..
        } = self.bryo.run(words);
        Answer {
            code: status.code().unwrap(),
            said: stdout,
            complained: stderr,
        }
    }

    /// Kills one of the processes of a container that runs.
    fn shoot(&self, name: Name, victim: &str, model: &Model) -> Answer {
        let container = model.0.get(name);
        let state = container.map(|container| &container.state);
        if let Some(State::Loops) = state {
            assert_eq!(victim, "supervisor");
            kill(self.supervisor(name), Signal::SIGKILL).unwrap();
        }
        if let Some(State::Running(_) | State::Paused(_)) = state {
            let field = if victim == "supervisor" { "Pid" } else { victim };
            let template = format!("{{{{.State.{field}}}}}");
            let name = format!("{}-{name}", self.token);
            let pid = self.bryo.ok(["inspect", "--format", &template, &name]);
            let mut pid = Pid::from_raw(pid.trim().parse().unwrap());
            assert!(pid.as_raw() > 0, "{name}: {victim}");
            if victim == "supervisor" {
                pid = parent(pid);
            }
            kill(pid, Signal::SIGKILL).unwrap();
            if victim == "FilesystemPid" && !matches!(state, Some(State::Paused(_))) {
                // Its successor answers.
                self.bryo.ok(["exec", &name, "ls", "/"]);
            }
        }
        Answer {
            code: i32::from(container.is_none()),
            said: String::new(),
            complained: "bryo: no such container, so nothing to be killed".into(),
        }
    }

    /// Of one that is started again and again: it stays the same process, between the runs as well.
    fn supervisor(&self, name: Name) -> Pid {
        let name = format!("{}-{name}", self.token);
        let id = self.bryo.ok(["inspect", "--format", "{{.Id}}", &name]);
        let record = self
            .bryo
            .state()
            .join("containers")
            .join(id.trim())
            .join("record.json");
        let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        let pid = record["life"]["supervisor"]["pid"].as_i64();
        Pid::from_raw(pid.unwrap().try_into().unwrap())
    }

    /// Is this what was answered, and what is found, at once or soon?
    pub(crate) fn agrees(&self, outcome: &Outcome, answer: &Answer) -> bool {
        let said = outcome.said.as_ref();
        // What is refused, is so with a reason.
        let has_reason = ![1, 125].contains(&answer.code) || answer.complained.starts_with("bryo: ");
        outcome.code == answer.code
            && has_reason
            && said.is_none_or(|said| *said == answer.said)
            && self.is_at(&[&outcome.model])
    }

    /// Do all containers come to where one of these models has them?
    pub(crate) fn is_at(&self, models: &[&Model]) -> bool {
        let end = Instant::now() + PATIENCE;
        while !models.iter().any(|model| self.is_now_at(model)) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    fn is_now_at(&self, model: &Model) -> bool {
        let listed = self.bryo.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
        let prefix = format!("{}-", self.token);
        let listed: BTreeMap<&str, &str> = listed
            .lines()
            .map(|line| line.strip_prefix(&prefix).unwrap().split_once(' ').unwrap())
            .collect();
        let names: Vec<&str> = listed.keys().copied().collect();
        names == model.0.keys().copied().collect::<Vec<&str>>()
            && model.0.iter().all(|(name, container)| {
                is_listed(container, listed[name]) && self.is_inspected(name, container)
            })
    }

    fn is_inspected(&self, name: &str, container: &Container) -> bool {
        let done = self
            .bryo
            .run(["inspect", "--format", SHOWN, &format!("{}-{name}", self.token)]);
        let words: Vec<&str> = done.stdout.split_whitespace().collect();
        let [_, status, running, code, restarts, init, server, ..] = words[..] else {
            return false;
        };
        let (code, restarts): (i32, u32) = (code.parse().unwrap(), restarts.parse().unwrap());
        let has_pids = init != "0" && server != "0";
        match &container.state {
            State::Created => [status, running] == ["created", "false"] && !has_pids,
            State::Running(times) => {
                [status, running] == ["running", "true"] && code == 0 && restarts == *times && has_pids
            }
            State::Paused(times) => [status, running] == ["paused", "true"] && restarts == *times && has_pids,
            State::Loops => running == "true",
            State::Exited(codes, times) => {
                [status, running] == ["exited", "false"]
                    && codes.contains(&code)
                    && (restarts == *times || *times == u32::MAX)
                    && !has_pids
            }
        }
    }

    /// What there is, for who reads of a failure.
    pub(crate) fn shown(&self) -> String {
        let ids = self.bryo.ok(["ps", "-aq"]);
        let shown = ids
            .lines()
            .map(|id| self.bryo.run(["inspect", "--format", SHOWN, id]).stdout);
        shown.collect()
    }

    /// Removes all containers; gives what stays of them: processes, mounts, files.
    pub(crate) fn emptied(&self) -> Vec<String> {
        let ids = self.bryo.ok(["ps", "-aq", "--no-trunc"]);
        for id in ids.lines() {
            self.bryo.ok(["rm", "-f", id]);
        }
        let mut left = self.files();
        // What stays is told once, by the case that left it.
        left.iter().for_each(|path| drop(fs::remove_file(path)));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.bryo.dir().to_str().unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(own)).map(String::from));
        // Those that were killed take a moment to die.
        let end = Instant::now() + PATIENCE;
        while !self.processes().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        left.extend(self.processes());
        left
    }

    fn files(&self) -> Vec<String> {
        let state = self.bryo.state();
        let within = |path: &Path| -> Vec<String> {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries
                .map(|entry| entry.unwrap().path().display().to_string())
                .collect()
        };
        let mut left = within(&state.join("containers"));
        left.extend(within(&state.join("names")));
        left.extend(within(&self.bryo.dir().join("run/attach")));
        left.extend(
            within(&self.bryo.dir().join("run/holders"))
                .into_iter()
                .flat_map(|map| within(Path::new(&map))),
        );
        // The lock of a map stays. The record of a holder that was killed goes when somebody looks for one.
        left.retain(|path| !path.ends_with("/lock"));
        let of_dead = |path: &String| {
            let pid = path.rsplit('/').next().and_then(|name| name.split_once('.'));
            path.contains("/holders/") && pid.is_some_and(|(pid, _)| is_dead(pid))
        };
        left.retain(|path| !of_dead(path));
        left
    }

    /// What runs with the names of this store's containers in its arguments.
    fn processes(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(&self.token)).collect()
    }
}

/// Where `scripts/test.sh` has made cgroups for the tests, they can.
fn pauses(bryo: &Bryo) -> Pauses {
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "first",
        "base",
        "sleep",
        "1000",
    ];
    bryo.ok(run);
    let done = bryo.run(["pause", "first"]);
    bryo.ok(["rm", "-f", "first"]);
    match done.status.code() {
        Some(0) => Pauses::Yes,
        code => {
            let made = std::env::var_os("BRYO_TEST_GROUPS").is_some();
            assert!(
                code == Some(1) && !made && done.stderr.contains("cgroup"),
                "{done}"
            );
            Pauses::No
        }
    }
}

fn is_listed(container: &Container, state: &str) -> bool {
    match container.state {
        State::Created => state == "created",
        State::Running(_) => state == "running",
        State::Paused(_) => state == "paused",
        State::Loops => ["running", "restarting"].contains(&state),
        State::Exited(..) => state == "exited",
    }
}

/// Is it gone, or waits only for its parent to see that?
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}
