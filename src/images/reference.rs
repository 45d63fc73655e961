//! What does an image's name mean? Read exactly as Docker reads it: the grammar and the familiar spelling of
//! `distribution/reference`, which docker, podman and containerd share.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::store::Digest;

/// The registry of names that name none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Where Docker's own images live in it.
const OFFICIAL: &str = "library/";
/// The older name of [`DEFAULT_DOMAIN`].
const LEGACY_DOMAIN: &str = "index.docker.io";
/// The longest path in bytes, without the domain.
const MAX_PATH: usize = 255;
/// The longest tag in bytes.
const MAX_TAG: usize = 128;

/// A name of an image in full: registry, path, and a tag, a digest, or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image. The wording is Docker's: scripts look for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// It breaks the grammar.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Nothing but an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path is longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// A digest of another kind than sha256.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// A sha256 digest that has not 64 lower-case hex digits.
    #[error("invalid checksum digest length")]
    DigestLength,
}

impl Reference {
    /// Reads a name as a user types it. No tag is added: see [`Reference::or_latest`].
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if is_id(text) {
            return Err(ReferenceError::Identifier(text.into()));
        }
        let (domain, remainder) = split_domain(text);
        // Docker tells about upper case first, whatever else may be wrong.
        let lowercase_part = remainder.split(':').next().unwrap_or_default();
        if lowercase_part.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(lowercase_part.into()));
        }
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        if !is_domain(&domain) || !is_path(path) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        if path.len() > MAX_PATH {
            return Err(ReferenceError::TooLong);
        }
        Ok(Reference {
            domain,
            path: path.into(),
            tag: tag.map(Into::into),
            digest,
        })
    }

    /// The registry, with its port if it has one: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository in full, without tag and digest: `docker.io/library/debian`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as Docker shows it: without `docker.io/` and `library/`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // `docker.io/library/a/b` would lose its first part, and 64 hex digits would be an id.
            Some(short) if !short.contains('/') && !is_id(short) => short.into(),
            // `docker.io/a.b/c` without its domain would be a name at the registry `a.b`.
            _ if split_domain(&self.path) != (self.domain.clone(), self.path.clone()) => self.repository(),
            _ => self.path.clone(),
        }
    }

    /// The whole name as Docker shows it: `debian:12`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    /// The same name with the tag `latest`, if it has neither tag nor digest.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same repository at `digest`, without a tag.
    pub fn at_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Reference::parse(text)
    }
}

/// In full: `docker.io/library/debian:12`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The first part is a registry if it could not be part of a path: a dot, a port, upper case, or `localhost`.
fn split_domain(text: &str) -> (String, String) {
    let explicit = text.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':']) || *first == "localhost" || first.chars().any(char::is_uppercase)
    });
    let (domain, remainder) = explicit.unwrap_or((DEFAULT_DOMAIN, text));
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let official = domain == DEFAULT_DOMAIN && !remainder.contains('/');
    (
        domain.into(),
        format!("{}{remainder}", if official { OFFICIAL } else { "" }),
    )
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    let (algorithm, hex) = text.split_once(':').ok_or(ReferenceError::Format)?;
    // `[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*`
    let is_algorithm = algorithm.split(['-', '_', '+', '.']).all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if !is_algorithm || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ReferenceError::Format);
    }
    if algorithm != "sha256" {
        return Err(ReferenceError::Algorithm);
    }
    text.parse().map_err(|_| ReferenceError::DigestLength)
}

/// Components of letters, digits and inner hyphens joined by dots, or an IPv6 address in brackets; then a port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                    return false;
                }
                (
                    "ipv6",
                    port.strip_prefix(':')
                        .or(if port.is_empty() { None } else { Some("") }),
                )
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_component = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    host.split('.').all(is_component) && port.is_none_or(is_port)
}

