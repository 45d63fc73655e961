//! Where are the Dockerfile and the files of the context? A directory, an archive on standard input, or a Dockerfile on
//! standard input.

use std::fs;
use std::io::{Cursor, Read, stdin};
use std::path::{Path, PathBuf};

use crate::build::dockerfile::MAX_TEXT;
use crate::build::patterns::ignore::Ignore;
use crate::build::{Context, Named, begins_archive};
use crate::cli::report::Failure;
use crate::store::Store;

/// Bytes that tell an archive from a Dockerfile.
const HEAD: u64 = 512;

/// What `--file`, `--ignorefile` and PATH say.
pub(super) struct Given<'a> {
    pub(super) ignore: Option<&'a Path>,
    pub(super) file: Option<&'a Path>,
    pub(super) path: &'a str,
}

/// What is there.
pub(super) struct Found {
    /// The Dockerfile's name, for messages.
    pub(super) name: String,
    /// Its text.
    pub(super) dockerfile: String,
    /// `None`: the Dockerfile came alone.
    pub(super) context: Option<Context>,
}

impl Given<'_> {
    pub(super) fn find(&self, store: &Store) -> Result<Found, Failure> {
        let remote = ["http://", "https://", "git://", "git@", "ssh://"];
        if remote.iter().any(|scheme| self.path.starts_with(scheme)) {
            return Err(Failure::new("a build context from a URL is not supported yet")
                .hint(Some("fetch it, and give the directory")));
        }
        match (self.path, self.file) {
            ("-", _) => self.standard_input(store),
            (_, Some(file)) if file == Path::new("-") => {
                let dockerfile = self.text_of(&mut stdin())?;
                Ok(Found {
                    name: "Dockerfile".into(),
                    dockerfile,
                    context: Some(self.without_ignored(self.directory()?)?),
                })
            }
            _ => self.in_directory(),
        }
    }

    fn standard_input(&self, store: &Store) -> Result<Found, Failure> {
        let mut head = Vec::new();
        let read = stdin().take(HEAD).read_to_end(&mut head);
        read.map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
        let archive = begins_archive(&head);
        let mut all = Cursor::new(head).chain(stdin());
        if !archive {
            if self.file.is_some() {
                return Err(Failure::new("-f cannot be used with a Dockerfile on standard input").code(125));
            }
            return Ok(Found {
                name: "Dockerfile".into(),
                dockerfile: self.text_of(&mut all)?,
                context: None,
            });
        }
        let context = Context::unpack(store, Box::new(all), "the context on standard input");
        let context = context.map_err(|error| Failure::of(&error))?;
        let name = self
            .file
            .map_or("Dockerfile".into(), |file| file.display().to_string());
        let bytes = context.read(&name, MAX_TEXT);
        let bytes =
            bytes.map_err(|error| Failure::new(format!("failed to read dockerfile: {name}: {error}")))?;
        let bytes = bytes.ok_or_else(|| {
            Failure::new(format!(
                "failed to read dockerfile: open {name}: no such file or directory"
            ))
        })?;
        Ok(Found {
            dockerfile: text(&name, bytes)?,
            context: Some(self.without_ignored(context)?),
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
        let bad = |path: &Path, error: String| Failure::new(format!("{}: {error}", path.display()));
        match fs::read(&named) {
            Ok(bytes) => {
                let ignore = Ignore::parse(&bytes).map_err(|error| bad(&named, error.to_string()))?;
                return Ok(context.without(ignore));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(bad(&named, error.to_string())),
        }
        for name in [".dockerignore", ".containerignore"] {
            let bytes = context
                .read(name, MAX_TEXT)
                .map_err(|error| bad(Path::new(name), error.to_string()))?;
            if let Some(bytes) = bytes {
                let ignore =
                    Ignore::parse(&bytes).map_err(|error| bad(Path::new(name), error.to_string()))?;
                return Ok(context.without(ignore));
            }
        }
        Ok(context)
    }

    fn text_of(&self, from: &mut dyn Read) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = from.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(format!("failed to read dockerfile: {error}")))?;
        text("the Dockerfile", bytes)
    }
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{name} is not UTF-8 text")))
}

/// `--build-context NAME=DIRECTORY` or `NAME=docker-image://IMAGE`.
pub(super) fn named(given: &str) -> Result<(String, Named), Failure> {
    let invalid = |why: &str| {
        Failure::new(format!(
            "invalid argument {given:?} for \"--build-context\": {why}"
        ))
        .code(125)
    };
    let (name, place) = given
        .split_once('=')
        .ok_or_else(|| invalid("expected NAME=PLACE"))?;
    if let Some(image) = place.strip_prefix("docker-image://") {
        return Ok((name.into(), Named::Image(image.into())));
    }
    if place.contains("://") {
        return Err(invalid("a directory or docker-image://NAME is supported"));
    }
    let context = Context::open(Path::new(place)).map_err(|error| invalid(&error.to_string()))?;
    Ok((name.into(), Named::Files(Box::new(context))))
}
