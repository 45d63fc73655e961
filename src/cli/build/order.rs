//! What is to be built? The flags, read.

use std::io::{IsTerminal as _, stdin, stdout};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::attest;
use super::cache;
use super::outputs::Asked;
use super::{Build, FormatFlag, NetworkFlag, OnErrorFlag, PullFlag};
use crate::build::{Agent, Cache, CacheTo, Fetch, OnError, Order, Origin, Secret, Squash, Times, Trust};
use crate::cli::report::Failure;
use crate::containers::files::HostNames;
use crate::containers::spec::{Network, confine, mounts};
use crate::images::commit::Described;
use crate::images::manifest::Platform;
use crate::images::packed::Family;
use crate::images::reference::Reference;
use crate::truth::truth;

impl Build {
    /// What the flags say; what is found comes later.
    pub(super) fn order(&self) -> Result<Order, Failure> {
        let mut args = pairs(&self.build_arg, Missing::Environment);
        let shm_size = self.shm_size.as_ref().map(|text| {
            mounts::bytes(text).ok_or_else(|| {
                Failure::new(format!("invalid argument {text:?} for \"--shm-size\"")).code(125)
            })
        });
        let trust = match self.tls_verify {
            Some(false) => Trust::All,
            _ => Trust::Verified,
        };
        let said = attest::Asked {
            attest: &self.attest,
            provenance: self.provenance.as_deref(),
            sbom: self.sbom.as_deref(),
        };
        let attests = said.attests()?;
        let described = self.described()?;
        let asked = Asked {
            outputs: &self.output,
            load: self.load,
            push: self.push,
            names: &self.names()?,
            described: &described,
            trust,
        };
        let wanted = asked.wanted()?;
        // As buildx and podman do it, so that an ARG has it.
        if args.iter().all(|(name, _)| name != EPOCH) {
            let flag = self.source_date_epoch.map(|seconds| seconds.to_string());
            let set = || env::var(EPOCH).ok().filter(|text| !text.is_empty());
            args.extend(flag.or_else(set).map(|text| (EPOCH.into(), text)));
        }
        let epoch = match self.timestamp.or(self.source_date_epoch) {
            Some(seconds) => Some(seconds),
            None => epoch(&args)?,
        };
        let cache_to = caches_to(&self.cache_to, &args)?;
        let order = Order {
            name: String::new(),
            dockerfile: String::new(),
            origin: Origin::default(),
            context: None,
            contexts: Vec::new(),
            target: self.target.clone(),
            platforms: self.platforms(),
            lists: lists(&args, self.platforms().len())?,
            epoch,
            times: self.times(epoch, wanted.rewrite),
            args,
            labels: pairs(&self.label, Missing::Empty),
            env: pairs(&self.env, Missing::Environment),
            unset_env: self.unsetenv.clone(),
            unset_labels: self.unsetlabel.clone(),
            cache: match self.no_cache || self.layers == Some(false) {
                true => Cache::Ignore,
                false => Cache::Use,
            },
            squash: match (self.squash_all, self.squash || self.layers == Some(false)) {
                (true, _) => Squash::All,
                (false, true) => Squash::New,
                (false, false) => Squash::No,
            },
            cache_from: all(&self.cache_from, cache::from)?.concat(),
            cache_to,
            anew: self.no_cache_filter.clone(),
            pull: match self.pull {
                Some(PullFlag::Always) => Fetch::Always,
                Some(PullFlag::Missing) | None => Fetch::Missing,
                Some(PullFlag::Never) => Fetch::Never,
            },
            first_base: self.from.clone(),
            trust,
            network: match self.network {
                None | Some(NetworkFlag::Default) => Network::Unasked,
                Some(NetworkFlag::Host) => Network::Host,
                Some(NetworkFlag::None) => Network::None,
            },
            host_names: HostNames {
                hosts: self.add_host.clone(),
                ..HostNames::default()
            },
            shm_size: shm_size.transpose()?,
            volumes: self.volumes()?,
            ulimits: all(&self.ulimit, |text| {
                confine::ulimit(text).map_err(|error| Failure::of(&error).code(125))
            })?,
            outputs: wanted.outputs,
            attests,
            on_error: self.on_error()?,
            // podman's 0 is no limit.
            jobs: match self.jobs {
                Some(0) => usize::MAX,
                Some(jobs) => jobs,
                None if self.on_error.is_some() => 1,
                None => std::thread::available_parallelism().map_or(2, |cpus| cpus.get().max(2)),
            },
            secrets: all(&self.secret, secret)?,
            agents: all(&self.ssh, agent)?,
        };
        if let Some((name, value)) = described.index.iter().next()
            && !order.outputs.iter().any(|output| order.makes_list(output))
        {
            let why = format!(
                "invalid argument \"index:{name}={value}\" for \"--annotation\": what is made has no index to annotate"
            );
            return Err(Failure::new(why).code(125));
        }
        Ok(order)
    }

