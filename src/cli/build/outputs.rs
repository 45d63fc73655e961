//! Where does the result go? `--output`, `--load` and `--push`, in BuildKit's and podman's words.

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;

use crate::build::{Output, Trust};
use crate::cli::report::Failure;
use crate::images::commit::Described;
use crate::images::packed::Family;
use crate::images::packing::{Packing, Small};
use crate::images::reference::Reference;
use crate::images::save::Format;

/// The flags.
pub(super) struct Asked<'a> {
    /// `--output`.
    pub(super) outputs: &'a [String],
    /// `--load`.
    pub(super) load: bool,
    /// `--push`.
    pub(super) push: bool,
    /// `-t`.
    pub(super) names: &'a [Reference],
    /// `--annotation` and `--format`.
    pub(super) described: &'a Described,
    /// `--tls-verify`.
    pub(super) trust: Trust,
}

/// What they mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) outputs: Vec<Output>,
    /// `rewrite-timestamp=true`.
    pub(super) rewrite: bool,
}

impl Asked<'_> {
    /// Without any, an image in the store.
    pub(super) fn wanted(&self) -> Result<Wanted, Failure> {
        let mut texts: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        if self.load || texts.is_empty() && !self.push {
            texts.push("type=docker");
        }
        if self.push {
            texts.push("type=registry");
        }
        let all: Vec<Words> = texts.into_iter().map(Words::parse).collect::<Result<_, _>>()?;
        let rewrite = all.iter().any(|words| words.rewrite == Some(true));
        if rewrite
            && all
                .iter()
                .any(|words| words.rewrite != Some(true) && words.kind != "cacheonly")
        {
            let why =
                "rewrite-timestamp: all outputs are of the same layers, so either none asks for it, or each";
            return Err(Failure::new(why).code(125));
        }
        let mut outputs = Vec::new();
        for words in &all {
            outputs.extend(self.output(words)?);
        }
        match outputs.iter().filter(|output| output.is_stream()).count() {
            0 => {}
            1 if stdout().is_terminal() => {
                let why = "refusing to write an archive to a terminal: redirect, or name a file by dest=FILE";
                return Err(Failure::new(why));
            }
            1 => {}
            _ => return Err(Failure::new("only one output can go to standard output").code(125)),
        }
        Ok(Wanted { outputs, rewrite })
    }

    /// One output; none for `cacheonly`.
    fn output(&self, words: &Words<'_>) -> Result<Option<Output>, Failure> {
        let mut names = self.names.to_vec();
        for name in &words.names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut described = self.described.clone();
        described.annotations.extend(words.annotations.iter().cloned());
        if let Some(family) = words.family {
            described.family = family;
        }
        described.packing = words.packing()?;
        let is_docker_archive = words.kind == "docker" && words.dest.is_some();
        if is_docker_archive && !described.annotations.is_empty() {
            return Err(words.invalid("Docker's archives have no manifest for annotations (--annotation)"));
        }
        if words.kind == "oci" && described.family != Family::Oci {
            return Err(words.invalid("it has OCI's format, not Docker's (--format)"));
        }
        let file = words.dest.clone().filter(|dest| dest != "-").map(PathBuf::from);
        Ok(Some(match (words.kind, &words.dest) {
            ("local", Some(dest)) if dest != "-" => Output::Directory(dest.into()),
            ("local", _) => return Err(words.invalid("a directory is missing (dest=PATH)")),
            ("tar", _) => Output::Tar(file),
            ("oci", _) if words.tar == Some(false) => Output::Layout {
                names,
                described,
                directory: file.ok_or_else(|| words.invalid("a directory is missing (dest=PATH)"))?,
            },
            (_, _) if words.tar == Some(false) => return Err(words.invalid("tar=false is for type=oci")),
            ("oci", _) => Output::Archive {
                names,
                described,
                format: Format::Oci,
                file,
            },
            ("docker", Some(_)) => Output::Archive {
                names,
                described,
                format: Format::Docker,
                file,
            },
            ("cacheonly", None) => return Ok(None),
            ("image" | "registry" | "docker", None) => {
                let push = words.push.unwrap_or(words.kind == "registry");
                if push && names.is_empty() {
                    return Err(Failure::new("tag is needed when pushing to registry").code(125));
                }
                Output::Image {
                    names,
                    described,
                    push: push.then_some(if words.insecure { Trust::All } else { self.trust }),
                }
            }
            (_, Some(_)) => return Err(words.invalid("this type has no dest")),
            (other, None) => return Err(words.invalid(&format!("there is no type {other}"))),
        }))
    }
}

