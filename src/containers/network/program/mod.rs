//! Which program carries a container's packets instead of the built-in path? What `--network pasta` and `--network
//! slirp4netns` mean, and what the program is told; who starts it is `supervisor/hired`.

mod pasta;
mod slirp;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{NetworkError, Published};
use crate::host::probe::on_path;
use crate::net::{Port, Resolvers, Routes};

pub use pasta::Pasta;
pub use slirp::Slirp;

/// A program, and its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// passt's `pasta`.
    Pasta(Pasta),
    /// `slirp4netns`.
    Slirp(Slirp),
}

/// Where a program's way of working differs, for whoever starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// passt's `pasta`.
    Pasta,
    /// `slirp4netns`.
    Slirp,
}

impl Kind {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pasta => "pasta",
            Kind::Slirp => "slirp4netns",
        }
    }

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Kind> {
        [Kind::Pasta, Kind::Slirp]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl Program {
    /// `--network PROGRAM[:OPTION,…]`; `None`: it is none.
    ///
    /// # Errors
    /// An option that it does not have, or that is not for a container.
    pub fn parse(text: &str) -> Result<Option<Program>, NetworkError> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let Some(kind) = Kind::of(name) else {
            return Ok(None);
        };
        let program = match kind {
            Kind::Pasta => Pasta::parse(options).map(Program::Pasta),
            Kind::Slirp => Slirp::parse(options).map(Program::Slirp),
        };
        program.map(Some).map_err(|why| NetworkError::Option {
            text: text.into(),
            why,
        })
    }

    /// Which of them it is.
    pub fn kind(&self) -> Kind {
        match self {
            Program::Pasta(_) => Kind::Pasta,
            Program::Slirp(_) => Kind::Slirp,
        }
    }

    /// Where it is, by this PATH.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(&self, path: Option<OsString>) -> Result<PathBuf, NetworkError> {
        let name = self.kind().name();
        let path = path.unwrap_or_default();
        // What lies in the working directory is nobody's choice.
        let found = on_path(&path, name).find(|program| program.is_absolute());
        found.ok_or(NetworkError::Missing(name))
    }

    /// The ports that it is to publish: what it cannot have is refused, what it leaves out is left out.
    ///
    /// # Errors
    /// A port of IPv6, for one that publishes by IPv4 alone.
    pub fn fit(&self, published: &[Published], routes: &Routes) -> Result<Vec<Published>, NetworkError> {
        match self {
            Program::Pasta(pasta) => Ok(pasta.fit(published, routes)),
            Program::Slirp(_) => slirp::fit(published),
        }
    }

    /// The words that say what it is to do; who starts it adds those that say for whom.
    pub fn words(&self, ports: &[Port]) -> Vec<String> {
        match self {
            Program::Pasta(pasta) => pasta.words(ports),
            Program::Slirp(slirp) => slirp.words(),
        }
    }

    /// The container's addresses, as far as they are known before it starts.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            // The host's, whatever they are then.
            Program::Pasta(_) => Vec::new(),
            Program::Slirp(slirp) => vec![slirp.address().into()],
        }
    }

    /// The address by which the container reaches the host, if it was asked for.
    pub fn host(&self) -> Option<Ipv4Addr> {
        match self {
            Program::Pasta(pasta) => pasta.host(|| Routes::read().ok()?.gateway()),
            Program::Slirp(slirp) => slirp.host(),
        }
    }

    /// Whom the container asks for names.
    pub fn name_servers(&self, host: &Resolvers) -> Vec<IpAddr> {
        match self {
            Program::Pasta(pasta) => pasta.name_servers(host),
            Program::Slirp(slirp) => vec![slirp.name_server().into()],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let program = Program::parse("pasta").unwrap().unwrap();
        let missing = program.find(None).unwrap_err().to_string();
        assert!(missing.contains("pasta is not on PATH"), "{missing}");
        let file = dir.path().join("pasta");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(program.find(Some(dir.path().into())).is_err());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program.find(Some(dir.path().into())).unwrap(), file);
        assert!(program.find(Some(".".into())).is_err());
        assert_eq!(Program::parse("bridge").unwrap(), None);
    }
}
