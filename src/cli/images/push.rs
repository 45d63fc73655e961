//! `push`: flags → one push, or one for each tag → Docker's lines.

use std::path::PathBuf;

use fuse_overlay::index::DiffId;

use super::foreign;
use super::place::Place;
use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::images::names::{References, typed};
use crate::images::packed::Family;
use crate::images::packing::{Packing, Small};
use crate::images::push::{self, Form, Progress, PushError, Sent};
use crate::images::reference::Reference;
use crate::images::registry::Registries;
use crate::images::{self, Image};
use crate::store::{Digest, Store, given};

/// Flags of `push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Send all tags of the repository
    #[arg(short, long, conflicts_with_all = ["destination", "digestfile"])]
    all_tags: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Write the digest of the manifest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Require HTTPS and verify certificates; false is for registries that have neither
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_verify: Option<bool>,
    /// Whose media types the manifest has, without it those that the image has: oci, v2s2 (Docker's)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<FamilyFlag>,
    /// How layers are compressed: gzip, zstd; other forms that the registry has are left alone without it
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<FormatFlag>,
    /// How much: 0 to 9 of gzip, 0 to 22 of zstd
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<u32>,
    /// Compress layers that the registry has in another form, too: by default if a format is given
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    force_compression: Option<bool>,
    #[command(flatten)]
    foreign: foreign::Flags,
    /// The image, under the name that says where to
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
    /// Where to, if not where its name says; with a digest, the manifest must be that one, and gets no tag. Or
    /// oci-archive:FILE[:TAG], oci:DIR[:TAG], docker-archive:FILE[:NAME]
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

impl Push {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        self.foreign.check()?;
        let form = self.form()?;
        let to = self.destination.as_deref().unwrap_or(&self.image);
        if let Some(place) = Place::read(to)? {
            return self.put_at(&place, store, form);
        }
        let mut registries = Registries::load().map_err(PushError::from)?;
        if self.tls_verify == Some(false) {
            registries.trust_all();
        }
        let order = Order {
            store,
            form,
            registries,
            quiet: self.quiet,
        };
        if self.all_tags {
            return order.all_tags(&self.image);
        }
        let name = destination(to)?;
        let image = self.image(store)?;
        order.heading(&name)?;
        let pushed = order.one(&image, &name)?;
        self.note(store, &pushed.digest)
    }

    /// The image that is meant.
    fn image(&self, store: &Store) -> Result<Image, Failure> {
        let none = || format!("An image does not exist locally with the tag: {}", self.image);
        images::find(store, &self.image)?.ok_or_else(|| Failure::new(none()))
    }

    /// Writes it where no registry is: nothing is said, as by `save`.
    fn put_at(&self, place: &Place, store: &Store, form: Form) -> Result<(), Failure> {
        if self.all_tags {
            let why = "--all-tags is for a repository of a registry";
            return Err(Failure::new(why).code(125));
        }
        if self.digestfile.is_some() && !place.has_manifest() {
            let why = "a docker-archive has no manifest whose digest --digestfile could have";
            return Err(Failure::new(why).code(125));
        }
        match place.send(store, self.image(store)?, &self.image, form)? {
            Some(digest) => self.note(store, &digest),
            None => Ok(()),
        }
    }

    fn note(&self, store: &Store, digest: &Digest) -> Result<(), Failure> {
        let Some(file) = &self.digestfile else {
            return Ok(());
        };
        let written = given::write(store, file, digest.to_string().as_bytes());
        written.map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))
    }
}

/// What is meant by a name in a registry.
fn destination(text: &str) -> Result<Reference, Failure> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let name = typed(text)?.or_latest();
    match (name.tag(), name.digest()) {
        (Some(tag), Some(_)) => {
            let why = format!("cannot push to {text}: either the tag {tag} or the digest");
            Err(Failure::new(why).code(125))
        }
        _ => Ok(name),
    }
}

/// What is the same for all images that are sent.
struct Order<'a> {
    store: &'a Store,
    form: Form,
    registries: Registries,
    quiet: bool,
}

