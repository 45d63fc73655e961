//! The binary under test, with a store of its own.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::Registry;

/// Bryo with a private root, state and run directory, gone with this value.
pub struct Bryo {
    dir: TempDir,
}

/// What a finished command left.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    line: String,
}

impl Bryo {
    /// An empty store.
    pub fn new() -> Bryo {
        let dir = tempfile::Builder::new()
            .prefix("bryo-")
            .tempdir()
            .expect("a temporary directory");
        Bryo { dir }
    }

    /// A store with `name` (as in [`Registry::image`]) pulled from the shared registry, and the image's full name.
    pub fn with_image(name: &str) -> (Bryo, String) {
        let (bryo, registry) = (Bryo::new(), Registry::shared());
        let image = registry.image(name);
        bryo.ok(["pull", "-q", &image]);
        (bryo, image)
    }

    /// The same for all tests of a binary, in a `static`, which is not dropped: a shell waits for this process's end,
    /// whatever ends it, and removes the store then, of gigabytes. Volumes are not looked after.
    pub fn shared_by_all(name: &str) -> (Bryo, String) {
        const WHEN_ALL_ARE_THROUGH: &str = r#"read -r _; "$1" ps -aq | xargs -r "$1" rm -f; rm -rf "$2""#;
        let (bryo, image) = Bryo::with_image(name);
        let program = bryo.command(["ps"]).get_program().to_owned();
        let mut heir = bryo.command_of("sh", ["-c", WHEN_ALL_ARE_THROUGH, "heir"]);
        // Not in our group: what is typed to end the tests is not for it.
        heir.process_group(0)
            .arg(program)
            .arg(bryo.dir())
            .stdin(Stdio::piped());
        let heir = heir.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        // It is told by the end of its input, which only this process holds open.
        std::mem::forget(heir.expect("a shell"));
        (bryo, image)
    }

    /// The directory that holds everything of this store and nothing else.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
    /// `$BRYO_ROOT`.
    pub fn root(&self) -> PathBuf {
        self.dir().join("root")
    }
    /// `$BRYO_STATE`.
    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }
    /// A path for the test's own files, outside the store.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The command, not yet started: for tests that need its standard input, its pid or other variables.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command_of(binary(), args)
    }

    /// The same by another `program`: a copy of the tool.
    pub fn command_of<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("BRYO_ROOT", self.root())
            .env("BRYO_STATE", self.state())
            .env("BRYO_RUN", self.dir().join("run"))
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end, at most ten minutes.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        Done::of(&mut self.command(args))
    }

    /// Runs, expects success and nothing else than the answer; gives standard output.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let done = self.run(args);
        assert!(done.status.success(), "{done}");
        done.stdout
    }

    /// Runs, expects this exit code; gives standard error.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = S>) -> String {
        let done = self.run(args);
        assert_eq!(done.status.code(), Some(code), "{done}");
        done.stderr
    }

    /// Runs a shell script in a fresh container of `image`, expects success; gives standard output.
    #[track_caller]
    pub fn sh(&self, image: &str, script: &str) -> String {
        self.ok(["run", "--rm", image, "sh", "-ec", script])
    }
}

impl Drop for Bryo {
    /// Ends containers that a failed test left, so that their mounts and processes do not outlive it.
    fn drop(&mut self) {
        let running = self.run(["ps", "-aq"]);
        for id in running.stdout.split_whitespace() {
            // Best effort: the test has its verdict already.
            drop(self.run(["rm", "-f", id]));
        }
        // What is in volumes may belong to other ids, and could not be removed with the directory.
        if self.state().join("volumes").exists() {
            drop(self.run(["volume", "prune", "-af"]));
        }
    }
}

impl Done {
    /// Runs a prepared command to its end; one that takes more than ten minutes is killed and fails the test.
    pub fn of(command: &mut Command) -> Done {
        let line = format!("{command:?}");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{line}: {error}"));
        let watch = Watchdog::over(child.id());
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().expect("its output");
        drop(watch);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
            line,
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done {
            status,
            stdout,
            stderr,
            line,
        } = self;
        write!(f, "{line}\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Kills a process after ten minutes unless dropped before.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

impl Watchdog {
    fn over(pid: u32) -> Watchdog {
        let (stop, stopped) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if stopped.recv_timeout(Duration::from_secs(600))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                eprintln!("process {pid} hangs: killed after ten minutes");
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
                // It may have ended in between.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        });
        Watchdog(Some(stop))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// The binary under test: `$BRYO_BIN`, else the one cargo built with this test.
fn binary() -> PathBuf {
    std::env::var_os("BRYO_BIN").map_or(env!("CARGO_BIN_EXE_bryo").into(), PathBuf::from)
}

/// Where `list-tree` is, built by cargo as an example beside the tests.
pub fn lister_directory() -> String {
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().unwrap().parent().unwrap().join("examples");
    assert!(
        examples.join("list-tree").exists(),
        "cargo builds examples with all tests; with one test, add --examples"
    );
    examples.to_str().unwrap().to_owned()
}

/// Whether this user has a range of ids in /etc/subuid, so that owners other than root exist in containers.
pub fn has_id_range() -> bool {
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid)
        .expect("the user database")
        .map(|user| user.name);
    let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mut owners = ranges.lines().filter_map(|line| line.split(':').next());
    owners.any(|owner| Some(owner) == name.as_deref() || owner == uid.to_string())
}

/// The tool with a terminal for its output and errors, by script(1).
pub fn on_terminal(tool: &Command) -> Command {
    let words: Vec<String> = std::iter::once(tool.get_program())
        .chain(tool.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("/usr/bin/script");
    script
        .args(["-qec", &words.join(" "), "/dev/null"])
        .stdin(Stdio::null());
    for (name, value) in tool.get_envs() {
        script.env(name, value.unwrap());
    }
    script.env("SHELL", "/bin/sh");
    script
}
