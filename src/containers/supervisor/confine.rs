//! What may a filesystem server do? Use what it has open, and start threads: all that a hostile image or container could
//! make of a fault in it is what they hold anyway. `server.json` is the list of its system calls, in Docker's form, compiled
//! by `build.rs`: none opens, names, makes or runs anything (but unnamed memory that is never executable); stat only of
//! what is open (AT_EMPTY_PATH); seccomp only takes more away; the one ioctl is FUSE_DEV_IOC_CLONE, the one prctl PR_SET_NAME; clone makes threads.
//! Landlock says again, by object, that no file is opened and no port used; only beneath the directories of `--rootfs` may files
//! be read. What is not listed is EPERM.
//!
//! A network process (`network.json`) may use what it has open, and sockets of IP: streams and datagrams, none raw. Neither may
//! have the kernel send signals for it (fcntl's F_SETOWN), nor set limits of another process.

use std::os::fd::OwnedFd;
use std::path::Path;

use caps::CapSet;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
};

use crate::sys;

/// The programs of `server.json`, oldest first.
const FILTERS: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/server.rs"));
/// The same for a server that opens files beneath directories: with openat2, whose flags no filter can see.
const OPENING: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/opening-server.rs"));

/// The programs of `network.json`.
const NETWORK: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/network.rs"));

