//! What does a git repository hold at a commit? First its name is resolved, which costs one question and decides whether a
//! step was made before; only then are files fetched, of this commit alone if the server can, with its submodules.
//!
//! It is the user's own program that does it (`command`): as git is configured, as it is kept safe.

mod address;
mod command;

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use address::is_commit;
pub use address::{Address, AddressError};
pub(super) use command::{Access, NamedBy};
use command::{Git, Repository, remove};

use super::source::Context;
use super::workspace::io_error;
use super::{Error, Workspace};
use crate::store::Store;

/// Why a repository was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// No program.
    #[error("cannot fetch {0}: the program git is not in PATH (install git)")]
    Missing(String),
    /// The program could not be run.
    #[error("cannot run git for {0}")]
    Run(String, #[source] io::Error),
    /// It failed.
    #[error("cannot fetch {remote}: {reason}")]
    Failed {
        /// The repository.
        remote: String,
        /// Git's own words, in a line.
        reason: String,
        /// All of them, as far as they are kept.
        all: String,
    },
    /// Its submodules were not fetched.
    #[error(
        "cannot fetch the submodules of {remote}: {reason} (only logins that the build was given are for them: \
         --ssh default, --secret id=GIT_AUTH_TOKEN)"
    )]
    Submodules {
        /// The repository.
        remote: String,
        /// Git's own words, in a line.
        reason: String,
    },
    /// The repository has no such branch or tag.
    #[error("{remote} has no {name} (a commit needs all its digits)")]
    NoRef {
        /// The repository.
        remote: String,
        /// As given.
        name: String,
    },
    /// It has another commit.
    #[error("{remote}: expected the commit {wanted}, and it is {found}")]
    Checksum {
        /// The repository.
        remote: String,
        /// As given.
        wanted: String,
        /// What it has.
        found: String,
    },
    /// The directory of it that was named.
    #[error("{remote} has no directory {subdir:?}")]
    Subdir {
        /// The repository.
        remote: String,
        /// As given.
        subdir: String,
        /// Why not.
        source: io::Error,
    },
    /// A repository by ssh, named in a Dockerfile.
    #[error("cannot fetch {0}: no SSH agent was given (--ssh default, with SSH_AUTH_SOCK set)")]
    NoAgent(String),
}

/// What a name in a repository means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) id: String,
    /// The whole name of the ref by which it can be fetched; `None`: by its id alone.
    name: Option<String>,
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}", self.id),
            None => f.write_str(&self.id),
        }
    }
}

impl Address {
    /// Asks which commit is meant; of one that is named by its id without any question.
    pub(super) fn resolve(&self, store: &Store, access: Access<'_>) -> Result<Commit, Error> {
        if let Some(id) = self.wanted.as_ref().filter(|wanted| is_commit(wanted)) {
            self.agree(&[id])?;
            let (id, name) = (id.clone(), None);
            return Ok(Commit { id, name });
        }
        let workspace = Workspace::new(store)?;
        let git = Git::new(self, access, workspace.path())?;
        let nowhere = Repository {
            git_dir: workspace.path().join("none"),
            tree: workspace.path().to_owned(),
        };
        let name = self.wanted.as_deref().unwrap_or("HEAD");
        let peeled = format!("{name}^{{}}");
        let said = git.run(&nowhere, &["ls-remote", "-q", "--", &self.remote, name, &peeled])?;
        let found = chosen(&said, name).ok_or_else(|| GitError::NoRef {
            remote: self.remote.clone(),
            name: name.into(),
        })?;
        self.agree(&[&found.commit, &found.object])?;
        Ok(Commit {
            id: found.commit,
            name: Some(found.name),
        })
    }

    /// Is one of these what the checksum says?
    fn agree(&self, found: &[&String]) -> Result<(), GitError> {
        match &self.checksum {
            Some(wanted) if !found.iter().any(|id| id.starts_with(wanted.as_str())) => {
                Err(GitError::Checksum {
                    remote: self.remote.clone(),
                    wanted: wanted.clone(),
                    found: found.first().map_or_else(String::new, |id| id.to_string()),
                })
            }
            _ => Ok(()),
        }
    }

    /// All that the files depend on: two addresses of the same text have the same files.
    pub(super) fn identity(&self, commit: &Commit) -> Vec<String> {
        let keep = self.keep_git_dir == Some(true);
        // With its directory it also shows where it came from, and by which name.
        let origin = match keep {
            true => format!("{} {:?}", self.remote, commit.name),
            false => String::new(),
        };
        let switches = format!("{keep} {}", self.submodules);
        vec![commit.id.clone(), self.subdir.clone(), switches, origin]
    }

    /// Fetches the files of a commit.
    pub(super) fn check_out(
        &self,
        store: &Store,
        access: Access<'_>,
        commit: &Commit,
    ) -> Result<Context, Error> {
        let workspace = Workspace::new(store)?;
        let tree = workspace.path().join("tree");
        fs::create_dir(&tree).map_err(io_error("make", &tree))?;
        let keep = self.keep_git_dir == Some(true);
        let git_dir = match keep {
            true => tree.join(".git"),
            false => workspace.path().join("git"),
        };
        let at = Repository { git_dir, tree };
        let git = Git::new(self, access, workspace.path())?;
        self.fetch(&git, &at, commit)?;
        if self.submodules && at.tree.join(".gitmodules").symlink_metadata().is_ok() {
            self.fetch_submodules(&git.for_submodules(), &at)?;
        }
        let tidied = match keep {
            true => remove(&at.git_dir.join("FETCH_HEAD")),
            false => remove_links(&at.tree),
        };
        tidied.map_err(io_error("tidy up", &at.tree))?;
        Context::fetched(workspace, &at.tree, &self.subdir).map_err(|source| {
            let (remote, subdir) = (self.remote.clone(), self.subdir.clone());
            GitError::Subdir {
                remote,
                subdir,
                source,
            }
            .into()
        })
    }

