//! What does `-v [SOURCE:]TARGET[:OPTIONS]` mean? A path is the host's, a name a volume's, nothing a new volume.

use std::path::{Path, PathBuf};

use super::super::SpecError;
use super::{Bind, Missing, Volume, What, Wish, target};
use crate::containers::names::is_name;

/// The options behind the last colon.
#[derive(Default)]
struct Options<'a> {
    access: Option<&'a str>,
    recursion: Option<&'a str>,
    propagation: Option<&'a str>,
    no_copy: bool,
    own: bool,
}

enum Source {
    Host(PathBuf),
    Volume(String),
}

/// `-v [SOURCE:]TARGET[:OPTIONS]`.
///
/// # Errors
/// Refuses bad paths and names, and options that are unknown or of the other kind of source.
pub fn volume(text: &str, cwd: &Path) -> Result<Wish, SpecError> {
    let refuse = |why| {
        let text = text.into();
        Err(SpecError::Mount { text, why })
    };
    let mut parts = text.split(':');
    let (source, place, mode) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(only), None, ..) => return anonymous(only),
        (Some(source), Some(place), mode, None) => (source, place, mode.unwrap_or("")),
        _ => return refuse("expected SOURCE:TARGET[:OPTIONS]"),
    };
    if source.is_empty() {
        return refuse("empty host path");
    }
    let source = self::source(source, cwd)?;
    let options = match Options::parse(mode) {
        Ok(options) => options,
        Err(why) => return refuse(why),
    };
    let target = target(place)?;
    let shown = match &source {
        Source::Host(path) => path.display().to_string(),
        Source::Volume(name) => name.clone(),
    };
    let what = match (source, options) {
        (Source::Host(_), Options { own: true, .. }) => {
            return refuse("option U would give the host's files to other owners: it is for volumes");
        }
        (Source::Host(_), Options { no_copy: true, .. }) => {
            return refuse("option nocopy is for volumes: nothing is copied to the host's directories");
        }
        (
            Source::Volume(_),
            Options {
                recursion: Some(_), ..
            },
        ) => {
            return refuse("bind and rbind are for directories of the host, not for volumes");
        }
        (Source::Host(source), options) => What::Bind(Bind {
            source,
            target,
            options: [
                options.recursion.unwrap_or("rbind"),
                options.propagation.unwrap_or("rprivate"),
                options.access.unwrap_or("rw"),
            ]
            .map(String::from)
            .into(),
            missing: Missing::Create,
        }),
        (
            Source::Volume(_),
            Options {
                propagation: Some(_), ..
            },
        ) => {
            return refuse("a propagation is for directories of the host, not for volumes");
        }
        (Source::Volume(name), options) => What::Volume(Volume {
            name: Some(name),
            target,
            read_only: options.access == Some("ro"),
            no_copy: options.no_copy,
            own: options.own,
            ..Volume::default()
        }),
    };
    let suffix = if mode.is_empty() {
        String::new()
    } else {
        format!(":{mode}")
    };
    Ok(Wish {
        what,
        mode: mode.into(),
        bind: Some(format!("{shown}:{place}{suffix}")),
        spec: None,
    })
}

/// `-v TARGET`.
fn anonymous(place: &str) -> Result<Wish, SpecError> {
    Ok(Wish {
        what: What::Volume(Volume {
            target: target(place)?,
            ..Volume::default()
        }),
        mode: String::new(),
        bind: None,
        spec: None,
    })
}

/// The host's side: an absolute path, or `.`/`./x`/`../x` below `cwd`; everything else names a volume.
fn source(text: &str, cwd: &Path) -> Result<Source, SpecError> {
    let relative = text == "." || text == ".." || text.starts_with("./") || text.starts_with("../");
    if text.starts_with('/') {
        return Ok(Source::Host(text.into()));
    }
    if relative {
        // `./x` becomes `cwd/x`; `..` stays for the kernel, which knows the symlinks.
        return Ok(Source::Host(cwd.join(text).components().collect()));
    }
    match is_name(text) {
        true => Ok(Source::Volume(text.into())),
        false => Err(SpecError::VolumeName(text.into())),
    }
}

