//! How does a command come into a container that runs (`exec`)?
//!
//! ```text
//! tool ── fork ──► child     joins the container's namespaces, by init's descriptor, and makes the command's process
//!      └────────── process   CLONE_PARENT makes it the tool's own child; it ends where init's way ends, too
//! ```
//! All that is true of init until its exec is true of this process: not dumpable, its memory belongs to the host's user
//! namespace, it executes nothing that is this program, and no descriptor above 2 comes along (CVE-2019-5736,
//! CVE-2024-21626).

use std::io::Read as _;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::{Mode as Umask, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};
use oci_spec::runtime::{Process, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::apply::{Container, connect};
use super::channel::{Channel, Failure, Report};
use super::owners::Station;
use super::plan::{Ids, PlanError, cells, command, confinement, invalid, namespaces};
use super::start::{
    Doors, Init, StartError, Stdio, die_with_parent, hide, leave_open, report, set_oom_score, watch,
};
use super::step::{Command, Step};
use super::{exec, owners};
use crate::containers::cgroup;
use crate::host::{IdMaps, Probe};
use crate::{rooted, sys};

/// A command for a container that runs.
#[derive(Debug)]
pub struct Within {
    namespaces: CloneFlags,
    steps: Vec<Step>,
    command: Command,
    /// Files by which it comes into the container's cgroups.
    cgroups: Vec<PathBuf>,
    /// As init's.
    oom_score: Option<i32>,
    /// It dies with who started it.
    bound: bool,
    /// What it finds open besides its three streams.
    kept: Vec<RawFd>,
}

impl Within {
    /// The same, to die with who starts it.
    pub(in crate::containers) fn bound(self) -> Within {
        let bound = true;
        Within { bound, ..self }
    }

    /// The same in these cgroups.
    pub(in crate::containers) fn in_cgroups(self, cgroups: Vec<PathBuf>) -> Within {
        Within { cgroups, ..self }
    }

    /// The same, with these descriptors of who starts it.
    pub(in crate::containers) fn with(self, kept: Vec<RawFd>) -> Within {
        Within { kept, ..self }
    }
}

/// Plans `process` for the container of `spec`, in which `ids` are in force.
///
/// # Errors
/// As for [`super::plan()`].
pub fn plan_within(spec: &Spec, process: &Process, ids: &IdMaps, host: &Probe) -> Result<Within, PlanError> {
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| invalid("it has no \"linux\" part"))?;
    let (_, namespaces) = namespaces(linux)?;
    let ids = Ids {
        maps: Some(ids),
        host,
    };
    let mut steps = Vec::new();
    if process.terminal().unwrap_or(false) {
        let size = process.console_size();
        steps.push(Step::Terminal {
            size: size.map(|size| (cells(size.height()), cells(size.width()))),
            owner: process.user().uid(),
            console: false,
        });
    }
    confinement(&mut steps, spec, linux, process, &ids)?;
    if let Some(maps) = ids.maps {
        owners::plan(&mut steps, maps);
    }
    let joined = namespaces
        .join
        .iter()
        .fold(namespaces.new, |all, (kind, _)| all | *kind);
    Ok(Within {
        namespaces: joined | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS,
        steps,
        command: command(spec, process)?,
        cgroups: Vec::new(),
        oom_score: spec.process().as_ref().and_then(Process::oom_score_adj),
        bound: false,
        kept: Vec::new(),
    })
}

/// Runs a command in the container of this init. To be called by a process with one thread.
///
/// # Errors
/// Says what failed.
pub fn enter(init: &OwnedFd, within: &Within, stdio: Stdio) -> Result<Init, StartError> {
    let (ours, theirs) = Channel::pair().map_err(|error| Failure::new("make a channel", error.desc()))?;
    let mut parts = Some((ours, stdio));
    let child = sys::fork(|| {
        let Some((ours, stdio)) = parts.take() else {
            return 125;
        };
        drop(ours);
        report(&theirs, run_child(init, within, &stdio, &theirs))
    });
    let child = child.map_err(|error| Failure::new("fork", error))?;
    drop(theirs);
    // With our copies of its ends, pipes would never end.
    let Some((ours, _)) = parts else {
        return Err(Failure::new("fork", "it happened twice").into());
    };
    let heard = listen(&ours);
    // With one id it may have become the helper, which stays as long as the command or what that leaves behind.
    if !owners::is_planned(&within.steps) {
        // Only its end matters; its exit code says no more than its reports.
        let _ = waitpid(child, None);
    }
    heard
}

/// Hears what becomes of it until the channel closes: by exec, or with its end.
fn listen(channel: &Channel) -> Result<Init, StartError> {
    let (mut pid, mut terminal, mut warnings, mut failure) = (None, None, Vec::new(), None);
    loop {
        let heard = channel.receive();
        match heard.map_err(|error| Failure::new("hear from the container", error.desc()))? {
            Some((Report::Forked(forked), _)) => pid = Some(Pid::from_raw(forked)),
            Some((Report::Terminal, descriptors)) => terminal = descriptors.into_iter().next(),
            Some((Report::Warning(text), _)) => warnings.push(text),
            Some((Report::Failed(why), _)) => failure = Some(why),
            Some((
                Report::UserNamespace
                | Report::Warming(_)
                | Report::View
                | Report::Mounted
                | Report::Network
                | Report::Crowd,
                _,
            )) => {}
            None => break,
        }
    }
    let Some(pid) = pid else {
        let why = failure.unwrap_or_else(|| Failure::new("enter the container", "it has ended"));
        return Err(why.into());
    };
    let watched = match failure {
        None => watch(pid),
        Some(failure) => Err(failure),
    };
    let pidfd = watched.inspect_err(|_| {
        // Our own child, not reaped yet.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
    })?;
    Ok(Init::new(pid, pidfd, terminal, warnings))
}

