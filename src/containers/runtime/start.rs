//! Which processes make a container, and what do they say to each other?
//!
//! ```text
//! supervisor ── fork ──► child   enters or makes the user namespace, mounts the root, sends its descriptors, makes init
//!            ├────────── warmer  beside init for a moment: touches what the command will touch (`warm`)
//!            └────────── init    pid 1 inside; CLONE_PARENT makes it the supervisor's own child, to be reaped by it
//! ```
//! CLONE_PARENT rather than a child subreaper: init is the supervisor's child from its first moment, so its parent-death
//! signal is the supervisor's death, and no orphan of another kind is ever handed to the supervisor.
//!
//! Until exec, init carries the supervisor's memory and executable; it is not dumpable, so /proc shows nothing of it to the
//! container (CVE-2019-5736). The child is not in the container's pid namespace at all.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::ahead::Ahead;
use super::apply::{Container, connect, make_as_root};
use super::channel::{Cause, Channel, Failure, Order, Report};
use super::crowd::Crowd;
use super::holder::{Holder, Kept, Search};
use super::namespaces::{
    Entry, enter_mount_namespace, enter_user_namespace, join, mount_root, namespace_of, refused,
};
use super::owners::{self, Station};
use super::plan::Plan;
use super::step::{Reaper, UserNamespace};
use super::warm::{self, Warmer};
use super::{exec, idmap, keeper};
use crate::containers::cgroup;
use crate::host::{IdMaps, Probe};
use crate::sys;

/// As what a container's tree is in its list of mounts, if it has a pid namespace of its own; else [`super::mark`] says it.
pub const MOUNT: &str = "fuse-overlay";

/// What the container's command gets as descriptors 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// These.
    Fds([OwnedFd; 3]),
    /// A pty of the container's own devpts (so that `tty` inside is right); its master is [`Init::terminal`]. For a
    /// Spec with `process.terminal`; its size is the Spec's `consoleSize`.
    Terminal,
}

/// A container on its way; dropping it ends what was started.
#[derive(Debug)]
pub struct Launch {
    plan: Plan,
    host: Probe,
    run: PathBuf,
    /// Until the command's process has its copies: an open end here would keep a pipe open.
    stdio: Option<Stdio>,
    channel: Channel,
    child: Option<Pid>,
    init: Option<Pid>,
    warmer: Option<Warmer>,
    holder: Option<Holder>,
    search: Search,
    ahead: Option<Ahead>,
    terminal: Option<OwnedFd>,
    network: Option<NetworkEnds>,
    /// The descriptors of each view's connection.
    views: Vec<Vec<OwnedFd>>,
    crowd: Option<Crowd>,
    warnings: Vec<String>,
}

/// What there is of a network of the container's own that has a way out.
#[derive(Debug)]
pub struct NetworkEnds {
    /// The device, unless somebody else makes it.
    pub device: Option<OwnedFd>,
    /// The network namespace.
    pub namespace: OwnedFd,
}

/// A container whose command runs. Keep it as long as the container lives: it also holds the shared user namespace.
#[derive(Debug)]
pub struct Init {
    /// Pid 1 of the container as the supervisor sees it: its child, to be reaped by it.
    pub pid: Pid,
    /// The same as a descriptor.
    pub pidfd: OwnedFd,
    /// The pty's master, for [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// Of a network of its own that has a way out.
    pub network: Option<NetworkEnds>,
    /// What could not be done as asked, one line each, for the user.
    pub warnings: Vec<String>,
    /// Its processes, if nobody else ends them with init.
    crowd: Option<Crowd>,
    /// What made init, a child too: it may have become the helper (`owners`), or have ended.
    helper: Option<Pid>,
    warmer: Option<Warmer>,
    _holder: Option<Holder>,
}

/// Why a container did not start: one line each, and Docker's exit code.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command is not in the container.
    #[error("{0}")]
    NotFound(String),
    /// The command is there, but cannot be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// Everything else: what failed, on what, why, what would help.
    #[error("{0}")]
    Failed(String),
}