impl<'a> Options<'a> {
    fn parse(mode: &'a str) -> Result<Options<'a>, &'static str> {
        let mut options = Options::default();
        let set = |old: &mut Option<&'a str>, new| match old.replace(new) {
            Some(_) => Err("options that contradict each other"),
            None => Ok(()),
        };
        for flag in mode.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "ro" | "rw" => set(&mut options.access, flag)?,
                "bind" | "rbind" => set(&mut options.recursion, flag)?,
                "private" | "rprivate" | "slave" | "rslave" => set(&mut options.propagation, flag)?,
                "nocopy" => options.no_copy = true,
                "U" => options.own = true,
                // No SELinux label is set, as by podman where there is no SELinux; the others matter to Docker Desktop.
                "z" | "Z" | "cached" | "delegated" | "consistent" => {}
                "O" => return Err("option O (overlay) is not supported"),
                "shared" | "rshared" => {
                    return Err(
                        "shared propagation needs rights on the host's mounts that an ordinary user lacks",
                    );
                }
                _ => return Err("unknown option"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Wish, SpecError> {
        volume(text, Path::new("/home/me"))
    }
    fn bind(text: &str) -> Option<(String, String, String)> {
        match parsed(text).ok()?.what {
            What::Bind(b) => Some((b.source.display().to_string(), b.target, b.options.join(","))),
            _ => None,
        }
    }
    fn is(source: &str, target: &str, options: &str) -> Option<(String, String, String)> {
        Some((source.into(), target.into(), options.into()))
    }

    #[test]
    fn paths_are_the_hosts() {
        assert_eq!(bind("/a:/b"), is("/a", "/b", "rbind,rprivate,rw"));
        assert_eq!(bind("/a:/b:ro"), is("/a", "/b", "rbind,rprivate,ro"));
        assert_eq!(bind("/a:/b:ro,Z"), is("/a", "/b", "rbind,rprivate,ro"));
        assert_eq!(bind("./x:/b"), is("/home/me/x", "/b", "rbind,rprivate,rw"));
        assert_eq!(bind(".:/b"), is("/home/me", "/b", "rbind,rprivate,rw"));
        assert_eq!(bind("/a:/b:z,rslave"), is("/a", "/b", "rbind,rslave,rw"));
        let shown = |text| parsed(text).unwrap().bind;
        assert_eq!(shown("./x:/b:ro").as_deref(), Some("/home/me/x:/b:ro"));
        assert_eq!(shown("vol:/b").as_deref(), Some("vol:/b"));
    }

    #[test]
    fn names_are_volumes() {
        let volume = |text: &str| match parsed(text).map(|wish| wish.what) {
            Ok(What::Volume(volume)) => volume,
            other => panic!("{text}: {other:?}"),
        };
        let named = Volume {
            name: Some("data".into()),
            target: "/b".into(),
            ..Volume::default()
        };
        assert_eq!(volume("data:/b"), named);
        let all = Volume {
            read_only: true,
            no_copy: true,
            own: true,
            ..named
        };
        assert_eq!(volume("data:/b:ro,nocopy,U,z"), all);
        assert_eq!((volume("/b").name, volume("/b").target), (None, "/b".into()));
        assert!(matches!(parsed("a/b:/c"), Err(SpecError::VolumeName(_))));
        assert!(
            matches!(parsed("a:/c"), Err(SpecError::VolumeName(_))),
            "too short"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "",
            ":/b",
            "/a:b",
            "/a:/",
            "/a:/b/..",
            "/a:/b:ro:rw",
            "/a:/b:bogus",
            "/a:/b:U",
            "/a:/b:nocopy",
            "vv:/b:bind",
            "/a:/b:shared",
            "/a:/b:ro,rw",
            "vv:/b:rslave",
            "vv:/b:rshared",
        ] {
            assert!(matches!(parsed(bad), Err(SpecError::Mount { .. })), "{bad}");
        }
    }
}
