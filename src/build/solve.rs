//! Which stages does the target need, and what is each made of? A stage can use only those before it; `workers` says which
//! are built when.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fuse_overlay::attr::Time;
use fuse_overlay::index::DiffId;

use super::attest::{self, Noted};
use super::base::Wanted;
use super::cache;
use super::config::Config;
use super::dockerfile::{self, Arg, Dockerfile, From, Instruction, Stage as Text, expand};
use super::hashes::Hashes;
use super::lint::meant::Meant;
use super::order::{Cache, Named, Order};
use super::output::{Built, Delivery};
use super::source::NOWHERE;
use super::variables::{Given, Scope};
use super::workspace::remove_orphans;
use super::{Error, Progress};
use crate::containers::{orphans, record};
use crate::images::cache::Import;
use crate::images::manifest::Platform;
use crate::images::pull::{self, LayerEvent};
use crate::images::{Claim, Image, steps};
use crate::store::{Digest, Store};

/// A stage so far.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Its layers, lowest first.
    pub(super) layers: Vec<DiffId>,
    /// So many of them, and of the history's entries, are those of the image that it began with.
    pub(super) of_base: (usize, usize),
    /// Keeps them; `None` for `scratch`.
    pub(super) claim: Option<Arc<Claim>>,
    pub(super) config: Config,
    /// The ARGs in sight.
    pub(super) scope: Scope,
    /// A CMD of this stage, which its ENTRYPOINT does not take away.
    pub(super) has_command: bool,
}

impl Stage {
    /// `scratch`: no files.
    pub(super) fn empty(platform: Option<Platform>) -> Stage {
        Stage {
            layers: Vec::new(),
            of_base: (0, 0),
            claim: None,
            config: Config::scratch(&platform.unwrap_or_else(Platform::host)),
            scope: Scope::default(),
            has_command: false,
        }
    }

    /// As an image that is on no list.
    pub(super) fn image(&self, now: &str) -> Result<Image, Error> {
        Ok(Image::unlisted(self.config.document(&self.layers, now))?)
    }
}

/// A build under way.
pub(super) struct Build<'a> {
    pub(super) store: &'a Store,
    pub(super) order: &'a Order,
    pub(super) progress: &'a dyn Progress,
    pub(super) given: Given,
    pub(super) escape: char,
    pub(super) global: Scope,
    /// The names of the stages, and what became of those that were built.
    names: Vec<Option<String>>,
    pub(super) done: BTreeMap<usize, Stage>,
    pub(super) declared: BTreeSet<String>,
    /// What is known of `--cache-from`.
    pub(super) imports: Vec<Import>,
    /// The steps that were made or found, in order.
    pub(super) used: RefCell<Vec<steps::Step>>,
    /// The steps that this build made, by their keys: it uses them whatever `--no-cache` says.
    pub(super) made: RefCell<BTreeMap<Digest, steps::Step>>,
    /// While a stage is gone through that a worker has built: its next steps.
    pub(super) told: Option<VecDeque<steps::Step>>,
    /// Bases that were fetched for this build, so that `--pull` does it once: their ids.
    pub(super) fetched: RefCell<BTreeMap<Wanted, Digest>>,
    /// What is used, for what is said of the image.
    pub(super) noted: RefCell<Noted>,
    /// What it is for; `None` is this machine, and nobody asked.
    pub(super) platform: Option<Platform>,
    /// The stage that is built now takes nothing from the cache.
    pub(super) fresh: bool,
    /// Of the context's files.
    pub(super) hashes: Hashes,
    /// What new files have as time.
    pub(super) now: Time,
    pub(super) created: String,
}

