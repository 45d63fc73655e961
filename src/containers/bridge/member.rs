//! Who is on a network now? A file per container below `$BRYO_RUN/networks/<id>/`, of its supervisor's, which has the network's
//! namespace open. A file whose supervisor is gone says nothing; who joins next removes it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Attached;
use crate::containers::amended::Amended;
use crate::containers::process::{self, Process};
use crate::containers::{Error, names};
use crate::net::namespace_number;
use crate::store::write::{Durability, replace};
use crate::store::{Store, root};

/// A container on a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    supervisor: Process,
    /// The supervisor's descriptor of the network's namespace, and which one that is.
    descriptor: i32,
    namespace: u64,
    /// The container's id.
    pub container: String,
    /// What it is called, but for amendments.
    pub name: String,
    /// What else it is called here.
    pub aliases: Vec<String>,
    /// Its addresses and the like.
    pub attached: Attached,
}

/// Those that live.
#[derive(Debug, Default)]
pub struct Members(Vec<Member>);

impl Member {
    /// This process's container.
    pub(in crate::containers) fn new(
        (container, name): (&str, &str),
        aliases: &[String],
        attached: Attached,
        namespace: &OwnedFd,
    ) -> std::io::Result<Member> {
        Ok(Member {
            supervisor: Process::own()?,
            descriptor: namespace.as_raw_fd(),
            namespace: namespace_number(namespace)?,
            container: container.into(),
            name: name.into(),
            aliases: aliases.to_vec(),
            attached,
        })
    }

    /// Where the members of a network are.
    pub(super) fn directory(run: &Path, network: &str) -> PathBuf {
        run.join("networks").join(network)
    }

    /// Has others see it. Under the network's lock.
    pub(in crate::containers) fn write(&self, run: &Path) -> Result<PathBuf, Error> {
        let directory = Member::directory(run, &self.attached.id);
        let path = directory.join(&self.container);
        let text = serde_json::to_vec(self).map_err(|source| Error::Json {
            path: path.clone(),
            source,
        })?;
        replace(&directory, &path, &text, Durability::Volatile)?;
        Ok(path)
    }

    /// Its supervisor is there, and no zombie.
    fn lives(&self) -> std::io::Result<bool> {
        match self.supervisor.open()? {
            Some(pidfd) => Ok(!process::ends(&pidfd, Some(Duration::ZERO))?),
            None => Ok(false),
        }
    }

    /// The network's namespace, if that is what lies there.
    fn open(&self) -> Option<OwnedFd> {
        let path = format!("/proc/{}/fd/{}", self.supervisor.pid, self.descriptor);
        // Another file may have the number by now.
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let namespace = OwnedFd::from(options.open(path).ok()?);
        (namespace_number(&namespace).ok()? == self.namespace).then_some(namespace)
    }

    /// Its name, as it is now.
    fn called(&self, store: &Store) -> String {
        let amended = Amended::read(&store.container(&self.container)).name;
        amended.unwrap_or_else(|| self.name.clone())
    }

    /// Is it called so on this network? As Docker has it: by its name, its short id and its aliases, alone or with the network's.
    fn is_called(&self, store: &Store, wanted: &str) -> bool {
        let wanted = match wanted.len().checked_sub(self.attached.network.len() + 1) {
            Some(length) if wanted.is_char_boundary(length) => {
                let (short, domain) = wanted.split_at(length);
                let own = domain
                    .strip_prefix('.')
                    .is_some_and(|rest| same(rest, &self.attached.network));
                if own { short } else { wanted }
            }
            _ => wanted,
        };
        let name = &self.called(store);
        let short = self.container.get(..12).unwrap_or_default();
        same(wanted, name) || same(wanted, short) || self.aliases.iter().any(|alias| same(wanted, alias))
    }
}

/// Names of hosts know no case.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

impl Members {
    /// Who is on the network of this id and lives.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn of(run: &Path, network: &str) -> Result<Members, Error> {
        Ok(Members::look(run, network)?.0)
    }

    /// The same, and removes what those have left who live no more. Under the network's lock.
    ///
    /// # Errors
    /// As for [`Members::of`].
    pub(in crate::containers) fn swept(run: &Path, network: &str) -> Result<Members, Error> {
        let (members, stale) = Members::look(run, network)?;
        for path in stale {
            // One that stays is seen to be stale.
            let _ = fs::remove_file(path);
        }
        Ok(members)
    }

    /// Who lives, and the files of others.
    fn look(run: &Path, network: &str) -> Result<(Members, Vec<PathBuf>), Error> {
        let (mut members, mut stale) = (Vec::new(), Vec::new());
        for entry in root::list(&Member::directory(run, network))? {
            let name = entry.file_name();
            if !name
                .to_str()
                .is_some_and(|id| id.len() == 64 && names::is_id_prefix(id))
            {
                continue;
            }
            let text = match fs::read(entry.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text.map_err(Error::io("read", &entry.path()))?,
            };
            // Written whole, so what cannot be read is nobody's of ours.
            let Ok(member) = serde_json::from_slice::<Member>(&text) else {
                continue;
            };
            let lives = member.lives();
            match lives.map_err(Error::io("look at the supervisor of", &entry.path()))? {
                true => members.push(member),
                false => stale.push(entry.path()),
            }
        }
        members.sort_by(|a, b| a.container.cmp(&b.container));
        Ok((Members(members), stale))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.0.iter()
    }

    /// Nobody is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The network's namespace; none if nobody has it.
    pub(in crate::containers) fn namespace(&self) -> Option<OwnedFd> {
        self.0.iter().find_map(Member::open)
    }

    /// How who has this address is called, with the network's name behind, as Docker has it; none if nobody has it.
    pub(in crate::containers) fn names(&self, store: &Store, address: IpAddr) -> Option<Vec<String>> {
        let has = |member: &&Member| member.attached.given.iter().any(|given| given.address == address);
        let names = self.0.iter().filter(has);
        let names: Vec<String> = names
            .map(|member| format!("{}.{}", member.called(store), member.attached.network))
            .collect();
        (!names.is_empty()).then_some(names)
    }

    /// The addresses of those that are called so; none if nobody is.
    pub(in crate::containers) fn addresses(&self, store: &Store, name: &str) -> Option<Vec<IpAddr>> {
        let called: Vec<&Member> = self
            .0
            .iter()
            .filter(|member| member.is_called(store, name))
            .collect();
        let given = called.iter().flat_map(|member| &member.attached.given);
        (!called.is_empty()).then(|| given.map(|given| given.address).collect())
    }
}
