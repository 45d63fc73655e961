//! A build context with a store of its own, and what a build of it said.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Bryo, Done, until};

/// A store that has busybox as `base`, and a directory to build from. The Dockerfile lies outside that, so that a
/// change of it is none of the context.
pub struct Project {
    pub bryo: Bryo,
}

/// A build that succeeded; the image is `made`.
#[derive(Debug)]
pub struct Built {
    /// The image's id.
    pub id: String,
    /// The instructions that were carried out, and those that the cache had.
    pub run: Vec<String>,
    pub cached: Vec<String>,
    /// All that was said.
    pub said: String,
}

impl Project {
    pub fn new() -> Project {
        Project::of("busybox")
    }

    /// The same with another image as `base`.
    pub fn of(image: &str) -> Project {
        let (bryo, image) = Bryo::with_image(image);
        bryo.ok(["tag", &image, "base"]);
        fs::create_dir(bryo.scratch("context")).expect("a directory");
        Project { bryo }
    }

    /// A path in the context.
    pub fn path(&self, path: &str) -> PathBuf {
        self.bryo.scratch("context").join(path)
    }

    /// Writes a file of the context, mode 0644, and the directories above it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("the directories above");
        fs::write(&path, text).expect("a file");
        mode(&path, 0o644);
    }

    /// The command that builds.
    pub fn command(&self, dockerfile: &str, flags: &[&str]) -> Command {
        let file = self.bryo.scratch("Dockerfile");
        fs::write(&file, dockerfile).expect("the Dockerfile");
        let mut command = self.bryo.command(["build", "-t", "made", "-f"]);
        command.arg(file).args(flags).arg(self.path(""));
        // What the machine that tests has set would be the build's, too.
        command.env_remove("SOURCE_DATE_EPOCH");
        command
    }

    /// Builds, expects success.
    #[track_caller]
    pub fn build(&self, dockerfile: &str, flags: &[&str]) -> Built {
        self.built(&mut self.command(dockerfile, flags))
    }

    /// Carries out a command that builds `made`, expects success.
    #[track_caller]
    pub fn built(&self, command: &mut Command) -> Built {
        let done = Done::of(command);
        assert!(done.status.success() && done.stdout.is_empty(), "{done}");
        let (mut run, mut cached) = (Vec::new(), BTreeSet::new());
        for line in done.stderr.lines() {
            let Some((number, rest)) = line.split_once(' ').filter(|(number, _)| number.starts_with('#'))
            else {
                continue;
            };
            if rest == "CACHED" {
                cached.insert(number.to_string());
            } else if rest.starts_with('[') && !rest.contains("] FROM ") {
                run.push((
                    number.to_string(),
                    rest.split_once("] ").expect("a title").1.to_string(),
                ));
            }
        }
        let (cached, run): (Vec<_>, Vec<_>) =
            run.into_iter().partition(|(number, _)| cached.contains(number));
        let texts = |list: Vec<(String, String)>| list.into_iter().map(|(_, text)| text).collect();
        Built {
            id: self.image("made", "{{.Id}}"),
            run: texts(run),
            cached: texts(cached),
            said: done.stderr,
        }
    }

    /// Builds, expects exit code 1; gives what was said.
    #[track_caller]
    pub fn fails(&self, dockerfile: &str, flags: &[&str]) -> String {
        let done = Done::of(&mut self.command(dockerfile, flags));
        assert_eq!(done.status.code(), Some(1), "{done}");
        done.stderr
    }

    /// What `inspect` says of an image.
    #[track_caller]
    pub fn image(&self, name: &str, template: &str) -> String {
        let said = self.bryo.ok(["image", "inspect", "--format", template, name]);
        said.trim_end().to_string()
    }

    /// The config of `made`.
    #[track_caller]
    pub fn config(&self) -> Value {
        serde_json::from_str(&self.image("made", "{{json .Config}}")).expect("JSON")
    }

    /// What a script prints in a container of `made`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let words = [
            "run",
            "--rm",
            "-u",
            "0",
            "--entrypoint",
            "/bin/sh",
            "made",
            "-ec",
            script,
        ];
        self.bryo.ok(words)
    }

    /// `uid/gid` of a file of `made`, as the topmost layer that has it says: what a user without a range of ids cannot see
    /// in a container.
    #[track_caller]
    pub fn owner(&self, path: &str) -> String {
        let layers: Vec<String> =
            serde_json::from_str(&self.image("made", "{{json .RootFS.Layers}}")).expect("a list of layers");
        for layer in layers.iter().rev() {
            let tar = format!("{}.tar", layer.trim_start_matches("sha256:"));
            let mut list = Command::new("tar");
            list.args(["--numeric-owner", "-tvf"])
                .arg(self.bryo.root().join("layers").join(tar));
            let done = Done::of(&mut list);
            let mut lines = done
                .stdout
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            if let Some(line) =
                lines.find(|line| line.get(5).is_some_and(|name| name.trim_matches('/') == path))
            {
                return line[1].to_string();
            }
        }
        panic!("no layer has {path}");
    }

    /// Fails unless the store is whole and nothing of a builder lies about.
    #[track_caller]
    pub fn is_clean(&self) {
        self.bryo.ok(["store", "check"]);
        let left = self.left();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Prunes until the same holds: the processes of a killed builder take a moment to die, and hold its locks meanwhile.
    #[track_caller]
    pub fn becomes_clean(&self) {
        until("the end of all its processes", || {
            self.bryo.ok(["image", "prune", "-f"]);
            self.left().is_empty()
        });
        self.is_clean();
    }

    /// What lies where only those who work have something.
    fn left(&self) -> Vec<PathBuf> {
        let (root, state) = (self.bryo.root(), self.bryo.state());
        [
            root.join("tmp"),
            root.join("claims"),
            state.join("builds"),
            state.join("containers"),
        ]
        .into_iter()
        .flat_map(|directory| fs::read_dir(directory).into_iter().flatten())
        .map(|entry| entry.expect("an entry").path())
        .collect()
    }
}

/// Sets a file's permissions.
pub fn mode(path: &Path, bits: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("its mode");
}

/// Gives a command this as its standard input and runs it to its end.
pub fn fed(command: &mut Command, text: &str) -> Done {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("its text");
    std::io::Seek::rewind(&mut file).expect("its start");
    Done::of(command.stdin(Stdio::from(file)))
}