/// Builds an image and puts it where it was ordered. To be called while the process has one thread, since it starts
/// containers.
///
/// # Errors
/// A step failed, or the Dockerfile is none. Steps that were finished are remembered.
pub fn build(store: &Store, order: &Order, progress: &dyn Progress) -> Result<Built, Error> {
    let text = order.parsed()?;
    for output in &order.outputs {
        output.takes(&order.platforms, order.lists)?;
        order.attests.allow(output)?;
    }
    let run = attest::Run::begins(order)?;
    // What killed builds left may hold secrets: it does not wait for somebody to prune.
    remove_orphans(store)?;
    orphans::remove(store)?;
    let now = match order.epoch {
        Some(seconds) => jiff::Timestamp::from_second(seconds).unwrap_or_default(),
        None => jiff::Timestamp::now(),
    };
    let platforms = match order.platforms.is_empty() {
        true => vec![None],
        false => order.platforms.iter().cloned().map(Some).collect(),
    };
    let (mut parts, mut used, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    for platform in platforms {
        let mut build = Build::new(store, order, progress, &text, now, platform);
        let target = build.all(&text);
        build.hashes.keep(store);
        let target = target?;
        if parts.is_empty() {
            build.unused();
        }
        let steps = build.used.take();
        claims.extend(build.claims_of_exported());
        used.push((steps.clone(), target.layers.clone()));
        let mut part = build.part(target, &steps)?;
        part.statements = build.statements(&part.target, run.as_ref())?;
        parts.push(part);
    }
    let delivery = Delivery {
        store,
        order,
        progress,
        now: file_time(now),
        parts: &parts,
    };
    let built = delivery.carry_out()?;
    cache::export(store, order, &used, progress)?;
    drop(claims);
    Ok(built)
}

impl<'a> Build<'a> {
    fn new(
        store: &'a Store,
        order: &'a Order,
        progress: &'a dyn Progress,
        text: &Dockerfile,
        now: jiff::Timestamp,
        platform: Option<Platform>,
    ) -> Build<'a> {
        let target = platform.clone().unwrap_or_else(Platform::host);
        Build {
            store,
            order,
            progress,
            given: Given::new(&order.args, order.target.as_deref().unwrap_or("default"), &target),
            escape: text.directives.escape,
            global: Scope::default(),
            names: text.stages.iter().map(|stage| stage.from.name.clone()).collect(),
            done: BTreeMap::new(),
            declared: BTreeSet::new(),
            imports: match order.cache {
                Cache::Use => cache::imports(order, progress),
                Cache::Ignore => Vec::new(),
            },
            used: RefCell::default(),
            made: RefCell::default(),
            told: None,
            fetched: RefCell::default(),
            noted: RefCell::default(),
            platform,
            fresh: false,
            hashes: order
                .context
                .as_ref()
                .map_or_else(|| Hashes::of(store, NOWHERE), |context| context.hashes(store)),
            now: file_time(now),
            created: record::shown(now),
        }
    }
}

