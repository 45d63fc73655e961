//! Which hosts serve a repository? `registries.toml`: mirrors and insecure registries, in the shape of
//! `containers-registries.conf(5)`, version 2. A name without a registry is always Docker Hub's; its mirrors serve it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::RegistryError;
use crate::images::reference::{DEFAULT_DOMAIN, Reference};

/// The settings of one file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registries {
    #[serde(default)]
    registry: Vec<Entry>,
    /// Not in files: the user said so for this one command.
    #[serde(skip)]
    all_insecure: bool,
}

/// What holds for all repositories below a prefix.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    /// `docker.io`, `docker.io/library`, `*.example.com`; without one, `location`.
    prefix: Option<String>,
    /// Where the prefix really lies; without one, at the prefix.
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// How far is a registry's answer to be believed?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// HTTPS with a certificate that a known authority signed.
    Verified,
    /// Said to be insecure: HTTPS with any certificate, else plain HTTP.
    Insecure,
}

/// One host that may serve a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host and port.
    pub host: String,
    /// The repository as that host calls it.
    pub path: String,
    /// How it is reached.
    pub trust: Trust,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file says something else than settings.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// The administrator forbids it.
    #[error("registry {0} is blocked in registries.toml")]
    Blocked(String),
}

impl Registries {
    /// The settings of `$BRYO_REGISTRIES`, else the user's file, else the system's; none is as good as an empty one.
    ///
    /// # Errors
    /// A file cannot be read, or says what is not understood.
    pub fn load() -> Result<Registries, RegistryError> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(path) = variable("BRYO_REGISTRIES") {
            return Ok(Registries::read(&path)?);
        }
        let home = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        let user = home.map(|config| config.join("bryo/registries.toml"));
        for path in user
            .into_iter()
            .chain([PathBuf::from("/etc/bryo/registries.toml")])
        {
            match Registries::read(&path) {
                Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                other => return Ok(other?),
            }
        }
        Ok(Registries::default())
    }

    /// Believes any certificate, and plain HTTP, of every registry itself; mirrors stay as they are.
    pub fn trust_all(&mut self) {
        for entry in &mut self.registry {
            entry.insecure = true;
        }
        self.all_insecure = true;
    }

    fn read(path: &Path) -> Result<Registries, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        let parse = |message: String| ConfigError::Parse {
            path: path.into(),
            message,
        };
        let read: Registries =
            toml::from_str(&text).map_err(|error| parse(error.to_string().trim().replace('\n', " ")))?;
        for entry in &read.registry {
            let Some(prefix) = entry.prefix.as_deref().or(entry.location.as_deref()) else {
                return Err(parse("a [[registry]] needs a prefix or a location".into()));
            };
            let locations = entry
                .mirror
                .iter()
                .map(|mirror| &mirror.location)
                .chain(&entry.location);
            for location in locations.map(String::as_str).chain([prefix]) {
                let host = location.strip_prefix("*.").unwrap_or(location);
                if host.contains("://") || Reference::parse(&format!("{host}/x")).is_err() {
                    return Err(parse(format!(
                        "\"{location}\" is not of the form host[:port][/path]"
                    )));
                }
            }
        }
        Ok(read)
    }

    /// The hosts to ask for `reference`, in order: its mirrors, then its own.
    pub fn places(&self, reference: &Reference) -> Result<Vec<Place>, ConfigError> {
        let name = reference.repository();
        let trust = |insecure| {
            if insecure {
                Trust::Insecure
            } else {
                Trust::Verified
            }
        };
        let place = |location: &str, trust: Trust| {
            let (host, path) = location.split_once('/').unwrap_or((location, ""));
            // Docker Hub's interface lies beside its name.
            let host = if host == DEFAULT_DOMAIN {
                "registry-1.docker.io"
            } else {
                host
            };
            Place {
                host: host.into(),
                path: path.into(),
                trust,
            }
        };
        let matching = self
            .registry
            .iter()
            .filter_map(|entry| Some((entry.rest(&name)?, entry)));
        let Some((rest, entry)) = matching.min_by_key(|(rest, _)| rest.len()) else {
            return Ok(vec![place(&name, trust(self.all_insecure))]);
        };
        if entry.blocked {
            return Err(ConfigError::Blocked(reference.domain().into()));
        }
        let mut places: Vec<_> = entry
            .mirror
            .iter()
            .map(|m| place(&format!("{}{rest}", m.location), trust(m.insecure)))
            .collect();
        let own = match &entry.location {
            Some(location) if !entry.is_wildcard() => format!("{location}{rest}"),
            _ => name.clone(),
        };
        places.push(place(&own, trust(entry.insecure)));
        Ok(places)
    }
}

