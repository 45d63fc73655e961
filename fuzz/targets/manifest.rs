//! Bytes as a manifest and as its config: refused, or every number and digest in them is within its limits.
#![no_main]

use bryo::images::manifest::{Document, MAX_CONFIG, MAX_LAYERS, Platform, choose};
use libfuzzer_sys::fuzz_target;

/// Between the manifest and the config.
const BORDER: u8 = 0;

fuzz_target!(|bytes: &[u8]| {
    let (manifest, config) = match bytes.iter().position(|byte| *byte == BORDER) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, bytes),
    };
    match Document::parse(manifest) {
        Ok(Document::Index(entries)) => {
            // A choice, or a message that says what there is; neither panics.
            drop(choose(&entries, &Platform::host()).map_err(|error| error.to_string()));
        }
        Ok(Document::Manifest(manifest)) => {
            assert!(manifest.layers.len() <= MAX_LAYERS && manifest.config.size <= MAX_CONFIG);
            if let Ok((_, layers)) = manifest.read_config(config) {
                assert_eq!(layers.len(), manifest.layers.len());
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.len() < 100)
        && let Ok(platform) = text.parse::<Platform>()
    {
        assert!(platform.accepts(&platform));
        assert_eq!(platform.to_string().parse().as_ref(), Ok(&platform));
    }
});