impl Order<'_> {
    fn heading(&self, name: &Reference) -> Result<(), Failure> {
        match self.quiet {
            true => Ok(()),
            false => put(&format!(
                "The push refers to repository [{}]\n",
                name.repository()
            )),
        }
    }

    fn one(&self, image: &Image, name: &Reference) -> Result<push::Pushed, Failure> {
        let lines = Lines { quiet: self.quiet };
        let pushed = push::push(self.store, image, name, self.form, &self.registries, &lines)?;
        if !self.quiet {
            // One that is sent by its digest has no tag.
            let tag = name.tag().map(|tag| format!("{tag}: ")).unwrap_or_default();
            put(&format!("{tag}digest: {} size: {}\n", pushed.digest, pushed.size))?;
        }
        Ok(pushed)
    }

    /// `-a`: as Docker's, in the order of the names, until one fails.
    fn all_tags(&self, repository: &str) -> Result<(), Failure> {
        let wanted = destination(repository)?;
        if Reference::parse(repository).is_ok_and(|name| name.tag().is_some() || name.digest().is_some()) {
            return Err(Failure::new("tag can't be used with --all-tags/-a").code(125));
        }
        let listed = References::load(self.store)?;
        let names = listed.images().flat_map(|image| &image.names);
        let names = names.filter_map(|name| Reference::parse(name).ok());
        let mut names: Vec<Reference> = names
            .filter(|name| name.repository() == wanted.repository())
            .collect();
        names.sort();
        if names.is_empty() {
            let why = format!("An image does not exist locally with the tag: {repository}");
            return Err(Failure::new(why));
        }
        self.heading(&wanted)?;
        for name in names {
            let gone = || images::Error::NoSuchImage(name.to_string());
            let image = images::find(self.store, &name.to_string())?.ok_or_else(gone)?;
            self.one(&image, &name)?;
        }
        Ok(())
    }
}

impl Push {
    fn form(&self) -> Result<Form, Failure> {
        let packing = Packing {
            small: match self.compression_format {
                Some(FormatFlag::Zstd) => Small::Zstd,
                Some(FormatFlag::Gzip) | None => Small::Gzip,
            },
            level: self.compression_level,
            force: self
                .force_compression
                .unwrap_or(self.compression_format.is_some()),
        };
        if let Some(why) = packing.wrong() {
            return Err(
                Failure::new(format!("invalid argument for \"--compression-level\": {why}")).code(125),
            );
        }
        let family = match self.format {
            None => None,
            Some(FamilyFlag::Oci) => Some(Family::Oci),
            Some(FamilyFlag::V2s2) if packing.small == Small::Zstd => {
                let why = "--format=v2s2 is not supported with zstd: Docker's format has no such layers that Docker reads";
                return Err(Failure::new(why).code(125));
            }
            Some(FamilyFlag::V2s2) => Some(Family::Docker),
            Some(FamilyFlag::V2s1) => {
                let why = "--format=v2s1 is not supported: nobody reads it since 2017";
                return Err(Failure::new(why).code(125));
            }
        };
        Ok(Form { family, packing })
    }
}

/// podman's words, and `docker` as for `build --format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FamilyFlag {
    Oci,
    #[value(alias = "docker")]
    V2s2,
    V2s1,
}

/// Those of podman's that are whole forms of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatFlag {
    Gzip,
    Zstd,
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Failure {
        Failure::of(&error).hint(error.hint())
    }
}

struct Lines {
    quiet: bool,
}

impl Progress for Lines {
    fn layer(&self, layer: &DiffId, how: &Sent) {
        if self.quiet {
            return;
        }
        let how = match how {
            Sent::Exists => "Layer already exists".into(),
            Sent::Mounted(from) => format!("Mounted from {from}"),
            Sent::Pushed => "Pushed".into(),
        };
        let short: String = layer.to_string().chars().take(12).collect();
        // A closed stdout is no reason to stop sending.
        let _ = put(&format!("{short}: {how}\n"));
    }
}