impl Entry {
    fn pattern(&self) -> &str {
        self.prefix
            .as_deref()
            .or(self.location.as_deref())
            .unwrap_or_default()
    }

    fn is_wildcard(&self) -> bool {
        self.pattern().starts_with("*.")
    }

    /// What follows the prefix in `name`, if it has that prefix: empty, or `/…`.
    fn rest<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = match self.pattern().strip_prefix('*') {
            Some(domain) => {
                let host = name.split('/').next()?;
                host.ends_with(domain)
                    .then(|| name.strip_prefix(host))
                    .flatten()?
            }
            None => name.strip_prefix(self.pattern())?,
        };
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(settings: &str, name: &str) -> Vec<(String, String, Trust)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), settings).unwrap();
        let read = Registries::read(file.path()).unwrap();
        let places = read.places(&Reference::parse(name).unwrap()).unwrap();
        places
            .into_iter()
            .map(|place| (place.host, place.path, place.trust))
            .collect()
    }

    fn place(host: &str, path: &str, trust: Trust) -> (String, String, Trust) {
        (host.into(), path.into(), trust)
    }

    #[test]
    fn unqualified_names_resolve_through_mirrors_of_docker_hub() {
        let settings = r#"
            [[registry]]
            prefix = "docker.io"
            [[registry.mirror]]
            location = "localhost:5000"
            [[registry.mirror]]
            location = "mirror.example/hub"
            insecure = true
            "#;
        assert_eq!(
            places(settings, "nginx"),
            [
                place("localhost:5000", "library/nginx", Trust::Verified),
                place("mirror.example", "hub/library/nginx", Trust::Insecure),
                place("registry-1.docker.io", "library/nginx", Trust::Verified),
            ]
        );
        assert_eq!(
            places(settings, "quay.io/a/b"),
            [place("quay.io", "a/b", Trust::Verified)]
        );
        assert_eq!(
            places("", "nginx"),
            [place("registry-1.docker.io", "library/nginx", Trust::Verified)]
        );
    }

    #[test]
    fn the_longest_prefix_wins_at_borders_only() {
        let settings = r#"
            [[registry]]
            location = "r.example"
            insecure = true
            [[registry]]
            prefix = "r.example/team"
            location = "other.example/moved"
            [[registry]]
            prefix = "*.wild.example"
            insecure = true
            "#;
        assert_eq!(
            places(settings, "r.example/x"),
            [place("r.example", "x", Trust::Insecure)]
        );
        assert_eq!(
            places(settings, "r.example/team/x"),
            [place("other.example", "moved/x", Trust::Verified)]
        );
        assert_eq!(
            places(settings, "r.example/teams/x"),
            [place("r.example", "teams/x", Trust::Insecure)]
        );
        assert_eq!(
            places(settings, "a.wild.example/x"),
            [place("a.wild.example", "x", Trust::Insecure)]
        );
        assert_eq!(
            places(settings, "wild.example/x"),
            [place("wild.example", "x", Trust::Verified)]
        );
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bad, part) in [
            ("[[registry]]\nunknown = 1\nprefix = 'a.b'", "unknown"),
            ("[[registry]]\ninsecure = true", "needs a prefix"),
            ("[[registry]]\nlocation = 'https://a.b'", "not of the form"),
            ("nonsense", "expected"),
        ] {
            std::fs::write(file.path(), bad).unwrap();
            let message = Registries::read(file.path()).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains('\n'), "{message}");
        }
        std::fs::write(file.path(), "[[registry]]\nprefix = 'a.b'\nblocked = true").unwrap();
        let read = Registries::read(file.path()).unwrap();
        assert!(
            read.places(&Reference::parse("a.b/c").unwrap())
                .unwrap_err()
                .to_string()
                .contains("blocked")
        );
    }
}
