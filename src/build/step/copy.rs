//! COPY, and what ADD has of it: their words → what is copied from where, in one layer.

use super::{Over, absolute, relative};
use crate::build::Error;
use crate::build::chmod::Chmod;
use crate::build::contents::Contents;
use crate::build::copy;
use crate::build::dockerfile::{self, expand_text};
use crate::build::extract::bound;
use crate::build::key::Key;
use crate::build::patterns::ignore::Ignore;
use crate::build::remote::without_login;
use crate::build::solve::{Build, Stage};
use crate::build::source::{Context, Entry, Links, Source};
use crate::build::tree::add_tree;
use crate::build::turn::Turn;
use crate::build::workspace::Draft;

impl Build<'_> {
    pub(super) fn copy(
        &mut self,
        stage: &mut Stage,
        number: usize,
        copy: &dockerfile::Copy,
        title: &str,
    ) -> Result<(), Error> {
        let order = self.copy_order(stage, copy)?;
        self.progress.begins(title);
        let said = self.told("COPY", stage, copy)?;
        if self.kept(stage, &said)? {
            return Ok(());
        }
        if copy.from.is_none() && order.sources.is_empty() {
            // Here-documents alone need no context.
            let parts = [(&order, order.plan(&Nothing)?, &Nothing as &dyn Source)];
            return self.copied(stage, &parts, &said, Over::of(copy));
        }
        self.from(number, copy.from.as_deref(), |source| {
            self.copied(
                stage,
                &[(&order, order.plan(source)?, source)],
                &said,
                Over::of(copy),
            )
        })
    }

    /// All of a context, as what a stage begins with.
    pub(in crate::build) fn copy_base(
        &mut self,
        stage: &mut Stage,
        context: &Context,
        said: &str,
    ) -> Result<(), Error> {
        if self.kept(stage, said)? {
            return Ok(());
        }
        let order = copy::Order {
            dest: b"/".to_vec(),
            into: true,
            now: self.now,
            ..bound(Vec::new())
        };
        let parts = [(&order, order.plan(context)?, context as &dyn Source)];
        self.copied(stage, &parts, said, Over::Stage)
    }

    fn copied(&self, stage: &mut Stage, parts: &[Part<'_>], said: &str, over: Over) -> Result<(), Error> {
        let key = self.copy_key(stage, parts, over)?;
        match self.turn(stage, key, said)? {
            None => Ok(()),
            Some(turn) => self.copy_all(stage, turn, parts, said, over),
        }
    }

    /// What a copy depends on.
    pub(super) fn copy_key(&self, stage: &Stage, parts: &[Part<'_>], over: Over) -> Result<Key, Error> {
        let kind = match over {
            Over::Stage => "copy",
            Over::Nothing => "linked copy",
        };
        let mut key = Key::new(kind, over.layers(stage));
        key.field(&self.epoch());
        for (order, plan, source) in parts {
            key.field(&order.digest(plan, *source, &self.hashes)?.hex());
        }
        Ok(key)
    }

    /// Makes the layer.
    pub(super) fn copy_all(
        &self,
        stage: &mut Stage,
        turn: Turn,
        parts: &[Part<'_>],
        said: &str,
        over: Over,
    ) -> Result<(), Error> {
        let draft = Draft::over(self.store, over.layers(stage))?;
        let mut contents = Contents::default();
        for (order, plan, source) in parts {
            order.carry_out(plan, *source, &draft.tree, &mut contents)?;
        }
        let claim = add_tree(
            self.store,
            &stage.layers,
            &draft.tree,
            &contents,
            self.order.times,
        )?;
        self.grown(stage, turn, said, (claim, over))
    }

    /// What the history says: what decides about the files, variables replaced. Whoever has the image reads it.
    pub(super) fn told(
        &self,
        keyword: &str,
        stage: &Stage,
        copy: &dockerfile::Copy,
    ) -> Result<String, Error> {
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let flag = |name: &str, value: &Option<String>| -> Result<Option<String>, Error> {
            let value = value.as_ref().map(|text| self.word(text, &get)).transpose()?;
            Ok(value.map(|value| format!("--{name}={value}")))
        };
        let mut words = vec![keyword.to_string()];
        words.extend(copy.parents.then(|| "--parents".into()));
        words.extend(flag("chown", &copy.chown)?);
        words.extend(flag("chmod", &copy.chmod)?);
        for source in &copy.sources {
            words.push(match source {
                dockerfile::Source::Path(path) => without_login(&self.word(path, &get)?),
                dockerfile::Source::Inline(heredoc) => format!("<<{}", heredoc.name),
            });
        }
        words.push(self.word(&copy.dest, &get)?);
        words.push("# buildkit".into());
        Ok(words.join(" "))
    }

    /// What COPY says, variables replaced.
    pub(super) fn copy_order(&self, stage: &Stage, copy: &dockerfile::Copy) -> Result<copy::Order, Error> {
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let (mut sources, mut parents, mut inline) = (Vec::new(), Vec::new(), Vec::new());
        for source in &copy.sources {
            match source {
                dockerfile::Source::Path(path) => {
                    let path = self.word(path, &get)?;
                    let skipped = path.split_once("/./").map_or("", |(skipped, _)| skipped);
                    let skipped = relative(skipped);
                    parents.push(
                        skipped
                            .split(|byte| *byte == b'/')
                            .filter(|name| !name.is_empty())
                            .count(),
                    );
                    sources.push(relative(&path));
                }
                dockerfile::Source::Inline(heredoc) => {
                    let text = heredoc.text();
                    let text = match heredoc.expand {
                        true => expand_text(&text, &get).map_err(|source| Error::Expand {
                            word: heredoc.name.clone(),
                            source,
                        })?,
                        false => text,
                    };
                    inline.push((heredoc.name.clone().into_bytes(), text.into_bytes()));
                }
            }
        }
        let dest = self.word(&copy.dest, &get)?;
        let exclude: Result<Vec<String>, Error> =
            copy.exclude.iter().map(|text| self.word(text, &get)).collect();
        let mode = copy
            .chmod
            .as_ref()
            .map(|text| self.word(text, &get))
            .transpose()?;
        let chown = copy
            .chown
            .as_ref()
            .map(|text| self.word(text, &get))
            .transpose()?;
        Ok(copy::Order {
            sources,
            parents: copy.parents.then_some(parents),
            wildcards: copy::Wildcards::Patterns,
            inline,
            into: dest.ends_with('/') || dest.ends_with("/.") || dest == "." || dest.is_empty(),
            dest: absolute(&stage.config.workdir(), &dest).into_bytes(),
            owner: chown.map(|text| self.owner(stage, &text)).transpose()?,
            chmod: mode.map(|text| chmod(&text)).transpose()?,
            exclude: Ignore::new(exclude?).map_err(|_| Error::Value {
                what: "pattern of --exclude",
                value: copy.exclude.join(" "),
            })?,
            now: self.now,
        })
    }
}

/// One source of a copy, and what comes from it.
pub(super) type Part<'a> = (&'a copy::Order, copy::Plan, &'a dyn Source);

/// There is no context, and nothing is asked of it.
pub(super) struct Nothing;

impl Source for Nothing {
    fn look(&self, _: &[u8], _: Links) -> std::io::Result<Option<Entry>> {
        Ok(None)
    }
    fn names(&self, _: &[u8]) -> std::io::Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
    fn open(&self, _: &[u8]) -> std::io::Result<Box<dyn std::io::Read + Send + '_>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
    fn real(&self, path: &[u8]) -> std::io::Result<Vec<u8>> {
        Ok(path.to_vec())
    }
}

/// `--chmod`.
fn chmod(text: &str) -> Result<Chmod, Error> {
    Chmod::parse(text).ok_or_else(|| Error::Value {
        what: "mode of --chmod",
        value: text.into(),
    })
}
