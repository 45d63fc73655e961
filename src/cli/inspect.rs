//! `inspect`: all that is known of something, whatever it is.

use std::process::ExitCode;

use serde_json::Value;

use super::containers::inspect_container;
use super::images::inspect_image;
use super::networks::inspect_network;
use super::output::{inspected, put};
use super::report::Failure;
use super::volumes::inspect_volume;
use crate::store::Store;

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Look only for things of this kind
    #[arg(long = "type")]
    kind: Option<Kind>,
    /// Measure containers: SizeRw and SizeRootFs
    #[arg(short, long)]
    size: bool,
    /// Names, ids or beginnings of ids
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Container,
    Image,
    Volume,
    Network,
}

impl Inspect {
    /// The same for `container inspect`.
    pub(super) fn of_containers(self) -> Inspect {
        let kind = Some(Kind::Container);
        Inspect { kind, ..self }
    }

    /// The same for `volume inspect`.
    pub(super) fn of_volumes(self) -> Inspect {
        let kind = Some(Kind::Volume);
        Inspect { kind, ..self }
    }

    /// The same for `network inspect`.
    pub(super) fn of_networks(self) -> Inspect {
        let kind = Some(Kind::Network);
        Inspect { kind, ..self }
    }

    /// Prints what was found, then what was not.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        let mut objects = Vec::new();
        let mut missing = Vec::new();
        let mut failures = Vec::new();
        for name in &self.names {
            match self.find(&store, name) {
                Ok(Some(object)) => objects.push(object),
                Ok(None) => missing.push(name),
                Err(failure) => failures.push(failure),
            }
        }
        if !objects.is_empty() || self.format.is_none() {
            put(&inspected(&objects, self.format.as_deref())?)?;
        }
        let kind = match self.kind {
            Some(Kind::Container) => "container",
            Some(Kind::Image) => "image",
            Some(Kind::Volume) => "volume",
            Some(Kind::Network) => "network",
            None => "object",
        };
        for name in &missing {
            // Docker's words to the letter: scripts look for them.
            crate::line::say!("Error: No such {kind}: {name}");
        }
        let mut code = if missing.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        for failure in failures {
            code = failure.report();
        }
        Ok(code)
    }

    /// A container wins over an image of the same name, that over a volume, that over a network.
    fn find(&self, store: &Store, name: &str) -> Result<Option<Value>, Failure> {
        if matches!(self.kind, None | Some(Kind::Container))
            && let Some(object) = inspect_container(store, name, self.size)?
        {
            return Ok(Some(object));
        }
        if matches!(self.kind, None | Some(Kind::Image))
            && let Some(object) = inspect_image(store, name, self.format.as_deref())?
        {
            return Ok(Some(object));
        }
        if matches!(self.kind, None | Some(Kind::Volume))
            && let Some(object) = inspect_volume(store, name)?
        {
            return Ok(Some(object));
        }
        match self.kind {
            None | Some(Kind::Network) => inspect_network(store, name),
            Some(Kind::Container | Kind::Image | Kind::Volume) => Ok(None),
        }
    }
}