impl Init {
    /// A command within a container, beside its init.
    pub(super) fn new(pid: Pid, pidfd: OwnedFd, terminal: Option<OwnedFd>, warnings: Vec<String>) -> Init {
        Init {
            pid,
            pidfd,
            terminal,
            network: None,
            warnings,
            crowd: None,
            helper: None,
            warmer: None,
            _holder: None,
        }
    }

    /// Ends the processes that init left, when it has ended: with a pid namespace of its own there are none. `false`: some stay.
    pub fn end_crowd(&mut self) -> bool {
        self.crowd.take().is_none_or(|crowd| crowd.end())
    }

    /// Readable when who touches first what the command will touch has come to its end: [`Init::see_off`] reaps it then.
    pub fn warmer(&self) -> Option<BorrowedFd<'_>> {
        self.warmer.as_ref().and_then(Warmer::end)
    }

    /// Reaps it, if it has ended.
    pub fn see_off(&mut self) {
        drop(self.warmer.take_if(Warmer::has_ended));
    }

    /// Ends those that are beside init, when it has ended. By itself the helper ends only when it does not wait for a filesystem
    /// that may never answer; and it keeps the container's mounts.
    pub fn end_helpers(&mut self) {
        drop(self.warmer.take());
        self.helper.take().into_iter().for_each(end_child);
    }
}

impl StartError {
    /// One of this exit code.
    pub(in crate::containers) fn of(code: u8, text: String) -> StartError {
        match code {
            127 => StartError::NotFound(text),
            126 => StartError::NotExecutable(text),
            _ => StartError::Failed(text),
        }
    }