impl Build<'_> {
    /// Builds the target and what it needs. Gives the target.
    fn all(&mut self, text: &Dockerfile) -> Result<Stage, Error> {
        for arg in &text.args {
            let scope = self.global.clone();
            let get = |name: &str| scope.of_from(&self.given, name);
            // One that is not used may be one that cannot be told: `ARG A=${B:?needed}`.
            let default = arg.default.as_ref().filter(|_| !self.given.has(&arg.name));
            let default = default.map(|word| self.word(word, &get)).transpose();
            let default = default.map_err(failed_arg(arg))?;
            self.declared.insert(arg.name.clone());
            self.global.declare_global(&self.given, &arg.name, default);
        }
        let target = match &self.order.target {
            None => text.stages.len().saturating_sub(1),
            Some(name) => self
                .stage(name, text.stages.len())
                .ok_or_else(|| Error::NoTarget(name.clone(), self.meant(name, text.stages.len())))?,
        };
        self.unknown();
        let mut needed = BTreeSet::new();
        self.need(text, target, &mut needed)?;
        self.stages(text, needed)?;
        self.done
            .get(&target)
            .cloned()
            .ok_or(Error::NoTarget(target.to_string(), String::new()))
    }

    /// A word with its variables replaced.
    pub(super) fn word(&self, word: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<String, Error> {
        expanded(self.escape, word, get)
    }

    /// What `--build-context` says of a name.
    pub(super) fn named(&self, name: &str) -> Option<&Named> {
        self.order.named(name)
    }

    /// The stage that a name or number means, among the first `before`: the last one of its name.
    pub(super) fn stage(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_lowercase();
        let named = self
            .names
            .iter()
            .take(before)
            .rposition(|known| known.as_deref() == Some(&lower));
        named.or_else(|| name.parse().ok().filter(|number| *number < before))
    }

    /// Does it mean a stage of the file, wherever that stands?
    fn is_stage(&self, name: &str) -> bool {
        self.stage(name, self.names.len()).is_some()
    }

    /// ` (did you mean X?)`, if one of the first `before` stages is called nearly so.
    fn meant(&self, name: &str, before: usize) -> String {
        let names = self.names.iter().take(before).flatten();
        Meant::default().of("", name, names.map(String::as_str))
    }

    /// Why an image cannot be had; perhaps since a stage was meant.
    pub(super) fn not_had(&self, name: &str, before: usize, error: Error) -> Error {
        match self.meant(name, before) {
            meant if meant.is_empty() => error,
            meant => Error::NoStage {
                name: name.into(),
                meant,
                source: Box::new(error),
            },
        }
    }

    pub(super) fn image_of(&self, from: &From) -> Result<String, Error> {
        let get = |name: &str| self.global.of_from(&self.given, name);
        let image = self.word(&from.image, &get)?;
        match image.is_empty() {
            true => Err(Error::Value {
                what: "base name",
                value: from.image.clone(),
            }),
            false => Ok(image),
        }
    }

    /// The stages that a stage is made from, itself included.
    pub(super) fn need(
        &self,
        text: &Dockerfile,
        number: usize,
        needed: &mut BTreeSet<usize>,
    ) -> Result<(), Error> {
        if self.done.contains_key(&number) || !needed.insert(number) {
            return Ok(());
        }
        let mut used = self.uses(text, number)?.into_iter();
        used.try_for_each(|earlier| self.need(text, earlier, needed))
    }

    /// The stages that a stage names.
    pub(super) fn uses(&self, text: &Dockerfile, number: usize) -> Result<Vec<usize>, Error> {
        let Some(stage) = text.stages.get(number) else {
            return Ok(Vec::new());
        };
        let name = self.image_of(&stage.from).map_err(failed_from(&stage.from))?;
        let mut used: Vec<usize> = self.stage_from(&name, number).into_iter().collect();
        for step in &stage.steps {
            used.extend(self.used_by(step, number)?);
        }
        Ok(used)
    }

    /// The stages that a step of a stage names.
    fn used_by(&self, step: &dockerfile::Step, number: usize) -> Result<Vec<usize>, Error> {
        let from = match &step.instruction {
            Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
            Instruction::Run(run) => self.mount_stages(run),
            _ => Vec::new(),
        };
        let mut used = Vec::new();
        for name in from.into_iter().filter(|name| self.named(name).is_none()) {
            match self.stage(&name, number) {
                Some(earlier) => used.push(earlier),
                None if self.is_stage(&name) => {
                    return Err(Error::Step {
                        place: step.place,
                        text: step.text.clone(),
                        source: Box::new(Error::LaterStage(name)),
                    });
                }
                None => {}
            }
        }
        Ok(used)
    }

    /// FROM knows stages by name alone.
    pub(super) fn stage_from(&self, name: &str, before: usize) -> Option<usize> {
        if self.named(name).is_some() {
            return None;
        }
        self.stage(name, before)
            .filter(|_| name.parse::<usize>().is_err())
    }

    pub(super) fn one(&mut self, text: &Text, number: usize) -> Result<Stage, Error> {
        let at = failed_from(&text.from);
        let is_named = |anew: &String| {
            text.from
                .name
                .as_ref()
                .is_some_and(|name| anew.eq_ignore_ascii_case(name))
        };
        self.fresh = self.order.anew.iter().any(is_named);
        let label = self.label(text, number);
        self.noted.borrow_mut().stage_begins(number);
        let mut stage = self.base(&text.from, number, &label).map_err(&at)?;
        for label in &self.order.unset_labels {
            stage.config.take_out("Labels", label);
        }
        for (name, value) in &self.order.env {
            stage.config.set_env(name, value);
        }
        let triggers = stage.config.list("OnBuild");
        stage.config.unset("OnBuild");
        let mut steps = Vec::new();
        for trigger in &triggers {
            let parsed = dockerfile::parse_trigger(trigger)
                .map_err(Error::Parse)
                .map_err(&at)?;
            // It stands in no line of this file: FROM brought it.
            let step = dockerfile::Step {
                place: text.from.place,
                ..parsed
            };
            let used = self.used_by(&step, number)?;
            // The plan of stages did not know.
            if let Some(earlier) = used.iter().find(|used| !self.done.contains_key(used)) {
                return Err(at(Error::Unplanned(*earlier)));
            }
            steps.push(step);
        }
        steps.extend(text.steps.iter().cloned());
        let counted = |step: &dockerfile::Step| super::step::makes_files(&step.instruction);
        let (mut count, all) = (1, 1 + steps.iter().filter(|step| counted(step)).count());
        for step in &steps {
            if counted(step) {
                count += 1;
            }
            let place = format!("{label} {count}/{all}");
            let title = format!("[{}] {}", place.trim_start(), step.text);
            let is_told = counted(step) && self.order.attests.tell_steps();
            let before = is_told.then(|| stage.clone());
            self.step(&mut stage, number, step, &title)
                .map_err(|source| Error::Step {
                    place: step.place,
                    text: step.text.clone(),
                    source: Box::new(source),
                })?;
            if let Some(before) = before {
                self.note_step(&before, number, step);
            }
        }
        Ok(stage)
    }

    /// What titles call a stage: its name, with its platform where there are several.
    fn label(&self, text: &Text, number: usize) -> String {
        let stage = match &text.from.name {
            Some(name) => name.clone(),
            None if self.names.len() > 1 => format!("stage-{number}"),
            None => String::new(),
        };
        match &self.platform {
            Some(platform) if self.order.platforms.len() > 1 => {
                format!("{platform} {stage}").trim_end().into()
            }
            _ => stage,
        }
    }

    /// Warns of `--no-cache-filter`s that mean no stage.
    fn unknown(&self) {
        for anew in &self.order.anew {
            let mut names = self.names.iter().flatten();
            if !names.any(|name| name.eq_ignore_ascii_case(anew)) {
                let warning = format!("[Warning] --no-cache-filter: there is no stage {anew}");
                self.progress.warning(&warning);
            }
        }
    }

    /// Warns of `--build-arg`s that no ARG takes.
    pub(super) fn unused(&self) {
        let unused: Vec<&String> = self.given.unused(&self.declared).collect();
        if !unused.is_empty() {
            let names: Vec<&str> = unused.iter().map(|name| name.as_str()).collect();
            self.progress.warning(&format!(
                "[Warning] One or more build-args [{}] were not consumed",
                names.join(" ")
            ));
        }
    }
}

