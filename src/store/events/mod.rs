//! What happened, to which container or image, when? A line of JSON for each event in `$BRYO_STATE/events`, written by
//! whoever made it happen; `read` reads and follows it.
//!
//! Nobody waits for it and nothing fails for it: on a full disk, events are lost. A line is one write to the file's end, so
//! two writers do not mix; what a killed or full one left of a line is closed by the next. At 1 MiB the file becomes
//! `events.1`, under a lock on the file itself, that a writer waits for only so long: one that is stopped stops no other.

mod read;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use read::{From, Reader};
pub use write::tell;

use super::Store;

/// What it happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

impl Kind {
    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Volume => "volume",
            Kind::Network => "network",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// To what.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What: Docker's word.
    pub action: String,
    /// Its id, or name.
    pub id: String,
    /// What else is known.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// One that happens now.
    pub fn now(kind: Kind, action: impl Into<String>, id: impl Into<String>) -> Event {
        let now = jiff::Timestamp::now().as_nanosecond();
        Event {
            time: i64::try_from(now).unwrap_or(i64::MAX),
            kind,
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// With this attribute, too.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Event {
        self.attributes.insert(name.into(), value.into());
        self
    }
}

/// Where a user's events are.
fn path(state: &Path) -> PathBuf {
    state.join("events")
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("1")
}

impl Store {
    /// Writes down what happened.
    pub fn tell(&self, event: &Event) {
        tell(self.state(), event);
    }
}
