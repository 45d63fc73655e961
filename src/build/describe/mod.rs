//! What can be built of a Dockerfile (`--call=targets`), and what can be given to a target (`--call=outline`)? In the shape
//! of BuildKit's answers (`frontend/subrequests`): the fields' names are theirs.

mod outline;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

pub use outline::{Argument, Outline, Wanted, outline};

use super::Error;
use super::dockerfile::Place;
use super::order::Order;

/// Lines of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Location {
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Range {
    start: Line,
    end: Line,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    line: u32,
}

impl From<Place> for Location {
    /// A range a line, as BuildKit has it.
    fn from(place: Place) -> Location {
        let range = |line| Range {
            start: Line { line },
            end: Line { line },
        };
        Location {
            ranges: (place.first..=place.last).map(range).collect(),
        }
    }
}

/// A text as Go's JSON has bytes.
pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The stages of a Dockerfile.
#[derive(Debug, Serialize)]
pub struct Targets {
    /// In their order.
    pub targets: Vec<Target>,
    sources: Vec<String>,
}

/// A stage that can be built.
#[derive(Debug, Serialize)]
pub struct Target {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is built if nobody says otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What a comment says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    location: Location,
}

/// Lists the stages.
///
/// # Errors
/// The Dockerfile is none.
pub fn targets(order: &Order) -> Result<Targets, Error> {
    let file = order.parsed()?;
    let last = file.stages.len().saturating_sub(1);
    let stages = file.stages.into_iter().enumerate();
    Ok(Targets {
        targets: stages
            .map(|(number, stage)| Target {
                name: stage.from.name,
                default: number == last,
                description: stage.from.description,
                base: stage.from.image,
                platform: stage.from.platform,
                location: stage.from.place.into(),
            })
            .collect(),
        sources: vec![base64(&order.dockerfile)],
    })
}
