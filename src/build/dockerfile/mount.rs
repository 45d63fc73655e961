//! What does `RUN --mount` ask for?

use super::error::{clean, meant, nearest, shown};
use super::{ExpandError, expand};
use crate::truth::truth;

/// `--mount` as it stands in the file. Its values may have variables, so what they mean is known only to
/// [`resolve`](Self::resolve).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// Which stage, image or named context it takes from. It has no variables: stages are ordered by it.
    pub from: Option<String>,
    fields: Vec<(String, Option<String>)>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `target`, `dst`, `destination`.
    pub target: Option<String>,
    /// `source`, `src`: a path in what `from` names. For a secret: its id.
    pub source: Option<String>,
    /// `from`.
    pub from: Option<String>,
    /// `id`, of a cache, secret or SSH agent.
    pub id: Option<String>,
    /// `env`: the variable that holds a secret.
    pub env: Option<String>,
    /// `readonly`, `ro`, or not `readwrite`, `rw`. Unless it is said, binds, secrets and agents are.
    pub readonly: bool,
    /// `sharing`, of a cache.
    pub sharing: Sharing,
    /// `required`: a secret or agent that is not given is an error.
    pub required: bool,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `size`, of a tmpfs, in bytes.
    pub size: Option<u64>,
}

/// A mount's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Their names are the language's.
pub enum MountKind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// What happens to a cache that two steps want at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Both use it.
    #[default]
    Shared,
    /// The second gets another.
    Private,
    /// The second waits.
    Locked,
}

/// Why a mount was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each says itself.
pub enum MountError {
    #[error("a \" that has no partner, or stands inside a value")]
    Quote,
    #[error("{} is no key=value pair", shown(.0))]
    NoPair(String),
    #[error("there is no key {}{}", clean(.key), meant(.near))]
    Key { key: String, near: Option<&'static str> },
    #[error("there is no type {}{}", clean(.kind), meant(.near))]
    Kind {
        kind: String,
        near: Option<&'static str>,
    },
    #[error("there is no sharing={}{}", clean(.sharing), meant(.near))]
    Sharing {
        sharing: String,
        near: Option<&'static str>,
    },
    #[error("{key}={}: this is no {what}", clean(.value))]
    Value {
        key: &'static str,
        value: String,
        what: &'static str,
    },
    #[error("a mount of type {kind} has no {key}")]
    NotOfKind { kind: &'static str, key: &'static str },
    #[error("a secret needs id, source or target")]
    NamelessSecret,
    #[error("a secret has either id or source: they mean the same")]
    SecretTwice,
    #[error("from={} cannot have variables: give the image a stage of its own, and name that", clean(.0))]
    VariableFrom(String),
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];
const KINDS: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: &[&str] = &["shared", "private", "locked"];

impl MountKind {
    fn parse(text: &str) -> Result<Self, MountError> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "bind" => Self::Bind,
            "cache" => Self::Cache,
            "tmpfs" => Self::Tmpfs,
            "secret" => Self::Secret,
            "ssh" => Self::Ssh,
            _ => {
                return Err(MountError::Kind {
                    kind: text.to_owned(),
                    near: nearest(text, KINDS),
                });
            }
        })
    }

    /// Its name in the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

impl Sharing {
    fn parse(text: &str) -> Result<Self, MountError> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "shared" => Self::Shared,
            "private" => Self::Private,
            "locked" => Self::Locked,
            _ => {
                let near = nearest(text, SHARINGS);
                return Err(MountError::Sharing {
                    sharing: text.to_owned(),
                    near,
                });
            }
        })
    }
}

impl MountFlag {
    /// Reads the flag's value. What has no variables is checked now.
    pub(super) fn parse(text: &str, escape: char) -> Result<Self, MountError> {
        let pair = |field: String| match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
            None => (field.to_ascii_lowercase(), None),
        };
        let fields: Vec<_> = csv(text)?.into_iter().map(pair).collect();
        let from = fields
            .iter()
            .rev()
            .find(|(key, _)| key == "from")
            .and_then(|(_, value)| value.clone());
        if let Some(from) = from.as_ref().filter(|from| has_variable(from)) {
            return Err(MountError::VariableFrom(from.clone()));
        }
        let flag = Self {
            from: from.filter(|from| !from.is_empty()),
            fields,
        };
        if !text.contains('$') {
            flag.resolve(&|word| expand(word, escape, &|_| None))?;
        }
        Ok(flag)
    }

    /// What it means once each value is expanded.
    pub fn resolve(&self, expand: &dyn Fn(&str) -> Result<String, ExpandError>) -> Result<Mount, MountError> {
        let mut draft = Draft {
            mount: Mount::new(),
            readonly: None,
            sharing: None,
        };
        for (key, value) in &self.fields {
            match value {
                Some(value) => draft.set(key, expand(value)?)?,
                None => draft.set_bare(key)?,
            }
        }
        draft.checked()
    }
}

impl Mount {
    /// The id of a secret: said, or the last name of where it lies.
    pub fn secret(&self) -> String {
        let named = self.id.as_deref().or(self.source.as_deref());
        let of_target = || self.target.as_deref()?.rsplit('/').next();
        named.or_else(of_target).unwrap_or_default().to_owned()
    }