/// Components joined by `/`: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path(text: &str) -> bool {
    text.split('/').all(|component| {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let runs = component
            .as_bytes()
            .chunk_by(|a, b| alphanumeric(*a) == alphanumeric(*b));
        let separators_are_good = runs
            .filter(|run| !run.first().is_some_and(|b| alphanumeric(*b)))
            .all(|run| {
                matches!(run, b"." | b"_" | b"__") || (!run.is_empty() && run.iter().all(|b| *b == b'-'))
            });
        let bytes = component.as_bytes();
        let ends_are_good = [bytes.first(), bytes.last()]
            .iter()
            .all(|end| end.is_some_and(|b| alphanumeric(*b)));
        ends_are_good && separators_are_good
    })
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Is this what an image's id looks like?
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Typed, in full, familiar.
    #[test]
    fn a_name_that_looks_like_an_id_keeps_its_first_part() {
        let name: Reference = format!("library/{HEX}").parse().unwrap();
        assert_eq!(name.familiar(), format!("library/{HEX}"));
        assert_eq!(name.familiar().parse(), Ok(name));
    }

    #[test]
    fn names_mean_what_docker_says() {
        let digest = format!("debian@sha256:{HEX}");
        let both = format!("localhost:5000/a/b:1@sha256:{HEX}");
        for (typed, full, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("library/debian", "docker.io/library/debian", "debian"),
            ("docker.io/debian", "docker.io/library/debian", "debian"),
            (
                "index.docker.io/library/debian",
                "docker.io/library/debian",
                "debian",
            ),
            ("grafana/loki", "docker.io/grafana/loki", "grafana/loki"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
            (
                "docker.io/docker.io/c",
                "docker.io/docker.io/c",
                "docker.io/docker.io/c",
            ),
            ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
            ("Registry/x", "Registry/x", "Registry/x"),
            ("quay.io/a/b:V1.0", "quay.io/a/b:V1.0", "quay.io/a/b:V1.0"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("a__b/c---d/e.f", "docker.io/a__b/c---d/e.f", "a__b/c---d/e.f"),
            (&digest, &format!("docker.io/library/{digest}"), &digest),
            (&both, &both, &both),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ] {
            let reference = Reference::parse(typed).unwrap();
            assert_eq!(reference.to_string(), full, "{typed}");
            assert_eq!(reference.familiar(), familiar, "{typed}");
            assert_eq!(Reference::parse(full).unwrap(), reference);
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let message = |text: &str| Reference::parse(text).unwrap_err().to_string();
        for bad in [
            "",
            ":tag",
            "a:",
            "a@",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a.-b",
            "a b",
            "a:b:c",
            "aa/asdf$$^/aa",
            "xn--n3h.com:p/x",
            "host:/x",
            "a:-x",
            "a@sha256:00",
            "[::1/x",
            "[::1]x/y",
            "é",
            "a.b_c/d",
            "docker.io/",
            "a:b/c",
        ] {
            assert_eq!(message(bad), "invalid reference format", "{bad:?}");
        }
        assert_eq!(
            message("Debian"),
            "invalid reference format: repository name (library/Debian) must be lowercase"
        );
        assert_eq!(
            message(HEX),
            format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")
        );
        assert_eq!(
            message(&format!("a@sha512:{HEX}")),
            "unsupported digest algorithm"
        );
        assert_eq!(
            message(&format!("a@sha256:{}", &HEX[1..])),
            "invalid checksum digest length"
        );
        assert!(Reference::parse(&"a".repeat(255 - 8)).is_ok());
        assert_eq!(
            message(&"a".repeat(256)),
            "repository name must not be more than 255 characters"
        );
        assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
        assert_eq!(
            message(&format!("a:{}", "t".repeat(129))),
            "invalid reference format"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_both_spellings(text in "[aA0.:/@_-]{0,24}|\\PC{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            }
        }

        #[test]
        fn whatever_the_grammar_makes_is_read(
            domain in "([a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?\\.){1,2}[a-z]{2,3}(:[0-9]{1,5})?",
            path in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,2}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
        ) {
            let tag_text = tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
            let reference = Reference::parse(&format!("{domain}/{path}{tag_text}")).unwrap();
            prop_assert_eq!(reference.domain(), domain);
            prop_assert!(reference.path().ends_with(&path));
            prop_assert_eq!(reference.tag(), tag.as_deref());
        }
    }
}
