//! COPY and ADD: their words → what is copied from where, in one layer.

use super::{absolute, relative};
use crate::build::archive;
use crate::build::chmod::Chmod;
use crate::build::contents::Contents;
use crate::build::copy;
use crate::build::dockerfile::{self, expand_text};
use crate::build::key::Key;
use crate::build::patterns::ignore::Ignore;
use crate::build::solve::{Build, Stage};
use crate::build::source::{Entry, Links, Source, Stage as StageSource};
use crate::build::tree::add_tree;
use crate::build::workspace::Draft;
use crate::build::{CopyError, Error, Workspace};

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
        let said = format!("COPY {} # buildkit", words(copy));
        if copy.from.is_none() && order.sources.is_empty() {
            // Here-documents alone need no context.
            return self.copied(stage, &[(&order, order.plan(&Nothing)?, &Nothing)], &said);
        }
        self.from(number, copy.from.as_deref(), |source| {
            self.copied(stage, &[(&order, order.plan(source)?, source)], &said)
        })
    }

    /// ADD: as COPY, but archives are unpacked.
    pub(super) fn add(&mut self, stage: &mut Stage, add: &dockerfile::Add, title: &str) -> Result<(), Error> {
        let copy = local(add)?;
        let order = self.copy_order(stage, &copy)?;
        self.progress.begins(title);
        let said = format!("ADD {} # buildkit", words(&copy));
        let context: &dyn Source = match &self.order.context {
            Some(context) => context,
            None if order.sources.is_empty() => &Nothing,
            None => return Err(Error::NoContext),
        };
        let mut plan = order.plan(context)?;
        let chosen = |path: &[u8]| match add.unpack {
            Some(false) => Ok(false),
            _ => archive::is_archive(context.open(path)?),
        };
        let archives = order.take(&mut plan, &chosen)?;
        let mut drafts = Vec::new();
        for path in &archives {
            let name = String::from_utf8_lossy(path).into_owned();
            let workspace = Workspace::new(self.store)?;
            let file = context
                .open(path)
                .map_err(|error| CopyError::Read(name.clone(), error))?;
            let lower = archive::unpack(file, &name, &workspace)?;
            drafts.push(Draft::within(workspace, lower)?);
        }
        let unpacked = order.of_archive();
        let sources: Vec<StageSource<'_>> = drafts.iter().map(|draft| StageSource(&draft.tree)).collect();
        let mut parts: Vec<Part<'_>> = Vec::new();
        if !plan.is_empty() {
            parts.push((&order, plan, context));
        }
        for source in &sources {
            parts.push((&unpacked, unpacked.plan(source)?, source));
        }
        self.copied(stage, &parts, &said)
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

    /// What COPY says, variables replaced.
    fn copy_order(&self, stage: &Stage, copy: &dockerfile::Copy) -> Result<copy::Order, Error> {
        if copy.parents {
            return Err(Error::Unsupported("COPY --parents".into()));
        }
        let get = |name: &str| stage.scope.of_step(&stage.config, name);
        let (mut sources, mut inline) = (Vec::new(), Vec::new());
        for source in &copy.sources {
            match source {
                dockerfile::Source::Path(path) => sources.push(relative(&self.word(path, &get)?)),
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

/// ADD of local files that are no archives is COPY.
fn local(add: &dockerfile::Add) -> Result<dockerfile::Copy, Error> {
    for source in &add.sources {
        let dockerfile::Source::Path(path) = source else {
            continue;
        };
        let remote = ["http://", "https://", "git://", "git@", "ssh://"];
        if remote.iter().any(|scheme| path.starts_with(scheme)) {
            return Err(Error::Unsupported(format!("ADD from a URL ({path})")));
        }
    }
    if add.checksum.is_some() || add.keep_git_dir.is_some() {
        return Err(Error::Unsupported("ADD --checksum, --keep-git-dir".into()));
    }
    Ok(dockerfile::Copy {
        sources: add.sources.clone(),
        dest: add.dest.clone(),
        from: None,
        chown: add.chown.clone(),
        chmod: add.chmod.clone(),
        link: add.link,
        parents: false,
        exclude: add.exclude.clone(),
    })
}

/// The words of COPY as the history has them.
fn words(copy: &dockerfile::Copy) -> String {
    let mut words: Vec<String> = Vec::new();
    words.extend(copy.from.iter().map(|from| format!("--from={from}")));
    words.extend(copy.chown.iter().map(|owner| format!("--chown={owner}")));
    words.extend(copy.chmod.iter().map(|mode| format!("--chmod={mode}")));
    words.extend(copy.sources.iter().map(|source| match source {
        dockerfile::Source::Path(path) => path.clone(),
        dockerfile::Source::Inline(heredoc) => heredoc.name.clone(),
    }));
    words.push(copy.dest.clone());
    words.join(" ")
}

/// `--chmod`.
fn chmod(text: &str) -> Result<Chmod, Error> {
    Chmod::parse(text).ok_or_else(|| Error::Value {
        what: "mode of --chmod",
        value: text.into(),
    })
}
