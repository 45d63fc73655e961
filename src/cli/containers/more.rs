//! Flags of `run` and `create` that few need: namespaces, kernel parameters, annotations, and podman's own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::pairs::pairs;
use super::super::report::Failure;
use crate::containers::spec::{Ipc, Pids, Shared, Users, env, mounts};
use crate::containers::{files, life};
use crate::images::manifest::Platform;

/// The variables by which programs find a proxy.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// What stays writable under `--read-only --read-only-tmpfs`, as podman has it.
const WRITABLE: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// The flags.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct More {
    /// IPC namespace: private, shareable (others may join it), none (no /dev/shm), host, container:NAME
    #[arg(long, value_name = "MODE", default_value = "", value_parser = Ipc::parse, hide_default_value = true)]
    ipc: Ipc,
    /// PID namespace: private, host, container:NAME
    #[arg(long, value_name = "MODE", default_value = "", value_parser = Pids::parse, hide_default_value = true)]
    pid: Pids,
    /// Who you are inside: root (host, private), or yourself (keep-id), or others (keep-id:uid=UID,gid=GID)
    #[arg(long, value_name = "MODE", default_value = "", value_parser = userns, hide_default_value = true)]
    pub(super) userns: String,
    /// UTS namespace: host is the host's, hostname and all
    #[arg(long, value_name = "MODE", default_value = "", value_parser = ["", "private", "host"], hide_default_value = true)]
    pub(super) uts: String,
    /// Cgroup namespace: private, host
    #[arg(long, value_name = "MODE", default_value = "", value_parser = ["", "private", "host"], hide_default_value = true)]
    pub(super) cgroupns: String,
    /// Set a kernel parameter of the container's own namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Note something in the container's OCI configuration
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Read labels from a file, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// NIS domain name inside
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) domainname: String,
    /// Stay with these streams alone: stdout, stderr (and stdin, with -i)
    #[arg(short, long, value_name = "STREAM", ignore_case = true, value_parser = ["stdin", "stdout", "stderr"])]
    attach: Vec<String>,
    /// Which permissions new files lack
    #[arg(long, value_name = "OCTAL", value_parser = umask)]
    pub(super) umask: Option<u32>,
    /// Time zone, such as Europe/Berlin; local is the host's
    #[arg(long, value_name = "ZONE", value_parser = files::zone)]
    pub(super) tz: Option<PathBuf>,
    /// Take all variables of the host along
    #[arg(long)]
    env_host: bool,
    /// Take the host's proxies along ($http_proxy and its kin)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    http_proxy: bool,
    /// Leave out a variable that the image or bryo sets
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Leave out all of those
    #[arg(long)]
    pub(super) unsetenv_all: bool,
    /// What becomes of the image's VOLUMEs: anonymous (also called bind) volumes, ignore
    #[arg(long, value_name = "MODE", default_value = "anonymous", value_parser = ["anonymous", "bind", "ignore"])]
    image_volume: String,
    /// With --read-only: let /run, /tmp and /var/tmp be writable, in memory
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", require_equals = true, action = clap::ArgAction::Set)]
    read_only_tmpfs: bool,
    /// Remove the container that has the name already
    #[arg(long)]
    pub(super) replace: bool,
    /// Require HTTPS and verify certificates when pulling; false is for registries that have neither
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub(super) tls_verify: bool,
    /// Use the image for this processor, as --platform says it
    #[arg(long, value_name = "ARCH", conflicts_with = "platform")]
    arch: Option<String>,
    /// For this system: linux
    #[arg(long, value_name = "OS", conflicts_with = "platform")]
    os: Option<String>,
    /// For this variant of the processor
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform")]
    variant: Option<String>,
}

fn umask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| "it is an octal number such as 0022".into())
}

/// As it is written, for `inspect`.
fn userns(text: &str) -> Result<String, String> {
    Users::parse(text).map(|_| text.to_owned())
}

impl More {
    /// Which namespaces are not its own, by names.
    pub(super) fn shared(&self) -> Shared {
        Shared {
            ipc: self.ipc.clone(),
            pids: self.pid.clone(),
            uts: self.uts == "host",
            cgroups: self.cgroupns == "host",
        }
    }

    /// Variables, the weakest first; those of `-e` come after them.
    pub(super) fn environment(&self) -> Vec<String> {
        let mut variables = self.unsetenv.clone();
        let all = std::env::vars_os().filter(|_| self.env_host);
        let text = |word: std::ffi::OsString| word.into_string().ok();
        variables.extend(all.filter_map(|(name, value)| Some(format!("{}={}", text(name)?, text(value)?))));
        let proxies = PROXIES
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()]);
        let set = proxies.filter(|_| self.http_proxy).filter_map(|name| {
            let value = std::env::var(&name).ok()?;
            Some(format!("{name}={value}"))
        });
        variables.extend(set);
        variables
    }

    pub(super) fn labels(&self) -> Result<Vec<String>, crate::containers::Error> {
        let mut labels = Vec::new();
        for file in &self.label_file {
            labels.extend(env::file(&life::read_file(file)?, |_| None::<String>)?);
        }
        Ok(labels)
    }

    pub(super) fn sysctls(&self) -> Result<BTreeMap<String, String>, Failure> {
        let wrong = |text: &String| Failure::new(format!("invalid sysctl '{text}': expected NAME=VALUE"));
        let parameters = self.sysctl.iter().map(|text| match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.trim().into())),
            _ => Err(wrong(text)),
        });
        parameters.collect()
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        pairs(&self.annotation)
    }

    pub(super) fn ignores_volumes(&self) -> bool {
        self.image_volume == "ignore"
    }

    /// Which of input, output and errors the tool stays with. None: nothing was said.
    pub(super) fn attached(&self) -> Option<[bool; 3]> {
        let has = |name: &str| self.attach.iter().any(|one| one.eq_ignore_ascii_case(name));
        (!self.attach.is_empty()).then(|| ["stdin", "stdout", "stderr"].map(has))
    }

    /// That of --arch, --os and --variant.
    pub(super) fn platform(&self) -> Result<Option<Platform>, Failure> {
        if let (None, None, None) = (&self.arch, &self.os, &self.variant) {
            return Ok(None);
        }
        let host = Platform::host();
        let os = self.os.as_deref().unwrap_or(&host.os);
        let arch = self.arch.as_deref().unwrap_or(&host.architecture);
        let variant = self.variant.iter().map(|variant| format!("/{variant}"));
        let text = format!("{os}/{arch}{}", variant.collect::<String>());
        text.parse().map(Some).map_err(|error| Failure::of(&error))
    }

    /// Filesystems in memory, but where something is asked for by name.
    pub(super) fn mounts(
        &self,
        read_only: bool,
        taken: &[&str],
    ) -> Result<Vec<mounts::Asked>, crate::containers::Error> {
        let places = WRITABLE.iter().filter(|_| read_only && self.read_only_tmpfs);
        let free = places.filter(|place| !taken.contains(place));
        let asked = free.map(|place| mounts::tmpfs(&format!("{place}:mode=1777")));
        Ok(asked.collect::<Result<_, _>>()?)
    }
}