/// A time as files have it: whole seconds, down, and nanoseconds up from there.
pub(super) fn file_time(time: jiff::Timestamp) -> Time {
    const SECOND: i128 = 1_000_000_000;
    let all = time.as_nanosecond();
    Time {
        sec: i64::try_from(all.div_euclid(SECOND)).unwrap_or(0),
        nsec: u32::try_from(all.rem_euclid(SECOND)).unwrap_or(0),
    }
}

/// What FROM caused.
pub(super) fn failed_from(from: &From) -> impl Fn(Error) -> Error + '_ {
    |source| Error::Step {
        place: from.place,
        text: from.text.clone(),
        source: Box::new(source),
    }
}

/// What an ARG before the first FROM caused.
pub(super) fn failed_arg(arg: &Arg) -> impl Fn(Error) -> Error + '_ {
    |source| Error::Step {
        place: arg.place,
        text: format!("ARG {}", arg.name),
        source: Box::new(source),
    }
}

/// A word with its variables replaced.
pub(super) fn expanded(
    escape: char,
    word: &str,
    get: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Error> {
    expand(word, escape, get).map_err(|source| Error::Expand {
        word: word.into(),
        source,
    })
}

/// A pull, told as part of a build.
pub(super) struct Fetching<'a>(pub(super) &'a dyn Progress);

impl pull::Progress for Fetching<'_> {
    fn begins(&self, heading: &str) {
        self.0.output(format!("{heading}\n").as_bytes());
    }

    fn layer(&self, blob: &Digest, event: LayerEvent) {
        if let LayerEvent::Complete = event {
            self.0.output(format!("{blob} done\n").as_bytes());
        }
    }
}
