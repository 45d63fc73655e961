//! What is said of what was built? Where it comes from (`provenance`, of what the build has `noted`), and what is in it
//! (`sbom`). Nothing, unless it was asked for: a list instead of a manifest, with times in it, is another digest at each
//! build, and what some tools do not expect.

mod noted;
mod provenance;
mod sbom;
mod steps;

pub(super) use noted::Noted;
pub use noted::{Hash, Material};
pub(super) use provenance::Run;
pub use provenance::{Detail, Provenance, Version};

use provenance::Made;

use super::Error;
use super::output::Output;
use super::solve::{Build, Stage};
use crate::images::attest::Statement;
use crate::images::manifest::Platform;
use crate::images::packed::Family;
use crate::images::save::Format;

/// `--attest`, `--provenance`, `--sbom`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attests {
    /// `type=provenance`.
    pub provenance: Option<Provenance>,
    /// `type=sbom`.
    pub sbom: Option<Sbom>,
}

/// `--attest type=sbom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// The image that scans.
    pub generator: String,
    /// Its parameters: variables `BUILDKIT_SCAN_…`.
    pub parameters: Vec<(String, String)>,
}

impl Attests {
    /// Is there anything to be said of what goes to this output?
    pub(super) fn concern(&self, output: &Output) -> bool {
        let provenance = self.provenance.is_some();
        (provenance || self.sbom.is_some()) && output.why_unattested().is_none()
    }

    /// Are the steps told, one by one?
    pub(super) fn tell_steps(&self) -> bool {
        let provenance = self.provenance.as_ref();
        provenance.is_some_and(|asked| asked.detail == Detail::Max)
    }

    /// Whether the output can have what is wanted. What is wanted `inline-only` goes where it can.
    pub(super) fn allow(&self, output: &Output) -> Result<(), Error> {
        let wanted = match (&self.provenance, &self.sbom) {
            (_, Some(_)) => "--sbom",
            (Some(provenance), None) if !provenance.inline_only => "--provenance",
            _ => return Ok(()),
        };
        match output.why_unattested() {
            Some(why) => Err(Error::Unattested { wanted, why }),
            None => Ok(()),
        }
    }
}

impl Output {
    /// Why nothing can be said of what goes there.
    fn why_unattested(&self) -> Option<&'static str> {
        match self {
            Output::Image { push: None, .. } => Some(
                "an image of the store has no list; push it (--push), or write an archive (--output type=oci)",
            ),
            Output::Archive {
                format: Format::Docker,
                ..
            } => Some("an archive of Docker's format has no list; --output type=oci has"),
            Output::Directory(_) | Output::Tar(_) => Some(
                "a tree alone has none; an image has that is pushed (--push) or in an archive (--output type=oci)",
            ),
            Output::Image { described, .. }
            | Output::Archive { described, .. }
            | Output::Layout { described, .. }
                if described.family == Family::Docker =>
            {
                Some("they are in OCI's format, and Docker's was asked for (--format docker)")
            }
            _ => None,
        }
    }
}

impl Build<'_> {
    /// What is said of what this build has made: its contents first, as BuildKit has it.
    pub(super) fn statements(&self, target: &Stage, run: Option<&Run>) -> Result<Vec<Statement>, Error> {
        let attests = &self.order.attests;
        // What scans is none of what the image was made of.
        let noted = self.noted.borrow().clone();
        let mut statements = match &attests.sbom {
            Some(asked) => self.scan(target, asked)?,
            None => Vec::new(),
        };
        let made = Made {
            order: self.order,
            noted: &noted,
            run,
        };
        if let Some(asked) = &attests.provenance {
            statements.push(made.statement(asked)?);
        }
        Ok(statements)
    }
}

/// The platforms as purls and lists have them: those ordered, else the image's own.
pub(super) fn platform_of(ordered: Option<&Platform>, image: &crate::images::Image) -> Platform {
    let own = || image.platform().unwrap_or_else(Platform::host);
    ordered.cloned().unwrap_or_else(own)
}
