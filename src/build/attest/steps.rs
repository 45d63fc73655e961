//! Of which steps was an image made? As BuildKit's provenance tells its graph (`buildConfig.llbDefinition`, in the JSON of
//! `solver/pb/ops.proto`): sources, execs and file operations, each with the steps that it stands on. Of a RUN's environment
//! what the Dockerfile and its ARGs say is told, never a secret.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::noted::Noted;
use crate::build::describe::Location;
use crate::build::dockerfile::{Copy, Instruction, Mount, MountKind, Place, Source, Step as Text};
use crate::build::solve::{Build, Stage};
use crate::containers::spec::Network;
use crate::images::reference::Reference;

/// A step of a stage.
#[derive(Debug, Clone)]
pub(super) struct Told {
    stage: usize,
    place: Place,
    op: Value,
    /// Another stage that it stands on, or takes from.
    from: Option<usize>,
    /// It takes from the build's context.
    of_context: bool,
}

impl Noted {
    /// A stage begins, perhaps once more.
    pub(in crate::build) fn stage_begins(&mut self, stage: usize) {
        self.steps.retain(|told| told.stage != stage);
    }

    /// What it stands on: another stage, an image, or nothing.
    pub(in crate::build) fn base(&mut self, stage: usize, place: Place, image: &str, from: Option<usize>) {
        let op = match (from, image) {
            (None, "scratch") => return,
            (None, image) => {
                let full = Reference::parse(image).map(|name| name.or_latest().to_string());
                source(&format!(
                    "docker-image://{}",
                    full.unwrap_or_else(|_| image.into())
                ))
            }
            (Some(_), _) => Value::Null,
        };
        self.steps.push(Told {
            stage,
            place,
            op,
            from,
            of_context: false,
        });
    }

    /// `buildConfig`, and where its steps stand in the Dockerfile.
    pub(super) fn graph(&self) -> (Value, Value) {
        let mut graph = Graph::default();
        let mut all: Vec<&Told> = self.steps.iter().collect();
        all.sort_by_key(|told| told.stage);
        for told in all {
            graph.add(told);
        }
        // The last has the result, as in BuildKit.
        let result = graph.steps.len().checked_sub(1).map(output);
        if let Some(result) = result {
            let id = format!("step{}", graph.steps.len());
            graph
                .steps
                .push(json!({ "id": id, "op": { "Op": null }, "inputs": [result] }));
        }
        (json!({ "llbDefinition": graph.steps }), json!(graph.locations))
    }
}

#[derive(Default)]
struct Graph {
    steps: Vec<Value>,
    locations: Map<String, Value>,
    /// The step that each stage has ended with so far.
    last: BTreeMap<usize, usize>,
    context: Option<usize>,
}

impl Graph {
    fn add(&mut self, told: &Told) {
        let from = told.from.and_then(|from| self.last.get(&from).copied());
        if told.op.is_null() {
            // A stage that stands on another goes on where that ended.
            self.last.extend(from.map(|from| (told.stage, from)));
            return;
        }
        if told.of_context && self.context.is_none() {
            self.context = Some(self.put(&source("local://context"), &[]));
        }
        let below = self.last.get(&told.stage).copied();
        let context = self.context.filter(|_| told.of_context);
        let inputs: Vec<usize> = below.into_iter().chain(from).chain(context).collect();
        let number = self.put(&told.op, &inputs);
        let location = json!({ "locations": [Location::from(told.place)] });
        self.locations.insert(format!("step{number}"), location);
        self.last.insert(told.stage, number);
    }

    fn put(&mut self, op: &Value, inputs: &[usize]) -> usize {
        let number = self.steps.len();
        let mut step = json!({ "id": format!("step{number}"), "op": { "Op": op } });
        if !inputs.is_empty() {
            step["inputs"] = inputs.iter().copied().map(output).collect();
        }
        self.steps.push(step);
        number
    }
}

/// The only output of a step.
fn output(step: usize) -> Value {
    json!(format!("step{step}:0"))
}

fn source(identifier: &str) -> Value {
    json!({ "source": { "identifier": identifier } })
}

impl Build<'_> {
    /// What a RUN runs.
    pub(in crate::build) fn note_exec(
        &self,
        stage: &Stage,
        command: &[String],
        args: &[String],
        mounts: &[Mount],
        network: Network,
    ) {
        if !self.order.attests.tell_steps() {
            return;
        }
        let env: Vec<String> = stage
            .config
            .env()
            .into_iter()
            .chain(args.iter().cloned())
            .collect();
        let mut meta = json!({ "args": command, "env": env, "cwd": stage.config.workdir() });
        let user = stage.config.text("User");
        if !user.is_empty() {
            meta["user"] = json!(user);
        }
        let mut all = vec![json!({ "dest": "/" })];
        all.extend(mounts.iter().map(|mount| {
            let kind = match mount.kind {
                MountKind::Bind => 0,
                MountKind::Secret => 1,
                MountKind::Ssh => 2,
                MountKind::Cache => 3,
                MountKind::Tmpfs => 4,
            };
            json!({ "dest": mount.target, "mountType": kind })
        }));
        let mut exec = json!({ "meta": meta, "mounts": all });
        match network {
            Network::Host => exec["network"] = json!(1),
            Network::None => exec["network"] = json!(2),
            _ => {}
        }
        self.noted.borrow_mut().exec = Some(json!({ "exec": exec }));
    }

    /// A step that changes files was carried out. `before`: the stage as it was then.
    pub(in crate::build) fn note_step(&self, before: &Stage, number: usize, step: &Text) {
        let word = |text: &str| {
            let get = |name: &str| before.scope.of_step(&before.config, name);
            self.word(text, &get).unwrap_or_else(|_| text.into())
        };
        let exec = self.noted.borrow_mut().exec.take();
        let stage_of = |name: &String| {
            self.named(name)
                .is_none()
                .then(|| self.stage(name, number))
                .flatten()
        };
        let mut of_context = false;
        let (op, from) = match &step.instruction {
            Instruction::Run(run) => {
                let from = run.mounts.iter().filter_map(|mount| mount.from.as_ref());
                let Some(exec) = exec else { return };
                (exec, from.filter_map(stage_of).next())
            }
            Instruction::Copy(copy) => {
                of_context = copy.from.is_none();
                (copies(copy, &word), copy.from.as_ref().and_then(stage_of))
            }
            Instruction::Add(add) => {
                of_context = true;
                (copies(&add.as_copy(), &word), None)
            }
            Instruction::Workdir(path) => {
                let made = json!({ "mkdir": { "path": word(path), "mode": 0o755, "makeParents": true } });
                (json!({ "file": { "actions": [{ "Action": made }] } }), None)
            }
            _ => return,
        };
        self.noted.borrow_mut().steps.push(Told {
            stage: number,
            place: step.place,
            op,
            from,
            of_context,
        });
    }
}

/// A file operation with an action a source.
fn copies(copy: &Copy, word: &dyn Fn(&str) -> String) -> Value {
    let dest = word(&copy.dest);
    let action = |source: &Source| {
        let src = match source {
            Source::Path(path) => crate::build::remote::without_login(&word(path)),
            Source::Inline(heredoc) => heredoc.name.clone(),
        };
        json!({ "Action": { "copy": { "src": src, "dest": dest } } })
    };
    json!({ "file": { "actions": copy.sources.iter().map(action).collect::<Vec<_>>() } })
}
