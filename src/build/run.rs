//! What does RUN do? It runs a command in a container over the stage so far, and what that changed becomes a layer: the
//! container's writable layer knows its changes, so nothing is compared or scanned.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use fuse_overlay::attr::Time;
use fuse_overlay::union::{Limits, Lower, Tree};
use nix::poll::{PollFd, PollFlags, poll};
use oci_spec::runtime::{PosixRlimit, Spec};

use super::contents::Contents;
use super::mount::Viewed;
use super::solve::file_time;
use super::tree::{Growing, Times, add_tree};
use super::turn::Turn;
use super::workspace::io_error;
use super::{Error, Progress, pace};
use crate::containers::cgroup;
use crate::containers::end::{self, Force};
use crate::containers::files::HostNames;
use crate::containers::image_file;
use crate::containers::life::{self, Below, Given, Wanted};
use crate::containers::log;
use crate::containers::network;
use crate::containers::record::{self, Afterwards, Life};
use crate::containers::spec::{Network, Request, mounts};
use crate::containers::storage::Storage;
use crate::containers::supervisor::{self, Attach, Ending, SignalProxy};
use crate::containers::upkeep::Upkeep;
use crate::containers::view::View;
use crate::containers::volume;
use crate::images::{Claim, Image, layers};
use crate::line::chain;
use crate::store::Store;

/// The name that commands see as their machine's, BuildKit's: the same in every build.
const HOSTNAME: &str = "buildkitsandbox";

/// A command to run.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// Variables beside the image's, `NAME=value`.
    pub(super) env: Vec<String>,
    /// `RUN --mount`.
    pub(super) mounts: Vec<mounts::Asked>,
    /// The trees that they show.
    pub(super) views: Vec<Viewed>,
    pub(super) network: Network,
    /// The machine's name, if it is not the usual one.
    pub(super) hostname: Option<String>,
    /// `--add-host`.
    pub(super) host_names: HostNames,
    /// `--shm-size`, in bytes.
    pub(super) shm_size: Option<u64>,
    /// `--ulimit`.
    pub(super) ulimits: Vec<PosixRlimit>,
    /// Of what it writes.
    pub(super) times: Times,
    /// `--on-error shell`: what runs on the user's terminal where the command has failed.
    pub(super) shell: Option<Vec<String>>,
}

impl Order {
    /// Runs it over an image that is on no list, and stores what it changed as a layer above it. What it writes goes to
    /// `progress` as it comes. The turn to make the step comes back with the layer; once the command has failed, it is
    /// others', who need not wait for a shell in which somebody looks around.
    pub(super) fn carry_out(
        self,
        store: &Store,
        image: &Image,
        progress: &dyn Progress,
        turn: Turn,
    ) -> Result<(Claim, Turn), Error> {
        let ran = self.carried_out(store, image, progress)?;
        match (ran.done, &self.shell) {
            (Ok(()), _) => Ok((ran.container.commit(image, &ran.stubs, self.times)?, turn)),
            (Err(failed @ Error::Command { .. }), Some(shell)) => {
                drop(turn);
                self.look(&failed, &ran.container, image, shell, progress);
                Err(failed)
            }
            (Err(failed), _) => Err(failed),
        }
    }

    /// The same, but what it changed in its own tree is dropped.
    pub(super) fn run(self, store: &Store, image: &Image, progress: &dyn Progress) -> Result<(), Error> {
        self.carried_out(store, image, progress)?.done
    }