/// Why a server is not confined.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the directories below: {0}")]
    Directories(#[from] std::io::Error),
    #[error("landlock: {0}")]
    Landlock(#[from] RulesetError),
    #[error("capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("no_new_privs: {0}")]
    Privileges(#[source] nix::errno::Errno),
    #[error("seccomp: {0}")]
    Seccomp(#[source] std::io::Error),
}

/// Confines the calling thread and those that it will start, for good. Files beneath `directories` may be opened, to be
/// read.
///
/// # Errors
/// Says what the kernel lacks. A kernel without Landlock (5.13), or with an older one, is no error.
pub(super) fn server(directories: &[OwnedFd]) -> Result<(), Error> {
    nix::sys::prctl::set_no_new_privs().map_err(Error::Privileges)?;
    only_beneath(directories)?;
    install(if directories.is_empty() { FILTERS } else { OPENING })
}

/// Where programs, what they load, and the system's settings lie.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/opt",
    "/nix",
    "/run/systemd/resolve",
];

/// Confines a program that is about to be executed to the system's files, its own, and the device that it is to make; in the
/// working directory it may make a socket.
///
/// # Errors
/// As for [`server`].
pub(super) fn program(program: &Path) -> Result<(), Error> {
    let beside = program.parent().unwrap_or(Path::new("/"));
    let libraries = beside.with_file_name("lib");
    let read = [beside, &libraries].into_iter().chain(SYSTEM.map(Path::new));
    let (abi, device) = (ABI::V3, AccessFs::ReadFile | AccessFs::WriteFile);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        // Those that are not there are passed over.
        .add_rules(path_beneath_rules(read, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(["/dev/net/tun", "/dev/null"], device))?
        .add_rules(path_beneath_rules(["/dev/urandom"], AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(["."], AccessFs::MakeSock))?
        .restrict_self()?;
    Ok(())
}

/// Confines a network process, as [`server`] does: no file is opened, there are no sockets but IP's, and no capabilities, of
/// which it has some if root started it.
///
/// # Errors
/// As for [`server`].
pub(super) fn network() -> Result<(), Error> {
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(Error::Privileges)?;
    let files = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?;
    files.create()?.restrict_self()?;
    install(NETWORK)
}

fn install(filters: &[&[u8]]) -> Result<(), Error> {
    filters
        .iter()
        .try_for_each(|program| sys::install_seccomp(program))
        .map_err(Error::Seccomp)
}

/// No other file is opened by name any more, and no TCP port used, as far as this kernel's Landlock goes.
fn only_beneath(directories: &[OwnedFd]) -> Result<(), RulesetError> {
    let abi = ABI::V5;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        // Signals are not shut in: it is the server that ends the container when the supervisor is gone.
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    for directory in directories {
        ruleset = ruleset.add_rule(PathBeneath::new(directory, AccessFs::ReadFile))?;
    }
    ruleset.restrict_self()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read as _};
    use std::os::unix::fs::FileExt as _;

    use nix::errno::Errno;

    use super::*;

    /// Both belong to threads: what is tried is tried in one of its own.
    fn confined<T: Send>(confine: fn(), trial: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                confine();
                trial()
            });
            thread.join().unwrap()
        })
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        matches!(result, Err(error) if error.kind() == ErrorKind::PermissionDenied)
    }

    /// Flags and copies of descriptors are free; all else, F_SETOWN and F_SETSIG among it, is not.
    fn only_harmless_fcntl(pipe: &std::io::PipeReader) {
        use nix::fcntl::{FcntlArg, fcntl};

        assert!(fcntl(pipe, FcntlArg::F_GETFL).is_ok(), "flags");
        pipe.try_clone().unwrap();
        let size = fcntl(pipe, FcntlArg::F_GETPIPE_SZ);
        assert_eq!(size.err(), Some(Errno::EPERM), "other commands");
    }

    #[test]
    fn a_server_opens_names_and_runs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        std::fs::write(dir.path().join("file"), "text").unwrap();
        confined(
            || server(&[]).unwrap(),
            || {
                let file = dir.path().join("file");
                assert!(refused(File::open(&file)), "open");
                assert!(refused(File::create(dir.path().join("new"))), "create");
                assert!(refused(std::fs::metadata(&file)), "stat by name");
                assert!(refused(std::fs::remove_file(&file)), "unlink");
                assert!(refused(std::net::TcpListener::bind("127.0.0.1:0")), "socket");
                only_harmless_fcntl(&pipe);
                assert!(refused(std::process::Command::new("/bin/true").spawn()), "exec");
                let parent = nix::unistd::Pid::parent();
                assert!(nix::sys::signal::kill(parent, None).is_err(), "signals");
                assert!(nix::sys::ptrace::attach(parent).is_err(), "ptrace");
            },
        );
        assert_eq!(std::fs::read_to_string(dir.path().join("file")).unwrap(), "text");
    }

    #[test]
    fn a_network_process_has_sockets_of_ip_and_no_files() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        confined(
            || network().unwrap(),
            || {
                assert!(refused(File::open("/etc/passwd")), "open");
                assert!(refused(File::create(dir.path().join("new"))), "create");
                assert!(refused(std::process::Command::new("/bin/true").spawn()), "exec");
                let of = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
                assert_eq!(of(AddressFamily::Unix).err(), Some(Errno::EPERM));
                assert!(of(AddressFamily::Inet).is_ok() && of(AddressFamily::Inet6).is_ok());
                for kind in [SockType::SeqPacket, SockType::Rdm] {
                    let made = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None);
                    assert_eq!(made.err(), Some(Errno::EPERM), "{kind:?}");
                }
                only_harmless_fcntl(&pipe);
                let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
                let of = |pid| rustix::process::prlimit(pid, rustix::process::Resource::Core, limit);
                assert!(of(None).is_ok(), "limits of its own");
                let by_number = of(Some(rustix::process::getpid()));
                assert_eq!(by_number.err(), Some(rustix::io::Errno::PERM), "limits by pid");
                std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                listener.accept().unwrap();
            },
        );
    }

    #[test]
    fn beneath_a_directory_files_are_read_and_nothing_else() {
        use nix::fcntl::{OFlag, OpenHow, openat2};

        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("root/file"), "text").unwrap();
        std::fs::write(dir.path().join("beside"), "text").unwrap();
        let root = OwnedFd::from(File::open(dir.path().join("root")).unwrap());
        let again = root.try_clone().unwrap();
        let open = move |path: &str, flags| {
            openat2(&again, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC)).map(File::from)
        };
        let trial = move || {
            let mut text = String::new();
            open("file", OFlag::O_RDONLY)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "text");
            for (path, flags) in [
                ("file", OFlag::O_RDWR),
                ("file", OFlag::O_TRUNC),
                ("../beside", OFlag::O_RDONLY),
                ("/etc/passwd", OFlag::O_RDONLY),
            ] {
                assert_eq!(open(path, flags).err(), Some(nix::errno::Errno::EACCES), "{path}");
            }
        };
        std::thread::spawn(move || {
            server(&[root]).unwrap();
            trial();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn landlock_alone_opens_nothing_either() {
        let dir = tempfile::tempdir().unwrap();
        confined(
            || {
                nix::sys::prctl::set_no_new_privs().unwrap();
                only_beneath(&[]).unwrap();
            },
            || {
                assert!(refused(File::open("/etc/passwd")));
                assert!(refused(File::create(dir.path().join("new"))));
            },
        );
    }

    #[test]
    fn what_is_open_is_used_and_threads_start() {
        let mut file = tempfile::tempfile().unwrap();
        confined(
            || server(&[]).unwrap(),
            move || {
                file.write_all_at(b"some bytes", 4096).unwrap();
                file.sync_data().unwrap();
                assert_eq!(file.metadata().unwrap().len(), 4106);
                file.set_len(4100).unwrap();
                let read = std::thread::spawn(move || {
                    let mut all = Vec::new();
                    file.read_to_end(&mut all).map(|_| all.len())
                });
                assert_eq!(read.join().unwrap().unwrap(), 4100);
                // From the kernel, large, and given back.
                drop(vec![1_u8; 64 << 20]);
            },
        );
    }
}