    /// `--platform`, each once.
    fn platforms(&self) -> Vec<Platform> {
        let mut all: Vec<Platform> = Vec::new();
        for platform in &self.platform {
            if !all.contains(platform) {
                all.push(platform.clone());
            }
        }
        all
    }

    /// `-t`.
    fn names(&self) -> Result<Vec<Reference>, Failure> {
        all(&self.tag, |tag| {
            let invalid = |why: &str| {
                Failure::new(format!("invalid argument {tag:?} for \"-t, --tag\": {why}")).code(125)
            };
            let name = Reference::parse(tag).map_err(|error| invalid(&error.to_string()))?;
            match name.digest() {
                Some(_) => Err(invalid("a digest is no tag")),
                None => Ok(name.or_latest()),
            }
        })
    }

    /// `--format` and `--annotation`, with BuildKit's prefixes.
    fn described(&self) -> Result<Described, Failure> {
        let mut described = Described {
            family: match self.format {
                FormatFlag::Oci => Family::Oci,
                FormatFlag::Docker => Family::Docker,
            },
            ..Described::default()
        };
        for text in &self.annotation {
            let invalid = |why: &str| {
                Failure::new(format!("invalid argument {text:?} for \"--annotation\": {why}")).code(125)
            };
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| invalid("expected NAME=VALUE"))?;
            // What is no list of types is a part of the name, as for podman.
            let (kinds, name) = match name.split_once(':') {
                Some((kinds, name)) if kinds.split(',').all(is_annotated) => (kinds, name),
                _ => ("manifest", name),
            };
            for kind in kinds.split(',') {
                let (kind, platform) = match kind.split_once('[') {
                    Some((kind, platform)) => (kind, Some(platform.trim_end_matches(']'))),
                    None => (kind, None),
                };
                if let Some(platform) = platform {
                    self.is_sole(platform).map_err(|why| invalid(&why))?;
                }
                match kind {
                    "manifest" => described.annotations.insert(name.into(), value.into()),
                    "index" => described.index.insert(name.into(), value.into()),
                    _ => return Err(invalid("descriptors are not annotated")),
                };
            }
        }
        Ok(described)
    }

    /// Is it all that is built for? `--annotation manifest[PLATFORM]:…` means that one's manifest.
    fn is_sole(&self, platform: &str) -> Result<(), String> {
        let wanted: Platform = platform
            .parse()
            .map_err(|_| format!("{platform:?} is no platform"))?;
        match self.platforms().as_slice() {
            [] if wanted.accepts(&Platform::host()) => Ok(()),
            [sole] if wanted.accepts(sole) => Ok(()),
            [] | [_] => Err(format!("nothing is built for {platform}")),
            _ => Err("the manifests of several platforms cannot have annotations of their own".into()),
        }
    }

    fn times(&self, epoch: Option<i64>, rewrite: bool) -> Times {
        let rewrite = self.rewrite_timestamp.unwrap_or(rewrite);
        match (self.timestamp, epoch) {
            (Some(seconds), _) => Times::All(seconds),
            (None, Some(epoch)) if rewrite => Times::NotAfter(epoch),
            _ => {
                if rewrite {
                    crate::line::say!(
                        "bryo: rewrite-timestamp changes nothing: SOURCE_DATE_EPOCH is not set"
                    );
                }
                Times::Own
            }
        }
    }

    /// There is one terminal, so it is given to one step.
    fn on_error(&self) -> Result<OnError, Failure> {
        match self.on_error {
            None => Ok(OnError::Fail),
            Some(OnErrorFlag::Shell) if stdin().is_terminal() && stdout().is_terminal() => Ok(OnError::Shell),
            Some(OnErrorFlag::Shell) => {
                let why = "--on-error=shell needs a terminal as standard input and output";
                Err(Failure::new(why).code(125))
            }
        }
    }

    fn volumes(&self) -> Result<Vec<mounts::Asked>, Failure> {
        let cwd = env::current_dir()
            .map_err(|error| Failure::new(format!("cannot find the working directory: {error}")))?;
        all(&self.volume, |text| {
            let wish = mounts::volume(text, &cwd).and_then(mounts::Wish::of_host);
            wish.map_err(|error| Failure::of(&error).code(125))
        })
    }
}

/// `manifest`, `index[linux/arm64]` and so on: what buildx takes before the name of an annotation.
fn is_annotated(kind: &str) -> bool {
    let kind = match kind.split_once('[') {
        Some((kind, platform)) if platform.ends_with(']') => kind,
        _ => kind,
    };
    ["manifest", "index", "manifest-descriptor", "index-descriptor"].contains(&kind)
}

