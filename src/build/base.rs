//! What does FROM name? A stage before it, `scratch`, the files of a named context, or an image of the store, which is
//! fetched if need be. What it is for: the platform of `FROM --platform`, else that of the build. Only where nobody has asked for one, an image that is here
//! serves whatever it is for.

use std::sync::Arc;

use super::Error;
use super::config::Config;
use super::dockerfile::{Dockerfile, From, Stage as Text};
use super::order::{Fetch, Named};
use super::solve::{Build, Fetching, Stage, failed_from};
use super::source::Context;
use super::variables::Scope;
use crate::images::archive;
use crate::images::manifest::Platform;
use crate::images::pull::{self, Naming, Source};
use crate::images::{self, Claim, Image};

/// The name that means nothing at all, in FROM and in every `from`.
pub(super) const SCRATCH: &str = "scratch";

/// An image that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    name: String,
    /// As text; `None` if nobody asked for one.
    platform: Option<String>,
}

impl Build<'_> {
    /// What FROM names.
    pub(super) fn base(&mut self, from: &From, number: usize, label: &str) -> Result<Stage, Error> {
        let name = self.image_of(from)?;
        let platform = self.platform_of(from)?;
        let earlier = self.stage_from(&name, number);
        self.noted.borrow_mut().base(number, from.place, &name, earlier);
        if let Some(stage) = earlier.and_then(|earlier| self.done.get(&earlier)) {
            // ARGs are inherited, as ENVs are.
            return Ok(Stage {
                has_command: false,
                scope: stage.scope.inherited(),
                ..stage.clone()
            });
        }
        let place = format!("{label} 1");
        self.progress
            .begins(&format!("[{}] FROM {name}", place.trim_start()));
        let order = self.order;
        if let Some(Named::Files(context, material)) = order.named(&name) {
            material.iter().for_each(|material| self.note(material.clone()));
            return self.files(Stage::empty(platform), context, &name);
        }
        let name = self.stands_on(name);
        let stage = if name == SCRATCH {
            Stage::empty(platform)
        } else {
            self.image(&name, platform)
                .map_err(|error| self.not_had(&name, number, error))?
        };
        self.progress.done();
        Ok(stage)
    }

    /// Fetches the image that a stage stands on, if it does on one that is to be fetched.
    pub(super) fn have_base(&self, text: &Dockerfile, number: usize) -> Result<(), Error> {
        let Some(Text { from, .. }) = text.stages.get(number) else {
            return Ok(());
        };
        let have = || {
            let name = self.image_of(from)?;
            let is_files = matches!(self.named(&name), Some(Named::Files(..)));
            if is_files || self.stage_from(&name, number).is_some() {
                return Ok(());
            }
            let (name, platform) = (self.stands_on(name), self.platform_of(from)?);
            if name == SCRATCH || self.found(&name, platform.as_ref())?.is_some() {
                return Ok(());
            }
            self.progress.begins(&format!("[internal] load {name}"));
            self.fetch(&name, platform.as_ref())
                .map_err(|error| self.not_had(&name, number, error))?;
            self.progress.done();
            Ok(())
        };
        have().map_err(failed_from(from))
    }

    /// The platform that was asked for: by FROM, else for the build.
    fn platform_of(&self, from: &From) -> Result<Option<Platform>, Error> {
        let Some(word) = &from.platform else {
            return Ok(self.platform.clone());
        };
        let get = |name: &str| self.global.of_from(&self.given, name);
        let value = self.word(word, &get)?;
        match value.parse() {
            Ok(platform) => Ok(Some(platform)),
            Err(_) => Err(Error::Value {
                what: "platform",
                value,
            }),
        }
    }

    /// The image that a name which is no stage's means in FROM.
    fn stands_on(&self, name: String) -> String {
        match self.named(&name) {
            Some(Named::Image(other)) => other.clone(),
            Some(Named::Files(..)) | None => name,
        }
    }

    /// As in BuildKit, a named context that is no image is a base of its files, with an empty config.
    fn files(&mut self, mut stage: Stage, context: &Context, name: &str) -> Result<Stage, Error> {
        self.copy_base(&mut stage, context, &format!("FROM {name} # buildkit"))?;
        stage.of_base = (stage.layers.len(), stage.config.history());
        Ok(stage)
    }

    /// An image of the store, fetched if need be.
    pub(super) fn image(&self, name: &str, platform: Option<Platform>) -> Result<Stage, Error> {
        let image = match self.found(name, platform.as_ref())? {
            Some(image) => image,
            None => self.fetch(name, platform.as_ref())?,
        };
        self.note_image(name, platform.as_ref(), &image);
        let claim = Claim::new(self.store, &image.layers)?;
        // Removed before the claim could be seen, it must not be built on.
        if images::find(self.store, &image.id.to_string())?.is_none() {
            return Err(images::Error::NoSuchImage(name.into()).into());
        }
        let config = Config::of(&image);
        Ok(Stage {
            layers: image.layers.clone(),
            of_base: (image.layers.len(), config.history()),
            claim: Some(Arc::new(claim)),
            config,
            scope: Scope::default(),
            has_command: false,
        })
    }

    /// An image that need not be fetched any more.
    fn found(&self, name: &str, platform: Option<&Platform>) -> Result<Option<Image>, Error> {
        if let Some(id) = self.fetched.borrow().get(&wanted(name, platform)) {
            return Ok(images::find(self.store, &id.to_string())?);
        }
        // A layout may hold another image than it did for the last build.
        if self.order.pull == Fetch::Always || archive::is_layout(name) {
            return Ok(None);
        }
        let serves = |image: &Image| {
            platform.is_none_or(|wanted| image.platform().is_some_and(|offered| wanted.accepts(&offered)))
        };
        Ok(images::find(self.store, name)?.filter(serves))
    }

    fn fetch(&self, name: &str, platform: Option<&Platform>) -> Result<Image, Error> {
        let is_layout = archive::is_layout(name);
        if self.order.pull == Fetch::Never && !is_layout {
            return Err(match (platform, images::find(self.store, name)?) {
                (Some(platform), Some(_)) => Error::OtherPlatform {
                    name: name.into(),
                    platform: platform.clone(),
                },
                _ => images::Error::NoSuchImage(name.into()).into(),
            });
        }
        let registries = self.order.trust.registries().map_err(pull::PullError::from)?;
        let source = Source::open(name, &registries)?;
        // Who types the name wants what this machine can run.
        let naming = match platform.is_none_or(|platform| platform.accepts(&Platform::host())) {
            true if !is_layout => Naming::All,
            _ => Naming::ByDigest,
        };
        let heard = Fetching(self.progress);
        let pulled = pull::pull(self.store, &source, platform, naming, &heard)?;
        let wanted = wanted(name, platform);
        self.fetched.borrow_mut().insert(wanted, pulled.image.id);
        Ok(pulled.image)
    }
}

fn wanted(name: &str, platform: Option<&Platform>) -> Wanted {
    Wanted {
        name: name.into(),
        platform: platform.map(ToString::to_string),
    }
}