    /// The id of an SSH agent.
    pub fn agent(&self) -> String {
        self.id.clone().unwrap_or_else(|| "default".into())
    }

    fn new() -> Self {
        Self {
            kind: MountKind::Bind,
            target: None,
            source: None,
            from: None,
            id: None,
            env: None,
            readonly: true,
            sharing: Sharing::Shared,
            required: false,
            uid: None,
            gid: None,
            mode: None,
            size: None,
        }
    }
}

/// A mount whose keys are still being read.
struct Draft {
    mount: Mount,
    readonly: Option<bool>,
    sharing: Option<Sharing>,
}

impl Draft {
    fn set(&mut self, key: &str, value: String) -> Result<(), MountError> {
        let mount = &mut self.mount;
        let filled = |value: String| Some(value).filter(|value| !value.is_empty());
        match key {
            "type" => mount.kind = MountKind::parse(&value)?,
            "from" => mount.from = filled(value),
            "source" | "src" => mount.source = filled(value),
            "target" | "dst" | "destination" => mount.target = filled(value),
            "id" => mount.id = filled(value),
            "env" => mount.env = filled(value),
            "readonly" | "ro" => self.readonly = Some(boolean("readonly", &value)?),
            "readwrite" | "rw" => self.readonly = Some(!boolean("readwrite", &value)?),
            "required" => {
                let required = boolean("required", &value)?;
                self.require(required)?;
            }
            "sharing" => self.sharing = Some(Sharing::parse(&value)?),
            "uid" => mount.uid = Some(number("uid", &value, 10, "number")?),
            "gid" => mount.gid = Some(number("gid", &value, 10, "number")?),
            "mode" => mount.mode = Some(number("mode", &value, 8, "octal number")?),
            "size" => {
                let size = crate::containers::spec::mounts::bytes(&value);
                let no_size = || MountError::Value {
                    key: "size",
                    value,
                    what: "size, such as 64m",
                };
                mount.size = Some(size.ok_or_else(no_size)?);
            }
            other => {
                return Err(MountError::Key {
                    key: other.to_owned(),
                    near: nearest(other, KEYS),
                });
            }
        }
        Ok(())
    }

    fn set_bare(&mut self, key: &str) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.readonly = Some(true),
            "readwrite" | "rw" => self.readonly = Some(false),
            "required" => self.require(true)?,
            other => return Err(MountError::NoPair(other.to_owned())),
        }
        Ok(())
    }

    /// Type comes first, as in BuildKit.
    fn require(&mut self, required: bool) -> Result<(), MountError> {
        if !matches!(self.mount.kind, MountKind::Secret | MountKind::Ssh) {
            return Err(MountError::NotOfKind {
                kind: self.mount.kind.name(),
                key: "required",
            });
        }
        self.mount.required = required;
        Ok(())
    }

    fn checked(self) -> Result<Mount, MountError> {
        let Self {
            mut mount,
            readonly,
            sharing,
        } = self;
        let kind = mount.kind;
        let owned = matches!(kind, MountKind::Cache | MountKind::Secret | MountKind::Ssh);
        let wrong = [
            ("mode", mount.mode.is_some() && !owned),
            ("uid", mount.uid.is_some() && !owned),
            ("gid", mount.gid.is_some() && !owned),
            ("sharing", sharing.is_some() && kind != MountKind::Cache),
            ("size", mount.size.is_some() && kind != MountKind::Tmpfs),
            ("from", mount.from.is_some() && kind == MountKind::Secret),
        ];
        if let Some((key, _)) = wrong.iter().find(|(_, wrong)| *wrong) {
            return Err(MountError::NotOfKind {
                kind: kind.name(),
                key,
            });
        }
        if kind == MountKind::Secret {
            if mount.source.is_none() && mount.target.is_none() && mount.id.is_none() {
                return Err(MountError::NamelessSecret);
            }
            if mount.source.is_some() && mount.id.is_some() {
                return Err(MountError::SecretTwice);
            }
        }
        mount.readonly = readonly.unwrap_or(!matches!(kind, MountKind::Cache | MountKind::Tmpfs));
        mount.sharing = sharing.unwrap_or_default();
        Ok(mount)
    }
}

/// A `$` with something behind it.
pub(super) fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

fn boolean(key: &'static str, value: &str) -> Result<bool, MountError> {
    truth(value).ok_or_else(|| MountError::Value {
        key,
        value: value.to_owned(),
        what: "true or false",
    })
}

fn number(key: &'static str, value: &str, radix: u32, what: &'static str) -> Result<u32, MountError> {
    let digits = value.chars().all(|c| c.is_digit(radix));
    let parsed = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    parsed.ok_or_else(|| MountError::Value {
        key,
        value: value.to_owned(),
        what,
    })
}

/// The fields of one line of comma-separated values (RFC 4180): one that starts with a quote ends with one, and
/// doubles those inside.
fn csv(text: &str) -> Result<Vec<String>, MountError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => csv_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                if field.contains('"') {
                    return Err(MountError::Quote);
                }
                (field.to_owned(), behind)
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(MountError::Quote),
        }
    }
}

fn csv_quoted(mut rest: &str) -> Result<(String, &str), MountError> {
    let mut field = String::new();
    loop {
        let (part, behind) = rest.split_once('"').ok_or(MountError::Quote)?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, behind)),
        }
    }
}
