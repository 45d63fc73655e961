//! Which repository, which commit and which directory of it does a text name? Docker's forms ("Git repositories" of its
//! page on the build context): `URL#REF:DIRECTORY`, and `URL?branch=…&subdir=…`. Pure.

use std::fmt;

use percent_encoding::percent_decode_str;

/// A repository as a Dockerfile or a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What git is given: without user and password.
    pub(super) remote: String,
    /// `user:password` of an URL; of `ssh` it stays in `remote`.
    pub(super) login: Option<String>,
    /// A branch, a tag, another ref, or a commit; the default branch without it.
    pub(super) wanted: Option<String>,
    /// Below the top; empty for all.
    pub(super) subdir: String,
    /// What the commit, or its tag, must begin with.
    pub(super) checksum: Option<String>,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) submodules: bool,
}

/// Why a text that looks like a repository names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A key after `?`.
    #[error("unexpected query {0:?} of a git repository")]
    Key(String),
    /// A value after `?`.
    #[error("invalid {key} {value:?} of a git repository")]
    Value {
        /// `ref`, `subdir` …
        key: &'static str,
        /// As given.
        value: String,
    },
    /// Two values that exclude each other.
    #[error("{0} of a git repository is given twice, with different values")]
    Conflict(&'static str),
    /// No host, or one that git would take for a flag.
    #[error("{0:?} is no address of a git repository")]
    Host(String),
}

/// Must the path of `http` and `https` end with `.git`, which else name a file?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Required,
    Free,
}

/// As it may be shown: without login.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.remote)?;
        match (&self.wanted, self.subdir.as_str()) {
            (None, "") => Ok(()),
            (wanted, "") => write!(f, "#{}", wanted.as_deref().unwrap_or_default()),
            (wanted, subdir) => write!(f, "#{}:{subdir}", wanted.as_deref().unwrap_or_default()),
        }
    }
}

impl Address {
    /// Reads what may be an address; `None` if it is a path or the URL of a file.
    ///
    /// # Errors
    /// It is an address, and wrong.
    pub fn parse(text: &str) -> Result<Option<Address>, AddressError> {
        read(text, Suffix::Required)
    }

    /// The same of a build context, which may be `github.com/…` for short.
    ///
    /// # Errors
    /// It is an address, and wrong.
    pub fn of_context(text: &str) -> Result<Option<Address>, AddressError> {
        match text.starts_with("github.com/") {
            true => read(&format!("https://{text}"), Suffix::Free),
            false => Address::parse(text),
        }
    }

    /// Takes `--checksum`.
    ///
    /// # Errors
    /// It is none, or the address has another.
    pub(in crate::build) fn check(&mut self, checksum: &str) -> Result<(), AddressError> {
        let checksum = commit_digits(checksum)?;
        match &self.checksum {
            Some(other) if *other != checksum => Err(AddressError::Conflict("checksum")),
            _ => {
                self.checksum = Some(checksum);
                Ok(())
            }
        }
    }

    /// Takes `--keep-git-dir`.
    pub(in crate::build) fn keep_git_dir(&mut self, keep: Option<bool>) {
        self.keep_git_dir = keep.or(self.keep_git_dir);
    }

    /// Is it reached by ssh?
    pub(super) fn is_ssh(&self) -> bool {
        !self.remote.contains("://") || self.remote.starts_with("ssh://")
    }

