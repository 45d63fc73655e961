//! Text as an image's name: refused, or it survives both of its spellings and stays within what paths may be made of.
#![no_main]

use bryo::images::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(name) = Reference::parse(text) else { return };
    assert_eq!(Reference::parse(&name.to_string()).as_ref(), Ok(&name));
    assert_eq!(Reference::parse(&name.familiar()).as_ref(), Ok(&name));
    let latest = name.clone().or_latest();
    assert!(latest.tag().is_some() || latest.digest().is_some());
    assert_eq!(Reference::parse(&latest.to_string()).as_ref(), Ok(&latest));
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    assert!(!name.path().split('/').any(bad) && !name.domain().contains('/'));
});
