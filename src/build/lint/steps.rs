//! What do the instructions of a stage say?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::casing::keyword;
use super::{Finding, Look, Rule, needed};
use crate::build::config::Config;
use crate::build::dockerfile::{Command, Copy, From, Instruction, Place, Source, Step};
use crate::build::order::{Fetch, Named};
use crate::build::solve::expanded;
use crate::build::source::Source as _;
use crate::images;
use crate::images::manifest::Platform;

/// Words in names of what nobody should see.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// What is known where an instruction stands.
#[derive(Clone, Default)]
struct Seen {
    /// SHELL: there is a reason for the shell form.
    shell: bool,
    /// WORKDIR.
    workdir: bool,
    /// The variables; `None` if the base is not known.
    names: Option<BTreeSet<String>>,
    /// CMD, ENTRYPOINT and HEALTHCHECK of this stage, the last of each.
    once: Vec<(&'static str, Place)>,
}

/// So many names are handed on from stage to stage; behind that, none is called undefined.
const MOST_NAMES: usize = 1 << 20;

struct Steps<'a> {
    look: &'a Look<'a>,
    findings: Vec<Finding>,
    /// What images bring, once it was looked up.
    bases: BTreeMap<String, Seen>,
    /// How many names may still be handed on.
    room: usize,
}

pub(super) fn findings(look: &Look<'_>, needed: &BTreeSet<usize>) -> Vec<Finding> {
    let mut steps = Steps {
        look,
        findings: Vec::new(),
        bases: BTreeMap::new(),
        room: MOST_NAMES,
    };
    let mut stages: Vec<Seen> = Vec::new();
    for (number, stage) in look.file.stages.iter().enumerate() {
        let mut seen = steps.base(&stage.from, number, &stages);
        let before = steps.findings.len();
        if let Some(detail) = other_platform(look, &stage.from, number) {
            steps.found(Rule::InvalidBaseImagePlatform, stage.from.place, detail);
        }
        for step in &stage.steps {
            steps.step(step, &mut seen);
        }
        if !needed.contains(&number) {
            // MAINTAINER is told of wherever it stands.
            let found = steps.findings.split_off(before).into_iter();
            let kept = found.filter(|finding| finding.rule == Rule::MaintainerDeprecated);
            steps.findings.extend(kept);
        }
        stages.push(seen);
    }
    steps.findings
}

/// A base of the store's that is for another machine. It serves only where nobody has asked for a platform: else one for
/// that is fetched.
fn other_platform(look: &Look<'_>, from: &From, number: usize) -> Option<String> {
    if from.platform.is_some()
        || !look.order.platforms.is_empty()
        || look.order.pull == Fetch::Always
        || needed::base(look, from, number).is_some()
    {
        return None;
    }
    let name = needed::image(look, from);
    let found = match look.order.named(&name) {
        Some(Named::Image(other)) => other.as_str(),
        Some(Named::Files(..)) => return None,
        None => &name,
    };
    // An image that cannot be read fails the build.
    let image = images::find(look.store, found).ok().flatten();
    let (platform, host) = (image?.platform()?, Platform::host());
    let is_other = (&platform.os, &platform.architecture) != (&host.os, &host.architecture);
    let detail = || {
        format!(
            "Base image {name} was pulled with platform \"{platform}\", expected \"{host}\" for current build"
        )
    };
    is_other.then(detail)
}

