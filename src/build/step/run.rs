//! RUN: what decides whether an equal one was run before, and what it sees.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::{Origin, Over, absolute, relative};
use crate::build::Error;
use crate::build::base::SCRATCH;
use crate::build::dockerfile::{self, Command, Mount, MountKind, Run};
use crate::build::extract::{SetId, bound, extract};
use crate::build::key::Key;
use crate::build::mount::{self, Access, Base, Mounts};
use crate::build::order::OnError;
use crate::build::run;
use crate::build::solve::{Build, Stage};
use crate::build::source::Source;
use crate::build::tree::Times;
use crate::build::variables::{CACHES, HOSTNAME};
use crate::build::workspace::io_error;
use crate::containers::spec::Network;
use crate::host::binfmt;
use crate::images::manifest::Platform;
use crate::store::Digest;

impl Build<'_> {
    /// The stages and images that a RUN mounts from.
    pub(in crate::build) fn mount_stages(&self, run: &Run) -> Vec<String> {
        run.mounts.iter().filter_map(|mount| mount.from.clone()).collect()
    }

    pub(super) fn run(
        &mut self,
        stage: &mut Stage,
        number: usize,
        run: &Run,
        title: &str,
    ) -> Result<(), Error> {
        self.progress.begins(title);
        let network = self.network(run)?;
        let args = stage.scope.for_commands();
        let mounts = self.resolved(stage, run)?;
        self.note_run(&mounts, network);
        let mut mounted = Mounts::default();
        let command = self.command(stage, run, &mut mounted)?;
        let told = stage.scope.told(&stage.config);
        let said = match told.len() {
            0 => format!("RUN {} # buildkit", command.join(" ")),
            count => format!("RUN |{count} {} {} # buildkit", told.join(" "), command.join(" ")),
        };
        self.note_exec(stage, &command, &args, &mounts, network);
        if self.kept(stage, &said)? {
            return Ok(());
        }
        let mut key = Key::new("run", &stage.layers);
        for list in [&command, &args, &stage.config.env()] {
            key.list(list);
        }
        key.field(&stage.config.workdir())
            .field(&stage.config.text("User"));
        key.field(&run.script().unwrap_or_default())
            .field(&format!("{network:?}"));
        key.field(&format!(
            "{:?} {:?}",
            self.order.host_names.hosts, self.order.shm_size
        ));
        let hostname = self.order.told(HOSTNAME);
        if let Some(hostname) = hostname {
            key.field(&format!("hostname {hostname}"));
        }
        // What a volume holds is not looked at, as for podman.
        if !self.order.volumes.is_empty() || !self.order.ulimits.is_empty() {
            key.field(&format!("{:?} {:?}", self.order.volumes, self.order.ulimits));
        }
        if self.order.times != Times::Own {
            key.field(&format!("{:?}", self.order.times));
        }
        for mount in &mounts {
            key.field(&mount::said(mount));
            if mount.kind == MountKind::Bind || has_base(mount) {
                self.from(number, mount.from.as_deref(), |source| {
                    key.field(&self.content_of(mount, source)?.hex());
                    Ok(())
                })?;
            }
        }
        let Some(turn) = self.turn(stage, key, &said)? else {
            return Ok(());
        };
        self.mount_all(&mut mounted, stage, number, &mounts)?;
        let env = self.given.predefined().chain(args);
        let order = run::Order {
            command,
            env: env.chain(std::mem::take(&mut mounted.env)).collect(),
            mounts: self
                .order
                .volumes
                .iter()
                .cloned()
                .chain(std::mem::take(&mut mounted.asked))
                .collect(),
            views: std::mem::take(&mut mounted.views),
            ulimits: self.order.ulimits.clone(),
            times: self.order.times,
            network,
            hostname: hostname.map(String::from),
            host_names: self.order.host_names.clone(),
            shm_size: self.order.shm_size,
            shell: (self.order.on_error == OnError::Shell).then(|| interactive(stage.config.shell())),
        };
        let image = stage.image(&self.created)?;
        if let Some(platform) = image.platform()
            && platform.architecture != Platform::host().architecture
            && !binfmt::runs(&platform.architecture)
        {
            return Err(Error::Foreign(platform));
        }
        let (claim, turn) = order.carry_out(self.store, &image, self.progress, turn)?;
        drop(mounted);
        self.grown(stage, turn, &said, (claim, Over::Stage))
    }

    /// Program and arguments. A here-document with an interpreter of its own becomes a file that is mounted.
    fn command(&self, stage: &Stage, run: &Run, mounted: &mut Mounts) -> Result<Vec<String>, Error> {
        let script = match (&run.command, run.script()) {
            (Command::Exec(words), _) => return Ok(words.clone()),
            (Command::Shell(_), script) => script.unwrap_or_default(),
        };
        let script = match run.sole_heredoc().filter(|_| script.starts_with("#!")) {
            Some(heredoc) => {
                let target = format!("/dev/pipes/{}", heredoc.name);
                mounted.program(self.store, script.as_bytes(), target.clone())?;
                target
            }
            None => script,
        };
        Ok(stage.config.shell().into_iter().chain([script]).collect())
    }

    fn network(&self, run: &Run) -> Result<Network, Error> {
        if !run.devices.is_empty() {
            return Err(Error::Unsupported("RUN --device".into()));
        }
        if run.security.as_deref().is_some_and(|mode| mode != "sandbox") {
            let why = "RUN --security=insecure, which wants privileges that an ordinary user does not have,";
            return Err(Error::Unsupported(why.into()));
        }
        match run.network.as_deref() {
            None | Some("default") => Ok(self.order.network),
            Some("none") => Ok(Network::None),
            Some("host") => Ok(Network::Host),
            Some(other) => Err(Error::Value {
                what: "network",
                value: other.into(),
            }),
        }
    }

    /// The mounts of a RUN, variables replaced.
    fn resolved(&self, stage: &Stage, run: &Run) -> Result<Vec<Mount>, Error> {
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let expand = |word: &str| dockerfile::expand(word, self.escape, &get);
        let resolved: Result<Vec<_>, _> = run.mounts.iter().map(|mount| mount.resolve(&expand)).collect();
        Ok(resolved?)
    }

    /// Makes all mounts. Caches come first, in the order of their names: so no two steps have a lock each and wait for the
    /// other's. They are mounted in the order of the text.
    fn mount_all(
        &self,
        mounted: &mut Mounts,
        stage: &Stage,
        number: usize,
        mounts: &[Mount],
    ) -> Result<(), Error> {
        let cache = |mount: &Mount| {
            let target = absolute(
                &stage.config.workdir(),
                mount.target.as_deref().unwrap_or_default(),
            );
            let owner = (mount.uid, mount.gid, mount.mode);
            let base = (owner, mount.from.clone(), mount.source.clone());
            (mount.kind == MountKind::Cache).then(|| (mount.id.clone().unwrap_or(target), base))
        };
        let mut turns: Vec<(usize, &Mount)> = mounts.iter().enumerate().collect();
        turns.sort_by_key(|(_, mount)| (mount.kind != MountKind::Cache, cache(mount)));
        let before = std::mem::take(&mut mounted.asked);
        let mut asked = Vec::new();
        for (turn, mount) in turns {
            self.mount(mounted, stage, number, mount)?;
            asked.push((turn, std::mem::take(&mut mounted.asked)));
        }
        asked.sort_by_key(|(turn, _)| *turn);
        let after = asked.into_iter().flat_map(|(_, asked)| asked);
        mounted.asked = before.into_iter().chain(after).collect();
        Ok(())
    }

    fn mount(&self, mounted: &mut Mounts, stage: &Stage, number: usize, mount: &Mount) -> Result<(), Error> {
        let target = || {
            let text = mount.target.as_deref().ok_or_else(|| Error::Value {
                what: "--mount without a target, type",
                value: mount.kind.name().into(),
            })?;
            Ok::<_, Error>(absolute(&stage.config.workdir(), text))
        };
        match mount.kind {
            MountKind::Tmpfs => mounted.memory(mount, target()?),
            MountKind::Cache => self.mount_cache(mounted, number, mount, target()?)?,
            MountKind::Secret => mounted.secret(self.store, mount, &self.order.secrets)?,
            MountKind::Ssh => {
                let user = stage.config.text("User");
                mounted.agent(mount, &self.order.agents, &user)?;
            }
            MountKind::Bind => self.mount_files(mounted, number, mount, target()?)?,
        }
        Ok(())
    }

    /// A cache, which begins empty or with files of a stage or an image.
    fn mount_cache(
        &self,
        mounted: &mut Mounts,
        number: usize,
        mount: &Mount,
        target: String,
    ) -> Result<(), Error> {
        let mut mount = mount.clone();
        if let Some(space) = self.order.told(CACHES) {
            mount.id = Some(format!("{space}/{}", mount.id.as_deref().unwrap_or(&target)));
        }
        let mount = &mount;
        if !has_base(mount) {
            return match mount.source.as_deref().map(relative) {
                Some(path) if !path.is_empty() => Err(Error::Value {
                    what: "source of a cache mount, which begins empty without from=:",
                    value: mount.source.clone().unwrap_or_default(),
                }),
                _ => mounted.cache(self.store, mount, target, None),
            };
        }
        self.from(number, mount.from.as_deref(), |source| {
            let base = Base {
                content: self.content_of(mount, source)?,
                fill: &|to| Ok(extract(self.store, source, source_of(mount), to, SetId::Keep)?),
            };
            mounted.cache(self.store, mount, target.clone(), Some(&base))
        })
    }

    /// What the files are of a mount that has them from somewhere.
    fn content_of(&self, mount: &Mount, source: &dyn Source) -> Result<Digest, Error> {
        let bound = bound(source_of(mount));
        Ok(bound.digest(&bound.plan(source)?, source, &self.hashes)?)
    }

    /// Files of the context, a stage or an image: shown where they are if they can be, else copied first.
    fn mount_files(
        &self,
        mounted: &mut Mounts,
        number: usize,
        mount: &Mount,
        target: String,
    ) -> Result<(), Error> {
        let path = source_of(mount);
        let context = match self.origin(number, mount.from.as_deref())? {
            Origin::Stage(stage) => {
                let what = (stage.layers, stage.claim);
                return mounted.view(self.store, what, (path, target), Access::to(mount));
            }
            Origin::Context(context) => context,
        };
        let shown = PathBuf::from(OsStr::from_bytes(&path));
        if mount.readonly
            && let Some(host) = context.host_path(&path).map_err(io_error("find", &shown))?
        {
            mounted.host(host, target);
            return Ok(());
        }
        let copy = mounted.workspace(self.store)?.join("mounted");
        extract(self.store, context, path, &copy, SetId::Keep)?;
        mounted.bind(copy, target, Access::to(mount));
        Ok(())
    }
}

/// The shell of SHELL without its options: they make it run a text, or end at the first thing that fails.
fn interactive(shell: Vec<String>) -> Vec<String> {
    shell
        .into_iter()
        .take_while(|word| !word.starts_with('-'))
        .collect()
}

/// Is it a cache that begins with files?
fn has_base(mount: &Mount) -> bool {
    let from = mount.from.as_deref();
    mount.kind == MountKind::Cache && from.is_some_and(|from| from != SCRATCH)
}

/// Where a bind mount's files are, below the top of what they are from.
fn source_of(mount: &Mount) -> Vec<u8> {
    relative(mount.source.as_deref().unwrap_or_default())
}
