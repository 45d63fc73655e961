//! Which value has a variable at this place of the Dockerfile? ENV's before ARG's; an ARG counts from its line to the end
//! of its stage, and takes what `--build-arg` says before its own default (Dockerfile reference, "ARG").

use std::collections::BTreeMap;

use super::config::Config;
use crate::images::manifest::Platform;

/// ARGs that every stage has without naming them; they go to commands, but neither into history nor into keys.
const PREDEFINED: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// What the builder was given: `--build-arg`, and the platforms, which count where an ARG names them.
#[derive(Debug, Default)]
pub(super) struct Given {
    args: BTreeMap<String, String>,
    platform: BTreeMap<String, String>,
}

impl Given {
    /// `args` as the user gave them. What is built is for this machine's platform.
    pub(super) fn new(args: &[(String, String)], target: &str) -> Given {
        let host = Platform::host();
        let variant = host.variant.clone().unwrap_or_default();
        let mut name = format!("{}/{}", host.os, host.architecture);
        if !variant.is_empty() {
            name = format!("{name}/{variant}");
        }
        let mut platform = BTreeMap::new();
        for role in ["TARGET", "BUILD"] {
            platform.insert(format!("{role}PLATFORM"), name.clone());
            platform.insert(format!("{role}OS"), host.os.clone());
            platform.insert(format!("{role}ARCH"), host.architecture.clone());
            platform.insert(format!("{role}VARIANT"), variant.clone());
        }
        platform.insert("TARGETSTAGE".into(), target.into());
        Given {
            args: args.iter().cloned().collect(),
            platform,
        }
    }

    fn value(&self, name: &str) -> Option<&String> {
        self.args.get(name).or_else(|| self.platform.get(name))
    }

    /// The names given that no ARG has named and that are not predefined.
    pub(super) fn unused<'a>(
        &'a self,
        used: &'a std::collections::BTreeSet<String>,
    ) -> impl Iterator<Item = &'a String> {
        self.args.keys().filter(|name| {
            !used.contains(*name) && !is_predefined(name) && !BUILDERS.contains(&name.as_str())
        })
    }

    /// The proxies that commands see.
    pub(super) fn predefined(&self) -> impl Iterator<Item = String> {
        let proxies = self.args.iter().filter(|(name, _)| is_predefined(name));
        // Programs differ in which spelling they look for.
        proxies.flat_map(|(name, value)| {
            [name.to_ascii_uppercase(), name.to_ascii_lowercase()].map(|name| format!("{name}={value}"))
        })
    }
}

/// Read by the builder itself.
const BUILDERS: [&str; 2] = ["SOURCE_DATE_EPOCH", "BUILDKIT_CONTEXT_KEEP_GIT_DIR"];

fn is_predefined(name: &str) -> bool {
    PREDEFINED.contains(&name.to_ascii_uppercase().as_str())
}

/// ARGs in sight. A name without a value is one that was declared and given none.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope(Vec<(String, Option<String>)>);

impl Scope {
    /// ARG before the first FROM.
    pub(super) fn declare_global(&mut self, given: &Given, name: &str, default: Option<String>) {
        self.insert(name, given.value(name).cloned().or(default));
    }

    /// ARG in a stage. Without a default it takes that of the global ARG of its name.
    pub(super) fn declare(&mut self, given: &Given, global: &Scope, name: &str, default: Option<String>) {
        let value = given
            .value(name)
            .cloned()
            .or(default)
            .or_else(|| global.value(name).cloned());
        self.insert(name, value);
    }

    fn insert(&mut self, name: &str, value: Option<String>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(found) => found.1 = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// The value of an ARG.
    pub(super) fn value(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(known, _)| known == name)?.1.as_ref()
    }

    /// What FROM sees: these, and the platforms.
    pub(super) fn of_from(&self, given: &Given, name: &str) -> Option<String> {
        self.value(name).or_else(|| given.platform.get(name)).cloned()
    }

    /// What an instruction of a stage sees.
    pub(super) fn of_step(&self, config: &Config, name: &str) -> Option<String> {
        let env = config.env().into_iter().find_map(|line| {
            let (known, value) = line.split_once('=')?;
            (known == name).then(|| value.to_string())
        });
        env.or_else(|| self.value(name).cloned())
    }

    /// `NAME=value` of all that have a value and that no ENV covers: what commands get, and the history tells.
    pub(super) fn for_commands(&self, config: &Config) -> Vec<String> {
        let env = config.env();
        let covered = |name: &str| env.iter().any(|line| line.split('=').next() == Some(name));
        let seen = self.0.iter().filter(|(name, _)| !covered(name));
        seen.filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect()
    }
}