/// One `--output`, field by field.
#[derive(Debug, Default)]
struct Words<'a> {
    text: &'a str,
    kind: &'a str,
    dest: Option<String>,
    names: Vec<Reference>,
    push: Option<bool>,
    insecure: bool,
    tar: Option<bool>,
    rewrite: Option<bool>,
    family: Option<Family>,
    small: Option<Small>,
    level: Option<u32>,
    force: bool,
    annotations: Vec<(String, String)>,
}

const KINDS: [&str; 7] = ["local", "tar", "oci", "docker", "image", "registry", "cacheonly"];

impl<'a> Words<'a> {
    fn parse(text: &'a str) -> Result<Words<'a>, Failure> {
        let mut words = Words {
            text,
            ..Words::default()
        };
        if !text.contains('=') {
            (words.kind, words.dest) = (if text == "-" { "tar" } else { "local" }, Some(text.into()));
            return Ok(words);
        }
        let fields = fields(text).ok_or_else(|| words.invalid("a quote has no end"))?;
        for field in fields {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| words.invalid(&format!("{field:?} is not of the form KEY=VALUE")))?;
            words.field(key, value)?;
        }
        if words.kind.is_empty() {
            return Err(words.invalid("the type is missing"));
        }
        let (is_image, is_oci) = (
            ["image", "registry", "docker"].contains(&words.kind),
            words.kind == "oci",
        );
        let strays = [
            (!words.names.is_empty() && !is_image && !is_oci, "name"),
            (
                !words.annotations.is_empty() && !is_image && !is_oci,
                "annotation",
            ),
            (
                (words.push.is_some() || words.insecure) && !["image", "registry"].contains(&words.kind),
                "push",
            ),
            (
                words.family.is_some() && !is_image && words.family != Some(Family::Oci),
                "oci-mediatypes",
            ),
        ];
        match strays.iter().find(|(is_stray, _)| *is_stray) {
            Some((_, key)) => Err(words.invalid(&format!("this type has no {key}"))),
            None => Ok(words),
        }
    }

    /// The form of layers. It is for those that leave the store: there they are as they were made.
    fn packing(&self) -> Result<Packing, Failure> {
        let packing = Packing {
            small: self.small.unwrap_or_default(),
            level: self.level,
            force: self.force,
        };
        if packing == Packing::default() {
            return Ok(packing);
        }
        let why = match self.kind {
            "oci" => packing.wrong(),
            "docker" if self.dest.is_some() => Some("layers in Docker's archives are not compressed"),
            "registry" | "image" if self.push.unwrap_or(self.kind == "registry") => packing.wrong(),
            "image" | "docker" | "registry" => {
                Some("layers in the store are not compressed; those that are pushed or exported are")
            }
            _ => Some("this type has no layers to compress"),
        };
        why.map_or(Ok(packing), |why| Err(self.invalid(why)))
    }