    /// Host, with its port.
    pub(super) fn host(&self) -> &str {
        let rest = self.remote.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

fn read(text: &str, suffix: Suffix) -> Result<Option<Address>, AddressError> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (place, query) = before.split_once('?').unwrap_or((before, ""));
    let Some((remote, login)) = remote(place, suffix)? else {
        return Ok(None);
    };
    if place.chars().any(|char| char.is_control() || char == ' ') {
        return Err(AddressError::Host(place.into()));
    }
    let (wanted, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let (mut wanted, subdir) = (
        filled(decoded("ref", wanted)?),
        filled(decoded("subdir", subdir)?),
    );
    let mut address = Address {
        remote,
        login,
        wanted: None,
        subdir: String::new(),
        checksum: None,
        keep_git_dir: None,
        submodules: true,
    };
    address.query(query, &mut wanted, subdir)?;
    if let Some(name) = wanted.as_ref().filter(|name| !is_ref_name(name)) {
        return Err(AddressError::Value {
            key: "ref",
            value: name.clone(),
        });
    }
    address.wanted = wanted;
    Ok(Some(address))
}

/// The address as git takes it, and the login; `None` if it is no repository's.
fn remote(place: &str, suffix: Suffix) -> Result<Option<(String, Option<String>)>, AddressError> {
    let Some((scheme, rest)) = place.split_once("://") else {
        return scp(place);
    };
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme.as_str() {
        "http" | "https" if suffix == Suffix::Required && !path.ends_with(".git") => return Ok(None),
        "http" | "https" | "git" | "ssh" => {}
        _ => return Ok(None),
    }
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    let is_flag = |text: &str| text.starts_with('-');
    if host.is_empty() || is_flag(host) || login.is_some_and(is_flag) {
        return Err(AddressError::Host(format!("{scheme}://{host}/{path}")));
    }
    Ok(Some(match (scheme.as_str(), login) {
        // It is no secret, and a part of the place.
        ("ssh", Some(login)) => {
            let user = login.split(':').next().unwrap_or_default();
            (format!("ssh://{user}@{host}/{path}"), None)
        }
        _ => (format!("{scheme}://{host}/{path}"), login.map(String::from)),
    }))
}

/// `USER@HOST:PATH`, as scp has it.
fn scp(place: &str) -> Result<Option<(String, Option<String>)>, AddressError> {
    let parts = place
        .split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?)));
    let Some((user, (host, path))) = parts else {
        return Ok(None);
    };
    let is_word = |text: &str, more: &[char]| {
        !text.is_empty()
            && text
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || more.contains(&char))
    };
    if !is_word(user, &['-', '_', '.']) || !is_word(host, &['-', '.']) || path.is_empty() {
        return Ok(None);
    }
    match user.starts_with('-') || host.starts_with('-') || path.starts_with('-') {
        true => Err(AddressError::Host(place.into())),
        false => Ok(Some((place.into(), None))),
    }
}

impl Address {
    fn query(
        &mut self,
        query: &str,
        wanted: &mut Option<String>,
        mut subdir: Option<String>,
    ) -> Result<(), AddressError> {
        let mut seen = std::collections::BTreeSet::new();
        let (mut tag, mut branch) = (None, None);
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let (key, value) = (decoded("query", key)?, decoded("query", value)?);
            let key = known(&key).ok_or(AddressError::Key(key))?;
            if !seen.insert(key) {
                return Err(AddressError::Conflict(key));
            }
            let is_switch = ["keep-git-dir", "submodules"].contains(&key);
            if value.is_empty() && !is_switch {
                return Err(AddressError::Value { key, value });
            }
            match key {
                "ref" => same(key, wanted, value)?,
                "subdir" => same(key, &mut subdir, value)?,
                "tag" => tag = Some(below("refs/tags/", &value)),
                "branch" => branch = Some(below("refs/heads/", &value)),
                "keep-git-dir" => self.keep_git_dir = Some(switch(key, &value)?),
                "submodules" => self.submodules = switch(key, &value)?,
                _ => self.checksum = Some(commit_digits(&value)?),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(AddressError::Conflict("ref"));
        }
        if let Some(name) = tag.or(branch) {
            same("ref", wanted, name)?;
        }
        if wanted.is_none() {
            wanted.clone_from(&self.checksum);
        }
        self.subdir = subdir.unwrap_or_default();
        Ok(())
    }
}

/// The key that a word of a query means.
fn known(key: &str) -> Option<&'static str> {
    let keys = [
        "ref",
        "tag",
        "branch",
        "subdir",
        "checksum",
        "keep-git-dir",
        "submodules",
    ];
    let key = if key == "commit" { "checksum" } else { key };
    keys.into_iter().find(|known| *known == key)
}

/// Sets what may have been said before, if in the same words.
fn same(key: &'static str, to: &mut Option<String>, value: String) -> Result<(), AddressError> {
    match to {
        Some(before) if *before != value => Err(AddressError::Conflict(key)),
        _ => {
            *to = Some(value);
            Ok(())
        }
    }
}

fn below(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name))
}

fn switch(key: &'static str, value: &str) -> Result<bool, AddressError> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(AddressError::Value {
            key,
            value: value.into(),
        }),
    }
}

/// What a commit begins with; as few as seven digits, as git itself shows them.
fn commit_digits(text: &str) -> Result<String, AddressError> {
    let fits = (7..=64).contains(&text.len()) && text.chars().all(|char| char.is_ascii_hexdigit());
    match fits {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(AddressError::Value {
            key: "checksum",
            value: text.into(),
        }),
    }
}

/// Is it a whole commit (SHA-1 or SHA-256)?
pub(super) fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.chars().all(|char| matches!(char, '0'..='9' | 'a'..='f'))
}

/// Can it be a ref's name (git-check-ref-format(1))? So it is neither a flag nor a pattern.
fn is_ref_name(name: &str) -> bool {
    let bad = |char: char| char.is_control() || " ~^:?*[\\".contains(char);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(bad)
        && name.split('/').all(part)
}

