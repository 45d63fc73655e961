//! Bytes as a build's context on standard input, compressed or not: refused in one line, or its files can be read, each with
//! no more bytes than asked for, and its Dockerfile and `.dockerignore` parsed.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use bryo::build::dockerfile::parse;
use bryo::build::patterns::ignore::Ignore;
use bryo::build::{Context, begins_archive};
use bryo::store::Store;
use libfuzzer_sys::fuzz_target;

/// What is unpacked of more than this is no find, but a full disk.
const MOST: usize = 1 << 16;

/// One store for all: what a context leaves in it, it takes away when it goes.
fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| {
        let own = || std::env::temp_dir().join(format!("bryo-fuzz-{}", std::process::id()));
        // Who says where it lies removes it.
        let top = std::env::var_os("BRYO_FUZZ_STORE").map_or_else(own, PathBuf::from);
        let store = Store::at(top.join("root"), top.join("state"), top.join("run"));
        store.prepare().expect("a store");
        store
    })
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > MOST || !begins_archive(bytes.get(..512).unwrap_or(bytes)) {
        return;
    }
    let context = match Context::unpack(store(), Box::new(std::io::Cursor::new(bytes.to_vec())), "the context") {
        Ok(context) => context,
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            return;
        }
    };
    for name in ["Dockerfile", ".dockerignore", "a", "a/b", "../x", "/"] {
        let Ok(Some(content)) = context.read(name, 1000) else { continue };
        assert!(content.len() <= 1000);
        if let ("Dockerfile", Ok(text)) = (name, std::str::from_utf8(&content)) {
            let _ = parse(text);
        }
        if name == ".dockerignore" {
            let _ = Ignore::parse(&content);
        }
    }
});