    /// Docker's exit code: 127, 126 or 125.
    pub fn code(&self) -> u8 {
        match self {
            StartError::NotFound(_) => 127,
            StartError::NotExecutable(_) => 126,
            StartError::Failed(_) => 125,
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> StartError {
        match failure.cause {
            Cause::NotFound => StartError::NotFound(failure.text),
            Cause::NotExecutable => StartError::NotExecutable(failure.text),
            Cause::Other => StartError::Failed(failure.text),
        }
    }
}

/// Starts the container's processes, when it is known which user namespace is to be theirs. To be called by a process with one thread (the supervisor),
/// which stays the container's parent: when it dies, the container does. `run` is `$BRYO_RUN`, where holders are found; `ahead`
/// a user namespace that is being made for it.
///
/// # Errors
/// Fails if no process can be made.
pub fn spawn(
    plan: Plan,
    host: Probe,
    stdio: Stdio,
    run: &Path,
    ahead: Option<Ahead>,
) -> Result<Launch, StartError> {
    let (channel, _) = Channel::pair().map_err(|error| Failure::new("make a channel", error.desc()))?;
    let mut launch = Launch {
        warnings: plan.warnings.clone(),
        plan,
        host,
        run: run.to_owned(),
        stdio: Some(stdio),
        channel,
        child: None,
        init: None,
        warmer: None,
        holder: None,
        search: Search::Needless,
        ahead,
        terminal: None,
        network: None,
        views: Vec::new(),
        crowd: None,
    };
    launch.fork_child()?;
    Ok(launch)
}

impl Launch {
    /// Waits until the user namespace is there and the root is mounted; gives the descriptors of `/dev/fuse` to serve
    /// (none for [`super::RootSource::Path`]). Serve them from another process before [`Launch::go`].
    ///
    /// # Errors
    /// The namespace or the mount could not be made.
    pub fn devices(&mut self) -> Result<Vec<OwnedFd>, StartError> {
        loop {
            match self.receive()? {
                Some((Report::UserNamespace, _)) => self.map_ids()?,
                Some((Report::Mounted, devices)) => {
                    self.stdio = None;
                    return Ok(devices);
                }
                Some((report, descriptors)) => self.note(report, descriptors)?,
                None => return Err(self.vanished()),
            }
        }
    }

    /// The same for each of the plan's views, in their order; known after [`Launch::devices`].
    pub fn views(&mut self) -> Vec<Vec<OwnedFd>> {
        std::mem::take(&mut self.views)
    }

    /// The id maps in force, known after [`Launch::devices`]: those of the Spec, or one id if newuidmap failed. None in a
    /// user namespace that the Spec names by path.
    pub fn id_maps(&self) -> Option<&IdMaps> {
        match &self.plan.user_namespace {
            UserNamespace::Holder(maps) => Some(maps),
            UserNamespace::Path(_) => None,
        }
    }

    /// The user namespace, and the container's network namespace, as soon as init has made it: for whoever connects it with
    /// others before the command starts. To be asked after [`Launch::devices`].
    ///
    /// # Errors
    /// It was not made, or is no holder's.
    pub fn namespaces(&mut self) -> Result<(OwnedFd, OwnedFd), StartError> {
        let network = self.network()?;
        match &self.holder {
            Some(holder) => Ok((holder.descriptor()?, network)),
            None => Err(Failure::new("connect the container", "its user namespace is not there").into()),
        }
    }

    /// The network namespace alone.
    ///
    /// # Errors
    /// It was not made.
    pub fn network(&mut self) -> Result<OwnedFd, StartError> {
        loop {
            if let Some(ends) = &self.network {
                let namespace = ends.namespace.try_clone();
                return namespace.map_err(|error| Failure::new("network namespace", error).into());
            }
            match self.receive()? {
                Some((report, descriptors)) => self.note(report, descriptors)?,
                None => return Err(self.vanished()),
            }
        }
    }

    /// Waits until init is there, in the container's cgroups. So far it needs no more than its memory; limits may follow.
    ///
    /// # Errors
    /// It could not be made.
    pub fn made(&mut self) -> Result<(), StartError> {
        while self.init.is_none() {
            match self.receive()? {
                Some((report, descriptors)) => self.note(report, descriptors)?,
                None => return Err(self.vanished()),
            }
        }
        Ok(())
    }

    /// Its processes, if it has no pid namespace of its own.
    ///
    /// # Errors
    /// It could not be made.
    pub fn crowd(&mut self) -> Result<Option<&Crowd>, StartError> {
        if self.plan.mark().is_some() {
            self.made()?;
        }
        Ok(self.crowd.as_ref())
    }

    /// Lets the command start and waits until it runs.
    ///
    /// # Errors
    /// Says what failed, in the child or in init.
    pub fn go(mut self) -> Result<Init, StartError> {
        self.order(&Order::Go)?;
        while let Some((report, descriptors)) = self.receive()? {
            self.note(report, descriptors)?;
        }
        let Some(pid) = self.init else {
            return Err(self.vanished());
        };
        // The channel is closed in both: the child has ended and init has become the command, or ended.
        let helper = match owners::is_planned(&self.plan.steps) {
            // It has become the helper, or will see that there is nothing to help with.
            true => self.child,
            false => {
                self.reap_child();
                None
            }
        };
        let pidfd = watch(pid)?;
        (self.init, self.child) = (None, None); // from here on the caller's
        Ok(Init {
            pid,
            pidfd,
            terminal: self.terminal.take(),
            network: self.network.take(),
            warnings: std::mem::take(&mut self.warnings),
            crowd: self.crowd.take(),
            helper,
            warmer: self.warmer.take(),
            _holder: self.holder.take(),
        })
    }

    fn fork_child(&mut self) -> Result<(), StartError> {
        let (ours, theirs) = Channel::pair().map_err(|error| Failure::new("make a channel", error.desc()))?;
        let entry = self.entry()?;
        let (plan, stdio) = (&self.plan, self.stdio.as_ref());
        let mut ours = Some(ours);
        let child = sys::fork(|| {
            // Held here too, the supervisor's end would outlive the supervisor, and nobody would notice its death.
            drop(ours.take());
            sys::close_each(&plan.foreign);
            report(&theirs, run_child(plan, &entry, stdio, &theirs))
        });
        self.child = Some(child.map_err(|error| Failure::new("fork", error))?);
        if let Some(ours) = ours {
            self.channel = ours;
        }
        Ok(())
    }

    fn entry(&mut self) -> Result<Entry, StartError> {
        let mut maps = match &self.plan.user_namespace {
            UserNamespace::Path(path) => {
                let file = std::fs::File::open(path);
                return file
                    .map(|file| Entry::Join(file.into()))
                    .map_err(|error| Failure::new(format!("join {}", path.display()), error).into());
            }
            UserNamespace::Holder(maps) => maps.clone(),
        };
        let ahead = match self.ahead.take().map(|ahead| ahead.namespace(&maps)) {
            Some(Ok(namespace)) => namespace,
            Some(Err(failure)) => {
                maps = self.fall_back_to_one_id(&failure)?;
                None
            }
            None => None,
        };
        let search = Search::begin(&self.run, &maps)?;
        match (search, ahead) {
            (Search::Found(holder), _) => self.join(holder),
            (missing, Some(namespace)) => match missing.keep(namespace)? {
                Kept::Ours(Some(holder)) => self.join(holder),
                // Somebody else has made one without the lock.
                Kept::Ours(None) | Kept::Late => self.entry(),
            },
            (missing, None) => {
                self.search = missing;
                Ok(Entry::Make(maps))
            }
        }
    }

    fn join(&mut self, holder: Holder) -> Result<Entry, StartError> {
        let entry = holder.descriptor()?;
        self.holder = Some(holder);
        Ok(Entry::Join(entry))
    }

    /// Maps ids into the child's new namespace and keeps it for others; falls back to one id if the tools fail.
    fn map_ids(&mut self) -> Result<(), StartError> {
        let (UserNamespace::Holder(maps), Some(child)) = (&self.plan.user_namespace, self.child) else {
            return Err(Failure::new("map ids", "the child asked for what it has not made").into());
        };
        if !maps.is_single()
            && let Err(failure) = idmap::map_child(child, maps, &self.host)
        {
            self.fall_back_to_one_id(&failure)?;
            return self.start_again();
        }
        match std::mem::take(&mut self.search).keep(namespace_of(child)?)? {
            Kept::Ours(holder) => self.holder = holder,
            Kept::Late => return self.start_again(),
        }
        self.order(&Order::Mapped)
    }

    fn fall_back_to_one_id(&mut self, why: &Failure) -> Result<IdMaps, StartError> {
        let single = IdMaps::single(self.host.uid, self.host.gid);
        let was_root = self
            .id_maps()
            .is_some_and(|maps| maps.is_root(self.host.uid, self.host.gid));
        let Some(plan) = self.plan.with_maps(single.clone()).filter(|_| was_root) else {
            return Err(why.clone().into());
        };
        self.warnings.push(format!(
            "the container has one user and one group only: {}",
            why.text
        ));
        self.plan = plan;
        self.search = Search::Needless;
        Ok(single)
    }

    /// With another child: the first has a user namespace that is not to be used.
    fn start_again(&mut self) -> Result<(), StartError> {
        self.end();
        self.fork_child()
    }

    fn receive(&self) -> Result<Option<(Report, Vec<OwnedFd>)>, StartError> {
        self.channel
            .receive()
            .map_err(|error| Failure::new("hear from the container", error.desc()).into())
    }

    fn order(&self, order: &Order) -> Result<(), StartError> {
        match self.channel.send(order, &[] as &[OwnedFd]) {
            // It is gone; what it said before tells why.
            Ok(()) | Err(Errno::EPIPE) => Ok(()),
            Err(error) => Err(Failure::new("speak with the container", error.desc()).into()),
        }
    }

    fn note(&mut self, report: Report, descriptors: Vec<OwnedFd>) -> Result<(), StartError> {
        match report {
            Report::Forked(pid) => self.init = Some(Pid::from_raw(pid)),
            Report::Warming(pid) => self.warmer = Some(Warmer::of(Pid::from_raw(pid))),
            Report::Terminal => self.terminal = descriptors.into_iter().next(),
            Report::Network => {
                let mut ends = descriptors.into_iter();
                self.network = ends.next().map(|namespace| NetworkEnds {
                    namespace,
                    device: ends.next(),
                });
            }
            Report::View => self.views.push(descriptors),
            Report::Crowd => {
                let own = descriptors.into_iter().next();
                self.crowd = self.plan.mark().map(|mark| Crowd::new(mark, own));
            }
            Report::Warning(text) => self.warnings.push(text),
            Report::Failed(failure) => return Err(failure.into()),
            Report::UserNamespace | Report::Mounted => {}
        }
        Ok(())
    }

    fn vanished(&mut self) -> StartError {
        let how = match self.child.take().map(|child| waitpid(child, None)) {
            Some(Ok(WaitStatus::Signaled(_, signal, _))) => {
                format!("its first process was killed by {signal}")
            }
            _ => "its first process ended without a word".to_owned(),
        };
        Failure::new("start the container", how).into()
    }

    fn reap_child(&mut self) {
        if let Some(child) = self.child.take() {
            // Its end is all that matters; ECHILD would mean that the caller has reaped it.
            let _ = waitpid(child, None);
        }
    }

    /// Ends what runs.
    fn end(&mut self) {
        self.child.take().into_iter().for_each(end_child);
        // What it has said last nobody may have heard, and it may have told of the two others.
        while self.channel.has_word() {
            match self.channel.receive() {
                Ok(Some((Report::Forked(pid), _))) => self.init = Some(Pid::from_raw(pid)),
                Ok(Some((Report::Warming(pid), _))) => self.warmer = Some(Warmer::of(Pid::from_raw(pid))),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.init.take().into_iter().for_each(end_child);
        drop(self.warmer.take());
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends a child and reaps it. Not reaped yet, it is the one meant.
pub(super) fn end_child(child: Pid) {
    // ESRCH and ECHILD: it has ended already.
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
}

/// The end of a process that was forked to become something else: whatever comes back is an error.
pub(super) fn report(channel: &Channel, outcome: Result<(), Failure>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            // If nobody listens any more, nobody is left to be told.
            let _ = channel.send(&Report::Failed(failure), &[] as &[OwnedFd]);
            125
        }
    }
}

/// A descriptor of a child that is not reaped yet.
pub(super) fn watch(pid: Pid) -> Result<OwnedFd, Failure> {
    let failed = |error: rustix::io::Errno| Failure::new("watch the container", error);
    let raw = rustix::process::Pid::from_raw(pid.as_raw()).ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
    pidfd_open(raw, PidfdFlags::empty()).map_err(failed)
}

/// The child: from the host to where init is to be made.
fn run_child(plan: &Plan, entry: &Entry, stdio: Option<&Stdio>, channel: &Channel) -> Result<(), Failure> {
    die_with_parent(channel)?;
    umask(Mode::empty());
    // While the host's tree is there.
    let station = match owners::is_planned(&plan.steps) {
        true => Station::new()?,
        false => None,
    };
    if let Some(score) = plan.oom_score {
        set_oom_score(score)?;
    }
    let mark = plan.mark();
    // Where other containers could see it, there is nobody beside init.
    let warms = !plan.touched.is_empty() && mark.is_none();
    let doors = match station.is_some() || warms && !plan.cgroups.is_empty() {
        true => Doors::here(),
        false => Doors::default(),
    };
    // Before its namespaces: that of cgroups begins at the container's.
    cgroup::enter(&plan.cgroups).map_err(|(path, error)| {
        let hint = match error.raw_os_error() {
            Some(libc::EACCES) => " (there is a part of the tree between it and bryo that is not yours)",
            _ => "",
        };
        Failure::new(format!("enter a cgroup by {}{hint}", path.display()), error)
    })?;
    enter_user_namespace(entry, channel)?;
    enter_mount_namespace(plan.propagation)?;
    let lost = |error: Errno| Failure::new("speak with the supervisor", error.desc());
    for view in &plan.views {
        let (_, devices) = mount_root(&plan.root, view, MOUNT)?;
        channel.send(&Report::View, &devices).map_err(lost)?;
    }
    let (root, devices) = mount_root(&plan.root, &plan.place, mark.as_deref().unwrap_or(MOUNT))?;
    channel.send(&Report::Mounted, &devices).map_err(lost)?;
    drop(devices);
    if mark.is_some() {
        let own =
            File::open("/proc/self/ns/mnt").map_err(|error| Failure::new("/proc/self/ns/mnt", error))?;
        channel.send(&Report::Crowd, &[own]).map_err(lost)?;
    }
    join(&plan.namespaces)?;
    // Init takes the other with it.
    let tree = warms.then(|| root.try_clone().ok()).flatten();
    let init = sys::fork_sibling(plan.namespaces.new, || {
        let helper = station.as_ref().map(Station::told);
        report(channel, run_init(plan, root, stdio, channel, helper))
    });
    let init =
        init.map_err(|error| refused("make the container's namespaces", "user.max_*_namespaces", error))?;
    channel
        .send(&Report::Forked(init.as_raw()), &[] as &[OwnedFd])
        .map_err(lost)?;
    if let Some(warmer) = tree.and_then(|tree| warm::begin(&plan.touched, &tree, &doors, channel)) {
        // If nobody hears of it, it ends with the supervisor.
        let _ = channel.send(&Report::Warming(warmer.as_raw()), &[] as &[OwnedFd]);
    }
    if let Some(station) = station {
        doors.leave();
        station.take_up();
    }
    Ok(())
}

/// The kernel lets everybody raise it, and lower it to what it was last set to by who may do so.
pub(super) fn set_oom_score(score: i32) -> Result<(), Failure> {
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|error| {
        let mut what = format!("set oom_score_adj to {score}");
        if error.raw_os_error() == Some(libc::EACCES) {
            let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
            what = format!(
                "{what} (an ordinary user may raise it only; bryo itself has {})",
                own.trim()
            );
        }
        Failure::new(what, error)
    })
}

/// The ways by which a helper, or the warmer, leaves the container's cgroups again: it is not to be killed for the container's
/// memory, nor to count.
#[derive(Default)]
pub(super) struct Doors(Vec<File>);

impl Doors {
    /// Back to where this process is.
    pub(super) fn here() -> Doors {
        Doors(cgroup::doors())
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(File::as_fd)
    }

    pub(super) fn leave(&self) {
        cgroup::leave(&self.0);
    }
}

/// Init: from there to the command. Returns only if it fails.
fn run_init(
    plan: &Plan,
    root: OwnedFd,
    stdio: Option<&Stdio>,
    channel: &Channel,
    helper: Option<&Channel>,
) -> Result<(), Failure> {
    // While the host's /proc is there: the container's, if it has one, may be anything.
    let own = exec::Identity::of_this_program().map_err(|error| Failure::new("/proc/self/exe", error))?;
    let program = keeper::program().map_err(|error| Failure::new("/proc/self/exe", error))?;
    hide()?;
    die_with_parent(channel)?;
    setsid().map_err(|error| Failure::new("make a session", error.desc()))?;
    if let Some(Stdio::Fds([input, output, errors])) = stdio {
        connect([input, output, errors])?;
    }
    make_as_root();
    Container::new(channel, helper, root).apply(&plan.steps)?;
    die_with_parent(channel)?; // the kernel forgot it when the user changed
    leave_open(&plan.kept)?;
    let failed = |failure| {
        report(channel, Err(failure));
    };
    match plan.command.reaper {
        Reaper::Command => {
            sys::default_signals();
            Err(exec::execute(&plan.command, own))
        }
        Reaper::Ours => Err(exec::reap_around(|| exec::execute(&plan.command, own), failed)),
        Reaper::Keeper => Err(exec::reap_around(|| keeper::execute(&program), failed)),
    }
}

/// Only these stay open when the command is executed, and its three streams.
pub(super) fn leave_open(kept: &[RawFd]) -> Result<(), Failure> {
    sys::close_on_exec_from(3).map_err(|error| Failure::new("close descriptors", error))?;
    let keep = |descriptor: &RawFd| sys::keep_on_exec(*descriptor);
    kept.iter()
        .try_for_each(keep)
        .map_err(|error| Failure::new("keep a descriptor", error))
}

/// Before this call the supervisor may have died unseen; then its end of the channel is closed.
pub(super) fn die_with_parent(channel: &Channel) -> Result<(), Failure> {
    let failed = |error: Errno| Failure::new("bind to the supervisor's life", error.desc());
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    match channel.is_hung_up().map_err(failed)? {
        true => Err(Failure::new("bind to the supervisor's life", "it has ended")),
        false => Ok(()),
    }
}

/// Makes this process's executable, memory and descriptors unreachable through /proc: not dumpable, it is open only to who
/// may trace in the user namespace that its memory was made in, the host's.
pub(super) fn hide() -> Result<(), Failure> {
    prctl::set_dumpable(false).map_err(|error| Failure::new("hide from /proc", error.desc()))
}
