//! What does an instruction do to a stage? Most change only its config (`setting`); RUN, COPY, ADD and WORKDIR make a layer,
//! unless the cache has it.

mod add;
mod copy;
mod run;
mod setting;

use std::sync::Arc;

use fuse_overlay::index::DiffId;
use serde_json::json;

pub(super) use setting::{Told, configure};

use super::Error;
use super::base::SCRATCH;
use super::contents::Contents;
use super::dockerfile::{self, Instruction};
use super::key::Key;
use super::order::{Cache, Named};
use super::solve::{Build, Stage};
use super::source::{Context, Source, Stage as StageSource, Stored};
use super::tree::{Growing, Owner, Times, add_tree};
use super::turn::Turn;
use super::workspace::Draft;
use crate::containers::life;
use crate::images::steps::{self, Step};
use crate::images::{Claim, layers};
use crate::store::{ChainId, Digest};

/// What is a layer made over?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// What the stage is so far.
    Stage,
    /// Nothing, whatever it lies on then: `COPY --link`.
    Nothing,
}

impl Over {
    /// For COPY and ADD.
    fn of(copy: &dockerfile::Copy) -> Over {
        match copy.link {
            true => Over::Nothing,
            false => Over::Stage,
        }
    }

    /// The layers that are looked at.
    fn layers(self, stage: &Stage) -> &[DiffId] {
        match self {
            Over::Stage => &stage.layers,
            Over::Nothing => &[],
        }
    }
}

/// Does it change files? Such steps are counted, as BuildKit does.
pub(super) fn makes_files(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
    )
}

