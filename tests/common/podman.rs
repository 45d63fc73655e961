//! Debian's podman, to compare with.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bryo, Done};

/// podman with storage of its own, gone with this value.
pub struct Podman {
    dir: PathBuf,
    /// How it keeps images; what it would choose by itself copies every layer below the next.
    driver: &'static [&'static str],
}

impl Podman {
    /// Beside the store of a test's.
    pub fn beside(bryo: &Bryo) -> Podman {
        Podman::with(bryo, &[])
    }

    /// For large images: on the kernel's overlayfs.
    pub fn on_overlay(bryo: &Bryo) -> Podman {
        Podman::with(bryo, &["--storage-driver", "overlay"])
    }

    fn with(bryo: &Bryo, driver: &'static [&'static str]) -> Podman {
        let dir = bryo.dir().with_extension("podman");
        let podman = Podman { dir, driver };
        fs::create_dir_all(&podman.dir).unwrap();
        fs::create_dir_all(podman.runtime()).unwrap();
        podman
    }

    /// A command of its, not yet started.
    pub fn command(&self) -> Command {
        let mut command = Command::new("podman");
        // Without systemd there is no journal to keep them.
        command.args(["--events-backend", "file"]).args(self.driver);
        command.arg("--root").arg(self.dir.join("root"));
        command.arg("--runroot").arg(self.dir.join("run"));
        // Else they are the user's, and seen by all tests.
        command.arg("--network-config-dir").arg(self.dir.join("networks"));
        command.env("XDG_RUNTIME_DIR", self.runtime());
        command.stdin(Stdio::null());
        command
    }

    /// Pulls an image from a registry that speaks HTTP.
    #[track_caller]
    pub fn pull(&self, image: &str) {
        let done = Done::of(self.command().args(["pull", "-q", "--tls-verify=false", image]));
        assert!(done.status.success(), "{done}");
    }

    /// The command that runs an image, by these further words, on the host's network. No cgroups: nobody gave it one.
    pub fn run(&self, words: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["run", "--rm", "--cgroups", "disabled", "--network", "host"]);
        command.args(words);
        command
    }

    fn runtime(&self) -> PathBuf {
        self.dir.with_extension("xdg")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(self.command().args(["rm", "-af", "-t", "0"]).output());
        // What it holds belongs to other ids; what podman makes anew at its end does not.
        drop(
            self.command()
                .args(["unshare", "rm", "-rf"])
                .arg(&self.dir)
                .output(),
        );
        drop(fs::remove_dir_all(&self.dir));
        // It leaves a process that holds its user namespace.
        let pause = fs::read_to_string(self.runtime().join("libpod/tmp/pause.pid"));
        if let Some(pid) = pause.ok().and_then(|text| text.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        drop(fs::remove_dir_all(self.runtime()));
    }
}
