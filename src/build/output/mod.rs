//! Where does a build's result go? Onto the list of images, from there to a registry; into an archive of the image; or its
//! tree into a directory or a tar (`tree`).

mod several;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fuse_overlay::attr::Time;

use super::order::{Order, Squash};
use super::solve::{Build, Stage};
use super::squash::squash;
use super::{Error, Progress};
use crate::images::attest::Statement;
use crate::images::commit::{Described, add_image};
use crate::images::manifest::Descriptor;
use crate::images::push::{self, Form, PushError, Pushed, Sent};
use crate::images::reference::Reference;
use crate::images::registry::{Registries, RegistryError};
use crate::images::save::{Format, SaveError, Saved, To, save};
use crate::images::steps::Step;
use crate::images::{Claim, Image};
use crate::store::{Digest, Store};

/// `--output`: one place where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image in the store.
    Image {
        /// What it is called.
        names: Vec<Reference>,
        /// What its manifest says.
        described: Described,
        /// It is sent to the registries of its names, too.
        push: Option<Trust>,
    },
    /// An image in an archive.
    Archive {
        /// What it is called there.
        names: Vec<Reference>,
        /// What its manifest says, if the format has one.
        described: Described,
        /// Docker's or OCI's.
        format: Format,
        /// The file; `None` for standard output.
        file: Option<PathBuf>,
    },
    /// An image in a directory of OCI's layout.
    Layout {
        /// What it is called there.
        names: Vec<Reference>,
        /// What its manifest says.
        described: Described,
        /// The directory.
        directory: PathBuf,
    },
    /// The tree, in a directory, as the user's own files: without devices, and without set-id bits, which would make its
    /// programs run as the user.
    Directory(PathBuf),
    /// The tree as a tar: in a file, or on standard output.
    Tar(Option<PathBuf>),
}

/// Which registries are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those with a good certificate, on loopback, or said to be insecure.
    Verified,
    /// Any.
    All,
}

impl Trust {
    /// The registries, as they are configured.
    pub(super) fn registries(self) -> Result<Registries, RegistryError> {
        let mut registries = Registries::load()?;
        if self == Trust::All {
            registries.trust_all();
        }
        Ok(registries)
    }
}

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The digest of the image's config, its id; `None` of a list of images for several platforms.
    pub config: Option<Digest>,
    /// Its manifest, or the list, as it was sent, else as it was saved, else as it is in the store; `None` if only its tree
    /// was wanted.
    pub manifest: Option<Descriptor>,
    /// All names that it was given.
    pub names: Vec<Reference>,
}

/// What was built for one platform.
pub(super) struct Part {
    pub(super) target: Stage,
    image: Image,
    /// What is said of it.
    pub(super) statements: Vec<Statement>,
}

impl Built {
    /// What names it: `--iidfile`, `--quiet`.
    pub fn id(&self) -> Option<Digest> {
        self.config
            .or(self.manifest.as_ref().map(|manifest| manifest.digest))
    }
}

impl Build<'_> {
    /// The target with what the order says of the image.
    /// `used`: the steps that it was made of.
    pub(super) fn part(&self, mut target: Stage, used: &[Step]) -> Result<Part, Error> {
        // Also where its last stage stands on what is for this machine, as for files that run anywhere.
        if let Some(platform) = &self.platform {
            target.config.set_platform(platform);
        }
        for (name, value) in &self.order.labels {
            target.config.add("Labels", name, value.as_str().into());
        }
        for name in &self.order.unset_env {
            target.config.unset_env(name);
        }
        self.tell_steps(&mut target, used);
        let (layers, entries) = match self.order.squash {
            Squash::No => (usize::MAX, 0),
            Squash::New => target.of_base,
            Squash::All => (0, 0),
        };
        if target.layers.len() > layers {
            self.progress.begins("squashing layers");
            let claim = squash(
                self.store,
                &target.layers,
                layers,
                self.order.times,
                &self.created,
            )?;
            target.config.record_squash(entries, &self.created);
            target.layers = claim.layers().to_vec();
            target.claim = Some(Arc::new(claim));
            self.progress.done();
        }
        let image = target.image(&self.created)?;
        Ok(Part {
            target,
            image,
            statements: Vec::new(),
        })
    }

    /// `--cache-to type=inline`.
    fn tell_steps(&self, target: &mut Stage, used: &[Step]) {
        if self.order.cache_to.iter().all(|to| to.place.is_some()) {
            return;
        }
        let has_image = |output: &Output| !matches!(output, Output::Directory(_) | Output::Tar(_));
        let not = |why: &str| {
            self.progress
                .warning(&format!("no cache is exported inline: {why}"))
        };
        if self.order.squash != Squash::No {
            not("the layers that it is about are squashed");
        } else if self.order.outputs.iter().any(has_image) {
            target.config.tell_steps(used, &target.layers);
        } else {
            not("that takes an image, and the output is none");
        }
    }
}

/// What was built, on its way to where it was ordered.
pub(super) struct Delivery<'a> {
    pub(super) store: &'a Store,
    pub(super) order: &'a Order,
    pub(super) progress: &'a dyn Progress,
    /// What new files have as time.
    pub(super) now: Time,
    /// One a platform.
    pub(super) parts: &'a [Part],
}

