//! `push`: flags → one push → Docker's lines.

use fuse_overlay::index::DiffId;

use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::images;
use crate::images::packing::{Packing, Small};
use crate::images::push::{self, Progress, PushError, Sent};
use crate::images::reference::Reference;
use crate::images::registry::Registries;
use crate::store::Store;

/// Flags of `push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Require HTTPS and verify certificates; false is for registries that have neither
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_verify: Option<bool>,
    /// How layers are compressed: gzip, zstd; other forms that the registry has are left alone without it
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<FormatFlag>,
    /// How much: 0 to 9 of gzip, 0 to 22 of zstd
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<u32>,
    /// Compress layers that the registry has in another form, too: by default if a format is given
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    force_compression: Option<bool>,
    /// The image, under the name that says where to
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
    /// Where to, if not where its name says
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

impl Push {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
        let packing = self.packing()?;
        let target = self.destination.as_deref().unwrap_or(&self.image);
        let target = target.strip_prefix("docker://").unwrap_or(target);
        let named = |source| images::Error::Name {
            text: target.into(),
            source,
        };
        let name = Reference::parse(target).map_err(named)?.or_latest();
        if name.digest().is_some() {
            return Err(Failure::new("cannot push a digest reference"));
        }
        let image = images::find(store, &self.image)?.ok_or_else(|| {
            Failure::new(format!(
                "An image does not exist locally with the tag: {}",
                self.image
            ))
        })?;
        let mut registries = Registries::load().map_err(PushError::from)?;
        if self.tls_verify == Some(false) {
            registries.trust_all();
        }
        if !self.quiet {
            put(&format!(
                "The push refers to repository [{}]\n",
                name.repository()
            ))?;
        }
        let lines = Lines { quiet: self.quiet };
        let pushed = push::push(store, &image, &name, packing, &registries, &lines)?;
        if !self.quiet {
            let tag = name.tag().unwrap_or("latest");
            put(&format!(
                "{tag}: digest: {} size: {}\n",
                pushed.digest, pushed.size
            ))?;
        }
        Ok(())
    }
}

impl Push {
    fn packing(&self) -> Result<Packing, Failure> {
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
        match packing.wrong() {
            Some(why) => {
                Err(Failure::new(format!("invalid argument for \"--compression-level\": {why}")).code(125))
            }
            None => Ok(packing),
        }
    }
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