fn decoded(key: &'static str, text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8();
    match decoded {
        Ok(decoded) if !decoded.contains('\0') => Ok(decoded.into_owned()),
        _ => Err(AddressError::Value {
            key,
            value: text.into(),
        }),
    }
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap().unwrap()
    }

    #[test]
    fn repositories_are_told_from_files_and_paths() {
        for (text, remote) in [
            ("https://host/a/b.git", "https://host/a/b.git"),
            ("HTTP://host:8080/b.git#main", "http://host:8080/b.git"),
            ("git://host/b", "git://host/b"),
            ("ssh://me:pw@host:22/~/b?ref=x", "ssh://me@host:22/~/b"),
            ("git@host:a/b#x:y", "git@host:a/b"),
            ("https://me:pw@host/b.git", "https://host/b.git"),
        ] {
            assert_eq!(address(text).remote, remote, "{text}");
        }
        assert_eq!(address("https://me:pw@host/b.git").login.unwrap(), "me:pw");
        for text in [
            "https://host/b.tar.gz",
            "https://host/b.git/",
            "https://host/x?y=b.git",
            "https://host/b#c.git",
            "ftp://host/b.git",
            "file:///b.git",
            "./git@host:b",
            "a/b.git",
            "git@host",
            "github.com/a/b",
        ] {
            assert_eq!(Address::parse(text), Ok(None), "{text}");
        }
        let short = Address::of_context("github.com/a/b#main").unwrap().unwrap();
        assert_eq!(
            (short.remote.as_str(), short.wanted.as_deref()),
            ("https://github.com/a/b", Some("main"))
        );
    }

    #[test]
    fn what_is_wanted_stands_behind() {
        for (text, wanted, subdir) in [
            ("", None, ""),
            ("#", None, ""),
            ("#main", Some("main"), ""),
            ("#a/b:c/d", Some("a/b"), "c/d"),
            ("#:d%20e", None, "d e"),
            ("?ref=pull/1/head", Some("pull/1/head"), ""),
            ("?branch=b&subdir=/d", Some("refs/heads/b"), "/d"),
            ("?tag=refs/tags/t", Some("refs/tags/t"), ""),
            ("?ref=x#x:d", Some("x"), "d"),
            ("?commit=0123456789", Some("0123456789"), ""),
        ] {
            let found = address(&format!("https://h/r.git{text}"));
            assert_eq!(
                (found.wanted.as_deref(), found.subdir.as_str()),
                (wanted, subdir),
                "{text}"
            );
        }
        let found = address("https://h/r.git?tag=v1&checksum=ABCDEF0&keep-git-dir&submodules=false");
        assert_eq!(found.checksum.as_deref(), Some("abcdef0"));
        assert_eq!((found.keep_git_dir, found.submodules), (Some(true), false));
    }

    #[test]
    fn what_git_could_take_for_something_else_is_refused() {
        for text in [
            "#-c",
            "#--upload-pack=x",
            "#a b",
            "#../x",
            "#a*",
            "#%0a",
            "?ref=a#b",
            "?tag=a&branch=b",
            "?ref=a&ref=a",
            "?ref=",
            "?what=x",
            "?checksum=xyz",
            "?submodules=maybe",
            "#:%00",
        ] {
            let found = Address::parse(&format!("https://h/r.git{text}"));
            assert!(found.is_err(), "{text}: {found:?}");
        }
        for text in [
            "ssh://-oProxyCommand=x/r.git",
            "-x@host:path",
            "git@-host:path",
            "git@host:-path",
            "https:///r.git",
            "https://h/a\nb.git",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn checksums_agree() {
        let mut found = address("https://h/r.git?checksum=1234567");
        assert!(found.check("1234567").is_ok());
        assert_eq!(found.check("7654321"), Err(AddressError::Conflict("checksum")));
        assert!(found.check("sha256:1234567").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_git_takes_for_what_it_is(
            text in "(https?|git|ssh)://[-a-z@:.]{0,12}/[-a-z./\\PC]{0,8}(\\.git)?[?#&=:%a-z0-9/.-]{0,30}|\\PC{0,40}"
        ) {
            if let Ok(Some(found)) = Address::parse(&text) {
                prop_assert!(!found.remote.starts_with('-'));
                prop_assert!(!found.remote.contains(char::is_control));
                let wanted = found.wanted.as_deref().unwrap_or_default();
                prop_assert!(!wanted.starts_with('-') && !wanted.contains([':', '*', ' ', '^']));
                prop_assert!(!found.host().starts_with('-'));
            }
        }
    }
}
