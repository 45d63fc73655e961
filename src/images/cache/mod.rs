//! How do the steps of a build travel to other stores? As a document that tells key and stack of each, with the steps' own
//! layers beside it (`ARCHITECTURE.md`, "Caches that travel").

mod export;
mod import;
mod layout;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::PathBuf;

use fuse_overlay::index::DiffId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::manifest::MAX_LAYERS;
use super::reference::Reference;
use super::steps::Step;
use crate::store::Digest;

pub use export::{ExportError, Exported, export};
pub use import::{Import, ImportError};

/// The media type of the document where it is a manifest's config.
const CONFIG: &str = "application/vnd.bryo.cache.config.v1+json";
/// The field of an image's config that holds the document, inline.
pub const INLINE: &str = "bryo.cache.v1";
const VERSION: u32 = 1;

/// Where a cache lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Under a name in a registry: a cache, or an image with one inline.
    Registry(Reference),
    /// In an OCI image layout, under a tag.
    Directory {
        /// The layout.
        path: PathBuf,
        /// The tag.
        tag: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Registry(name) => write!(f, "{name}"),
            Place::Directory { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// Steps as they travel.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    /// Diff ids, lowest first. None: the image's own are the only stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stacks: Option<Vec<Vec<Digest>>>,
    steps: Vec<Record>,
    /// Of the layers that the manifest names, in its order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Digest,
    /// Which stack it is part of.
    #[serde(default)]
    stack: usize,
    /// How many of its layers the step's have.
    depth: usize,
    created: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    linked: bool,
    // Not the instruction: it tells build arguments, those of stages too that no image has the history of.
}

impl Document {
    /// Of these steps, in whatever order they come. Each stack is told once, the lower ones as parts of the higher.
    fn of(steps: &[Step]) -> Document {
        let mut stacks: Vec<&[Digest]> = Vec::new();
        let mut highest: Vec<&Step> = steps.iter().collect();
        highest.sort_by_key(|step| (Reverse(step.layers.len()), &step.layers));
        for step in highest {
            if !stacks.iter().any(|stack| stack.starts_with(&step.layers)) {
                stacks.push(&step.layers);
            }
        }
        let record = |step: &Step| Record {
            key: step.key(),
            stack: stacks
                .iter()
                .position(|stack| stack.starts_with(&step.layers))
                .unwrap_or(0),
            depth: step.layers.len(),
            created: step.created.clone(),
            linked: step.is_linked(),
        };
        let mut records: Vec<Record> = steps.iter().map(record).collect();
        records.sort_by_key(|record| (record.stack, record.depth, record.key));
        records.dedup_by_key(|record| record.key);
        Document {
            version: VERSION,
            steps: records,
            stacks: Some(stacks.iter().map(|stack| stack.to_vec()).collect()),
            diff_ids: None,
        }
    }

    /// The steps, by key, without their texts. What is not whole is left out.
    fn steps(&self, of_image: &[Digest]) -> HashMap<Digest, Step> {
        let own = [of_image.to_vec()];
        let stacks = self.stacks.as_deref().unwrap_or(&own);
        let step = |record: &Record| {
            let stack = stacks.get(record.stack)?.get(..record.depth)?;
            let whole = !stack.is_empty() && stack.len() <= MAX_LAYERS;
            // It goes into configs, which others read.
            let is_time = record.created.parse::<jiff::Timestamp>().is_ok();
            let layers: Vec<DiffId> = stack.iter().copied().map(DiffId::from).collect();
            (whole && is_time)
                .then(|| Step::new(record.key, &layers, &record.created, ""))
                .map(|step| if record.linked { step.linked() } else { step })
                .map(|step| (record.key, step))
        };
        self.steps.iter().filter_map(step).collect()
    }
}

/// What an image's config says of the steps that made its layers; those among `steps` that did.
pub fn inline(steps: &[Step], layers: &[DiffId]) -> serde_json::Value {
    let own = of_target(steps, layers);
    json!({ "version": VERSION, "steps": Document::of(&own).steps })
}

/// The steps that made a stack's layers.
pub fn of_target(steps: &[Step], layers: &[DiffId]) -> Vec<Step> {
    let own = steps.iter().filter(|step| layers.starts_with(&step.stack()));
    own.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(key: u8, layers: &[u8]) -> Step {
        let layers: Vec<DiffId> = layers.iter().map(|byte| DiffId([*byte; 32])).collect();
        Step::new(Digest([key; 32]), &layers, "2024-01-01T00:00:00Z", "RUN x")
    }

    #[test]
    fn what_travels_arrives() {
        let steps = [
            step(1, &[9, 1]),
            step(2, &[9, 1, 2]),
            step(3, &[9, 3]),
            step(4, &[9, 1, 2, 4]),
        ];
        let document = Document::of(&steps);
        assert_eq!(document.stacks.as_ref().unwrap().len(), 2);
        let text = serde_json::to_vec(&document).unwrap();
        let read: Document = serde_json::from_slice(&text).unwrap();
        let found = read.steps(&[]);
        for step in &steps {
            assert_eq!(found[&step.key()].layers, step.layers);
        }
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn inline_tells_what_made_the_image_alone() {
        let steps = [step(1, &[9, 1]), step(3, &[9, 3]), step(2, &[9, 1, 2])];
        let layers = [9, 1, 2].map(|byte| DiffId([byte; 32]));
        let value = inline(&steps, &layers);
        let read: Document = serde_json::from_value(value).unwrap();
        let found = read.steps(&layers.map(|layer| Digest(layer.0)));
        assert_eq!(found.len(), 2);
        assert_eq!(found[&Digest([2; 32])].layers, steps[2].layers);
    }

    #[test]
    fn what_is_not_whole_is_left_out() {
        let mut document = Document::of(&[
            step(1, &[9, 1]),
            step(2, &[9, 2]),
            step(3, &[9, 3]),
            step(4, &[9, 4]),
        ]);
        document.steps[0].stack = 7;
        document.steps[1].depth = 3;
        document.steps[2].created = "\u{1b}[2J".into();
        document.steps[3].depth = 0;
        assert!(document.steps(&[]).is_empty());
    }
}
