//! `--cache-from` and `--cache-to`, in buildx's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::build::{CacheTo, Mode, OnFailure};
use crate::cli::report::Failure;
use crate::images::cache::Place;
use crate::images::reference::Reference;

/// The tag in a layout if none is given.
const TAG: &str = "latest";

/// `type=registry,ref=NAME`, `type=local,src=DIR[,tag=TAG]`, or names alone.
pub(super) fn from(text: &str) -> Result<Vec<Place>, Failure> {
    let flag = Flag("--cache-from", text);
    if !text.contains('=') {
        return text.split(',').map(|name| flag.name(name)).collect();
    }
    let mut fields = flag.fields()?;
    let place = match flag.take(&mut fields, "type")?.as_str() {
        "registry" => flag.name(&flag.take(&mut fields, "ref")?)?,
        "local" => flag.directory("src", &mut fields)?,
        other => return Err(flag.invalid(&format!("type {other} is not supported: registry and local are"))),
    };
    flag.nothing_else(&fields)?;
    Ok(vec![place])
}

/// `type=registry,ref=NAME`, `type=local,dest=DIR[,tag=TAG]`, `type=inline`, or a name alone; `mode=min|max`.
pub(super) fn to(text: &str) -> Result<CacheTo, Failure> {
    let flag = Flag("--cache-to", text);
    let mut asked = CacheTo {
        place: None,
        mode: Mode::Min,
        failure: OnFailure::Fail,
    };
    if !text.contains('=') {
        asked.place = Some(flag.name(text)?);
        return Ok(asked);
    }
    let mut fields = flag.fields()?;
    asked.place = match flag.take(&mut fields, "type")?.as_str() {
        "inline" => None,
        "registry" => Some(flag.name(&flag.take(&mut fields, "ref")?)?),
        "local" => Some(flag.directory("dest", &mut fields)?),
        other => {
            return Err(flag.invalid(&format!(
                "type {other} is not supported: registry, local and inline are"
            )));
        }
    };
    match (fields.remove("mode"), &asked.place) {
        (None | Some("min"), _) => {}
        (Some("max"), Some(_)) => asked.mode = Mode::Max,
        (Some("max"), None) => return Err(flag.invalid("an inline cache is always mode=min")),
        (Some(_), _) => return Err(flag.invalid("expected mode=min or mode=max")),
    }
    match fields.remove("ignore-error") {
        None | Some("false") => {}
        Some("true") => asked.failure = OnFailure::Warn,
        Some(_) => return Err(flag.invalid("expected ignore-error=true or ignore-error=false")),
    }
    // What is done anyway.
    for (key, only) in [
        ("oci-mediatypes", "true"),
        ("image-manifest", "true"),
        ("compression", "gzip"),
    ] {
        if fields.remove(key).is_some_and(|value| value != only) {
            return Err(flag.invalid(&format!("only {key}={only} is supported")));
        }
    }
    flag.nothing_else(&fields)?;
    Ok(asked)
}

/// A flag's name and value.
struct Flag<'a>(&'static str, &'a str);

impl<'a> Flag<'a> {
    fn invalid(&self, why: &str) -> Failure {
        let Flag(name, text) = self;
        Failure::new(format!("invalid argument {text:?} for \"{name}\": {why}")).code(125)
    }

    fn fields(&self) -> Result<BTreeMap<&'a str, &'a str>, Failure> {
        let pair = |field: &'a str| field.split_once('=');
        let fields: Option<_> = self.1.split(',').map(pair).collect();
        fields.ok_or_else(|| self.invalid("expected KEY=VALUE, separated by commas"))
    }

    fn take(&self, fields: &mut BTreeMap<&str, &str>, key: &str) -> Result<String, Failure> {
        let value = fields.remove(key).filter(|value| !value.is_empty());
        value
            .map(String::from)
            .ok_or_else(|| self.invalid(&format!("{key} is missing")))
    }

    fn name(&self, text: &str) -> Result<Place, Failure> {
        let name = Reference::parse(text).map_err(|error| self.invalid(&error.to_string()))?;
        match name.digest() {
            Some(_) if self.0 == "--cache-to" => Err(self.invalid("a digest is no tag")),
            _ => Ok(Place::Registry(name.or_latest())),
        }
    }

    fn directory(&self, key: &str, fields: &mut BTreeMap<&str, &str>) -> Result<Place, Failure> {
        let path = PathBuf::from(self.take(fields, key)?);
        let tag = fields.remove("tag").unwrap_or(TAG).to_string();
        Ok(Place::Directory { path, tag })
    }

    fn nothing_else(&self, fields: &BTreeMap<&str, &str>) -> Result<(), Failure> {
        match fields.keys().next() {
            Some(key) => Err(self.invalid(&format!("{key} is not known here"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> Place {
        Place::Registry(Reference::parse(name).unwrap().or_latest())
    }

    #[test]
    fn sources_are_buildxs() {
        let local = |path: &str, tag: &str| Place::Directory {
            path: path.into(),
            tag: tag.into(),
        };
        for (text, wanted) in [
            ("a/b:1", vec![registry("a/b:1")]),
            ("a,b:2", vec![registry("a:latest"), registry("b:2")]),
            ("type=registry,ref=a", vec![registry("a:latest")]),
            ("type=local,src=/d", vec![local("/d", "latest")]),
            ("src=d,type=local,tag=x", vec![local("d", "x")]),
        ] {
            assert_eq!(from(text).ok(), Some(wanted), "{text}");
        }
        for text in [
            "",
            "type=local",
            "type=s3,bucket=x",
            "type=inline",
            "ref=a",
            "type=registry,ref=a,x=1",
            "type=local,dest=d",
        ] {
            assert!(from(text).is_err(), "{text}");
        }
    }

    #[test]
    fn destinations_are_buildxs() {
        let asked = to("type=local,dest=d,mode=max,ignore-error=true,compression=gzip")
            .ok()
            .unwrap();
        assert_eq!((asked.mode, asked.failure), (Mode::Max, OnFailure::Warn));
        assert_eq!(to("type=inline").ok().unwrap().place, None);
        assert_eq!(to("a/b").ok().unwrap().place, Some(registry("a/b:latest")));
        for text in [
            "type=inline,mode=max",
            "type=local,src=d",
            "type=registry,ref=a,mode=all",
            "type=gha",
            "type=local,dest=d,compression=zstd",
        ] {
            assert!(to(text).is_err(), "{text}");
        }
    }
}