/// What `--build-arg` says of a name, the last one if there are several.
pub(super) fn argument<'a>(args: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let given = args.iter().rfind(|(given, _)| given == name);
    given.map(|(_, value)| value.as_str())
}

/// `--cache-to`, and `--build-arg BUILDKIT_INLINE_CACHE=1`, which is its type=inline.
fn caches_to(given: &[String], args: &[(String, String)]) -> Result<Vec<CacheTo>, Failure> {
    let mut caches = all(given, cache::to)?;
    let inline = argument(args, "BUILDKIT_INLINE_CACHE");
    if inline.is_some_and(|value| truth(value) == Some(true)) && caches.iter().all(|to| to.place.is_some()) {
        caches.push(cache::to("type=inline")?);
    }
    Ok(caches)
}

/// Reads each, until one is wrong.
fn all<T>(texts: &[String], read: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    texts.iter().map(|text| read(text)).collect()
}

/// What has a name to which no value is given?
#[derive(Clone, Copy)]
enum Missing {
    /// That of the user's environment; without one, the name counts for nothing.
    Environment,
    /// None.
    Empty,
}

/// `NAME=VALUE` each.
fn pairs(list: &[String], missing: Missing) -> Vec<(String, String)> {
    list.iter()
        .filter_map(|text| match (text.split_once('='), missing) {
            (Some((name, value)), _) => Some((name.into(), value.into())),
            (None, Missing::Environment) => Some((text.clone(), env::var(text).ok()?)),
            (None, Missing::Empty) => Some((text.clone(), String::new())),
        })
        .collect()
}

/// The variable that says when all is made (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What it says, if anything.
fn epoch(args: &[(String, String)]) -> Result<Option<i64>, Failure> {
    let Some(text) = argument(args, EPOCH).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.parse::<i64>();
    seconds
        .map(Some)
        .map_err(|_| Failure::new(format!("invalid {EPOCH} {text:?}: expected seconds since 1970")))
}

/// BUILDKIT_MULTI_PLATFORM, in BuildKit's words (`frontend/dockerui/config.go`).
fn lists(args: &[(String, String)], platforms: usize) -> Result<bool, Failure> {
    let given = argument(args, "BUILDKIT_MULTI_PLATFORM");
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Ok(false);
    };
    match truth(text) {
        None => Err(Failure::new(format!(
            "invalid boolean value for multi-platform: {text}"
        ))),
        Some(false) if platforms > 1 => Err(Failure::new(
            "conflicting config: returning multiple target platforms is not allowed",
        )),
        Some(lists) => Ok(lists),
    }
}

/// `--secret id=ID[,src=FILE|,env=NAME]`: without either the variable ID if there is one, else the file ID.
fn secret(text: &str) -> Result<Secret, Failure> {
    let invalid =
        |why: &str| Failure::new(format!("invalid argument {text:?} for \"--secret\": {why}")).code(125);
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_string()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_string()),
            Some(("type", "file" | "env")) => {}
            _ => return Err(invalid("expected id=ID[,src=FILE|,env=NAME]")),
        }
    }
    let id = id.ok_or_else(|| invalid("the id is missing"))?;
    let of_env = |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
    let value = match (file, variable) {
        (Some(file), None) => read_secret(&file)?,
        (None, Some(name)) => of_env(&name).ok_or_else(|| invalid("there is no such variable"))?,
        (None, None) => match of_env(&id) {
            Some(value) => value,
            None => read_secret(Path::new(&id))?,
        },
        (Some(_), Some(_)) => return Err(invalid("either a file or a variable")),
    };
    Ok(Secret { id, value })
}

fn read_secret(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file)
        .map_err(|error| Failure::new(format!("cannot read the secret {}: {error}", file.display())))
}

/// `--ssh default|ID[=SOCKET]`.
fn agent(text: &str) -> Result<Agent, Failure> {
    let invalid =
        |why: String| Failure::new(format!("invalid argument {text:?} for \"--ssh\": {why}")).code(125);
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, Some(socket).filter(|socket| !socket.is_empty())),
        None => (text, None),
    };
    let of_user = || env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    let socket = match socket {
        Some(socket) => PathBuf::from(socket),
        None => of_user()
            .map(PathBuf::from)
            .ok_or_else(|| invalid("no SSH agent: SSH_AUTH_SOCK is not set".into()))?,
    };
    // Docker takes keys, too, and is the agent that has them.
    let keys = socket.to_string_lossy().contains(',') && !socket.exists();
    if keys || fs::metadata(&socket).is_ok_and(|found| !found.file_type().is_socket()) {
        let why = format!(
            "{} is no socket of an agent, and keys are read by none here: start ssh-agent, give it the key by ssh-add",
            socket.display()
        );
        return Err(invalid(why));
    }
    let id = if id.is_empty() { "default" } else { id };
    Ok(Agent {
        id: id.into(),
        socket,
    })
}
