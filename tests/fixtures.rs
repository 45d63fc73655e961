//! Do the fixtures themselves work? Without them every other test says nothing.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Bryo, Mode, Registry};

fn get(registry: &Registry, path: &str) -> String {
    let mut stream = TcpStream::connect(registry.address()).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_shared_registry_serves_what_images_sh_made() {
    let registry = Registry::shared();
    for name in [
        "busybox",
        "configured",
        "debian",
        "library/golang",
        "library/nginx",
        "odd",
        "platforms",
        "software",
        "workloads",
    ] {
        let tags = get(&registry, &format!("/v2/{name}/tags/list"));
        assert!(tags.contains("200 OK"), "{name}: {tags}");
    }
}

#[test]
fn a_registry_ends_with_its_guard() {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::serve(storage.path(), Mode::Writable);
    let address = registry.address().to_owned();
    assert!(get(&registry, "/v2/").contains("200 OK"));
    drop(registry);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_binary_runs() {
    let version = Bryo::new().ok(["--version"]);
    assert_eq!(version.trim(), format!("bryo {}", env!("CARGO_PKG_VERSION")));
}
