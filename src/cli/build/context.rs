//! Where are the Dockerfile and the files of the context? A directory, a git repository, an archive by URL or on standard
//! input, or a Dockerfile alone, by either.

use std::fs;
use std::io::{Cursor, Read, stdin};
use std::path::{Path, PathBuf};

use crate::build::dockerfile::MAX_TEXT;
use crate::build::patterns::ignore::Ignore;
use crate::build::{Context, Fetched, Named, Order, Origin, Progress, Remote, Secret, begins_archive};
use crate::cli::report::Failure;
use crate::images::archive;
use crate::store::Store;

/// Bytes that tell an archive from a Dockerfile.
const HEAD: u64 = 512;

/// What the flags say.
pub(super) struct Given<'a> {
    pub(super) ignore: Option<&'a Path>,
    pub(super) file: Option<&'a Path>,
    pub(super) path: &'a str,
    /// Logins for what is fetched.
    pub(super) secrets: &'a [Secret],
    pub(super) agent: Option<&'a Path>,
    /// BUILDKIT_CONTEXT_KEEP_GIT_DIR.
    pub(super) keep_git_dir: bool,
}

/// What is there.
pub(super) struct Found {
    /// The Dockerfile's name, for messages.
    pub(super) name: String,
    /// Its text.
    pub(super) dockerfile: String,
    /// `None`: the Dockerfile came alone.
    pub(super) context: Option<Context>,
    /// Where both were fetched from.
    pub(super) origin: Origin,
}

impl Given<'_> {
    pub(super) fn find(&self, store: &Store, progress: &dyn Progress) -> Result<Found, Failure> {
        if let Some(remote) = self.remote()? {
            let fetched = remote.fetch(store, self.secrets, self.agent, progress);
            let (found, origin) = match fetched.map_err(|error| Failure::of(&error))? {
                Fetched::Files(context, material) => (
                    self.fetched(*context)?,
                    Origin {
                        // Not if it came on standard input.
                        dockerfile: (!self.is_beside()).then(|| material.clone()),
                        context: Some(material),
                    },
                ),
                Fetched::Text(text, material) => (
                    self.alone(&mut text.as_slice(), "a Dockerfile by URL")?,
                    Origin {
                        dockerfile: Some(material),
                        context: None,
                    },
                ),
            };
            return Ok(Found { origin, ..found });
        }
        match (self.path, self.file) {
            ("-", _) => self.standard_input(store),
            _ if self.is_beside() => {
                let dockerfile = self.text_of(&mut stdin())?;
                Ok(Found {
                    name: "Dockerfile".into(),
                    dockerfile,
                    context: Some(self.without_ignored(self.directory()?)?),
                    origin: Origin::default(),
                })
            }
            _ => self.in_directory(),
        }
    }

    /// Is the Dockerfile that on standard input?
    fn is_beside(&self) -> bool {
        self.file == Some(Path::new("-"))
    }

    /// What is to be fetched. A directory of that name comes first.
    fn remote(&self) -> Result<Option<Remote>, Failure> {
        if Path::new(self.path).is_dir() {
            return Ok(None);
        }
        let remote = Remote::of_context(self.path);
        let remote = remote.map_err(|error| Failure::new(format!("unable to prepare context: {error}")))?;
        Ok(remote.map(|mut remote| {
            if self.keep_git_dir {
                remote.keep_git_dir();
            }
            remote
        }))
    }

    fn standard_input(&self, store: &Store) -> Result<Found, Failure> {
        let mut head = Vec::new();
        let read = stdin().take(HEAD).read_to_end(&mut head);
        read.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
        let archive = begins_archive(&head);
        let mut all = Cursor::new(head).chain(stdin());
        if !archive {
            return self.alone(&mut all, "a Dockerfile on standard input");
        }
        let context = Context::unpack(store, Box::new(all), "the context on standard input");
        self.fetched(context.map_err(|error| Failure::of(&error))?)
    }

    /// A Dockerfile without files.
    fn alone(&self, text: &mut dyn Read, what: &str) -> Result<Found, Failure> {
        if self.file.is_some() {
            return Err(Failure::new(format!("-f cannot be used with {what}")).code(125));
        }
        Ok(Found {
            name: "Dockerfile".into(),
            dockerfile: self.text_of(text)?,
            context: None,
            origin: Origin::default(),
        })
    }

    /// A Dockerfile in its context, whose files lie in no directory of the user; or on standard input beside it.
    fn fetched(&self, context: Context) -> Result<Found, Failure> {
        let read = |name: &str| {
            let bytes = context.read(name, MAX_TEXT);
            bytes.map_err(|error| Failure::new(format!("failed to read dockerfile: {name}: {error}")))
        };
        let (name, dockerfile) = match self.file {
            _ if self.is_beside() => (
                "Dockerfile".to_string(),
                Some(self.text_of(&mut stdin())?.into_bytes()),
            ),
            Some(file) => {
                let name = file.display().to_string();
                let bytes = read(&name)?;
                (name, bytes)
            }
            None => match (read("Dockerfile")?, read("Containerfile")?) {
                (None, Some(bytes)) => ("Containerfile".into(), Some(bytes)),
                (bytes, _) => ("Dockerfile".into(), bytes),
            },
        };
        let bytes = dockerfile.ok_or_else(|| {
            Failure::new(format!(
                "failed to read dockerfile: open {name}: no such file or directory"
            ))
        })?;
        let ignored = [
            format!("{name}.dockerignore"),
            ".dockerignore".into(),
            ".containerignore".into(),
        ];
        let context = match self.ignore {
            Some(_) => self.without_ignored(context)?,
            None => ignoring(context, &ignored)?,
        };
        Ok(Found {
            dockerfile: text(&name, bytes)?,
            context: Some(context),
            origin: Origin::default(),
            name,
        })
    }

    fn in_directory(&self) -> Result<Found, Failure> {
        let context = Path::new(self.path);
        let file = match self.file {
            Some(file) => file.to_owned(),
            None => {
                let (docker, podman) = (context.join("Dockerfile"), context.join("Containerfile"));
                if !docker.exists() && podman.exists() {
                    podman
                } else {
                    docker
                }
            }
        };
        let failed = |error| {
            Failure::new(format!(
                "failed to read dockerfile: open {}: {error}",
                file.display()
            ))
        };
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut opened = fs::File::open(&file).map_err(failed)?;
        Ok(Found {
            dockerfile: self.text_of(&mut opened)?,
            context: Some(self.without_ignored(self.directory()?)?),
            origin: Origin::default(),
            name,
        })
    }

    fn directory(&self) -> Result<Context, Failure> {
        Context::open(Path::new(self.path)).map_err(|error| {
            Failure::new(format!(
                "unable to prepare context: path {:?}: {error}",
                self.path
            ))
        })
    }

    /// Leaves out what `--ignorefile` names, else `X.dockerignore` beside the Dockerfile X, else the context's `.dockerignore`.
    fn without_ignored(&self, context: Context) -> Result<Context, Failure> {
        if let Some(file) = self.ignore {
            let unread = |error| Failure::new(format!("cannot read {}: {error}", file.display()));
            let bytes = fs::read(file).map_err(unread)?;
            let ignore = Ignore::parse(&bytes);
            let ignore = ignore.map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
            return Ok(context.without(ignore));
        }
        let beside = match self.file.filter(|file| *file != Path::new("-")) {
            Some(file) => file.to_owned(),
            None => Path::new(self.path).join("Dockerfile"),
        };
        let mut named = beside.into_os_string();
        named.push(".dockerignore");
        let named = PathBuf::from(named);
        match fs::read(&named) {
            Ok(bytes) => {
                let ignore = Ignore::parse(&bytes).map_err(|error| bad(&named, error.to_string()))?;
                return Ok(context.without(ignore));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(bad(&named, error.to_string())),
        }
        ignoring(context, &[".dockerignore", ".containerignore"])
    }

    fn text_of(&self, from: &mut dyn Read) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = from.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(format!("failed to read dockerfile: {error}")))?;
        text("the Dockerfile", bytes)
    }
}

