//! A docker-registry on a free loopback port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running registry; ends with this value, and with the thread that started it.
pub struct Registry {
    process: Child,
    address: String,
    _dir: TempDir,
    /// Where it keeps what it is sent, if that is its own.
    _storage: Option<TempDir>,
}

/// Whether a registry takes pushes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    ReadOnly,
    Writable,
}

impl Registry {
    /// Serves the images that `scripts/images.sh` made; they cannot be changed.
    pub fn shared() -> Registry {
        Registry::serve(&super::images().join("registry"), Mode::ReadOnly)
    }

    /// One that takes pushes, and begins with the images of [`Registry::shared`]: their blobs are links.
    pub fn above_shared() -> Registry {
        let storage = tempfile::tempdir().expect("a temporary directory");
        let version = "docker/registry/v2";
        let (from, to) = (
            super::images().join("registry").join(version),
            storage.path().join(version),
        );
        std::fs::create_dir_all(&to).expect("the registry's directories");
        for (how, part) in [("-rs", "blobs"), ("-r", "repositories")] {
            let status = Command::new("cp").arg(how).arg(from.join(part)).arg(&to).status();
            assert!(status.expect("cp").success());
        }
        let mut registry = Registry::serve(storage.path(), Mode::Writable);
        registry._storage = Some(storage);
        registry
    }

    /// Serves a registry's storage directory.
    pub fn serve(storage: &Path, mode: Mode) -> Registry {
        Registry::serve_at("127.0.0.1:0", "", storage, mode)
    }

    /// The same at an address of its own; `tls` is what the config's `http` says of it.
    pub fn serve_at(address: &str, tls: &str, storage: &Path, mode: Mode) -> Registry {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nhttp: {{addr: '{address}'{tls}}}\n\
             storage:\n  filesystem: {{rootdirectory: '{}'}}\n  delete: {{enabled: true}}\n  \
             maintenance: {{uploadpurging: {{enabled: false}}, readonly: {{enabled: {}}}}}\n",
            storage.display(),
            mode == Mode::ReadOnly,
        );
        std::fs::write(&config, text).expect("the registry's config");
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv and docker-registry are installed");
        let mut log = BufReader::new(process.stderr.take().expect("its log"));
        let mut seen = String::new();
        let address = loop {
            let before = seen.len();
            let read = log.read_line(&mut seen).expect("the registry's log");
            assert!(read > 0, "docker-registry ended:\n{seen}");
            if let Some((_, rest)) = seen[before..].split_once("listening on ") {
                break rest.split(['"', ',']).next().unwrap_or_default().to_owned();
            }
        };
        // Its log must be read on, or a full pipe stops it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Registry {
            process,
            address,
            _dir: dir,
            _storage: None,
        }
    }

    /// `127.0.0.1:port`, or the one asked for.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The full name of one of its images: `busybox`, `busybox:oci`, `busybox:zstd`, `debian:12`, `software`,
    /// `workloads`, `odd`, `odd:oci`, `odd:zstd`, `configured`, `platforms`, `library/golang:1.18`, `library/nginx`.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; the test has noticed by then.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
