//! Is everything as it was stored? Each finding is a line; with any the exit code is 1.

use std::error::Error;
use std::path::Path;

use fuse_overlay::index::DiffId;
use fuse_overlay::layer;
use fuse_overlay::stack;
use fuse_overlay::union::LayerBytes;

use super::{Options, diff};

pub(super) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let found = match options.indexes() {
        Some(indexes) => findings(options, &indexes),
        // A place that nobody else can have prepared: an index that is kept is believed.
        None => findings(options, tempfile::tempdir()?.path()),
    };
    match found? {
        0 => Ok(()),
        1 => Err("1 finding".into()),
        found => Err(format!("{found} findings").into()),
    }
}

fn findings(options: &Options, indexes: &Path) -> Result<usize, Box<dyn Error>> {
    let lower = stack::open(&options.layers, indexes)?;
    let mut found = 0;
    let mut tell = |path: &Path, what: &dyn std::fmt::Display| {
        println!("{}: {what}", path.display());
        found += 1;
    };
    for (layer, path) in lower.layers.iter().zip(&options.layers) {
        if let Err(error) = layer.index.check() {
            tell(path, &error);
        }
        match &layer.bytes {
            LayerBytes::Tar(tar) => {
                if let Err(error) = layer::verify(tar, DiffId(layer.index.source()), Some(&layer.index)) {
                    tell(path, &error);
                }
            }
            LayerBytes::Directory(directory) => {
                for changed in directory.changed() {
                    tell(&path.join(changed), &"it changed while it was read");
                }
            }
        }
    }
    if let Err(error) = lower.view.check() {
        tell(Path::new("the layers together"), &error);
    }
    if let Some(upper) = options.upper.as_ref()
        && let Err(error) = diff::open(options)
    {
        tell(upper, &error);
    }
    Ok(found)
}
