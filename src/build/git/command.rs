//! How is the user's git asked? Without prompts, hooks and templates, by protocols that lead to other machines alone: a
//! submodule must not bring files of this one.
//!
//! For a repository that the user named on the command line it is the user's git, with configuration and logins. One that
//! a Dockerfile names, and every submodule, has only what the user gave to the build (`--ssh`, the secrets GIT_AUTH_TOKEN
//! and GIT_AUTH_HEADER), as in BuildKit: else whoever writes the Dockerfile or the repository could have the user's private
//! repositories copied into the image.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::Mode;

use super::{Address, GitError};
use crate::build::Secret;
use crate::sys::without_terminal;

/// Settings that the user's or the system's configuration must not say otherwise.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.logAllRefUpdates=false",
    "advice.detachedHead=false",
    "init.defaultBranch=main",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    // A server that says nothing for a minute is given up.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
];

/// What git may talk to. Not `file`, and none of the helpers that run programs (`ext`).
const PROTOCOLS: &str = "https:http:git:ssh";

/// Variables of git that stay when the user's configuration counts. The others would lead it to another repository: a
/// build may be started by a hook.
const KEPT: &[&str] = &[
    "GIT_SSH",
    "GIT_SSL_",
    "GIT_PROXY_",
    "GIT_HTTP_",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
    "GIT_TRACE",
    "GIT_CURL_VERBOSE",
];

/// Variables that a repository of a Dockerfile is fetched with.
const PLAIN: &[&str] = &[
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_EXEC_PATH",
];

/// What git prints at most: refs of one name, a commit.
const MOST_OUTPUT: u64 = 1 << 20;
/// What is read of its complaints: their end.
const MOST_COMPLAINT: u64 = 4 << 10;

/// Who named a repository, and so: with which logins is it fetched?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::build) enum NamedBy {
    /// The user, on the command line: those of the user.
    User,
    /// A Dockerfile, or another repository as its submodule: those that the build was given.
    Dockerfile,
}

/// What a build was given to log in with.
#[derive(Debug, Clone, Copy)]
pub(in crate::build) struct Access<'a> {
    pub(in crate::build) named_by: NamedBy,
    pub(in crate::build) secrets: &'a [Secret],
    /// The socket of the agent of `--ssh`.
    pub(in crate::build) agent: Option<&'a Path>,
}

impl Access<'_> {
    /// How ssh is called, if the user does not say it.
    fn ssh(&self) -> Option<String> {
        // No keys but the agent's; the host must be one that the user knows.
        let ssh = |agent: &str| format!("ssh -F /dev/null -o BatchMode=yes -o IdentityFile=/dev/null{agent}");
        match (self.named_by, self.agent) {
            (NamedBy::User, _) => None,
            (NamedBy::Dockerfile, Some(_)) => Some(ssh("")),
            // For submodules.
            (NamedBy::Dockerfile, None) => Some(ssh(" -o IdentityAgent=none")),
        }
    }
}

/// Git, for one repository.
pub(super) struct Git<'a> {
    address: &'a Address,
    access: Access<'a>,
    /// Its own directory: its home where it must not have the user's, and its complaints.
    place: PathBuf,
    /// Settings with logins, which no list of processes must show.
    hidden: Vec<(String, String)>,
}

impl<'a> Git<'a> {
    pub(super) fn new(address: &'a Address, access: Access<'a>, place: &Path) -> Result<Git<'a>, GitError> {
        if access.named_by == NamedBy::Dockerfile && address.is_ssh() && access.agent.is_none() {
            return Err(GitError::NoAgent(address.remote.clone()));
        }
        Ok(Git {
            address,
            access,
            place: place.to_owned(),
            hidden: hidden(address, access.secrets),
        })
    }

    /// The same for submodules, which the repository's author names, whoever named the repository.
    pub(super) fn for_submodules(self) -> Git<'a> {
        let named_by = NamedBy::Dockerfile;
        Git {
            access: Access {
                named_by,
                ..self.access
            },
            ..self
        }
    }

    /// Runs git. Gives what it prints.
    pub(super) fn run<S: AsRef<OsStr>>(&self, at: &Repository, words: &[S]) -> Result<String, GitError> {
        let complaints = self.place.join("complaints");
        let failed = |error: io::Error| GitError::Run(self.address.remote.clone(), error);
        let mut command = self.command(at);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&complaints).map_err(failed)?);
        // What it writes is as in any clone, whatever the user has new files be.
        without_terminal(&mut command, Mode::from_bits_truncate(0o022));
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
                GitError::Missing(self.address.remote.clone())
            }
            _ => failed(error),
        })?;
        let mut output = Vec::new();
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(MOST_OUTPUT).read_to_end(&mut output),
            None => Ok(0),
        };
        let status = child.wait().map_err(failed)?;
        read.map_err(failed)?;
        match status.success() {
            true => Ok(String::from_utf8_lossy(&output).into_owned()),
            false => Err(self.failure(&complaints)),
        }
    }

    fn command(&self, at: &Repository) -> Command {
        let mut command = Command::new("git");
        match self.access.named_by {
            NamedBy::User => {
                for (name, _) in std::env::vars_os() {
                    let text = name.to_string_lossy();
                    if text.starts_with("GIT_") && !KEPT.iter().any(|kept| text.starts_with(kept)) {
                        command.env_remove(&name);
                    }
                }
            }
            NamedBy::Dockerfile => {
                command.env_clear();
                let given = PLAIN
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?)));
                command.envs(given);
                command.env("HOME", &self.place).env("GIT_CONFIG_NOSYSTEM", "1");
                command.env("GIT_CONFIG_GLOBAL", "/dev/null");
                command.envs(self.access.agent.map(|agent| ("SSH_AUTH_SOCK", agent)));
            }
        }
        command.envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_ASKPASS", "")]);
        command.env_remove("SSH_ASKPASS");
        command.envs([("GIT_ALLOW_PROTOCOL", PROTOCOLS), ("GIT_TEMPLATE_DIR", "")]);
        command.envs([("LC_ALL", "C"), ("GIT_OPTIONAL_LOCKS", "0")]);
        command.envs(self.access.ssh().map(|ssh| ("GIT_SSH_COMMAND", ssh)));
        command.env("GIT_CONFIG_COUNT", self.hidden.len().to_string());
        for (number, (key, value)) in self.hidden.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        command.env("GIT_DIR", &at.git_dir);
        command.env("GIT_WORK_TREE", &at.tree).current_dir(&at.tree);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        command
    }

    fn failure(&self, complaints: &Path) -> GitError {
        let said = end_of(complaints).unwrap_or_default();
        let said = match &self.address.login {
            Some(login) => said.replace(&format!("{login}@"), ""),
            None => said,
        };
        GitError::Failed {
            remote: self.address.remote.clone(),
            reason: cause(&said),
            all: said,
        }
    }
}