impl Build<'_> {
    /// Carries out one instruction.
    pub(super) fn step(
        &mut self,
        stage: &mut Stage,
        number: usize,
        step: &dockerfile::Step,
        title: &str,
    ) -> Result<(), Error> {
        match &step.instruction {
            Instruction::Run(run) => self.run(stage, number, run, title),
            Instruction::Copy(copy) => self.copy(stage, number, copy, title),
            Instruction::Add(add) => self.add(stage, add, title),
            Instruction::Workdir(path) => self.workdir(stage, path, title),
            Instruction::Arg(args) => {
                let mut said = "ARG".to_string();
                for arg in args {
                    let scope = stage.scope.clone();
                    let get = |name: &str| scope.of_step(&stage.config, name);
                    let name = self.word(&arg.name, &get)?;
                    let default = arg.default.as_ref().map(|word| self.word(word, &get));
                    let default = match default.transpose() {
                        // It is not used: `ARG A=${B:?needed}`.
                        Err(_) if self.given.has(&name) => arg.default.clone(),
                        default => default?,
                    };
                    let shown = default.iter().map(|default| format!("={default}"));
                    said.extend([format!(" {name}")].into_iter().chain(shown));
                    stage.scope.declare(&self.given, &self.global, &name, default);
                    self.declared.insert(name);
                }
                self.record(stage, &said);
                Ok(())
            }
            other => {
                // What changes no config is one of the cases above.
                match configure(stage, other, self.escape)? {
                    Some(Told::As(said)) => self.record(stage, &said),
                    Some(Told::Text) => self.record(stage, &step.text),
                    Some(Told::Nothing) | None => {}
                }
                Ok(())
            }
        }
    }

    /// What keys of steps that give files the present time are made with.
    fn epoch(&self) -> String {
        match self.order.times {
            Times::Own => format!("{:?}", self.order.epoch),
            times => format!("{:?} {times:?}", self.order.epoch),
        }
    }

    fn record(&self, stage: &mut Stage, text: &str) {
        stage.config.record_setting(text, &self.created);
    }

    /// The layer of a step that a worker has made or found, and told of: its key need not be made again.
    fn kept(&mut self, stage: &mut Stage, history: &str) -> Result<bool, Error> {
        let Some(told) = &mut self.told else {
            return Ok(false);
        };
        // There are workers beside: nothing is made, or waited for, here.
        match told.pop_front() {
            Some(step) if step.is_above(&stage.layers) && self.taken(stage, &step, history)? => Ok(true),
            _ => Err(Error::Lost),
        }
    }

    /// Is what others made not to be used?
    fn is_anew(&self) -> bool {
        self.cache() == Cache::Ignore
    }

    /// What `--no-cache` and `--no-cache-filter` say of the stage that is built now.
    fn cache(&self) -> Cache {
        match self.fresh {
            true => Cache::Ignore,
            false => self.order.cache,
        }
    }

    /// The right to make a step; `None` if the cache has it, perhaps from somebody who was at it.
    fn turn(&self, stage: &mut Stage, key: Key, history: &str) -> Result<Option<Turn>, Error> {
        let key = key.finish();
        if self.cached(stage, &key, history)? {
            return Ok(None);
        }
        if self.is_anew() {
            return Ok(Some(Turn::anyway(self.store, key)?));
        }
        let turn = Turn::wait(self.store, key, || {
            self.progress
                .output(b"waiting for an equal step that is under way\n");
        })?;
        let found = self.cached(stage, &key, history)?
            || self.imported(stage, &key, history)? && self.cached(stage, &key, history)?;
        Ok((!found).then_some(turn))
    }

    /// The layer of a step that this build has made, or that is in the cache.
    fn cached(&self, stage: &mut Stage, key: &Digest, history: &str) -> Result<bool, Error> {
        let made = self.made.borrow().get(key).cloned();
        if let Some(step) = made.and_then(|step| step.above(&stage.layers))
            && self.taken(stage, &step, history)?
        {
            return Ok(true);
        }
        if self.is_anew() {
            return Ok(false);
        }
        match steps::find(self.store, key, &stage.layers) {
            Some(step) => self.taken(stage, &step, history),
            None => Ok(false),
        }
    }

    /// The stage has the layer of a step that stands on its own, if it is still there.
    fn taken(&self, stage: &mut Stage, step: &Step, history: &str) -> Result<bool, Error> {
        let claim = Claim::new(self.store, &step.stack())?;
        // A prune may have come first.
        if !step.is_stored(self.store) {
            return Ok(false);
        }
        match step.is_linked() {
            // It may lie on another stack now, which is kept with it.
            true => steps::put(self.store, &step.key(), step)?,
            false => steps::note_use(self.store, &step.key()),
        }
        self.progress.cached();
        self.progress.found(step);
        let mut step = step.clone();
        // With an epoch nothing is younger than it, an inline cache included.
        if self.order.epoch.is_some() && self.created < step.created {
            step.created.clone_from(&self.created);
        }
        stage.config.record_layer(history, &step.created);
        stage.layers = step.stack();
        self.used.borrow_mut().push(step);
        stage.claim = Some(Arc::new(claim));
        Ok(true)
    }

    /// A new layer is there: the stage has it, and the cache.
    fn grown(
        &self,
        stage: &mut Stage,
        turn: Turn,
        history: &str,
        (claim, over): (Claim, Over),
    ) -> Result<(), Error> {
        let key = turn.key;
        let step = Step::new(key, claim.layers(), &self.created, history);
        let step = match over {
            Over::Stage => step,
            Over::Nothing => step.linked(),
        };
        steps::put(self.store, &key, &step)?;
        // Who waits need not wait for what follows.
        drop(turn);
        self.progress.made(&step);
        self.made.borrow_mut().insert(key, step.clone());
        self.used.borrow_mut().push(step);
        stage.config.record_layer(history, &self.created);
        stage.layers = claim.layers().to_vec();
        stage.claim = Some(Arc::new(claim));
        self.progress.done();
        Ok(())
    }

    /// Hands what `--from` names, or the context, to `with`.
    fn from(
        &self,
        number: usize,
        name: Option<&str>,
        with: impl FnOnce(&dyn Source) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let stage = match self.origin(number, name)? {
            Origin::Context(context) => return with(context),
            Origin::Stage(stage) => stage,
        };
        let draft = Draft::over(self.store, &stage.layers)?;
        with(&Stored {
            tree: StageSource(&draft.tree),
            chain: ChainId::of(&stage.layers),
        })
    }

    /// What `--from` names, or the context.
    fn origin(&self, number: usize, name: Option<&str>) -> Result<Origin<'_>, Error> {
        let Some(name) = name else {
            let context = self.order.context.as_ref().ok_or(Error::NoContext)?;
            return Ok(Origin::Context(context));
        };
        let (earlier, name) = match self.named(name) {
            Some(Named::Files(context, material)) => {
                material.iter().for_each(|material| self.note(material.clone()));
                return Ok(Origin::Context(context));
            }
            Some(Named::Image(image)) => (None, image.as_str()),
            None => (self.stage(name, number), name),
        };
        Ok(Origin::Stage(match earlier {
            Some(earlier) => match self.done.get(&earlier) {
                Some(stage) => stage.clone(),
                None => return Err(Error::Unplanned(earlier)),
            },
            None if name == SCRATCH => Stage::empty(self.platform.clone()),
            None => self
                .image(name, self.platform.clone())
                .map_err(|error| self.not_had(name, number, error))?,
        }))
    }

    fn workdir(&mut self, stage: &mut Stage, path: &str, title: &str) -> Result<(), Error> {
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let path = absolute(&stage.config.workdir(), &self.word(path, &get)?);
        stage.config.set("WorkingDir", json!(path));
        let said = format!("WORKDIR {path}");
        if path == "/" {
            self.record(stage, &said);
            return Ok(());
        }
        self.progress.begins(title);
        if self.kept(stage, &said)? {
            return Ok(());
        }
        let user = stage.config.text("User");
        let mut key = Key::new("workdir", &stage.layers);
        key.field(&path).field(&user).field(&self.epoch());
        let Some(turn) = self.turn(stage, key, &said)? else {
            return Ok(());
        };
        let owner = match user.is_empty() {
            true => Owner::default(),
            false => self.owner(stage, &user)?,
        };
        let draft = Draft::over(self.store, &stage.layers)?;
        let made = Growing(&draft.tree).directory(path.as_bytes(), owner, self.now);
        made.map_err(|error| Error::Io {
            action: "make",
            path: path.clone().into(),
            source: error.0.into(),
        })?;
        let claim = add_tree(
            self.store,
            &stage.layers,
            &draft.tree,
            &Contents::default(),
            self.order.times,
        )?;
        self.grown(stage, turn, &said, (claim, Over::Stage))
    }

    /// `--chown`: names are those of the stage's own passwd and group files. A number alone is the group, too.
    fn owner(&self, stage: &Stage, text: &str) -> Result<Owner, Error> {
        if let Ok(id) = text.parse::<u32>() {
            return Ok(Owner { uid: id, gid: id });
        }
        let lower = layers::open(self.store, &stage.layers)?;
        let (uid, gid) = life::identity(&lower, text)?;
        Ok(Owner { uid, gid })
    }
}

/// Where files are taken from.
enum Origin<'a> {
    /// The context, or one of another name.
    Context(&'a Context),
    /// A stage, or an image.
    Stage(Stage),
}

/// A path below the working directory, without `.`, `..` and doubled slashes.
fn absolute(workdir: &str, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_string(),
        false => format!("{workdir}/{path}"),
    };
    format!("/{}", String::from_utf8_lossy(&relative(&whole)))
}

/// The same without the slash: a path below a top, which `..` does not leave.
fn relative(path: &str) -> Vec<u8> {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/").into_bytes()
}
