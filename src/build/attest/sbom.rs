//! What is in an image? A scanner says, an image that is run beside its tree (BuildKit's `docs/attestations/sbom-protocol.md`):
//! it finds a copy of the tree at `$BUILDKIT_SCAN_SOURCE`, and leaves statements in `$BUILDKIT_SCAN_DESTINATION`. It has the
//! network that a RUN has, as BuildKit's have: none, by `--network none`.
//!
//! A scanner is somebody else's program: what it leaves is read only if it is a plain file of a size, and a statement.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Sbom;
use crate::build::Error;
use crate::build::extract::{SetId, extract};
use crate::build::mount::{Access, Mounts};
use crate::build::run;
use crate::build::solve::{Build, Stage};
use crate::build::source::Stage as StageSource;
use crate::build::workspace::{Draft, io_error};
use crate::containers::spec::mounts::Asked;
use crate::images::attest::Statement;
use crate::images::manifest::Platform;
use crate::store::Store;

const SOURCE: &str = "/run/src/core/sbom";
const DESTINATION: &str = "/run/out/";
/// The statement about the image itself is that of the file of this name.
const CORE: &str = "sbom";
/// Bytes of all statements; BuildKit's limit of one.
const MOST: u64 = 80 << 20;
/// More files than any scanner leaves.
const MOST_FILES: usize = 100;
/// SPDX and CycloneDX.
const KINDS: [&str; 2] = ["https://spdx.dev/Document", "https://cyclonedx.org/bom"];
/// ARGs that ask for more than the image.
const MORE: &str = "BUILDKIT_SBOM_SCAN_";

/// What a scanner leaves.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Left {
    predicate_type: String,
    #[serde(default)]
    subject: Option<Box<RawValue>>,
    predicate: Box<RawValue>,
}

impl Build<'_> {
    /// Scans the target.
    pub(super) fn scan(&self, target: &Stage, asked: &Sbom) -> Result<Vec<Statement>, Error> {
        let refused = |why: String| Error::Scanner {
            generator: asked.generator.clone(),
            why,
        };
        if let Some(name) = self.declared.iter().find(|name| name.starts_with(MORE)) {
            let warning = format!("[Warning] {name} is not heeded: what is scanned is the image alone");
            self.progress.warning(&warning);
        }
        let title = format!("generating sbom using {}", asked.generator);
        self.progress.begins(&title);
        let scanner = self.image(&asked.generator, Some(Platform::host()))?;
        let command: Vec<String> = ["Entrypoint", "Cmd"]
            .iter()
            .flat_map(|part| scanner.config.list(part))
            .collect();
        if command.is_empty() {
            return Err(refused("it has neither entrypoint nor command".into()));
        }
        let mut mounted = Mounts::default();
        let out = places(self.store, target, &mut mounted)?;
        let mut env = vec![
            format!("BUILDKIT_SCAN_DESTINATION={DESTINATION}"),
            format!("BUILDKIT_SCAN_SOURCE={SOURCE}"),
        ];
        let parameters = asked.parameters.iter();
        env.extend(parameters.map(|(name, value)| format!("BUILDKIT_SCAN_{name}={value}")));
        let order = run::Order {
            command,
            env,
            mounts: std::mem::take(&mut mounted.asked),
            network: self.order.network,
            host_names: self.order.host_names.clone(),
            shm_size: self.order.shm_size,
            ulimits: self.order.ulimits.clone(),
            ..run::Order::default()
        };
        order.run(self.store, &scanner.image(&self.created)?, self.progress)?;
        let statements = left(&out).map_err(refused)?;
        self.progress.done();
        Ok(statements)
    }
}

/// What the scanner sees. Gives the directory where it leaves what it says.
fn places(store: &Store, target: &Stage, mounted: &mut Mounts) -> Result<PathBuf, Error> {
    let source = mounted.workspace(store)?.join("source");
    fs::create_dir(&source).map_err(io_error("make", &source))?;
    let draft = Draft::over(store, &target.layers)?;
    extract(store, &StageSource(&draft.tree), Vec::new(), &source, SetId::Drop)?;
    drop(draft);
    let out = mounted.workspace(store)?.join("out");
    fs::create_dir(&out).map_err(io_error("make", &out))?;
    mounted.bind(source, SOURCE.into(), Access::Read);
    mounted.bind(out.clone(), DESTINATION.into(), Access::Write);
    mounted.asked.push(Asked::Tmpfs {
        target: "/tmp".into(),
        options: ["nosuid", "nodev"].map(String::from).to_vec(),
    });
    Ok(out)
}

/// The statements in a directory that nobody writes to any more: that about the image first.
fn left(directory: &Path) -> Result<Vec<Statement>, String> {
    let unread = |error: std::io::Error| format!("what it left cannot be read: {error}");
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(unread)? {
        names.push(entry.map_err(unread)?.file_name());
        if names.len() > MOST_FILES {
            return Err(format!("it left more than {MOST_FILES} files"));
        }
    }
    let is_core = |name: &std::ffi::OsString| name.to_string_lossy().split('.').next() == Some(CORE);
    names.sort_by_key(|name| (!is_core(name), name.clone()));
    let (mut all, mut room) = (Vec::new(), MOST);
    for name in &names {
        let shown = name.to_string_lossy();
        let read = one(&directory.join(name), &mut room);
        all.push(read.map_err(|why| format!("it left {shown:?}, which {why}"))?);
    }
    match all.is_empty() {
        true => Err("it left nothing".into()),
        false => Ok(all),
    }
}

