//! Who is the user for a registry? Logins that docker and podman saved, in their files and helpers
//! (`docker login`, `containers-auth.json(5)`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

/// What a registry may be shown. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A user's name and password.
    Password { user: String, password: String },
    /// A token to be exchanged for others (OAuth 2's refresh token).
    Identity { token: String },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Why a saved login cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file is there but cannot be read.
    #[error("cannot read logins in {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A credential helper failed.
    #[error("credential helper docker-credential-{helper} for {registry}: {reason}")]
    Helper {
        /// The helper's name as the file gives it.
        helper: String,
        /// For which registry it was asked.
        registry: String,
        /// What it said.
        reason: String,
    },
}

#[derive(Debug, Default, Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl Credentials {
    /// The saved login for `repository` on `registry` (host and port as the user names it, not as it is reached).
    pub(super) fn find(registry: &str, repository: &str) -> Result<Option<Credentials>, CredentialsError> {
        for path in files() {
            let text = match std::fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(CredentialsError::File {
                        path,
                        reason: error.to_string(),
                    });
                }
                Ok(text) => text,
            };
            let file: AuthFile = serde_json::from_slice(&text).map_err(|error| CredentialsError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            if let Some(found) = file.find(&path, registry, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Where logins are saved, first found first.
fn files() -> Vec<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = variable("HOME");
    let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
    let podman = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let podman_lasting = config.map(|dir| dir.join("containers/auth.json"));
    let docker = docker.map(|dir| dir.join("config.json"));
    podman.into_iter().chain(podman_lasting).chain(docker).collect()
}

impl AuthFile {
    fn find(
        &self,
        path: &Path,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credentials>, CredentialsError> {
        if let Some(helper) = self.helpers.get(registry) {
            return ask(helper, server(registry));
        }
        for key in keys(registry, repository) {
            if let Some(auth) = self
                .auths
                .iter()
                .find(|(name, _)| normal(name) == key)
                .map(|(_, auth)| auth)
                && let Some(found) = auth.read(path)?
            {
                return Ok(Some(found));
            }
        }
        match &self.store {
            Some(helper) if !helper.is_empty() => ask(helper, server(registry)),
            _ => Ok(None),
        }
    }
}

/// Names under which a login may be saved: podman's by repository, longest first, then the host alone.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let parts: Vec<_> = repository.split('/').collect();
    let longest_first = (0..=parts.len()).rev().map(|count| {
        let path = parts.get(..count).unwrap_or_default();
        path.iter()
            .fold(registry.to_owned(), |key, part| format!("{key}/{part}"))
    });
    longest_first.collect()
}

/// Docker once saved URLs: `https://index.docker.io/v1/` is Docker Hub.
fn normal(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let Some(url) = bare else {
        return if key == "index.docker.io" {
            "docker.io".into()
        } else {
            key.trim_end_matches('/').into()
        };
    };
    match url.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        host => host.into(),
    }
}

/// The registry as helpers know it.
fn server(registry: &str) -> &str {
    if registry == "docker.io" {
        "https://index.docker.io/v1/"
    } else {
        registry
    }
}

impl Auth {
    fn read(&self, path: &Path) -> Result<Option<Credentials>, CredentialsError> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::Identity {
                token: self.identity_token.clone(),
            }));
        }
        if !self.username.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok(Some(Credentials::Password { user, password }));
        }
        if self.auth.is_empty() {
            // Docker leaves empty entries for what a helper keeps.
            return Ok(None);
        }
        let pair = STANDARD
            .decode(self.auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair
            .as_deref()
            .and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (user, password) = pair.ok_or_else(|| CredentialsError::File {
            path: path.into(),
            reason: "an \"auth\" entry is not base64 of user:password".into(),
        })?;
        Ok(Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        }))
    }
}

/// Asks a credential helper (docker/docker-credential-helpers): the server's name in, JSON out.
fn ask(helper: &str, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let failed = |reason: String| CredentialsError::Helper {
        helper: helper.into(),
        registry: registry.into(),
        reason,
    };
    if helper.contains('/') {
        return Err(failed("a helper's name has no \"/\"".into()));
    }
    let child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        // A config.json that came from another machine must not keep from public images. A directory of PATH that may
        // not be looked into makes "not found" into "permission denied".
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            tracing::warn!(
                "docker-credential-{helper} is not installed: going on without a login for {registry}"
            );
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(registry.as_bytes())
            .map_err(|error| failed(error.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(crate::images::manifest::printable(said.trim())));
    }
    let answer: Answer = serde_json::from_str(&said).map_err(|error| failed(error.to_string()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity { token: answer.secret },
        _ => Credentials::Password {
            user: answer.username,
            password: answer.secret,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(file: &str, registry: &str, repository: &str) -> Option<String> {
        let file: AuthFile = serde_json::from_str(file).unwrap();
        file.find(Path::new("auth.json"), registry, repository)
            .unwrap()
            .map(|found| match found {
                Credentials::Password { user, password } => format!("{user}:{password}"),
                Credentials::Identity { token } => format!("token {token}"),
            })
    }

    #[test]
    fn a_login_belongs_to_its_registry_alone() {
        let file = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "r.example:5000": {"username": "u", "password": "p:q"},
            "r.example:5000/team": {"identitytoken": "t"},
            "empty.example": {}
        }}"#;
        assert_eq!(
            user(file, "docker.io", "library/x").as_deref(),
            Some("hub:secret")
        );
        assert_eq!(user(file, "r.example:5000", "x").as_deref(), Some("u:p:q"));
        assert_eq!(user(file, "r.example:5000", "team/x").as_deref(), Some("token t"));
        assert_eq!(user(file, "r.example:5000", "teams").as_deref(), Some("u:p:q"));
        for other in [
            "r.example",
            "r.example:5001",
            "evil.example",
            "empty.example",
            "example:5000",
        ] {
            assert_eq!(user(file, other, "x"), None, "{other}");
        }
    }

    #[test]
    fn a_damaged_login_is_an_error_without_the_secret() {
        let file: AuthFile =
            serde_json::from_str(r#"{"auths": {"r.example": {"auth": "c2VjcmV0"}}}"#).unwrap();
        let message = file
            .find(Path::new("/a/auth.json"), "r.example", "x")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("/a/auth.json") && !message.contains("c2VjcmV0"),
            "{message}"
        );
    }
}
