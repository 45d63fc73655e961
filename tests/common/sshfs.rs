//! A FUSE filesystem that is served by sshfs, as a poor user's home may be: without extended attributes, hard links, fallocate
//! and shared locks. To be mounted in a mount namespace of the test's own ([`super::sandbox::in_own_namespaces`]).

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::until;

/// The mount, as long as it is not dropped.
pub struct Sshfs {
    at: PathBuf,
    client: Child,
    server: Child,
}

impl Sshfs {
    /// Shows the directory `remote` at `at`, without a network.
    pub fn mount(remote: &Path, at: &Path) -> Sshfs {
        fs::create_dir_all(remote).expect("the remote directory");
        fs::create_dir_all(at).expect("the mount point");
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let start = |mut command: Command, end: UnixStream| {
            let out = OwnedFd::from(end.try_clone().expect("a socket"));
            let started = command.stdin(OwnedFd::from(end)).stdout(out).spawn();
            started.expect("sshfs and openssh-sftp-server")
        };
        let mut client = Command::new("sshfs");
        client.args(["-f", "-o", "passive,disable_hardlink"]);
        client.arg(format!(":{}", remote.display())).arg(at);
        let server = start(Command::new("/usr/lib/openssh/sftp-server"), theirs);
        let client = start(client, ours);
        let device = |path: &Path| fs::metadata(path).expect("a directory").dev();
        until("the mount", || device(at) != device(remote));
        Sshfs {
            at: at.to_owned(),
            client,
            server,
        }
    }

    /// What is asked of it is answered when that is dropped, as by a machine out of reach.
    pub fn hang(&self) -> Hanging {
        let server = Pid::from_raw(i32::try_from(self.server.id()).expect("a pid"));
        kill(server, Signal::SIGSTOP).expect("the server");
        let hanging = Hanging(server);
        let stat = format!("/proc/{}/stat", self.server.id());
        until("its stop", || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
        hanging
    }
}

/// As long as it lives, the server is stopped.
pub struct Hanging(Pid);

impl Drop for Hanging {
    fn drop(&mut self) {
        // It may have ended with its namespace.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Sshfs {
    fn drop(&mut self) {
        // Both end with the mount, which ends with its namespace at the latest.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        for process in [&mut self.client, &mut self.server] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
