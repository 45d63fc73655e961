//! What is mounted in a container because it was asked for? Kept in the container's record: `inspect`, `ps`,
//! `--volumes-from` and the removal of volumes go by it.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::Backing;
use super::record::find;
use crate::containers::Error;
use crate::containers::runtime::SUBDIRECTORY;
use crate::store::Store;

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file or directory of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// An image's files.
    Image,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mounted {
    /// What it shows.
    pub kind: Kind,
    /// The volume's name; of an image that of its copy; else empty.
    pub name: String,
    /// The host's directory or file; the image as it was called; empty for memory.
    pub source: PathBuf,
    /// Where, in the container.
    pub target: String,
    /// Mount options.
    pub options: Vec<String>,
    /// The options of `-v`, as they were given.
    pub mode: String,
    /// A volume that nobody named: it goes with its container.
    pub anonymous: bool,
    /// `--mount`, in the shape of Docker's API.
    pub spec: Option<Value>,
}

/// What an older program mounted at these places, by its Spec: the host's directories and files, and memory.
pub(in crate::containers) fn of_spec(spec: &Spec, places: &[String]) -> Vec<Mounted> {
    let all = spec.mounts().iter().flatten();
    let asked = all.filter_map(|mount| {
        let target = mount.destination().display().to_string();
        let kind = match mount.typ().as_deref() {
            Some("bind") => Kind::Bind,
            Some("tmpfs") => Kind::Tmpfs,
            _ => return None,
        };
        let source = mount.source().clone().filter(|_| kind == Kind::Bind);
        let source = source.unwrap_or_default();
        // Devices are shown by themselves.
        (places.contains(&target) && !source.starts_with("/dev")).then(|| Mounted {
            kind,
            name: String::new(),
            source,
            target,
            options: mount.options().clone().unwrap_or_default(),
            mode: String::new(),
            anonymous: false,
            spec: None,
        })
    });
    asked.collect()
}

impl Mounted {
    /// The directory of the host's whose files are all that it shows, and whether they can be written to; none of memory, of an
    /// image, of a part of a volume.
    ///
    /// # Errors
    /// The volume's record cannot be read.
    pub(in crate::containers) fn directory(&self, store: &Store) -> Result<Option<(PathBuf, bool)>, Error> {
        let mut is_writable = self.is_writable();
        let directory = match self.kind {
            Kind::Tmpfs | Kind::Image => return Ok(None),
            Kind::Volume if self.options.iter().any(|option| option.starts_with(SUBDIRECTORY)) => {
                return Ok(None);
            }
            Kind::Volume => match Backing::of(&find(store, &self.name)?.options)? {
                Backing::Directory => self.source.clone(),
                Backing::Host(device, options) => {
                    // The volume's own, which its containers need not say.
                    is_writable &= !options.iter().any(|option| option == "ro");
                    device
                }
                Backing::Memory(_) => return Ok(None),
            },
            Kind::Bind => self.source.clone(),
        };
        Ok(directory.is_dir().then_some((directory, is_writable)))
    }

    /// Docker's word for what it shows.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Bind => "bind",
            Kind::Volume => "volume",
            Kind::Tmpfs => "tmpfs",
            Kind::Image => "image",
        }
    }

    /// It can be written to.
    pub fn is_writable(&self) -> bool {
        let read_only =
            |option: &String| option == "ro" || option == crate::containers::runtime::TOP_READ_ONLY;
        !self.options.iter().any(read_only)
    }

    /// A bind mount's propagation; of others empty.
    pub fn propagation(&self) -> &str {
        let word = |option: &&String| option.ends_with("private") || option.ends_with("slave");
        match self.kind {
            Kind::Bind => self.options.iter().find(word).map_or("", String::as_str),
            _ => "",
        }
    }

    /// What `ps` shows: the volume's name, or where it comes from.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::Volume => self.name.clone(),
            Kind::Bind | Kind::Image => self.source.display().to_string(),
            Kind::Tmpfs => String::new(),
        }
    }
}