/// Git's own words in a line: from the first that say that it gave up, or from the one before, where ssh says why.
fn cause(said: &str) -> String {
    const LINES: usize = 4;
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let fatal = lines.iter().position(|line| line.starts_with("fatal:"));
    let by_ssh = |at: usize| {
        lines
            .get(at)
            .is_some_and(|line| line.contains("Could not read from remote"))
    };
    let first = match fatal {
        Some(at) if by_ssh(at) => at.saturating_sub(1),
        Some(at) => at,
        None => lines.len().saturating_sub(LINES),
    };
    let words: Vec<&str> = lines.into_iter().skip(first).take(LINES).collect();
    let line = words.join(" ");
    match line.strip_prefix("fatal: ").unwrap_or(&line) {
        "" => "git failed, and does not say why".into(),
        line => line.chars().filter(|char| !char.is_control()).collect(),
    }
}

/// Where git keeps a repository, and where it lays its files out.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) git_dir: PathBuf,
    pub(super) tree: PathBuf,
}

fn end_of(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(MOST_COMPLAINT)))?;
    let mut bytes = Vec::new();
    file.take(MOST_COMPLAINT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The login of the address, and BuildKit's secrets `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER`, of this host alone if they
/// are named so.
fn hidden(address: &Address, secrets: &[Secret]) -> Vec<(String, String)> {
    let mut hidden = Vec::new();
    let host = address.host();
    if let (Some(login), Some((scheme, _))) = (&address.login, address.remote.split_once("://")) {
        let key = format!("url.{scheme}://{login}@{host}/.insteadOf");
        hidden.push((key, format!("{scheme}://{host}/")));
    }
    let ids = ["GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"];
    let own = ids.iter().map(|id| (*id, format!("{id}.{host}")));
    let mut all = own.chain(ids.iter().map(|id| (*id, id.to_string())));
    let secret = all.find_map(|(kind, id)| Some((kind, secrets.iter().find(|secret| secret.id == id)?)));
    if let Some((kind, secret)) = secret.filter(|_| address.remote.starts_with("http")) {
        let value = secret.value.trim_ascii();
        let value = match kind {
            "GIT_AUTH_TOKEN" => {
                let login = [b"x-access-token:", value].concat();
                format!("basic {}", STANDARD.encode(login))
            }
            _ => String::from_utf8_lossy(value).into_owned(),
        };
        // As in BuildKit: this repository alone, but of GitHub all, for submodules.
        let github = "https://github.com/";
        let scope = match address.remote.starts_with(github) {
            true => github,
            false => address.remote.as_str(),
        };
        hidden.push((
            format!("http.{scope}.extraHeader"),
            format!("Authorization: {value}"),
        ));
    }
    hidden
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_gits_own_words() {
        for (said, told) in [
            ("", "git failed, and does not say why"),
            (
                "warning: x\nfatal: unable to connect to h:\nh[0: 1.2.3.4]: errno=Connection refused\n\n",
                "unable to connect to h: h[0: 1.2.3.4]: errno=Connection refused",
            ),
            (
                "Warning: y\nHost key verification failed.\r\nfatal: Could not read from remote repository.\n",
                "Host key verification failed. fatal: Could not read from remote repository.",
            ),
            ("remote: \x1b[31mno\nerror: z\n", "remote: [31mno error: z"),
        ] {
            assert_eq!(cause(said), told);
        }
    }
}
