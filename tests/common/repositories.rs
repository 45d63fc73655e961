//! Git repositories that a test serves: by git's own daemon, which answers each connection of a listener of ours, or as
//! plain files over HTTP ("dumb"), which knows no shallow fetches.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Done;
use super::hostile::{Answer, Hostile, Request};

/// A directory of repositories, served.
pub struct Repositories {
    directory: PathBuf,
    /// `HOST:PORT` of the daemon.
    pub address: String,
    connections: Arc<AtomicUsize>,
}

impl Repositories {
    pub fn serve(directory: &Path) -> Repositories {
        fs::create_dir_all(directory).expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, base) = (Arc::clone(&connections), directory.to_owned());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = OwnedFd::from(connection.expect("a connection"));
                counted.fetch_add(1, Ordering::SeqCst);
                let mut daemon = git();
                daemon.args(["daemon", "--inetd", "--export-all"]);
                daemon.arg(format!("--base-path={}", base.display()));
                daemon.stdin(connection.try_clone().expect("a descriptor"));
                daemon.stdout(connection).stderr(Stdio::null());
                drop(daemon.spawn().expect("git daemon"));
            }
        });
        Repositories {
            directory: directory.to_owned(),
            address,
            connections,
        }
    }

    /// So many connections came since this was asked last.
    pub fn connections(&self) -> usize {
        self.connections.swap(0, Ordering::SeqCst)
    }

    /// The URL of a repository at the daemon.
    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    /// A repository, made if it is not there.
    pub fn repository(&self, name: &str) -> Repository {
        self.repository_of(name, &[])
    }

    /// The same, made with these flags.
    pub fn repository_of(&self, name: &str, flags: &[&str]) -> Repository {
        let directory = self.directory.join(name);
        if !directory.exists() {
            fs::create_dir(&directory).expect("a directory");
            let made = Repository(directory);
            made.git(&[&["init", "-q", "-b", "main"], flags].concat());
            return made;
        }
        Repository(directory)
    }

    /// Serves all as plain files. Each request must have this Authorization, if it is one.
    pub fn over_http(&self, authorization: Option<&'static str>) -> Hostile {
        let directory = self.directory.clone();
        Hostile::serve(move |request: &Request| {
            if authorization.is_some() && request.header("authorization") != authorization {
                return Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"git\"");
            }
            let path = request.path.split('?').next().unwrap_or_default();
            let (name, file) = path[1..].split_once(".git/").unwrap_or_default();
            match fs::read(directory.join(name).join(".git").join(file)) {
                Ok(bytes) if !name.is_empty() => Answer::new(200, bytes),
                _ => Answer::new(404, ""),
            }
        })
    }
}

/// One repository, with its files.
pub struct Repository(PathBuf);

impl Repository {
    /// Carries out a command of git. Gives what it prints.
    #[track_caller]
    pub fn git(&self, words: &[&str]) -> String {
        let done = Done::of(git().current_dir(&self.0).args(words));
        assert!(done.status.success(), "git {words:?}: {done}");
        done.stdout.trim().to_string()
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("the directories above");
        fs::write(path, text).expect("a file");
    }

    /// Commits all that there is. Gives the commit.
    #[track_caller]
    pub fn commit(&self) -> String {
        self.git(&["add", "-A", "."]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
        // For those who read it as plain files.
        self.git(&["update-server-info"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Has another repository at this commit as a submodule.
    #[track_caller]
    pub fn submodule(&self, path: &str, url: &str, commit: &str) {
        let text = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n\tupdate = checkout\n");
        self.write(".gitmodules", &text);
        let entry = format!("160000,{commit},{path}");
        self.git(&["update-index", "--add", "--cacheinfo", &entry]);
        fs::create_dir_all(self.path(path)).expect("its place");
        self.git(&["add", ".gitmodules"]);
        self.git(&["commit", "-q", "-m", "a submodule"]);
        self.git(&["update-server-info"]);
    }
}

/// Git, whatever the user who tests has configured.
fn git() -> Command {
    let mut git = Command::new("git");
    git.envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@b"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@b"),
    ]);
    git
}
