//! What is done in a history, and how it is typed.

use proptest::prelude::*;

use crate::model::{Kind, Name, Policy};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Create(Name, Kind),
    /// `run -d`.
    Run(Name, Kind),
    Start(Name),
    Stop(Name),
    Kill(Name),
    Restart(Name),
    Remove(Name),
    RemoveForced(Name),
    Rename(Name, Name),
    Exec(Name),
    /// One that runs is killed meanwhile.
    Wait(Name),
    Pause(Name),
    Unpause(Name),
    Prune,
    /// kill -9 of one of its processes.
    Shoot(Name, &'static str),
}

const NAMES: [Name; 3] = ["one", "two", "three"];

fn name() -> impl Strategy<Value = Name> {
    // Mostly the same, so that steps meet.
    prop_oneof![3 => Just("one"), 2 => prop::sample::select(&NAMES[..])]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let kind = || prop::sample::select(Kind::all());
    prop_oneof![
        3 => (name(), kind()).prop_map(|(name, kind)| Step::Create(name, kind)),
        5 => (name(), kind()).prop_map(|(name, kind)| Step::Run(name, kind)),
        4 => name().prop_map(Step::Start),
        2 => name().prop_map(Step::Stop),
        2 => name().prop_map(Step::Kill),
        2 => name().prop_map(Step::Restart),
        1 => name().prop_map(Step::Remove),
        1 => name().prop_map(Step::RemoveForced),
        1 => (name(), name()).prop_map(|(name, to)| Step::Rename(name, to)),
        2 => name().prop_map(Step::Exec),
        1 => name().prop_map(Step::Wait),
        2 => name().prop_map(Step::Pause),
        1 => name().prop_map(Step::Unpause),
        1 => Just(Step::Prune),
        4 => (name(), prop::sample::select(vec!["supervisor", "Pid", "FilesystemPid"]))
            .prop_map(|(name, victim)| Step::Shoot(name, victim)),
    ]
}

/// What can be done at once with something else.
pub(crate) fn on_one() -> impl Strategy<Value = Step> {
    prop::sample::select(vec![
        Step::Start("one"),
        Step::Stop("one"),
        Step::Kill("one"),
        Step::Restart("one"),
        Step::Remove("one"),
        Step::RemoveForced("one"),
        Step::Rename("one", "two"),
        Step::Exec("one"),
        Step::Create(
            "one",
            Kind {
                policy: Policy::No,
                remove: false,
                ends: None,
            },
        ),
        Step::Create(
            "two",
            Kind {
                policy: Policy::No,
                remove: false,
                ends: None,
            },
        ),
        Step::Prune,
    ])
}

/// The tool's words for a step; the names begin with `token`, by which the processes are found. `None`: it is none of the
/// tool's.
pub(crate) fn command(step: &Step, token: &str) -> Option<Vec<String>> {
    let named = |name: Name| format!("{token}-{name}");
    let words: Vec<String> = match *step {
        Step::Create(name, kind) => made(&["create"], &named(name), kind),
        Step::Run(name, kind) => made(&["run", "-d"], &named(name), kind),
        Step::Start(name) => vec!["start".into(), named(name)],
        Step::Stop(name) => ["stop", "-t", "0"]
            .map(String::from)
            .into_iter()
            .chain([named(name)])
            .collect(),
        Step::Kill(name) => vec!["kill".into(), named(name)],
        Step::Restart(name) => ["restart", "-t", "0"]
            .map(String::from)
            .into_iter()
            .chain([named(name)])
            .collect(),
        Step::Remove(name) => vec!["rm".into(), named(name)],
        Step::RemoveForced(name) => vec!["rm".into(), "-f".into(), named(name)],
        Step::Rename(name, to) => vec!["rename".into(), named(name), named(to)],
        Step::Exec(name) => ["exec", &named(name), "sh", "-c", "exit 5"]
            .map(String::from)
            .into(),
        Step::Wait(name) => vec!["wait".into(), named(name)],
        Step::Pause(name) => vec!["pause".into(), named(name)],
        Step::Unpause(name) => vec!["unpause".into(), named(name)],
        Step::Prune => ["container", "prune", "-f"].map(String::from).into(),
        Step::Shoot(..) => return None,
    };
    Some(words)
}

fn made(verb: &[&str], name: &str, kind: Kind) -> Vec<String> {
    let mut words: Vec<String> = verb.iter().map(ToString::to_string).collect();
    words.extend(["--network", "none", "--name", name].map(String::from));
    match kind.policy {
        Policy::No => {}
        Policy::Once => words.push("--restart=on-failure:1".into()),
        Policy::Always => words.push("--restart=always".into()),
    }
    if kind.remove {
        words.push("--rm".into());
    }
    let script = match kind.ends {
        Some(code) => format!("exit {code}; # {name}"),
        None => format!("exec sleep 1000; # {name}"),
    };
    words.extend(["base", "sh", "-c", &script].map(String::from));
    words
}