/// The child: into the container.
fn run_child(init: &OwnedFd, within: &Within, stdio: &Stdio, channel: &Channel) -> Result<(), Failure> {
    // While the host's /proc is there.
    let own = exec::Identity::of_this_program().map_err(|error| Failure::new("/proc/self/exe", error))?;
    // Hidden, it could not open its own files of /proc.
    if let Some(score) = within.oom_score {
        set_oom_score(score)?;
    }
    hide()?;
    umask(Umask::empty());
    let station = match owners::is_planned(&within.steps) {
        true => Station::new()?,
        false => None,
    };
    let doors = match station {
        Some(_) => Doors::here(),
        None => Doors::default(),
    };
    if let Err((path, error)) = cgroup::enter(&within.cgroups) {
        // As from another login: the kernel lets nobody cross a part that is not delegated.
        let text = format!(
            "the command is not in the container's cgroups, so no limits or pauses are its own: {}: {error}",
            path.display()
        );
        let _ = channel.send(&Report::Warning(text), &[] as &[OwnedFd]);
    }
    join(init, within.namespaces)?;
    die_with_parent(channel)?;
    let process = sys::fork_sibling(CloneFlags::empty(), || {
        let helper = station.as_ref().map(Station::told);
        report(channel, run_process(within, own, stdio, channel, helper))
    });
    let process = process.map_err(|error| Failure::new("make a process in the container", error))?;
    channel
        .send(&Report::Forked(process.as_raw()), &[] as &[OwnedFd])
        .map_err(|error| Failure::new("speak with the tool", error.desc()))?;
    if let Some(station) = station {
        doors.leave();
        station.take_up();
    }
    Ok(())
}

pub(super) fn join(init: &OwnedFd, namespaces: CloneFlags) -> Result<(), Failure> {
    setns(init, namespaces).map_err(|error| Failure::new("enter the container", error.desc()))
}

/// The process: from there to the command. Returns only if it fails.
fn run_process(
    within: &Within,
    own: exec::Identity,
    stdio: &Stdio,
    channel: &Channel,
    helper: Option<&Channel>,
) -> Result<(), Failure> {
    hide()?;
    die_with_parent(channel)?;
    setsid().map_err(|error| Failure::new("make a session", error.desc()))?;
    if let Stdio::Fds([input, output, errors]) = stdio {
        connect([input, output, errors])?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty())
        .map_err(|error| Failure::new("open the container's root", error))?;
    Container::new(channel, helper, root).apply(&within.steps)?;
    die_with_parent(channel)?; // the kernel forgot it when the user changed
    leave_open(&within.kept)?;
    sys::default_signals();
    if !within.bound {
        // From here on it may outlive the tool.
        let _ = prctl::set_pdeathsig(None);
    }
    Err(exec::execute(&within.command, own))
}

/// Bytes of a container's file that are read at most.
const MOST: u64 = 1 << 20;

/// Reads small text files of the container of this init, by paths in its tree; empty what is not there, or is no regular
/// file. To be called by a process with one thread.
///
/// # Errors
/// Says what failed.
pub fn read_texts<const N: usize>(init: &OwnedFd, paths: [&str; N]) -> Result<[String; N], StartError> {
    let failed = |error: std::io::Error| Failure::new("read the container's files", error);
    let mut texts = [const { String::new() }; N];
    for (text, path) in texts.iter_mut().zip(paths) {
        let (mut from, to) = std::io::pipe().map_err(failed)?;
        let mut ends = Some((from.try_clone().map_err(failed)?, to));
        let child = sys::fork(|| {
            let Some((from, mut to)) = ends.take() else {
                return 125;
            };
            drop(from);
            u8::from(send_file(init, path, &mut to).is_err())
        });
        let child = child.map_err(failed)?;
        drop(ends);
        let mut bytes = Vec::new();
        let read = from.read_to_end(&mut bytes);
        let _ = waitpid(child, None);
        read.map_err(failed)?;
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }
    Ok(texts)
}

fn send_file(init: &OwnedFd, path: &str, to: &mut std::io::PipeWriter) -> Result<(), Failure> {
    let _ = SigSet::all().thread_unblock();
    hide()?;
    join(init, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    let failed = |error: std::io::Error| Failure::new(path, error);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rooted::open(CWD, path, flags, rooted::INSIDE).map_err(|error| failed(error.into()))?;
    let stat = fstat(&file).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        let mut file = std::fs::File::from(file).take(MOST);
        std::io::copy(&mut file, to).map_err(failed)?;
    }
    Ok(())
}
