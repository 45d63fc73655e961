//! Instructions that change the config alone.

use serde_json::{Value, json};

use crate::build::Error;
use crate::build::config::Config;
use crate::build::dockerfile::{Command, Healthcheck, Instruction, expand_words};
use crate::build::solve::{Stage, expanded};
use crate::containers::life;

/// Instructions that change the config alone. Gives what the history says, if that is not the text; `None` for one that
/// changes more.
pub(in crate::build) fn configure(
    stage: &mut Stage,
    instruction: &Instruction,
    escape: char,
) -> Result<Option<Option<String>>, Error> {
    // All of a line sees the values from before it.
    let before = stage.clone();
    let get = |name: &str| before.scope.of_step(&before.config, name);
    let word = |text: &str| expanded(escape, text, &get);
    let pairs = |pairs: &[(String, String)]| -> Result<Vec<(String, String)>, Error> {
        pairs
            .iter()
            .map(|(name, value)| Ok((word(name)?, word(value)?)))
            .collect()
    };
    let told = |keyword: &str, pairs: &[(String, String)]| {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Some(format!("{keyword} {}", pairs.join(" ")))
    };
    let config = &mut stage.config;
    Ok(Some(match instruction {
        Instruction::Env(env) => {
            let env = pairs(env)?;
            env.iter().for_each(|(name, value)| config.set_env(name, value));
            told("ENV", &env)
        }
        Instruction::Label(labels) => {
            let labels = pairs(labels)?;
            labels
                .iter()
                .for_each(|(name, value)| config.add("Labels", name, json!(value)));
            told("LABEL", &labels)
        }
        Instruction::User(user) => {
            let user = word(user)?;
            config.set("User", json!(user));
            Some(format!("USER {user}"))
        }
        Instruction::Expose(ports) => {
            for port in ports {
                let expand = expand_words(port, escape, &get);
                for port in expand.map_err(|source| Error::Expand {
                    word: port.clone(),
                    source,
                })? {
                    for port in exposed(&port)? {
                        config.add("ExposedPorts", &port, json!({}));
                    }
                }
            }
            None
        }
        Instruction::Volume(paths) => {
            for path in paths {
                config.add("Volumes", &word(path)?, json!({}));
            }
            None
        }
        Instruction::Cmd(command) => {
            config.set("Cmd", json!(arguments(config, command)));
            stage.has_command = true;
            Some(format!("CMD {}", json!(stage.config.list("Cmd"))))
        }
        Instruction::Entrypoint(command) => {
            config.set("Entrypoint", json!(arguments(config, command)));
            if !stage.has_command {
                config.unset("Cmd");
            }
            Some(format!("ENTRYPOINT {}", json!(config.list("Entrypoint"))))
        }
        Instruction::Shell(shell) => {
            config.set("Shell", json!(shell));
            None
        }
        Instruction::StopSignal(signal) => {
            let signal = word(signal)?;
            life::signal(&signal).map_err(crate::containers::Error::from)?;
            config.set("StopSignal", json!(signal));
            Some(format!("STOPSIGNAL {signal}"))
        }
        Instruction::Healthcheck(check) => {
            config.set("Healthcheck", healthcheck(config, check));
            None
        }
        Instruction::OnBuild(trigger) => {
            config.push("OnBuild", json!(trigger));
            None
        }
        Instruction::Maintainer(name) => {
            config.set_author(name);
            None
        }
        _ => return Ok(None),
    }))
}

/// The arguments of CMD and ENTRYPOINT.
fn arguments(config: &Config, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => config.shell().into_iter().chain([text.clone()]).collect(),
    }
}

/// Docker's image spec, "Healthcheck".
fn healthcheck(config: &Config, check: &Healthcheck) -> Value {
    let Healthcheck::Check {
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
        command,
    } = check
    else {
        return json!({ "Test": ["NONE"] });
    };
    let mut test = match command {
        Command::Exec(_) => vec!["CMD".to_string()],
        Command::Shell(_) => vec!["CMD-SHELL".to_string()],
    };
    match command {
        Command::Exec(words) => test.extend(words.iter().cloned()),
        Command::Shell(text) if config.list("Shell").is_empty() => test.push(text.clone()),
        Command::Shell(_) => {
            test = vec!["CMD".into()];
            test.extend(arguments(config, command));
        }
    }
    let mut value = json!({ "Test": test });
    let times = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
    ];
    for (name, time) in times {
        if let (Some(time), Some(fields)) = (time, value.as_object_mut()) {
            fields.insert(name.into(), json!(time));
        }
    }
    if let (Some(retries), Some(fields)) = (retries, value.as_object_mut()) {
        fields.insert("Retries".into(), json!(retries));
    }
    value
}

/// `80`, `80/udp`, `8000-8010` → as the config names ports.
fn exposed(text: &str) -> Result<Vec<String>, Error> {
    let invalid = || Error::Value {
        what: "containerPort",
        value: text.into(),
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(invalid());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => (first, last),
        _ => return Err(invalid()),
    };
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}