    fn field(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        let truth = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.invalid(&format!("{key} is true or false"))),
        };
        match key {
            "type" => {
                let kind = KINDS.iter().find(|kind| **kind == value);
                self.kind = kind.ok_or_else(|| self.invalid(&format!("there is no type {value}")))?;
            }
            "dest" => self.dest = Some(value.into()),
            "name" => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    let parsed = Reference::parse(name)
                        .map_err(|error| self.invalid(&format!("{name:?}: {error}")))?;
                    if parsed.digest().is_some() {
                        return Err(self.invalid(&format!("{name:?}: a digest is no tag")));
                    }
                    self.names.push(parsed.or_latest());
                }
            }
            "push" => self.push = Some(truth()?),
            "registry.insecure" => self.insecure = truth()?,
            "tar" => self.tar = Some(truth()?),
            "rewrite-timestamp" => self.rewrite = Some(truth()?),
            "oci-mediatypes" => self.family = Some(if truth()? { Family::Oci } else { Family::Docker }),
            "compression" => {
                self.small = Some(match value {
                    "gzip" => Small::Gzip,
                    "zstd" => Small::Zstd,
                    "uncompressed" => Small::Plain,
                    _ => return Err(self.invalid("compression is gzip, zstd or uncompressed")),
                });
            }
            "compression-level" => {
                let level = value.parse();
                self.level = Some(level.map_err(|_| self.invalid("compression-level is a number"))?);
            }
            "force-compression" => self.force = truth()?,
            // What is done anyway.
            "store" if truth()? => {}
            "unpack" if !truth()? => {}
            _ => match key.strip_prefix("annotation.") {
                Some(name) => self.annotations.push((name.into(), value.into())),
                None => return Err(self.invalid(&format!("{key} is not supported"))),
            },
        }
        Ok(())
    }

    fn invalid(&self, why: &str) -> Failure {
        Failure::new(format!(
            "invalid argument {:?} for \"-o, --output\": {why}",
            self.text
        ))
        .code(125)
    }
}

