//! Instructions that change the config alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::build::Error;
use crate::build::config::Config;
use crate::build::dockerfile::{Command, Healthcheck, Instruction, expand_words};
use crate::build::solve::{Stage, expanded};
use crate::containers::signals;
use crate::line;

/// What the history says of an instruction. The words are BuildKit's, with Go's ways to write lists and maps: equal builds
/// have equal histories.
pub(in crate::build) enum Told {
    /// Its text.
    Text,
    As(String),
    Nothing,
}

/// Instructions that change the config alone. Gives what the history says; `None` for one that changes more.
pub(in crate::build) fn configure(
    stage: &mut Stage,
    instruction: &Instruction,
    escape: char,
) -> Result<Option<Told>, Error> {
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
        Told::As(format!("{keyword} {}", pairs.join(" ")))
    };
    let config = &mut stage.config;
    Ok(Some(match instruction {
        Instruction::Env(env) => {
            let env = pairs(env)?;
            for (name, value) in &env {
                config.set_env(name, value);
                stage.scope.cover(name);
            }
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
            Told::As(format!("USER {user}"))
        }
        Instruction::Expose(ports) => {
            let mut all = BTreeSet::new();
            for port in ports {
                let expand = expand_words(port, escape, &get);
                let expanded = expand.map_err(|source| Error::Expand {
                    word: port.clone(),
                    source,
                })?;
                for port in expanded {
                    all.extend(exposed(&port)?);
                }
            }
            all.iter()
                .for_each(|port| config.add("ExposedPorts", port, json!({})));
            let all: Vec<String> = all.iter().map(|port| format!("{port}:{{}}")).collect();
            Told::As(format!("EXPOSE map[{}]", all.join(" ")))
        }
        Instruction::Volume(paths) => {
            let paths: Vec<String> = paths.iter().map(|path| word(path)).collect::<Result<_, _>>()?;
            paths
                .iter()
                .for_each(|path| config.add("Volumes", path, json!({})));
            Told::As(format!("VOLUME [{}]", paths.join(" ")))
        }
        Instruction::Cmd(command) => {
            config.set("Cmd", json!(arguments(config, command)));
            // Read by Docker on Windows alone, but in each image that has a CMD of BuildKit's.
            config.set("ArgsEscaped", json!(true));
            stage.has_command = true;
            Told::As(format!("CMD {}", quoted(&stage.config.list("Cmd"))))
        }
        Instruction::Entrypoint(command) => {
            config.set("Entrypoint", json!(arguments(config, command)));
            if !stage.has_command {
                config.unset("Cmd");
            }
            Told::As(format!("ENTRYPOINT {}", quoted(&config.list("Entrypoint"))))
        }
        Instruction::Shell(shell) => {
            config.set("Shell", json!(shell));
            Told::As(format!("SHELL [{}]", shell.join(" ")))
        }
        Instruction::StopSignal(signal) => {
            let signal = word(signal)?;
            signals::parse(&signal).map_err(crate::containers::Error::from)?;
            config.set("StopSignal", json!(signal));
            Told::As(format!("STOPSIGNAL {signal}"))
        }
        Instruction::Healthcheck(check) => {
            config.set("Healthcheck", healthcheck(check));
            Told::Text
        }
        Instruction::OnBuild(trigger) => {
            config.push("OnBuild", json!(trigger));
            Told::Nothing
        }
        Instruction::Maintainer(name) => {
            config.set_author(name);
            Told::Text
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
fn healthcheck(check: &Healthcheck) -> Value {
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
    // The container's shell is asked for when it runs, also if it is not the usual one.
    let test: Vec<&str> = match command {
        Command::Exec(words) => std::iter::once("CMD")
            .chain(words.iter().map(String::as_str))
            .collect(),
        Command::Shell(text) => vec!["CMD-SHELL", text],
    };
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

/// `80`, `80/udp`, `8000-8010` → as the config names ports. What `run -p` would publish them as may stand before
/// (`127.0.0.1:8080:80`): it is accepted and means nothing.
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
    let ports = match ports.rsplit_once(':') {
        Some((published, ports)) if is_published(published) => ports,
        Some(_) => return Err(invalid()),
        None => ports,
    };
    let (first, last) = range(ports).ok_or_else(invalid)?;
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `8080`, `127.0.0.1:8080`, `[::1]:`.
fn is_published(text: &str) -> bool {
    let (address, ports) = text.rsplit_once(':').unwrap_or(("", text));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    (ports.is_empty() || range(ports).is_some()) && (address.is_empty() || address.parse::<IpAddr>().is_ok())
}

fn range(ports: &str) -> Option<(u16, u16)> {
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// A list of words as Go's `%q` writes it.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| line::quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_quoted_as_in_go() {
        let words = ["a b", "\"q\"", "ä'"].map(String::from);
        assert_eq!(quoted(&words), r#"["a b" "\"q\"" "ä'"]"#);
        assert_eq!(quoted(&[]), "[]");
    }

    #[test]
    fn ports_may_say_where_they_are_published() {
        for (text, wanted) in [
            ("80", Some("80/tcp")),
            ("80/UDP", Some("80/udp")),
            ("8080:80", Some("80/tcp")),
            ("127.0.0.1:8080:80/sctp", Some("80/sctp")),
            ("[::1]::80", Some("80/tcp")),
            ("x:80", None),
            ("1.2.3:80:80", None),
            ("80:", None),
            ("2-1", None),
        ] {
            let exposed = exposed(text).ok();
            assert_eq!(exposed, wanted.map(|wanted| vec![wanted.to_string()]), "{text}");
        }
    }
}
