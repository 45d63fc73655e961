//! What can `-v` and `--mount` ask for? More than a Spec can say: what a volume's name or an image stands for is found
//! out when the container is made (`containers/volume`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::SpecError;
use super::{Asked, Bind};

/// One `-v` or `--mount`.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// What is to be seen.
    pub what: What,
    /// The options of `-v`, as they were given.
    pub mode: String,
    /// `-v` as `inspect` shows it among the binds; none of a volume without a name, nor of `--mount`.
    pub bind: Option<String>,
    /// `--mount` as `inspect` shows it, in the shape of Docker's API.
    pub spec: Option<Value>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file or directory of the host.
    Bind(Bind),
    /// Memory.
    Tmpfs {
        /// Where.
        target: String,
        /// Mount options.
        options: Vec<String>,
    },
    /// A volume.
    Volume(Volume),
    /// What an image has.
    Image(Image),
}

/// A volume's place in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Without one it is the container's own.
    pub name: Option<String>,
    /// Where, an absolute path in the container.
    pub target: String,
    /// It cannot be written to.
    pub read_only: bool,
    /// What of it is shown.
    pub subpath: Option<String>,
    /// An empty one is left empty.
    pub no_copy: bool,
    /// All in it becomes the container's user's (`U`, podman's).
    pub own: bool,
    /// Of a volume that is made.
    pub labels: BTreeMap<String, String>,
    /// The driver's, of a volume that is made.
    pub options: BTreeMap<String, String>,
}

/// A copy of an image's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// As the user calls it.
    pub image: String,
    /// Where, an absolute path in the container.
    pub target: String,
    /// What of it is shown.
    pub subpath: Option<String>,
    /// It can be written to; nobody else sees that.
    pub writable: bool,
}

impl Wish {
    /// The same for who has no volumes, as a build.
    ///
    /// # Errors
    /// It is a volume, or an image.
    pub fn of_host(self) -> Result<Asked, SpecError> {
        match self.what {
            What::Bind(bind) => Ok(Asked::Bind(bind)),
            What::Tmpfs { target, options } => Ok(Asked::Tmpfs { target, options }),
            What::Volume(Volume { target: text, .. }) | What::Image(Image { target: text, .. }) => {
                let why = "a directory of the host is wanted here: ./NAME:/PATH";
                Err(SpecError::Mount { text, why })
            }
        }
    }

    /// Where it is mounted.
    pub fn target(&self) -> &str {
        match &self.what {
            What::Bind(bind) => &bind.target,
            What::Tmpfs { target, .. } => target,
            What::Volume(volume) => &volume.target,
            What::Image(image) => &image.target,
        }
    }
}
