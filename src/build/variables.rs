//! Which value has a variable at this place of the Dockerfile? That of the last ENV or ARG of its name; an ARG counts from
//! its line to the end of its stage, and takes what `--build-arg` says before its own default (Dockerfile reference,
//! "ARG"). The reference says that ENV always overrides ARG; in BuildKit, a later ARG counts, and so here.

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
    /// `args` as the user gave them; the target's stage, and the platform that it is built for.
    pub(super) fn new(args: &[(String, String)], stage: &str, target: &Platform) -> Given {
        let mut platform = BTreeMap::new();
        for (role, of) in [("TARGET", target), ("BUILD", &Platform::host())] {
            platform.insert(format!("{role}PLATFORM"), of.to_string());
            platform.insert(format!("{role}OS"), of.os.clone());
            platform.insert(format!("{role}ARCH"), of.architecture.clone());
            platform.insert(format!("{role}VARIANT"), of.variant.clone().unwrap_or_default());
        }
        platform.insert("TARGETSTAGE".into(), stage.into());
        // FROM sees what was given for them without an ARG.
        for (name, value) in args {
            if let Some(known) = platform.get_mut(name) {
                known.clone_from(value);
            }
        }
        Given {
            args: args.iter().cloned().collect(),
            platform,
        }
    }

    /// Has `--build-arg` a value for it? Then its default is not used.
    pub(super) fn has(&self, name: &str) -> bool {
        self.args.contains_key(name)
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

    /// The names of the platforms' parts.
    pub(super) fn platforms(&self) -> impl Iterator<Item = &str> {
        self.platform.keys().map(String::as_str)
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
const BUILDERS: [&str; 9] = [
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_INLINE_CACHE",
    // As `# syntax=`, which names a program that is not run.
    "BUILDKIT_SYNTAX",
    CACHES,
    CHECK,
    HOSTNAME,
    // What it is called in the history of builds.
    "BUILDKIT_BUILD_NAME",
    // Whether what is for one platform is as what is for several.
    "BUILDKIT_MULTI_PLATFORM",
];
/// What comes before the ids of cache mounts.
pub(super) const CACHES: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// What RUN's machine is called.
pub(super) const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// What `# check=` says otherwise.
pub(super) const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

fn is_predefined(name: &str) -> bool {
    PREDEFINED.contains(&name.to_ascii_uppercase().as_str())
}

/// ARGs in sight.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope(Vec<Declared>);

#[derive(Debug, Clone)]
struct Declared {
    name: String,
    /// `None`: it was declared and given none.
    value: Option<String>,
    /// An ENV of its name came after it.
    covered: bool,
    /// By this stage, not by the one that it stands on.
    own: bool,
}

impl Scope {
    /// ARG before the first FROM.
    pub(super) fn declare_global(&mut self, given: &Given, name: &str, default: Option<String>) {
        self.insert(name, given.args.get(name).cloned().or(default));
    }

    /// ARG in a stage. Without a default it takes that of the global ARG of its name, else what the platforms say.
    pub(super) fn declare(&mut self, given: &Given, global: &Scope, name: &str, default: Option<String>) {
        let value = given.args.get(name).cloned().or(default);
        self.insert(name, value.or_else(|| global.of_from(given, name)));
    }

    fn insert(&mut self, name: &str, value: Option<String>) {
        let found = self.0.iter_mut().find(|known| known.name == name);
        let declared = Declared {
            name: name.into(),
            value,
            covered: false,
            own: true,
        };
        match found {
            Some(found) if declared.value.is_none() => found.own = true,
            Some(found) => *found = declared,
            None => self.0.push(declared),
        }
    }

    /// ENV: from here on its value counts.
    pub(super) fn cover(&mut self, name: &str) {
        let found = self.0.iter_mut().filter(|known| known.name == name);
        found.for_each(|known| known.covered = true);
    }

    /// What a stage that stands on this one sees.
    pub(super) fn inherited(&self) -> Scope {
        let inherit = |known: &Declared| Declared {
            own: false,
            ..known.clone()
        };
        Scope(self.0.iter().map(inherit).collect())
    }

    /// The value of an ARG.
    pub(super) fn value(&self, name: &str) -> Option<&String> {
        let known = self.0.iter().find(|known| known.name == name)?;
        known.value.as_ref().filter(|_| !known.covered)
    }

    /// What FROM sees: these, and the platforms.
    pub(super) fn of_from(&self, given: &Given, name: &str) -> Option<String> {
        self.value(name).or_else(|| given.platform.get(name)).cloned()
    }

    /// What an instruction of a stage sees.
    pub(super) fn of_step(&self, config: &Config, name: &str) -> Option<String> {
        let env = || {
            config.env().into_iter().find_map(|line| {
                let (known, value) = line.split_once('=')?;
                (known == name).then(|| value.to_string())
            })
        };
        self.value(name).cloned().or_else(env)
    }

    /// `NAME=value` of all that have a value and that no ENV covers: what commands get besides the environment.
    pub(super) fn for_commands(&self) -> Vec<String> {
        let seen = self.0.iter().filter(|known| !known.covered);
        seen.filter_map(|known| Some(format!("{}={}", known.name, known.value.as_ref()?)))
            .collect()
    }

    /// The stage's own, as the history of RUN tells them: with what the command sees under their names.
    pub(super) fn told(&self, config: &Config) -> Vec<String> {
        let own = self.0.iter().filter(|known| known.own);
        let value = |known: &Declared| self.of_step(config, &known.name).unwrap_or_default();
        own.map(|known| format!("{}={}", known.name, value(known)))
            .collect()
    }
}
