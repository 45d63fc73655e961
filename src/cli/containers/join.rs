//! `run --join`: the ranks of an MPI program on one node, in one container: one mount, one page cache, one set of namespaces.

use std::os::fd::RawFd;
use std::path::Path;
use std::process::ExitCode;

use super::super::report::Failure;
use super::environment::Environment;
use super::exec::go_on_sealed;
use super::run::Container;
use super::start::{detached, exit_code, warn};
use crate::containers::record::{Afterwards, Record};
use crate::containers::spec::Within;
use crate::containers::supervisor::{Attach, unblock_signals};
use crate::containers::{Error, inherited, joining, life};
use crate::store::Store;

/// By what launchers tell each rank who it is, and whom to ask: Slurm, PMI-1 and 2, PMIx, Cray's PALS, Open MPI, Hydra.
const LAUNCHERS: [&str; 10] = [
    "SLURM_",
    "SLURMD_",
    "PMI_",
    "PMI2_",
    "PMIX_",
    "PALS_",
    "OMPI_",
    "PRTE_",
    "HYDI_",
    "MPI_LOCAL",
];

/// How the names of secrets end, of which some are launchers': with $SLURM_JWT one speaks to the whole cluster as the user.
const SECRETS: [&str; 5] = ["_JWT", "_TOKEN", "_KEY", "_SECRET", "_PASSWORD"];

/// A connection to the launcher that a rank has from its start (PMI-1, PMI-2).
const CONNECTION: &str = "PMI_FD";

/// What is each rank's own.
pub(super) struct Rank {
    pub(super) interactive: bool,
    pub(super) environment: Environment,
    pub(super) command: Vec<String>,
}

/// Runs a command in the container of this name, which is made if nobody has.
pub(super) fn run(store: &Store, name: &str, container: Container) -> Result<ExitCode, Failure> {
    go_on_sealed().map_err(|failure| failure.code(125))?;
    let name = match name {
        "auto" => of_step().map_err(|failure| failure.code(125))?,
        name => name.into(),
    };
    let (rank, container) = container.split(&name);
    let seat = joining::take(store, &name, container.flags(), || make(store, container.clone()));
    let seat = seat.map_err(|failure: Failure| failure.code(125))?;
    let asked = rank.asked(&seat.record).map_err(own_code)?;
    let kept = connection().into_iter().collect();
    let attach = match rank.interactive {
        true => Attach::InputAndOutput,
        false => Attach::Output,
    };
    let prepared = seat.prepare(store, &asked, kept).map_err(own_code)?;
    let session = prepared.start(attach).map_err(own_code)?;
    session.warnings().iter().for_each(|warning| warn(warning));
    let ended = session.ended().map_err(|source| Error::Io {
        action: "wait for the command in",
        path: name.into(),
        source,
    });
    let code = ended.map_err(own_code)?;
    seat.leave();
    Ok(ExitCode::from(exit_code(code)))
}

/// Docker's exit codes of `run`.
fn own_code(error: Error) -> Failure {
    let code = match &error {
        Error::Enter(why) => why.code(),
        _ => 125,
    };
    Failure::from(error).code(code)
}

fn make(store: &Store, mut container: Container) -> Result<(), Failure> {
    container.starts = true;
    let made = container.make(store, Afterwards::Remove)?;
    let supervisor = life::start(store, made, Attach::Detached)?;
    let started = detached(supervisor);
    // Until the rank's own command runs, they end the tool.
    unblock_signals().map_err(|error| Failure::new(format!("cannot unblock signals: {error}")))?;
    started
}

impl Rank {
    fn asked(&self, record: &Record) -> Result<Within, Error> {
        let mut env: Vec<String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| is_launchers(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        env.extend(self.environment.read()?);
        let settings = &record.settings;
        let mut command = settings.entrypoint.clone().unwrap_or_default();
        // None gives a command, or all do.
        command.extend(match self.command.is_empty() {
            true => settings.command.clone(),
            false => self.command.clone(),
        });
        Ok(Within {
            command,
            env,
            ..Within::default()
        })
    }
}

/// Is it a launcher's to say, and each rank's to know?
fn is_launchers(name: &str) -> bool {
    let is_secret = SECRETS.iter().any(|end| name.ends_with(end));
    LAUNCHERS.iter().any(|prefix| name.starts_with(prefix)) && !is_secret
}

/// The name of what all tasks of a Slurm step on a node share.
fn of_step() -> Result<String, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let job = variable("SLURM_JOB_ID").or_else(|| variable("SLURM_JOBID"));
    let (Some(job), Some(step)) = (
        job,
        variable("SLURM_STEP_ID").or_else(|| variable("SLURM_STEPID")),
    ) else {
        return Err(
            Failure::new("--join auto: there is no step of a job ($SLURM_JOB_ID, $SLURM_STEP_ID)")
                .hint(Some("without Slurm, give all ranks the same name")),
        );
    };
    // $BRYO_STATE may be seen by several nodes.
    let node = variable("SLURMD_NODENAME").unwrap_or_else(|| "node".into());
    Ok(format!("step-{job}-{step}-{node}"))
}

/// As much as the host's own /dev/shm has: half of the memory. That of a job is counted by its own limits.
pub(super) fn shared_memory() -> Option<String> {
    let memory = rustix::system::sysinfo();
    let bytes = memory.totalram * u64::from(memory.mem_unit);
    Some((bytes / 2).to_string())
}

/// Where a PMIx server has its sockets and files.
pub(super) fn servers_directory() -> Option<String> {
    let directory = std::env::var("PMIX_SERVER_TMPDIR").ok()?;
    let fits = Path::new(&directory).is_dir() && directory.starts_with('/') && !directory.contains(':');
    fits.then(|| format!("{directory}:{directory}"))
}

/// The rank's connection to its launcher.
fn connection() -> Option<RawFd> {
    let descriptor = std::env::var(CONNECTION).ok()?.parse().ok()?;
    inherited::is_inherited(descriptor).then_some(descriptor)
}
