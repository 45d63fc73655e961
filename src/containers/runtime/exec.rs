//! How does init become the command, or stay beside it as `--init` wants?

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, execve, getpid, setpgid, tcsetpgrp};
use rustix::process::{WaitOptions, wait};

use super::channel::{Cause, Failure};
use super::step::Command;
use crate::containers::process::exit_code;
use crate::sys;

/// The search path of a container whose environment names none.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A file, whatever its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file that this process executes.
    pub(super) fn of_this_program() -> std::io::Result<Identity> {
        Ok(Identity::of(&fs::metadata("/proc/self/exe")?))
    }

    fn of(metadata: &fs::Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Executes the command; returns only why it could not. `own` is what must not be executed inside: /proc/self/exe as the
/// command, or as a script's interpreter, is this program, which would show its file to the container (CVE-2019-5736).
pub(super) fn execute(command: &Command, own: Identity) -> Failure {
    let Some(name) = command.arguments.first() else {
        return Failure::new("start", "no command was given");
    };
    if name.as_bytes().contains(&b'/') {
        let error = try_execute(name, command, own);
        return failure(name, error);
    }
    let mut refusal = Errno::ENOENT;
    for candidate in candidates(name, &command.environment) {
        match try_execute(&candidate, command, own) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // As execvp(3): a file that may not be executed does not end the search.
            Errno::EACCES => refusal = Errno::EACCES,
            error => return failure(&candidate, error),
        }
    }
    failure(name, refusal)
}

fn try_execute(path: &CStr, command: &Command, own: Identity) -> Errno {
    if leads_to(own, Path::new(OsStr::from_bytes(path.to_bytes())), 0) {
        return Errno::EACCES;
    }
    match execve(path, &command.arguments, &command.environment) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// Whether executing `path` would execute `own`, itself or as interpreter. What cannot be opened or read is for execve
/// to judge: without a readable script a container's user other than root could not write our file either.
fn leads_to(own: Identity, path: &Path, depth: usize) -> bool {
    /// As deep as the kernel follows interpreters (execve(2)).
    const DEEPEST: usize = 5;
    let mut start = [0; 256];
    let Ok(metadata) = fs::metadata(path) else {
        return false;
    };
    if Identity::of(&metadata) == own {
        return true;
    }
    if depth >= DEEPEST || !metadata.is_file() {
        return false;
    }
    // Not waiting, should it have become a fifo meanwhile.
    let open = fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let Ok(length) = open.and_then(|mut file| file.read(&mut start)) else {
        return false;
    };
    interpreter(start.get(..length).unwrap_or_default())
        .is_some_and(|interpreter| leads_to(own, Path::new(OsStr::from_bytes(interpreter)), depth + 1))
}

/// What the first line of a script names.
fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    line.split(|byte| matches!(byte, b' ' | b'\t' | 0))
        .find(|word| !word.is_empty())
}

fn candidates(name: &CStr, environment: &[CString]) -> Vec<CString> {
    let path = environment
        .iter()
        .rev()
        .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
    let directories = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
    let candidate = |directory: &[u8]| {
        let directory = if directory.is_empty() { b"." } else { directory };
        CString::new([directory, b"/", name.to_bytes()].concat()).ok()
    };
    directories.filter_map(candidate).collect()
}

/// Docker's exit codes: 127 for what is not there, 126 for what cannot be executed.
fn failure(path: &CStr, error: Errno) -> Failure {
    let name = path.to_string_lossy();
    let (cause, why) = match error {
        Errno::ENOENT if name.contains('/') => {
            (Cause::NotFound, "no such file or directory in the container")
        }
        Errno::ENOENT => (
            Cause::NotFound,
            "executable file not found in $PATH of the container",
        ),
        Errno::ENOTDIR => (Cause::NotFound, error.desc()),
        _ => (Cause::NotExecutable, error.desc()),
    };
    Failure {
        cause,
        text: format!("exec {name}: {why}"),
    }
}

/// Runs the command as a child of pid 1, which passes it every signal and reaps what is left to it; ends as it ends.
///
/// Pid 1 is then this program, not the container's. It is not dumpable and its memory belongs to the host's user
/// namespace, so /proc/1/exe, /proc/1/fd and the like are closed to the container, root included (ptrace(2)).
pub(super) fn reap_around(command: impl FnOnce() -> Failure, report: impl FnOnce(Failure)) -> Failure {
    if let Err(error) = SigSet::all().thread_block() {
        return Failure::new("block signals", error.desc());
    }
    // Where another's pid namespace is its own, it is not pid 1, to whom the kernel gives what is left over. No kernel refuses.
    if getpid().as_raw() != 1 {
        let _ = prctl::set_child_subreaper(true);
    }
    let child = sys::fork_again(|| {
        // A group of its own, in the foreground of the terminal if there is one: keys reach the command once.
        let group = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        if let Err(error) = group {
            report(Failure::new("make a process group", error.desc()));
            return 125;
        }
        // ENOTTY is the ordinary case; without the foreground a shell says so itself.
        let _ = tcsetpgrp(std::io::stdin(), getpid());
        sys::default_signals();
        report(command());
        125
    });
    match child {
        Ok(child) => sys::exit(serve(child)),
        Err(error) => Failure::new("fork the command", error),
    }
}

fn serve(child: Pid) -> u8 {
    // The channel among them: the command's exec is what the supervisor waits for.
    if sys::close_all_from(3).is_err() {
        return 125;
    }
    loop {
        match sys::signal::next(&SigSet::all()) {
            Ok(libc::SIGCHLD) => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            // The command may be gone already, which SIGCHLD is about to say.
            Ok(signal) => drop(sys::signal::send_to_child(child, signal)),
            Err(_) => {}
        }
    }
}

/// Reaps all that ended; the command's exit code if it is among them.
fn reap(child: Pid) -> Option<u8> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended.as_raw_pid() == child.as_raw() => {
                if let Some(code) = exit_code(status) {
                    return Some((code & 0xff) as u8);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &[&CStr]) -> Vec<CString> {
        let environment: Vec<CString> = environment
            .iter()
            .map(|variable| (*variable).to_owned())
            .collect();
        candidates(c"sh", &environment)
    }

    #[test]
    fn the_containers_path_is_searched_in_order() {
        assert_eq!(
            found(&[c"A=1", c"PATH=/bin::/x"]),
            [c"/bin/sh".to_owned(), c"./sh".to_owned(), c"/x/sh".to_owned()]
        );
        assert!(found(&[]).contains(&c"/usr/bin/sh".to_owned()));
    }

    #[test]
    fn a_scripts_interpreter_is_its_first_word() {
        assert_eq!(
            interpreter(b"#! /proc/self/exe -x\nrest"),
            Some(&b"/proc/self/exe"[..])
        );
        assert_eq!(interpreter(b"\x7fELF"), None);
        assert_eq!(interpreter(b"#!\n/bin/sh"), None);
    }

    #[test]
    fn exit_codes_are_dockers() {
        assert_eq!(failure(c"sh", Errno::ENOENT).cause, Cause::NotFound);
        assert_eq!(failure(c"/etc", Errno::EACCES).cause, Cause::NotExecutable);
        assert_eq!(failure(c"/x", Errno::ENOEXEC).cause, Cause::NotExecutable);
    }
}