impl Steps<'_> {
    fn found(&mut self, rule: Rule, place: Place, detail: String) {
        self.findings.push(Finding { rule, detail, place });
    }

    /// What a stage begins with.
    fn base(&mut self, from: &From, number: usize, stages: &[Seen]) -> Seen {
        let earlier = needed::base(self.look, from, number).and_then(|earlier| stages.get(earlier));
        let mut seen = match earlier {
            Some(seen) => seen.clone(),
            None => {
                let name = needed::image(self.look, from);
                let look = || Steps::image(self.look, &name);
                self.bases.entry(name.clone()).or_insert_with(look).clone()
            }
        };
        seen.once.clear();
        if let Some(names) = &mut seen.names {
            names.extend(self.look.order.env.iter().map(|(name, _)| name.clone()));
        }
        let count = seen.names.as_ref().map_or(0, BTreeSet::len);
        match self.room.checked_sub(count) {
            Some(room) => self.room = room,
            None => seen.names = None,
        }
        seen
    }

    /// What a name that is no stage's brings.
    fn image(look: &Look<'_>, name: &str) -> Seen {
        let mut seen = Seen::default();
        let name = match look.order.named(name) {
            Some(Named::Image(other)) => other,
            // They bring no variables.
            Some(Named::Files(..)) => "scratch",
            None => name,
        };
        let config = match name {
            "scratch" => None,
            // An image that cannot be read fails the build.
            name => match images::find(look.store, name) {
                Ok(Some(image)) => Some(Config::of(&image)),
                _ => return seen,
            },
        };
        let env = config.as_ref().map(Config::env).unwrap_or_default();
        let names = env.iter().filter_map(|line| line.split('=').next());
        seen.names = Some(names.chain(["PATH"]).map(String::from).collect());
        seen.shell = config.is_some_and(|config| !config.list("Shell").is_empty());
        seen
    }

    fn step(&mut self, step: &Step, seen: &mut Seen) {
        let (place, name) = (step.place, keyword(&step.text));
        match &step.instruction {
            Instruction::Cmd(command) => {
                self.command(name, command, place, seen);
                self.once("CMD", name, place, seen);
            }
            Instruction::Entrypoint(command) => {
                self.command(name, command, place, seen);
                self.once("ENTRYPOINT", name, place, seen);
            }
            Instruction::Healthcheck(_) => self.once("HEALTHCHECK", name, place, seen),
            Instruction::Shell(_) => seen.shell = true,
            Instruction::Maintainer(_) => {
                let detail = "Maintainer instruction is deprecated in favor of using label";
                self.found(Rule::MaintainerDeprecated, place, detail.into());
            }
            Instruction::Workdir(path) => self.workdir(path, place, seen),
            Instruction::Env(pairs) => {
                self.pairs(step, pairs, seen);
                for (variable, _) in pairs {
                    self.secret("ENV", variable, place);
                    seen.names
                        .iter_mut()
                        .for_each(|names| names.extend([variable.clone()]));
                }
            }
            Instruction::Label(pairs) => self.pairs(step, pairs, seen),
            Instruction::Arg(args) => {
                for arg in args {
                    self.secret("ARG", &arg.name, place);
                    self.variables(arg.default.as_deref().as_slice(), place, seen);
                    seen.names
                        .iter_mut()
                        .for_each(|names| names.extend([arg.name.clone()]));
                }
            }
            Instruction::Expose(ports) => ports.iter().for_each(|port| self.port(port, place)),
            Instruction::User(word) | Instruction::StopSignal(word) => {
                self.variables(&[word.as_str()], place, seen);
            }
            Instruction::Volume(paths) => {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                self.variables(&paths, place, seen);
            }
            Instruction::Copy(copy) => self.copy("Copy", copy, place, seen),
            Instruction::Add(add) => self.copy("Add", &add.as_copy(), place, seen),
            Instruction::Run(_) | Instruction::OnBuild(_) => {}
        }
    }

    fn command(&mut self, name: &str, command: &Command, place: Place, seen: &Seen) {
        if matches!(command, Command::Shell(_)) && !seen.shell {
            let detail = format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            );
            self.found(Rule::JSONArgsRecommended, place, detail);
        }
    }

    /// Told of the earlier one, which counts for nothing.
    fn once(&mut self, kind: &'static str, name: &str, place: Place, seen: &mut Seen) {
        match seen.once.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, earlier)) => {
                let earlier = std::mem::replace(earlier, place);
                let detail = format!(
                    "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
                );
                self.found(Rule::MultipleInstructionsDisallowed, earlier, detail);
            }
            None => seen.once.push((kind, place)),
        }
    }

    fn workdir(&mut self, path: &str, place: Place, seen: &mut Seen) {
        self.variables(&[path], place, seen);
        // A variable may hold an absolute path.
        if !seen.workdir && !path.trim_start_matches(['"', '\'']).starts_with(['/', '$']) {
            let detail =
                format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            self.found(Rule::WorkdirRelativePath, place, detail);
        }
        seen.workdir = true;
    }

    fn pairs(&mut self, step: &Step, pairs: &[(String, String)], seen: &Seen) {
        let name = keyword(&step.text);
        let first = step.text.split_whitespace().nth(1).unwrap_or_default();
        if !first.contains('=') && !first.starts_with(['"', '\'']) {
            let detail =
                format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
            self.found(Rule::LegacyKeyValueFormat, step.place, detail);
        }
        let words: Vec<&str> = pairs
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()])
            .collect();
        self.variables(&words, step.place, seen);
    }

    fn secret(&mut self, keyword: &str, name: &str, place: Place) {
        let lower = name.to_lowercase();
        let parts: Vec<&str> = lower.split('_').collect();
        if parts.iter().any(|part| SECRET.contains(part)) && !parts.contains(&"public") {
            let detail =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})");
            self.found(Rule::SecretsUsedInArgOrEnv, place, detail);
        }
    }

    fn port(&mut self, port: &str, place: Place) {
        if port.contains('$') {
            return;
        }
        if port.contains(':') {
            let detail = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            );
            self.found(Rule::ExposeInvalidFormat, place, detail);
        }
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol != protocol.to_lowercase() {
            let detail = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
            self.found(Rule::ExposeProtoCasing, place, detail);
        }
    }

    fn copy(&mut self, verb: &str, copy: &Copy, place: Place, seen: &Seen) {
        let paths = copy.sources.iter().filter_map(|source| match source {
            Source::Path(path) => Some(path.as_str()),
            Source::Inline(_) => None,
        });
        let paths: Vec<&str> = paths.collect();
        let flags = copy.chown.iter().chain(&copy.chmod).map(String::as_str);
        let words: Vec<&str> = paths
            .iter()
            .copied()
            .chain([copy.dest.as_str()])
            .chain(flags)
            .collect();
        self.variables(&words, place, seen);
        let (None, Some(context)) = (&copy.from, &self.look.order.context) else {
            return;
        };
        for path in paths {
            let clean = path.trim_start_matches(['/', '.']).trim_end_matches('/');
            if !clean.is_empty() && context.is_hidden(clean.as_bytes()) {
                let detail = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
                self.found(Rule::CopyIgnoredFile, place, detail);
            }
        }
    }

    /// Variables that nothing has set, in words that say nothing for that case.
    fn variables(&mut self, words: &[&str], place: Place, seen: &Seen) {
        let Some(names) = &seen.names else {
            return;
        };
        let mut unknown = BTreeSet::new();
        for word in words {
            let used = RefCell::new(BTreeSet::new());
            let get = |name: &str| {
                let known = names.contains(name);
                if !known {
                    used.borrow_mut().insert(name.to_string());
                }
                known.then(String::new)
            };
            // A word that cannot be expanded fails the build.
            drop(expanded(self.look.file.directives.escape, word, &get));
            let used = used.into_inner().into_iter();
            unknown.extend(used.filter(|name| !provides_for(word, name)));
        }
        for name in unknown {
            let meant = self.look.meant.of("$", &name, names.iter().map(String::as_str));
            let detail = format!("Usage of undefined variable '${name}'{meant}");
            self.found(Rule::UndefinedVar, place, detail);
        }
    }
}

/// `${name:-word}` and the like.
fn provides_for(word: &str, name: &str) -> bool {
    [":", "-", "+", "?"]
        .iter()
        .any(|sign| word.contains(&format!("${{{name}{sign}")))
}
