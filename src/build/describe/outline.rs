//! What can be given to a target? The ARGs of its stages and of those that they need, with the global ones that FROM uses;
//! the secrets and agents of their RUNs.
//!
//! Nothing is fetched: of a base that the store does not have, the variables are not known.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Location, base64};
use crate::build::Error;
use crate::build::config::Config;
use crate::build::dockerfile::{self, Arg, Instruction, Mount, MountKind, Place, Run, Stage};
use crate::build::lint::meant::Meant;
use crate::build::lint::{Look, needed};
use crate::build::order::Order;
use crate::build::solve::{expanded, failed_arg, failed_from};
use crate::build::variables::Scope;
use crate::images;
use crate::images::manifest::Platform;
use crate::store::Store;

/// What a target takes.
#[derive(Debug, Serialize)]
pub struct Outline {
    /// The target's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a comment says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// In the order of the lines, as all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// Of RUNs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Wanted>,
    /// Of RUNs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Wanted>,
    sources: Vec<String>,
}

/// An ARG, with the value that it has if nothing more is given.
#[derive(Debug, Clone, Serialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What a comment says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    location: Location,
    #[serde(skip)]
    place: Place,
}

/// A secret, or an agent.
#[derive(Debug, Clone, Serialize)]
pub struct Wanted {
    /// Its id.
    pub name: String,
    /// Without it the RUN fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    location: Location,
    #[serde(skip)]
    place: Place,
}

impl Argument {
    fn new(arg: &Arg, value: Option<String>) -> Argument {
        Argument {
            name: arg.name.clone(),
            description: arg.description.clone(),
            value: value.unwrap_or_default(),
            location: arg.place.into(),
            place: arg.place,
        }
    }
}

/// Tells what the order's target takes.
///
/// # Errors
/// The Dockerfile is none, there is no such target, or a variable's value cannot be told.
pub fn outline(store: &Store, order: &Order) -> Result<Outline, Error> {
    let file = order.parsed()?;
    let look = Look::new(store, order, &file);
    let Some(target) = needed::target(&look).filter(|target| *target < file.stages.len()) else {
        let name = order.target.clone().unwrap_or_default();
        let names = file.stages.iter().filter_map(|stage| stage.from.name.as_deref());
        let meant = Meant::default().of("", &name, names);
        return Err(Error::NoTarget(name, meant));
    };
    let mut reader = Reader {
        look: &look,
        globals: globals(&look)?,
        stages: BTreeMap::new(),
    };
    for number in needed::stages(&look) {
        if let Some(stage) = file.stages.get(number) {
            let taken = reader.stage(stage, number)?;
            reader.stages.insert(number, taken);
        }
    }
    let mut found = Found::default();
    found.visit(target, &reader.stages);
    let from = file.stages.get(target).map(|stage| stage.from.clone());
    let by_line = |wanted: BTreeMap<String, Wanted>| {
        let mut wanted: Vec<Wanted> = wanted.into_values().collect();
        wanted.sort_by_key(|wanted| wanted.place.first);
        wanted
    };
    let mut args: Vec<Argument> = found.args.into_values().collect();
    args.sort_by_key(|arg| arg.place.first);
    Ok(Outline {
        name: from.as_ref().and_then(|from| from.name.clone()),
        description: from.and_then(|from| from.description),
        args,
        secrets: by_line(found.secrets),
        ssh: by_line(found.ssh),
        sources: vec![base64(&order.dockerfile)],
    })
}

/// An ARG before the first FROM.
struct Global {
    shown: Argument,
    /// The names that its default uses, if that is its value.
    uses: BTreeSet<String>,
}

fn globals(look: &Look<'_>) -> Result<BTreeMap<String, Global>, Error> {
    let mut all = BTreeMap::new();
    for arg in &look.file.args {
        let uses = RefCell::new(BTreeSet::new());
        let get = |name: &str| {
            uses.borrow_mut().insert(name.to_string());
            look.global.of_from(&look.given, name)
        };
        let is_given = look.given.has(&arg.name);
        if let (false, Some(default)) = (is_given, &arg.default) {
            expanded(look.file.directives.escape, default, &get).map_err(failed_arg(arg))?;
        }
        let shown = Argument::new(arg, look.global.value(&arg.name).cloned());
        let uses = uses.into_inner();
        all.insert(arg.name.clone(), Global { shown, uses });
    }
    Ok(all)
}

/// What a stage takes by itself.
struct Taken {
    args: BTreeMap<String, Argument>,
    secrets: BTreeMap<String, Wanted>,
    ssh: BTreeMap<String, Wanted>,
    /// The stages that it needs: the one that it stands on first.
    needs: Vec<usize>,
    scope: Scope,
    config: Config,
}

/// Reads stages, each after those that it needs.
struct Reader<'a> {
    look: &'a Look<'a>,
    globals: BTreeMap<String, Global>,
    stages: BTreeMap<usize, Taken>,
}

