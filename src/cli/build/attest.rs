//! What shall be said of the image? `--attest type=provenance|sbom,…`, `--provenance` and `--sbom`, as buildx and BuildKit
//! read them (`util/buildflags/attests.go`, `frontend/attestations`).

use crate::build::{Attests, Detail, Provenance, Sbom, Version};
use crate::cli::report::Failure;
use crate::truth::truth;

/// The scanner that BuildKit takes.
const SCANNER: &str = "docker/buildkit-syft-scanner:stable-1";

/// The flags.
pub(super) struct Asked<'a> {
    pub(super) attest: &'a [String],
    pub(super) provenance: Option<&'a str>,
    pub(super) sbom: Option<&'a str>,
}

impl Asked<'_> {
    pub(super) fn attests(&self) -> Result<Attests, Failure> {
        let mut all: Vec<(&str, String)> = self
            .attest
            .iter()
            .map(|text| ("--attest", text.clone()))
            .collect();
        for (flag, kind, value) in [
            ("--provenance", "provenance", self.provenance),
            ("--sbom", "sbom", self.sbom),
        ] {
            let text = match value {
                None | Some("") => continue,
                Some(text) => match truth(text) {
                    Some(wanted) => format!("type={kind},disabled={}", !wanted),
                    None => format!("type={kind},{text}"),
                },
            };
            // What the shorthand says counts.
            all.retain(|(_, other)| !other.split(',').any(|field| field == format!("type={kind}")));
            all.push((flag, text));
        }
        let (mut attests, mut seen) = (Attests::default(), Vec::new());
        for (flag, text) in &all {
            let words = Words::parse(flag, text)?;
            if seen.contains(&words.kind) {
                return Err(words.invalid(&format!("{} is said twice", words.kind)));
            }
            seen.push(words.kind);
            match words.kind {
                _ if words.disabled => {}
                "provenance" => attests.provenance = Some(words.provenance()?),
                "sbom" => attests.sbom = Some(words.sbom()?),
                other => return Err(words.invalid(&format!("there is no type {other:?}"))),
            }
        }
        Ok(attests)
    }
}

/// One `--attest`, field by field.
struct Words<'a> {
    flag: &'a str,
    text: &'a str,
    kind: &'a str,
    disabled: bool,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn parse(flag: &'a str, text: &'a str) -> Result<Words<'a>, Failure> {
        let mut words = Words {
            flag,
            text,
            kind: "",
            disabled: false,
            attributes: Vec::new(),
        };
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", kind)) => words.kind = kind,
                Some(("disabled", value)) => words.disabled = words.truth("disabled", value)?,
                Some(pair) => words.attributes.push(pair),
                None => return Err(words.invalid(&format!("{field:?} is not of the form KEY=VALUE"))),
            }
        }
        match words.kind {
            "" => Err(words.invalid("the type is missing")),
            _ => Ok(words),
        }
    }

    fn provenance(&self) -> Result<Provenance, Failure> {
        let mut provenance = Provenance {
            detail: Detail::Max,
            version: Version::V1,
            builder: String::new(),
            reproducible: false,
            inline_only: false,
        };
        for &(key, value) in &self.attributes {
            match (key, value) {
                ("mode", "min") => provenance.detail = Detail::Min,
                ("mode", "max" | "full") => provenance.detail = Detail::Max,
                ("mode", _) => return Err(self.invalid("the modes are min and max")),
                ("version", "v1") => provenance.version = Version::V1,
                ("version", "v0.2") => provenance.version = Version::V02,
                ("version", _) => return Err(self.invalid("the versions are v1 and v0.2")),
                ("builder-id", id) => provenance.builder = id.into(),
                ("reproducible", value) => provenance.reproducible = self.truth(key, value)?,
                ("inline-only", value) => provenance.inline_only = self.truth(key, value)?,
                _ => return Err(self.invalid(&format!("{key} is not supported"))),
            }
        }
        Ok(provenance)
    }

    /// What is not the generator's name is for the generator.
    fn sbom(&self) -> Result<Sbom, Failure> {
        let mut sbom = Sbom {
            generator: SCANNER.into(),
            parameters: Vec::new(),
        };
        for &(key, value) in &self.attributes {
            match key {
                "generator" if value.is_empty() => return Err(self.invalid("the generator has no name")),
                "generator" => sbom.generator = value.into(),
                _ => sbom.parameters.push((key.into(), value.into())),
            }
        }
        Ok(sbom)
    }

    fn truth(&self, key: &str, value: &str) -> Result<bool, Failure> {
        truth(value).ok_or_else(|| self.invalid(&format!("{key} is true or false")))
    }

    fn invalid(&self, why: &str) -> Failure {
        let Words { flag, text, .. } = self;
        Failure::new(format!("invalid argument {text:?} for \"{flag}\": {why}")).code(125)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(attest: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Result<Attests, String> {
        let attest: Vec<String> = attest.iter().map(|text| text.to_string()).collect();
        let asked = Asked {
            attest: &attest,
            provenance,
            sbom,
        };
        asked.attests().map_err(|failure| failure.message)
    }

    fn detail(attests: Result<Attests, String>) -> Option<Detail> {
        attests.unwrap().provenance.map(|provenance| provenance.detail)
    }

    #[test]
    fn flags_are_read_as_buildx_reads_them() {
        assert_eq!(asked(&[], None, None), Ok(Attests::default()));
        assert_eq!(asked(&[], Some("false"), Some("0")), Ok(Attests::default()));
        assert_eq!(detail(asked(&[], Some("true"), None)), Some(Detail::Max));
        assert_eq!(detail(asked(&[], Some("mode=min"), None)), Some(Detail::Min));
        assert_eq!(
            detail(asked(&["type=provenance,mode=min"], None, None)),
            Some(Detail::Min)
        );
        assert_eq!(
            asked(&["type=provenance"], Some("false"), None),
            Ok(Attests::default())
        );
        assert_eq!(
            asked(&["type=sbom,disabled=true"], None, None),
            Ok(Attests::default())
        );
        let sbom = asked(&["type=sbom,generator=a/b:1,FORMAT=x"], None, None)
            .unwrap()
            .sbom;
        let wanted = Sbom {
            generator: "a/b:1".into(),
            parameters: vec![("FORMAT".into(), "x".into())],
        };
        assert_eq!(sbom, Some(wanted));
        let sbom = asked(&[], None, Some("true")).unwrap().sbom;
        assert_eq!(sbom.unwrap().generator, "docker/buildkit-syft-scanner:stable-1");
        let provenance = asked(
            &[],
            Some("builder-id=me,version=v0.2,reproducible=true,inline-only=true"),
            None,
        );
        let provenance = provenance.unwrap().provenance.unwrap();
        assert_eq!((provenance.version, &*provenance.builder), (Version::V02, "me"));
        assert!(provenance.reproducible && provenance.inline_only);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (attest, provenance, why) in [
            (&["mode=min"][..], None, "the type is missing"),
            (&["type=dance"], None, "there is no type \"dance\""),
            (&["type=sbom", "type=sbom"], None, "sbom is said twice"),
            (&["type=sbom,generator="], None, "the generator has no name"),
            (&[], Some("mode=most"), "the modes are min and max"),
            (&[], Some("version=v2"), "the versions are v1 and v0.2"),
            (&[], Some("perhaps"), "not of the form KEY=VALUE"),
            (&[], Some("colour=red"), "colour is not supported"),
            (&[], Some("reproducible=maybe"), "reproducible is true or false"),
        ] {
            let found = asked(attest, provenance, None).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