/// Leaves out what the first of these files of the context names.
fn ignoring(context: Context, names: &[impl AsRef<str>]) -> Result<Context, Failure> {
    for name in names {
        let path = Path::new(name.as_ref());
        let bytes = context.read(name.as_ref(), MAX_TEXT);
        if let Some(bytes) = bytes.map_err(|error| bad(path, error.to_string()))? {
            let ignore = Ignore::parse(&bytes).map_err(|error| bad(path, error.to_string()))?;
            return Ok(context.without(ignore));
        }
    }
    Ok(context)
}

fn bad(path: &Path, error: String) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{name} is not UTF-8 text")))
}

/// `--build-context NAME=DIRECTORY`, `NAME=docker-image://IMAGE` (podman's `container-image://`),
/// `NAME=oci-layout://DIRECTORY[:TAG][@DIGEST]`, or `NAME=` a repository or an archive by URL.
pub(super) fn named(
    given: &str,
    store: &Store,
    order: &Order,
    progress: &dyn Progress,
) -> Result<(String, Named), Failure> {
    let invalid = |why: &str| {
        Failure::new(format!(
            "invalid argument {given:?} for \"--build-context\": {why}"
        ))
        .code(125)
    };
    let (name, place) = given
        .split_once('=')
        .ok_or_else(|| invalid("expected NAME=PLACE"))?;
    let mut prefixes = ["docker-image://", "container-image://"].into_iter();
    if let Some(image) = prefixes.find_map(|prefix| place.strip_prefix(prefix)) {
        return Ok((name.into(), Named::Image(image.into())));
    }
    if archive::is_layout(place) {
        // One that is not there is told before anything is built.
        if let Some(Err(error)) = archive::open(place) {
            return Err(invalid(&error.to_string()));
        }
        return Ok((name.into(), Named::Image(place.into())));
    }
    let remote = match Path::new(place).is_dir() {
        true => None,
        false => Remote::of_context(place).map_err(|error| invalid(&error.to_string()))?,
    };
    let (context, material) = match remote {
        Some(remote) => match remote.fetch(store, &order.secrets, order.agent(), progress) {
            Ok(Fetched::Files(context, material)) => (context, Some(material)),
            Ok(Fetched::Text(..)) => {
                return Err(Failure::new(format!("{name}: the file by URL is no archive")));
            }
            Err(error) => return Err(Failure::of(&error)),
        },
        None if place.contains("://") => {
            let known = "a directory, docker-image://NAME, oci-layout://DIRECTORY, a git repository and an archive by URL are supported";
            return Err(invalid(known));
        }
        None => {
            let opened = Context::open(Path::new(place));
            let opened = opened.map_err(|error| invalid(&error.to_string()))?;
            // Of directories alone, as in BuildKit.
            (Box::new(ignoring(opened, &[".dockerignore"])?), None)
        }
    };
    Ok((name.into(), Named::Files(context, material)))
}