/// The fields of a line of CSV: a field in quotes may have commas. `None`: a quote has no end.
fn fields(text: &str) -> Option<Vec<String>> {
    let (mut fields, mut rest) = (Vec::new(), text);
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut quoted = quoted;
            loop {
                let (part, after) = quoted.split_once('"')?;
                field.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        }
        let (plain, after) = rest.split_once(',').unwrap_or((rest, ""));
        field.push_str(plain);
        fields.push(field);
        match rest.contains(',') {
            true => rest = after,
            false => return Some(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(outputs: &[&str], tag: &str) -> Result<Vec<Output>, String> {
        described(outputs, tag, &Described::default())
    }

    fn described(outputs: &[&str], tag: &str, described: &Described) -> Result<Vec<Output>, String> {
        let outputs: Vec<String> = outputs.iter().map(|text| text.to_string()).collect();
        let names: Vec<Reference> = tag.parse().into_iter().collect();
        let asked = Asked {
            outputs: &outputs,
            load: false,
            push: false,
            names: &names,
            described,
            trust: Trust::Verified,
        };
        asked
            .wanted()
            .map(|wanted| wanted.outputs)
            .map_err(|failure| failure.message)
    }

    fn image(names: &[&str], push: Option<Trust>) -> Output {
        Output::Image {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            described: Described::default(),
            push,
        }
    }

    #[test]
    fn places_are_read_as_buildkit_reads_them() {
        assert_eq!(wanted(&[], "a:1"), Ok(vec![image(&["a:1"], None)]));
        assert_eq!(wanted(&["type=docker"], "a:1"), Ok(vec![image(&["a:1"], None)]));
        assert_eq!(wanted(&["dir"], ""), Ok(vec![Output::Directory("dir".into())]));
        assert_eq!(
            wanted(&["type=local,dest=a", "type=tar,dest=b"], ""),
            Ok(vec![Output::Directory("a".into()), Output::Tar(Some("b".into()))])
        );
        assert_eq!(
            wanted(&[r#"type=image,"name=x/a,y/b:2",push=true"#], ""),
            Ok(vec![image(&["x/a:latest", "y/b:2"], Some(Trust::Verified))])
        );
        assert_eq!(
            wanted(&["type=registry,registry.insecure=true"], "a:1"),
            Ok(vec![image(&["a:1"], Some(Trust::All))])
        );
        assert_eq!(
            wanted(&["type=registry,push=false"], "a:1"),
            Ok(vec![image(&["a:1"], None)])
        );
        assert_eq!(wanted(&["type=cacheonly"], "a:1"), Ok(vec![]));
        let docker = wanted(
            &["type=oci,dest=x,name=b,annotation.k=v=w", "type=docker,dest=y"],
            "a:1",
        )
        .unwrap();
        let [
            Output::Archive { names, described, .. },
            Output::Archive {
                format: Format::Docker,
                file: Some(_),
                ..
            },
        ] = &docker[..]
        else {
            panic!("{docker:?}");
        };
        assert_eq!(
            names.iter().map(Reference::familiar).collect::<Vec<_>>(),
            ["a:1", "b:latest"]
        );
        assert_eq!(described.annotations.get("k").map(String::as_str), Some("v=w"));
    }

    #[test]
    fn places_that_mean_nothing_are_refused() {
        for (text, why) in [
            ("type=local", "a directory is missing"),
            ("type=local,dest=-", "a directory is missing"),
            ("type=oci,tar=false", "a directory is missing"),
            ("type=docker,tar=false,dest=x", "tar=false is for type=oci"),
            ("dest=x", "the type is missing"),
            ("type=ocean", "there is no type ocean"),
            ("type=image,dest=x", "this type has no dest"),
            ("type=tar,name=x", "this type has no name"),
            ("type=oci,push=true", "this type has no push"),
            ("type=oci,oci-mediatypes=false", "this type has no oci-mediatypes"),
            ("type=image,push=perhaps", "push is true or false"),
            ("type=image,name=UPPER", "must be lowercase"),
            (
                "type=image,push-by-digest=true",
                "push-by-digest is not supported",
            ),
            ("type=image,compression=zstd", "in the store are not compressed"),
            ("type=docker,dest=x,compression=zstd", "in Docker's archives"),
            ("type=local,dest=x,compression=zstd", "no layers to compress"),
            ("type=oci,compression=estargz", "gzip, zstd or uncompressed"),
            ("type=oci,compression-level=10", "gzip are 0 to 9"),
            (
                "type=oci,compression=zstd,compression-level=23",
                "zstd are 0 to 22",
            ),
            (
                "type=oci,compression=uncompressed,compression-level=1",
                "has no level",
            ),
            ("type=oci,compression-level=best", "compression-level is a number"),
            ("type=image,\"name=x", "a quote has no end"),
            ("type=image,color", "not of the form KEY=VALUE"),
        ] {
            let found = wanted(&[text], "a").unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
        assert!(
            wanted(&["type=registry"], "")
                .unwrap_err()
                .contains("tag is needed")
        );
        assert!(
            wanted(&["-", "type=oci"], "")
                .unwrap_err()
                .contains("only one output")
        );
        let annotated = Described {
            annotations: [("a".into(), "b".into())].into(),
            ..Described::default()
        };
        let docker = Described {
            family: Family::Docker,
            ..Described::default()
        };
        for (flags, text, why) in [
            (&annotated, "type=docker,dest=x", "no manifest for annotations"),
            (
                &Described::default(),
                "type=docker,dest=x,annotation.a=b",
                "no manifest for annotations",
            ),
            (&docker, "type=oci,dest=x", "OCI's format, not Docker's"),
            (&docker, "type=oci,tar=false,dest=x", "OCI's format, not Docker's"),
        ] {
            let found = described(&[text], "", flags).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
        for (flags, text) in [
            (&annotated, "type=docker"),
            (&annotated, "type=oci,dest=x"),
            (&docker, "type=docker,dest=x"),
            (&docker, "type=oci,dest=x,oci-mediatypes=true"),
        ] {
            assert!(described(&[text], "", flags).is_ok(), "{text}");
        }
        let mixed = wanted(
            &["type=oci,dest=a,rewrite-timestamp=true", "type=docker,dest=b"],
            "",
        );
        assert!(mixed.unwrap_err().contains("either none asks for it, or each"));
    }
}