    fn fetch(&self, git: &Git<'_>, at: &Repository, commit: &Commit) -> Result<(), GitError> {
        // Older programs do not know the flag.
        let format = (commit.id.len() == 64).then_some("--object-format=sha256");
        git.run(at, &["init", "-q"].into_iter().chain(format).collect::<Vec<_>>())?;
        git.run(at, &["config", "remote.origin.url", &self.remote])?;
        let object = format!("{}^{{commit}}", commit.id);
        let mut why = None;
        for way in self.ways(commit) {
            match git.run(at, &way) {
                Ok(_) if git.run(at, &["cat-file", "-e", &object]).is_ok() => {
                    git.run(at, &["checkout", "-q", "--force", "--detach", &commit.id])?;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if error.is_inability() => why = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(why.unwrap_or_else(|| GitError::NoRef {
            remote: self.remote.clone(),
            name: commit.id.clone(),
        }))
    }

    /// The ways to fetch a commit, the cheapest first.
    fn ways(&self, commit: &Commit) -> Vec<Vec<String>> {
        let wanted = match &commit.name {
            // Under its own name, by which `git describe` finds it.
            Some(name) if name.starts_with("refs/heads/") || name.starts_with("refs/tags/") => {
                format!("+{name}:{name}")
            }
            Some(name) => name.clone(),
            None => commit.id.clone(),
        };
        let way = |flags: &[&str], refs: &[&str]| {
            let always = ["fetch", "-q", "-u", "--no-tags"];
            let words = [&always[..], flags, &["--", &self.remote], refs].concat();
            words.into_iter().map(String::from).collect()
        };
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        vec![
            way(&["--depth=1"], &[&wanted]),
            // The server gives out all or nothing.
            way(&[], &[&wanted]),
            // The name has come to mean another commit.
            way(&["--depth=1"], &[&commit.id]),
            way(&[], &all),
        ]
    }

    /// All submodules, and theirs.
    fn fetch_submodules(&self, git: &Git<'_>, at: &Repository) -> Result<(), GitError> {
        // No other way of updating that .gitmodules could ask for.
        let update = [
            "submodule",
            "-q",
            "update",
            "--init",
            "--recursive",
            "--checkout",
            "--force",
        ];
        let short = [&update[..], &["--depth=1"]].concat();
        let done = match git.run(at, &short) {
            Err(error) if error.is_inability() => git.run(at, &update),
            done => done,
        };
        match done {
            Err(GitError::Failed { remote, reason, .. }) => Err(GitError::Submodules { remote, reason }),
            done => done.map(drop),
        }
    }
}

impl GitError {
    /// Is it that this server cannot give out a single commit, or not this one?
    fn is_inability(&self) -> bool {
        let words = [
            "depth",
            "shallow",
            "not our ref",
            "unadvertised object",
            "Server does not allow request",
        ];
        let missing = ["couldn't find remote ref", "did not contain"];
        match self {
            GitError::Failed { all, .. } => words.iter().chain(&missing).any(|word| all.contains(word)),
            _ => false,
        }
    }
}

/// A line of `ls-remote`, and what an annotated tag leads to.
struct Found {
    name: String,
    object: String,
    commit: String,
}

/// The ref that a checkout of `name` would choose: a whole name, else a branch, else a tag.
fn chosen(said: &str, name: &str) -> Option<Found> {
    let object = |wanted: &str| {
        let lines = said.lines().filter_map(|line| line.split_once('\t'));
        let mut objects = lines.filter(|(id, name)| *name == wanted && is_commit(id));
        objects.next().map(|(id, _)| id.to_string())
    };
    let below = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    let head = (name == "HEAD").then(|| name.to_string());
    let names = [below("refs/"), below("refs/heads/"), below("refs/tags/")];
    head.into_iter().chain(names).find_map(|name| {
        let tagged = object(&name)?;
        let commit = object(&format!("{name}^{{}}")).unwrap_or_else(|| tagged.clone());
        Some(Found {
            name,
            object: tagged,
            commit,
        })
    })
}

/// Removes the `.git` files of submodules, which lead to a directory that is not kept. Git itself lets no file of a
/// repository have that name.
fn remove_links(top: &Path) -> io::Result<()> {
    let mut ahead = vec![top.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => ahead.push(entry.path()),
                false if entry.file_name() == ".git" => fs::remove_file(entry.path())?,
                false => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_a_checkout_would_choose() {
        let [branch, tag, object, pull] = ["a", "b", "c", "d"].map(|digit| digit.repeat(40));
        let said = format!(
            "{branch}\trefs/heads/both\n{pull}\trefs/heads/x/both\n{object}\trefs/tags/both\n\
             {tag}\trefs/tags/both^{{}}\nnonsense\trefs/heads/bad\n{pull}\trefs/pull/1/head\n{branch}\tHEAD\n"
        );
        let found = |name: &str| chosen(&said, name).map(|found| (found.name, found.commit));
        assert_eq!(found("both"), Some(("refs/heads/both".into(), branch.clone())));
        assert_eq!(
            found("refs/tags/both"),
            Some(("refs/tags/both".into(), tag.clone()))
        );
        assert_eq!(found("tags/both"), Some(("refs/tags/both".into(), tag)));
        assert_eq!(found("pull/1/head"), Some(("refs/pull/1/head".into(), pull)));
        assert_eq!(found("HEAD"), Some(("HEAD".into(), branch)));
        assert_eq!(chosen(&said, "refs/tags/both").unwrap().object, object);
        assert_eq!(found("bad"), None);
        assert_eq!(found("none"), None);
    }
}
