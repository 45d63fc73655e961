//! `push`: flags → one push → Docker's lines.

use fuse_overlay::index::DiffId;

use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::images;
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
    /// The image, under the name that says where to
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
    /// Where to, if not where its name says
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

impl Push {
    pub(crate) fn run(self, store: &Store) -> Result<(), Failure> {
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
        let pushed = push::push(store, &image, &name, &registries, &lines)?;
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
