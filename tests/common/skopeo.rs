//! Calls to skopeo that know no logins.

use std::ffi::OsStr;
use std::process::Command;

use super::Done;

/// Runs skopeo to its end. Its logins are an empty file of its own: without `XDG_RUNTIME_DIR` it would read
/// `/run/containers/UID`, which may be root's.
pub fn skopeo<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Done {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let logins = dir.path().join("auth.json");
    std::fs::write(&logins, "{}").expect("an empty list of logins");
    Done::of(
        Command::new("skopeo")
            .args(args)
            .env("REGISTRY_AUTH_FILE", &logins),
    )
}
