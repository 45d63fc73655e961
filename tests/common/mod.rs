//! What every test that drives the real binary needs: a private store, a registry, images made by other tools.
//!
//! The tests are an ordinary user's: `scripts/test.sh` runs them as one with an id range and as one without.
//! The images are made once by `scripts/images.sh`, as root; a test that misses them fails and says so.
// Each test file compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::expect_used)]

mod alive;
mod bryo;
#[path = "../../fuse-overlay/tests/common/chance.rs"]
mod chance;
pub mod hostile;
pub mod network;
mod podman;
mod project;
mod registry;
pub mod repositories;
pub mod sandbox;
mod shape;
mod skopeo;
mod sshfs;

pub use alive::{comm, field, kills, once_free, parent, process, processes, until, until_it_waits};
pub use bryo::{Bryo, Done, has_id_range, lister_directory, on_terminal};
pub use chance::Chance;
pub use podman::Podman;
pub use project::{Built, Project, fed, mode};
pub use registry::{Mode, Registry};
pub use shape::misfits;
pub use skopeo::skopeo;
pub use sshfs::Sshfs;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where `scripts/images.sh` keeps what it made.
pub fn images() -> PathBuf {
    let dir = std::env::var_os("BRYO_TEST_IMAGES").map_or("/var/cache/bryo-tests".into(), PathBuf::from);
    assert!(
        dir.join("registry").is_dir(),
        "no images in {}: run scripts/test.sh, or scripts/images.sh as root",
        dir.display()
    );
    dir
}

/// Copies a program by another process, and says whether it could: were it written here, a child that another test
/// forks meanwhile would hold it open for writing, and nobody could start it (ETXTBSY).
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) -> bool {
    let status = Command::new("cp")
        .args([from.as_ref(), to.as_ref()])
        .stderr(Stdio::null())
        .status();
    status.expect("cp").success()
}
