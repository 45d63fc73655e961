//! COPY and ADD: their words → what is copied from where, in one layer.

use super::{absolute, relative};
use crate::build::archive;
use crate::build::chmod::Chmod;
use crate::build::contents::Contents;
use crate::build::copy;
use crate::build::dockerfile::{self, expand_text};
use crate::build::download::{Downloads, is_url};
use crate::build::key::Key;
use crate::build::patterns::ignore::Ignore;
use crate::build::solve::{Build, Stage};
use crate::build::source::{Entry, Links, Source, Stage as StageSource};
use crate::build::tree::add_tree;
use crate::build::workspace::Draft;
use crate::build::{CopyError, Error, Workspace};
use crate::store::Digest;

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
            return self.copied(stage, &[(&order, order.plan(&Nothing)?, &Nothing)], &said);
        }
        self.from(number, copy.from.as_deref(), |source| {
            self.copied(stage, &[(&order, order.plan(source)?, source)], &said)
        })
    }

    /// ADD: as COPY, but local archives are unpacked, and files by URL fetched.
    pub(super) fn add(&mut self, stage: &mut Stage, add: &dockerfile::Add, title: &str) -> Result<(), Error> {
        let copy = add.as_copy();
        let (urls, copy) = self.urls(stage, copy, add)?;
        let order = self.copy_order(stage, &copy)?;
        let checksum = checksum(add, &urls)?;
        self.progress.begins(title);
        let said = self.told("ADD", stage, &add.as_copy())?;
        if self.kept(stage, &said)? {
            return Ok(());
        }
        if add.sources.len() > 1 && !order.into && !urls.is_empty() {
            return Err(CopyError::ManyToOne.into());
        }
        let context: &dyn Source = match &self.order.context {
            Some(context) => context,
            None if order.sources.is_empty() => &Nothing,
            None => return Err(Error::NoContext),
        };
        let downloads = Downloads::fetch(self.store, &urls, checksum.as_ref(), self.progress)?;
        let fetched = order.of(downloads.paths());
        let unpacked = order.of_archive();
        let (mut parts, mut drafts): (Vec<Part<'_>>, _) = (Vec::new(), Vec::new());
        for (order, source, unpack) in [
            (&order, context, add.unpack != Some(false)),
            (&fetched, &downloads as &dyn Source, add.unpack == Some(true)),
        ] {
            let mut plan = order.plan(source)?;
            let chosen = |path: &[u8]| Ok(unpack && archive::is_archive(source.open(path)?)?);
            for path in order.take(&mut plan, &chosen)? {
                let name = String::from_utf8_lossy(&path).into_owned();
                let workspace = Workspace::new(self.store)?;
                let file = source
                    .open(&path)
                    .map_err(|error| CopyError::Read(name.clone(), error))?;
                let lower = archive::unpack(file, &name, &workspace)?;
                drafts.push(Draft::within(workspace, lower)?);
            }
            if !plan.is_empty() {
                parts.push((order, plan, source));
            }
        }
        let sources: Vec<StageSource<'_>> = drafts.iter().map(|draft| StageSource(&draft.tree)).collect();
        let mut whole: Vec<Part<'_>> = Vec::new();
        for source in &sources {
            // The directory that an archive is unpacked into does not get the time of its top.
            let plan = copy::Plan {
                top: None,
                ..unpacked.plan(source)?
            };
            whole.push((&unpacked, plan, source));
        }
        whole.append(&mut parts);
        self.copied(stage, &whole, &said)
    }

    /// Takes the URLs out of the sources of an ADD, variables replaced.
    fn urls(
        &self,
        stage: &Stage,
        mut copy: dockerfile::Copy,
        add: &dockerfile::Add,
    ) -> Result<(Vec<String>, dockerfile::Copy), Error> {
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let mut urls = Vec::new();
        copy.sources.clear();
        for source in &add.sources {
            let text = match source {
                dockerfile::Source::Path(path) => self.word(path, &get)?,
                dockerfile::Source::Inline(_) => String::new(),
            };
            let is_git = ["git://", "git@", "ssh://"]
                .iter()
                .any(|scheme| text.starts_with(scheme));
            if is_git || is_url(&text) && text.split('#').next().is_some_and(|url| url.ends_with(".git")) {
                return Err(Error::Unsupported(format!("ADD of a git repository ({text})")));
            }
            match is_url(&text) {
                true => urls.push(text),
                false => copy.sources.push(source.clone()),
            }
        }
        if add.keep_git_dir.is_some() {
            return Err(Error::Unsupported("ADD --keep-git-dir".into()));
        }
        Ok((urls, copy))
    }

    fn copied(&self, stage: &mut Stage, parts: &[Part<'_>], said: &str) -> Result<(), Error> {
        let mut key = Key::new("copy", &stage.layers);
        key.field(&self.epoch());
        for (order, plan, source) in parts {
            key.field(&order.digest(plan, *source, &self.hashes)?.hex());
        }
        let key = key.finish();
        if self.cached(stage, &key, said)? {
            return Ok(());
        }
        let draft = Draft::over(self.store, &stage.layers)?;
        let mut contents = Contents::default();
        for (order, plan, source) in parts {
            order.carry_out(plan, *source, &draft.tree, &mut contents)?;
        }
        let claim = add_tree(self.store, &stage.layers, &draft.tree, &contents)?;
        self.grown(stage, &key, said, claim)
    }

    /// What the history says: what decides about the files, variables replaced.
    fn told(&self, keyword: &str, stage: &Stage, copy: &dockerfile::Copy) -> Result<String, Error> {
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
                dockerfile::Source::Path(path) => self.word(path, &get)?,
                dockerfile::Source::Inline(heredoc) => format!("<<{}", heredoc.name),
            });
        }
        words.push(self.word(&copy.dest, &get)?);
        words.push("# buildkit".into());
        Ok(words.join(" "))
    }

    /// What COPY says, variables replaced.
    fn copy_order(&self, stage: &Stage, copy: &dockerfile::Copy) -> Result<copy::Order, Error> {
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
type Part<'a> = (&'a copy::Order, copy::Plan, &'a dyn Source);

/// There is no context, and nothing is asked of it.
struct Nothing;

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

/// `--checksum`, which is that of one file by URL.
fn checksum(add: &dockerfile::Add, urls: &[String]) -> Result<Option<Digest>, Error> {
    let Some(text) = &add.checksum else {
        return Ok(None);
    };
    let one = add.sources.len() == 1 && urls.len() == 1;
    let digest = text.parse().ok().filter(|_| one);
    digest.map(Some).ok_or_else(|| Error::Value {
        what: "--checksum (sha256:… of a single source by URL)",
        value: text.clone(),
    })
}

/// `--chmod`.
fn chmod(text: &str) -> Result<Chmod, Error> {
    Chmod::parse(text).ok_or_else(|| Error::Value {
        what: "mode of --chmod",
        value: text.into(),
    })
}
