//! Debian's podman, to compare with.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Bryo;

/// podman with storage of its own.
pub struct Podman<'a>(pub &'a Bryo);

impl Podman<'_> {
    fn at(&self, name: &str) -> PathBuf {
        let path = self.0.scratch(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A command of its, not yet started.
    pub fn command(&self) -> Command {
        let mut podman = Command::new("podman");
        podman
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.at("podman"))
            .arg("--runroot")
            .arg(self.at("podman-run"))
            .env("XDG_RUNTIME_DIR", self.at("podman-xdg"))
            .stdin(Stdio::null());
        podman
    }
}

/// It leaves a process that holds its user namespace.
impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let pause = self.at("podman-xdg").join("libpod/tmp/pause.pid");
        if let Some(pid) = fs::read_to_string(pause)
            .ok()
            .and_then(|text| text.trim().parse().ok())
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