impl Delivery<'_> {
    /// Puts it wherever it is wanted.
    pub(super) fn carry_out(self) -> Result<Built, Error> {
        let (mut best, mut manifest, mut all) = (None, None, Vec::new());
        for output in &self.order.outputs {
            self.progress.begins(output.title());
            let (rank, made) = match self.parts {
                [part] if !self.order.is_several(output) => self.put(output, part)?,
                parts => self.put_list(output, parts)?,
            };
            if best < Some(rank) && made.is_some() {
                (best, manifest) = (Some(rank), made);
            }
            for name in output.names() {
                if !all.contains(name) {
                    all.push(name.clone());
                }
            }
            self.progress.done();
        }
        Ok(Built {
            config: match self.parts {
                [part] => Some(part.image.id),
                _ => None,
            },
            manifest,
            names: all,
        })
    }

    /// Gives the manifest that was made, and how much it is wanted: more if others have it.
    fn put(&self, output: &Output, part: &Part) -> Result<(u8, Option<Descriptor>), Error> {
        Ok(match output {
            Output::Image {
                names,
                described,
                push,
            } => {
                let listed = self.list(part, names, described)?;
                match push {
                    None => (0, Some(listed.1)),
                    Some(trust) => {
                        // Its family is that of what was listed just now.
                        let form = Form {
                            family: None,
                            packing: described.packing,
                        };
                        let push = |name: &Reference, registries: &Registries, heard: &Sending<'_>| {
                            push::push(self.store, &listed.0, name, form, registries, heard)
                        };
                        (2, self.send(names, *trust, push)?)
                    }
                }
            }
            Output::Archive {
                names,
                described,
                format,
                ..
            } => {
                let saved = [part.saved(names, described)];
                let to = |to: To<'_>| save(self.store, &saved, *format, to);
                (1, output.written(to)?.into_iter().next())
            }
            Output::Layout { names, described, .. } => {
                let saved = [part.saved(names, described)];
                let to = |to: To<'_>| save(self.store, &saved, Format::Oci, to);
                (1, output.written(to)?.into_iter().next())
            }
            Output::Directory(to) => {
                part.target.write_directory(self.store, to)?;
                (0, None)
            }
            Output::Tar(file) => {
                part.target
                    .write_tar(self.store, file.as_deref(), self.now, self.progress)?;
                (0, None)
            }
        })
    }

    /// Puts it on the list of images.
    fn list(
        &self,
        part: &Part,
        names: &[Reference],
        described: &Described,
    ) -> Result<(Image, Descriptor), Error> {
        let image = &part.image;
        let claim = Claim::new(self.store, &image.layers)?;
        let listed = add_image(self.store, claim, &image.raw_config, names, described)?;
        let said = |text: String| self.progress.output(text.as_bytes());
        said(format!("writing image {}\n", image.id));
        for name in names {
            said(format!("naming to {}\n", name.clone().or_latest()));
        }
        Ok(listed)
    }

    /// Sends it under all its names. Gives the manifest, which is the same in all registries that hold the same layers.
    fn send(
        &self,
        names: &[Reference],
        trust: Trust,
        push: impl Fn(&Reference, &Registries, &Sending<'_>) -> Result<Pushed, PushError>,
    ) -> Result<Option<Descriptor>, Error> {
        let registries = trust.registries().map_err(PushError::from)?;
        let mut sent = None;
        for name in names {
            let text = format!("pushing {name}\n");
            self.progress.output(text.as_bytes());
            let pushed = push(name, &registries, &Sending(self.progress))?;
            let text = format!("pushed {name}@{}\n", pushed.digest);
            self.progress.output(text.as_bytes());
            sent = Some(Descriptor::new(pushed.media_type, pushed.digest, pushed.size));
        }
        Ok(sent)
    }
}

impl Part {
    fn saved(&self, names: &[Reference], described: &Described) -> Saved {
        Saved {
            image: self.image.clone(),
            names: names.to_vec(),
            tag: None,
            annotations: described.annotations.clone(),
            packing: described.packing,
        }
    }
}

impl Output {
    /// Writes an archive to its place.
    fn written<M>(&self, save: impl FnOnce(To<'_>) -> Result<M, SaveError>) -> Result<M, SaveError> {
        match self {
            Output::Layout { directory, .. } => save(To::Directory(directory)),
            Output::Archive { file: Some(file), .. } => save(To::File(file)),
            _ => save(To::Stream(&mut io::stdout().lock())),
        }
    }

    /// BuildKit's titles.
    fn title(&self) -> &'static str {
        match self {
            Output::Image { .. } => "exporting to image",
            Output::Archive {
                format: Format::Docker,
                ..
            } => "exporting to docker image format",
            Output::Archive { .. } | Output::Layout { .. } => "exporting to oci image format",
            Output::Directory(_) => "exporting to client directory",
            Output::Tar(_) => "exporting to client tarball",
        }
    }

    /// What the image is called there.
    fn names(&self) -> &[Reference] {
        match self {
            Output::Image { names, .. } | Output::Archive { names, .. } | Output::Layout { names, .. } => {
                names
            }
            Output::Directory(_) | Output::Tar(_) => &[],
        }
    }

    /// Does it go to standard output?
    pub fn is_stream(&self) -> bool {
        matches!(self, Output::Tar(None) | Output::Archive { file: None, .. })
    }
}

/// A push, told as part of a build.
struct Sending<'a>(&'a dyn Progress);

impl push::Progress for Sending<'_> {
    fn layer(&self, layer: &fuse_overlay::index::DiffId, how: &Sent) {
        let how = match how {
            Sent::Exists => "layer already exists".into(),
            Sent::Mounted(from) => format!("mounted from {from}"),
            Sent::Pushed => "pushed".into(),
        };
        self.0.output(format!("{layer:?} {how}\n").as_bytes());
    }
}