    fn carried_out<'a>(
        &self,
        store: &'a Store,
        image: &Image,
        progress: &dyn Progress,
    ) -> Result<Ran<'a>, Error> {
        let mut made = life::create(store, self.wanted(image))?;
        made.views = self.views(store)?;
        let id = made.held.record.id.clone();
        let container = Container { store, id };
        let stubs = stubs(&made.lower, &made.spec)?;
        let (output, log) = io::pipe().map_err(|source| Error::Io {
            action: "make",
            path: "a pipe".into(),
            source,
        })?;
        let supervisor = life::start_logged(store, made, log.into())?;
        let ending = std::thread::scope(|scope| {
            scope.spawn(|| relay(File::from(std::os::fd::OwnedFd::from(output)), progress));
            supervisor.ended(SignalProxy::End, &mut |text| progress.warning(text))
        });
        let done = self.done(ending.map_err(unheard)?, progress);
        Ok(Ran {
            container,
            stubs,
            done,
        })
    }

    /// Gives the user a shell where the command has failed.
    fn look(
        &self,
        failed: &Error,
        container: &Container<'_>,
        image: &Image,
        shell: &[String],
        progress: &dyn Progress,
    ) {
        progress.fails();
        progress.warning(&format!(
            "{failed}. A shell where it ran; the build ends with it:"
        ));
        if let Err(error) = self.debug(container, image, shell) {
            progress.warning(&format!("no shell: {}", chain(&error)));
        }
    }

    /// The trees that mounts show, for one start.
    fn views(&self, store: &Store) -> Result<Vec<View>, Error> {
        self.views.iter().map(|view| view.open(store)).collect()
    }

    /// What the end of its container means for the step.
    fn done(&self, ending: Ending, progress: &dyn Progress) -> Result<(), Error> {
        let failed = |code| {
            let command = self.command.join(" ");
            Err(Error::Command { command, code })
        };
        match ending {
            Ending::Exited {
                code: 0,
                trouble: None,
            } => Ok(()),
            Ending::Exited {
                code: 0,
                trouble: Some(trouble),
            } => Err(Error::Trouble(trouble)),
            Ending::Exited { code, .. } => failed(code),
            Ending::Failed { code, message } => {
                progress.output(format!("{message}\n").as_bytes());
                failed(code.into())
            }
            Ending::Interrupted(signal) => Err(Error::Interrupted(signal)),
            Ending::Lost | Ending::Started | Ending::Left | Ending::Signalled(_) => {
                Err(Error::Trouble("the step's supervisor was killed".into()))
            }
        }
    }

    /// Runs a shell where the command ended: over what it wrote, with its mounts, user, directory, variables and network.
    fn debug(&self, container: &Container<'_>, image: &Image, shell: &[String]) -> Result<(), Error> {
        let Container { store, id } = container;
        let lower = layers::open(store, &image.layers)?;
        let Some(mut made) = life::reopen_on_terminal(store, id, lower, shell)? else {
            return Err(Error::Trouble("the step's container still runs".into()));
        };
        made.views = self.views(store)?;
        let supervisor = life::start(store, made, Attach::InputAndOutput)?;
        let ended = supervisor.ended(SignalProxy::Pass, &mut |text| crate::line::say!("bryo: {text}"));
        // Signals mean the build again.
        supervisor::unblock_signals().map_err(unheard)?;
        match ended.map_err(unheard)? {
            Ending::Failed { message, .. } => Err(Error::Trouble(message)),
            _ => Ok(()),
        }
    }

    fn wanted(&self, image: &Image) -> Wanted {
        let request = Request {
            command: self.command.clone(),
            entrypoint: Some(String::new()),
            env: self.env.clone(),
            hostname: Some(self.hostname.clone().unwrap_or_else(|| HOSTNAME.into())),
            mounts: self.mounts.clone(),
            network: self.network,
            shm_size: self.shm_size,
            ulimits: self.ulimits.clone(),
            ..Request::default()
        };
        Wanted {
            zone: None,
            below: (Below::Image(Box::new(image.clone())), "a step of a build".into()),
            upkeep: Upkeep::default(),
            // It is in the builder's, as the help of `build` says.
            cgroup: cgroup::Settings::default(),
            storage: Storage::default(),
            // It is shown, and part of the build's output.
            log: log::Settings {
                driver: log::Driver::None,
                ..log::Settings::default()
            },
            name: None,
            request,
            volumes: volume::Wanted::default(),
            host_names: self.host_names.clone(),
            network: network::Asked::default(),
            afterwards: Afterwards::Commit,
            // Several may begin at once, and the first leaves a user namespace to the next.
            starts: false,
            open_stdin: false,
            stop_signal: None,
            labels: Vec::new(),
            given: Given::default(),
        }
    }
}

fn unheard(source: io::Error) -> Error {
    Error::Io {
        action: "hear of",
        path: "the step's container".into(),
        source,
    }
}

fn relay(mut from: File, progress: &dyn Progress) {
    let mut buffer = vec![0; 1 << 16];
    let pace = pace(progress);
    loop {
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if let Ok(0) = poll(&mut fds, pace) {
            progress.tick();
            continue;
        }
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(count) => progress.output(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// A command that has ended.
struct Ran<'a> {
    container: Container<'a>,
    /// The places that were made to mount on.
    stubs: Vec<PathBuf>,
    done: Result<(), Error>,
}

/// The step's container, which goes with this.
struct Container<'a> {
    store: &'a Store,
    id: String,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Err(error) = end::remove(self.store, &self.id, Force::Yes) {
            tracing::warn!("a step's container stays: {}", crate::line::chain(&error));
        }
    }
}

impl Container<'_> {
    /// Stores what the command changed. The places in `stubs` were made to mount on, and go if nothing came into them.
    fn commit(&self, image: &Image, stubs: &[PathBuf], times: Times) -> Result<Claim, Error> {
        let upper = self.store.container(&self.id).join("upper");
        let lower = layers::open(self.store, &image.layers)?;
        let tree = Tree::open(lower, &upper, Limits::default()).map_err(Error::Upper)?;
        let (growing, started) = (Growing(&tree), self.started()?);
        for stub in stubs {
            let removed = growing.remove_stub(stub.as_os_str().as_bytes(), started);
            removed.map_err(|error| io_error("tidy", &upper)(error.0.into()))?;
        }
        add_tree(self.store, &image.layers, &tree, &Contents::default(), times)
    }

    /// When its command began.
    fn started(&self) -> Result<Time, Error> {
        let record = record::read(self.store, &self.id)?;
        let started = match record.map(|record| record.life) {
            Some(Life::Exited { started, .. }) => started.parse::<jiff::Timestamp>().ok(),
            _ => None,
        };
        Ok(started.map_or(Time::default(), file_time))
    }
}

/// The places of mounts that the image does not have, and that are made for them. What lies deeper comes first.
fn stubs(image: &Lower, spec: &Spec) -> Result<Vec<PathBuf>, Error> {
    let mut stubs = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        // Each directory on the way may have to be made, too.
        for place in mount.destination().ancestors() {
            let there = image_file::is_there(image, place.as_os_str().as_bytes());
            if !there.map_err(|error| io_error("look in the image for", place)(error.0.into()))? {
                stubs.push(place.to_owned());
            }
        }
    }
    stubs.sort_by(|a, b| b.cmp(a));
    stubs.dedup();
    Ok(stubs)
}
