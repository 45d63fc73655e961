//! `version` and `info`: which program is this, and on what does it stand?

use std::process::ExitCode;

use nix::sys::sysinfo::sysinfo;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use super::output::{inspected, put};
use super::report::Failure;
use crate::containers::cgroup;
use crate::host::Probe;
use crate::images::names::References;
use crate::store::{Medium, Store};

/// Flags of `version` and of `info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Format {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

impl Format {
    fn print(&self, object: Value, text: &str) -> Result<ExitCode, Failure> {
        match self.format.as_deref() {
            None | Some("") => put(text)?,
            Some("json") => put(&format!("{object}\n"))?,
            format => put(&inspected(&[object], format)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Go's names of architectures, which Docker prints.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// There is no daemon: client and server are one program.
pub(crate) fn version(format: &Format) -> Result<ExitCode, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let side = json!({
        "Version": version,
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "KernelVersion": kernel()?,
    });
    let text = format!(
        "Client:\n Version:  {version}\n OS/Arch:  {}/{}\n",
        std::env::consts::OS,
        architecture()
    );
    format.print(json!({ "Client": side, "Server": side }), &text)
}

fn kernel() -> Result<String, Failure> {
    let names =
        uname().map_err(|error| Failure::new(format!("cannot ask for the kernel's name: {error}")))?;
    Ok(names.release().to_string_lossy().into_owned())
}

/// What there is, in Docker's words where Docker has some.
pub(crate) fn info(format: &Format) -> Result<ExitCode, Failure> {
    let store = Store::open()?;
    let images = References::load(&store)?.images().count();
    let memory = sysinfo()
        .map_err(|error| Failure::new(format!("cannot ask for the memory: {error}")))?
        .ram_total();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let medium = match store.medium()? {
        Medium::Local => "local",
        Medium::Network => "network",
    };
    let path = |path: &std::path::Path| path.display().to_string();
    let host = Probe::now();
    let cgroups = cgroup::offered();
    let limits = |controller| {
        cgroups
            .as_ref()
            .is_ok_and(|offered| offered.contains(&controller))
    };
    let object = json!({
        "Images": images,
        "Driver": "bryo",
        "DockerRootDir": path(store.root()),
        "StateDir": path(store.state()),
        "RunDir": path(store.run()),
        "StoreMedium": medium,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "OSType": std::env::consts::OS,
        "Architecture": std::env::consts::ARCH,
        "KernelVersion": kernel()?,
        "NCPU": cpus,
        "MemTotal": memory,
        "Name": nix::unistd::gethostname().unwrap_or_default().to_string_lossy(),
        "SecurityOptions": ["name=rootless"],
        "CgroupDriver": if cgroups.is_ok() { "cgroupfs" } else { "none" },
        "MemoryLimit": limits("memory"),
        "CpuCfsQuota": limits("cpu"),
        "CPUShares": limits("cpu"),
        "CPUSet": limits("cpuset"),
        "PidsLimit": limits("pids"),
        "Warnings": host.one_id_warning().into_iter().collect::<Vec<_>>(),
    });
    let text = |field: &str| {
        object
            .get(field)
            .map(|value| value.as_str().map_or(value.to_string(), Into::into))
    };
    let lines = [
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Images in", "DockerRootDir"),
        ("Containers in", "StateDir"),
        ("Sockets in", "RunDir"),
        ("Disk", "StoreMedium"),
        ("Kernel Version", "KernelVersion"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ];
    let lines = lines.map(|(title, field)| format!("{title}: {}\n", text(field).unwrap_or_default()));
    let ids = match host.why_one_id() {
        Some(why) => format!("Ids in containers: one user, one group: {why}\n"),
        None => "Ids in containers: a range\n".to_owned(),
    };
    let limits = match &cgroups {
        Ok(offered) => format!("Limits by cgroups: {}\n", offered.join(", ")),
        Err(why) => format!("Limits by cgroups: none: {why}\n"),
    };
    format.print(object.clone(), &(lines.concat() + &ids + &limits))
}
