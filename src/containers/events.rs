//! What is told of containers: Docker's events, with a container's name, image and labels. Steps of builds are none of the
//! user's containers.

use std::path::Path;

use super::record::{Afterwards, Record};
use crate::store::events::{Event, From, Kind, Reader, tell};

/// The exit code of the last run of a container, which may be gone.
pub(super) fn last_code(state: &Path, id: &str) -> Option<i32> {
    let mut code = None;
    let mut reader = Reader::new(state, From::Beginning).ok()?;
    // What cannot be read is not known.
    let _ = reader.read(|event| {
        if event.kind == Kind::Container && event.action == "die" && event.id == id {
            code = event
                .attributes
                .get("exitCode")
                .and_then(|code| code.parse().ok());
        }
        Ok(())
    });
    code
}

/// Tells that something happened to a container, below `$BRYO_STATE`.
pub(super) fn happened(state: &Path, record: &Record, action: &str, more: &[(&str, String)]) {
    if record.afterwards == Afterwards::Commit {
        return;
    }
    let mut event = Event::now(Kind::Container, action, &record.id);
    for (name, value) in &record.settings.labels {
        event = event.with(name, value);
    }
    event = event.with("image", &record.image_name).with("name", &record.name);
    for (name, value) in more {
        event = event.with(*name, value);
    }
    tell(state, &event);
}