/// Reads one, if there is room for its bytes.
fn one(path: &Path, room: &mut u64) -> Result<Statement, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    // A symlink would show files of the user's; a fifo would never end.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path);
    let file = file.map_err(unread)?;
    if !file.metadata().map_err(unread)?.is_file() {
        return Err("is no file".into());
    }
    let mut bytes = Vec::new();
    file.take(*room + 1).read_to_end(&mut bytes).map_err(unread)?;
    *room = room
        .checked_sub(bytes.len() as u64)
        .ok_or_else(|| format!("is larger than {MOST} bytes, or all that it left is"))?;
    let wrong = |error: serde_json::Error| format!("is no in-toto statement: {error}");
    let left: Left = serde_json::from_slice(&bytes).map_err(wrong)?;
    if !KINDS.contains(&left.predicate_type.as_str()) {
        return Err(format!("is no SBOM but of the type {:?}", left.predicate_type));
    }
    // A list, of which no item takes room here.
    let count =
        |subject: &RawValue| serde_json::from_str::<Vec<IgnoredAny>>(subject.get()).map(|all| all.len());
    let count = left.subject.as_deref().map(count).transpose().map_err(wrong)?;
    Ok(Statement {
        predicate_type: left.predicate_type,
        predicate: left.predicate,
        subjects: left.subject.filter(|_| count != Some(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"predicateType": "https://spdx.dev/Document", "predicate": {"SPDXID": "x"}}"#;

    #[test]
    fn statements_are_read_the_images_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(left(dir.path()).unwrap_err(), "it left nothing");
        let other = GOOD.replace("\"x\"", "\"y\"");
        fs::write(dir.path().join("extra.spdx.json"), other).unwrap();
        fs::write(dir.path().join("sbom.spdx.json"), GOOD).unwrap();
        let found = left(dir.path()).unwrap();
        let said: Vec<&str> = found.iter().map(|one| one.predicate.get()).collect();
        assert_eq!(said, [r#"{"SPDXID": "x"}"#, r#"{"SPDXID": "y"}"#]);
    }

    #[test]
    fn what_it_says_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let said = |subject: &str| {
            let text = format!(
                r#"{{"predicateType": "https://spdx.dev/Document", {subject} "predicate": {{"b": 1.0, "a": 12345678901234567890123}}}}"#
            );
            fs::write(dir.path().join("sbom.json"), text).unwrap();
            left(dir.path()).map(|mut found| found.remove(0))
        };
        let one = said(r#""subject": [{"name": "x"}],"#).unwrap();
        assert_eq!(one.predicate.get(), r#"{"b": 1.0, "a": 12345678901234567890123}"#);
        assert_eq!(one.subjects.unwrap().get(), r#"[{"name": "x"}]"#);
        for none in ["", r#""subject": null,"#, r#""subject": [ ],"#] {
            assert!(said(none).unwrap().subjects.is_none(), "{none}");
        }
        let wrong = said(r#""subject": {"name": "x"},"#).unwrap_err();
        assert!(wrong.contains("is no in-toto statement"), "{wrong}");
    }

    #[test]
    fn all_that_it_leaves_has_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let most = usize::try_from(MOST).unwrap();
        let spaces = vec![b' '; most / 2];
        for name in ["a", "b"] {
            fs::write(dir.path().join(name), [GOOD.as_bytes(), &spaces].concat()).unwrap();
        }
        let why = left(dir.path()).unwrap_err();
        assert!(why.contains("it left \"b\", which is larger than"), "{why}");
        fs::remove_file(dir.path().join("b")).unwrap();
        assert_eq!(left(dir.path()).map(|all| all.len()), Ok(1));
        for number in 0..MOST_FILES {
            fs::write(dir.path().join(number.to_string()), GOOD).unwrap();
        }
        let why = left(dir.path()).unwrap_err();
        assert!(why.contains("more than"), "{why}");
    }

    #[test]
    fn what_a_scanner_should_not_leave_is_refused() {
        let path = |dir: &tempfile::TempDir| dir.path().join("sbom.spdx.json");
        let told = |make: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            make(&path(&dir));
            left(dir.path()).unwrap_err()
        };
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), GOOD).unwrap();
        let link = |at: &Path| std::os::unix::fs::symlink(secret.path(), at).unwrap();
        assert!(told(&link).contains("cannot be read"));
        let fifo = |at: &Path| nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(told(&fifo).contains("is no file"));
        assert!(told(&|at| fs::create_dir(at).unwrap()).contains("is no file"));
        let large = |at: &Path| File::create(at).unwrap().set_len(MOST + 1).unwrap();
        assert!(told(&large).contains("is larger than"));
        for (text, why) in [
            ("{", "is no in-toto statement"),
            (&format!("{GOOD} {GOOD}"), "is no in-toto statement"),
            (
                r#"{"predicateType": "https://slsa.dev/provenance/v1", "predicate": {}}"#,
                "is no SBOM",
            ),
        ] {
            let found = told(&|at| fs::write(at, text).unwrap());
            assert!(found.contains(why), "{found}");
        }
    }
}