impl Reader<'_> {
    fn stage(&self, stage: &Stage, number: usize) -> Result<Taken, Error> {
        let at = failed_from(&stage.from);
        let mut taken = self.begin(stage, number).map_err(&at)?;
        for step in &stage.steps {
            let read = match &step.instruction {
                Instruction::Arg(args) => args.iter().try_for_each(|arg| self.arg(&mut taken, arg)),
                Instruction::Env(pairs) => self.env(&mut taken, pairs),
                Instruction::Run(run) => self.run(&mut taken, run, step.place),
                _ => Ok(()),
            };
            read.map_err(|source| Error::Step {
                place: step.place,
                text: step.text.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(taken)
    }

    fn begin(&self, stage: &Stage, number: usize) -> Result<Taken, Error> {
        let names = RefCell::new(BTreeSet::new());
        let get = |name: &str| {
            names.borrow_mut().insert(name.to_string());
            self.look.global.of_from(&self.look.given, name)
        };
        let word = |word: &str| expanded(self.look.file.directives.escape, word, &get);
        let image = word(&stage.from.image)?;
        stage.from.platform.as_deref().map(word).transpose()?;
        let base = needed::base(self.look, &stage.from, number);
        let below = base.and_then(|base| self.stages.get(&base));
        let mut taken = Taken {
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            needs: needed::uses(self.look, number),
            scope: below.map(|below| below.scope.inherited()).unwrap_or_default(),
            config: match below {
                Some(below) => below.config.clone(),
                None => self.config(&image)?,
            },
        };
        for name in names.into_inner() {
            self.mark(&mut taken, &name);
        }
        Ok(taken)
    }

    fn config(&self, image: &str) -> Result<Config, Error> {
        let found = match image {
            "scratch" => None,
            // A name that cannot be one is told by the build.
            name => images::find(self.look.store, name).unwrap_or_default(),
        };
        Ok(found.map_or_else(|| Config::scratch(&Platform::host()), |image| Config::of(&image)))
    }

    /// A global ARG counts, and what its default uses.
    fn mark(&self, taken: &mut Taken, name: &str) {
        let mut ahead = vec![name.to_string()];
        while let Some(name) = ahead.pop() {
            let Some(global) = self
                .globals
                .get(&name)
                .filter(|_| !taken.args.contains_key(&name))
            else {
                continue;
            };
            taken.args.insert(name, global.shown.clone());
            ahead.extend(global.uses.iter().cloned());
        }
    }

    fn arg(&self, taken: &mut Taken, arg: &Arg) -> Result<(), Error> {
        let look = self.look;
        let word = |word: &String| self.word(taken, word);
        let name = word(&arg.name)?;
        let is_given = look.given.has(&name);
        // One that is not used need not be one that can be told.
        let default = arg.default.as_ref().filter(|_| !is_given).map(word);
        let default = default.transpose()?;
        let is_inherited = default.is_none() && !is_given;
        taken.scope.declare(&look.given, &look.global, &name, default);
        if is_inherited && self.globals.contains_key(&name) {
            self.mark(taken, &name);
        } else if !is_inherited || look.given.platforms().all(|known| known != name) {
            let value = taken.scope.value(&name).cloned();
            taken.args.insert(name, Argument::new(arg, value));
        }
        Ok(())
    }

    fn env(&self, taken: &mut Taken, pairs: &[(String, String)]) -> Result<(), Error> {
        let read = |(name, value): &(String, String)| Ok((self.word(taken, name)?, self.word(taken, value)?));
        let pairs: Vec<(String, String)> = pairs.iter().map(read).collect::<Result<_, Error>>()?;
        for (name, value) in pairs {
            taken.config.set_env(&name, &value);
            taken.scope.cover(&name);
        }
        Ok(())
    }

    fn run(&self, taken: &mut Taken, run: &Run, place: Place) -> Result<(), Error> {
        let get = |name: &str| taken.scope.of_step(&taken.config, name);
        let expand = |word: &str| dockerfile::expand(word, self.look.file.directives.escape, &get);
        let mounts = run.mounts.iter().map(|mount| mount.resolve(&expand));
        for mount in mounts.collect::<Result<Vec<Mount>, _>>()? {
            let (all, name) = match mount.kind {
                MountKind::Secret => (&mut taken.secrets, mount.secret()),
                MountKind::Ssh => (&mut taken.ssh, mount.agent()),
                _ => continue,
            };
            all.entry(name.clone()).or_insert(Wanted {
                name,
                required: mount.required,
                location: place.into(),
                place,
            });
        }
        Ok(())
    }

    fn word(&self, taken: &Taken, word: &str) -> Result<String, Error> {
        let get = |name: &str| taken.scope.of_step(&taken.config, name);
        expanded(self.look.file.directives.escape, word, &get)
    }
}

/// Of all stages; of one name, what the stage nearest to the target says.
#[derive(Default)]
struct Found {
    args: BTreeMap<String, Argument>,
    secrets: BTreeMap<String, Wanted>,
    ssh: BTreeMap<String, Wanted>,
    seen: BTreeSet<usize>,
}

impl Found {
    fn visit(&mut self, target: usize, stages: &BTreeMap<usize, Taken>) {
        let mut ahead = vec![target];
        while let Some(number) = ahead.pop() {
            let Some(taken) = stages.get(&number).filter(|_| self.seen.insert(number)) else {
                continue;
            };
            for (all, more) in [(&mut self.secrets, &taken.secrets), (&mut self.ssh, &taken.ssh)] {
                for (name, wanted) in more {
                    all.entry(name.clone()).or_insert_with(|| wanted.clone());
                }
            }
            for (name, arg) in &taken.args {
                self.args.entry(name.clone()).or_insert_with(|| arg.clone());
            }
            ahead.extend(taken.needs.iter().rev());
        }
    }
}
