//! Who makes the devices of networks? This program anew, for a moment: it enters the user namespace that containers share, which
//! a process with threads cannot, and there the namespaces of network and container.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::stdio::becomes_readable;
use crate::containers::role;
use crate::containers::runtime::channel::Channel;
use crate::line::chain;
use crate::net::{Bridge, Plug, disconnect};

/// The name under which it is started.
pub(super) const NAME: &str = "bryo-wire";

/// How long its work may take, on a machine that is busy: the supervisor hears nobody meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);

/// What it is to do. The user namespace comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Connect the container, whose network namespace comes along, with the network whose namespace comes along, too, or
    /// that is to be made.
    Connect {
        /// To be made.
        bridge: Option<Bridge>,
        /// The container's device.
        plug: Plug,
    },
    /// Take a pair of devices away, by the end that is in the network, whose namespace comes along: a container may have
    /// renamed its own.
    Disconnect {
        /// Its name.
        outer: String,
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// It is done; the network's namespace comes along if it was made.
    Done,
    /// Not, and why.
    Failed(String),
}

/// Has a job done. Gives the network's namespace if it was made.
pub(super) fn wire(job: &Job, namespaces: &[&OwnedFd]) -> Result<Option<OwnedFd>, String> {
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("{what}: {why}");
    let (ours, theirs) = Channel::pair().map_err(|error| failed("make a channel", &error.desc()))?;
    let mut command = role::command(NAME);
    command.stdin(OwnedFd::from(theirs));
    let (mut child, _pidfd) =
        role::start(&mut command).map_err(|error| failed("start a process for its devices", &error))?;
    // Or its end would not be noticed.
    drop(command);
    let sent = ours.send(job, namespaces);
    let in_time = sent.is_err() || becomes_readable(ours.as_fd(), Some(PATIENCE));
    if !in_time {
        // Fails only for one that was reaped.
        let _ = child.kill();
    }
    let outcome = sent.and_then(|()| ours.receive::<Outcome>());
    // Killed, it has said nothing.
    let status = child
        .wait()
        .map_err(|error| failed("wait for the process of its devices", &error))?;
    match outcome {
        Ok(Some((Outcome::Done, made))) => Ok(made.into_iter().next()),
        Ok(Some((Outcome::Failed(why), _))) => Err(why),
        _ if !in_time => Err(format!("its devices took longer than {PATIENCE:?}")),
        Ok(None) | Err(_) => Err(format!(
            "the process that makes its devices ended early ({status})"
        )),
    }
}

/// That process's whole life: its exit code.
pub(super) fn serve(channel: Channel) -> u8 {
    // A name is a help to people only.
    let _ = nix::sys::prctl::set_name(c"bryo-wire");
    let bound = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    if bound.is_err() || channel.is_hung_up() != Ok(false) {
        return 1;
    }
    let Ok(Some((job, namespaces))) = channel.receive::<Job>() else {
        return 1;
    };
    let (outcome, made) = match carry_out(&job, namespaces) {
        Ok(made) => (Outcome::Done, made),
        Err(why) => (Outcome::Failed(why), None),
    };
    let made: Vec<OwnedFd> = made.into_iter().collect();
    u8::from(channel.send(&outcome, &made).is_err())
}

fn carry_out(job: &Job, namespaces: Vec<OwnedFd>) -> Result<Option<OwnedFd>, String> {
    let mut namespaces = namespaces.into_iter();
    let missing = || "a namespace is missing".to_owned();
    let user = namespaces.next().ok_or_else(missing)?;
    let first = namespaces.next().ok_or_else(missing)?;
    setns(&user, CloneFlags::CLONE_NEWUSER)
        .map_err(|error| format!("enter the containers' user namespace: {}", error.desc()))?;
    match job {
        Job::Connect { bridge, plug } => {
            let made = bridge.as_ref().map(Bridge::make).transpose();
            let made = made.map_err(|error| chain(&error))?;
            let network = match &made {
                Some(made) => made.try_clone().map_err(|error| error.to_string())?,
                None => namespaces.next().ok_or_else(missing)?,
            };
            plug.connect(network.as_fd(), first.as_fd())
                .map_err(|error| chain(&error))?;
            Ok(made)
        }
        Job::Disconnect { outer } => {
            disconnect(outer, first.as_fd()).map_err(|error| chain(&error))?;
            Ok(None)
        }
    }
}

/// Which user namespace has power over this network namespace: its number.
pub(super) fn owner(namespace: &OwnedFd) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let user = crate::sys::owning_user_namespace(namespace.as_fd())?;
    Ok(File::from(user).metadata()?.ino())
}
