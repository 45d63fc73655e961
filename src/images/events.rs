//! What is told of images: Docker's events.

use super::names::Record;
use super::reference::Reference;
use crate::store::events::{Event, Kind};
use crate::store::{Digest, Store};

/// Tells that something happened to an image under a name.
pub(crate) fn happened(store: &Store, action: &str, id: &Digest, name: &str) {
    let name = Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar());
    store.tell(&Event::now(Kind::Image, action, id.to_string()).with("name", name));
}

/// Tells that an image is gone, and its names before it.
pub(super) fn deleted(store: &Store, image: &Record) {
    for name in image.names.iter().chain(&image.digests) {
        happened(store, "untag", &image.id, name);
    }
    happened(store, "delete", &image.id, &image.id.to_string());
}
