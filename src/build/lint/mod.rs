//! What in a Dockerfile is probably not meant as it stands? BuildKit's build checks, by its names and in its words
//! (docs.docker.com/reference/build-checks): `casing`: how words are written; `stages`: FROM; `steps`: what follows it.
//!
//! What a base brings (variables, a shell) is known if the store has it; else no variable is called undefined there.

mod casing;
pub(super) mod meant;
pub(super) mod needed;
mod rules;
mod stages;
mod steps;

use std::collections::BTreeSet;

use meant::Meant;

use super::Error;
use super::dockerfile::{Dockerfile, Place};
use super::order::Order;
use super::solve::expanded;
use super::variables::{CHECK, Given, Scope};
use crate::images::manifest::Platform;
use crate::store::Store;
use crate::truth::truth;

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The reference describes each.
pub enum Rule {
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JSONArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
    InvalidBaseImagePlatform,
}

/// Dockerfiles with more bytes, or more stages, than anybody writes are not checked: each stage knows what those below it
/// have set, which may grow with the product.
const MOST_TEXT: usize = 1 << 20;
const MOST_STAGES: usize = 5_000;

/// These are made only if they are asked for.
const EXPERIMENTAL: [Rule; 2] = [Rule::CopyIgnoredFile, Rule::InvalidDefinitionDescription];

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub rule: Rule,
    /// What it says of this place.
    pub detail: String,
    /// The lines.
    pub place: Place,
}

/// Which stages' instructions are looked at? How the file is written, and what FROM says, is always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Whole,
    /// Those that the target needs.
    Target,
}

/// What all checks found.
#[derive(Debug)]
pub struct Checked {
    /// In the order of the lines.
    pub findings: Vec<Finding>,
    is_fatal: bool,
}

impl Rule {
    /// Its name.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Where it is described.
    pub fn url(self) -> String {
        let name: Vec<char> = self.name().chars().collect();
        let mut words = String::new();
        for (at, letter) in name.iter().enumerate() {
            let beside = |at: Option<usize>| at.and_then(|at| name.get(at)).is_some_and(|c| c.is_lowercase());
            if letter.is_uppercase() && at > 0 && (beside(at.checked_sub(1)) || beside(Some(at + 1))) {
                words.push('-');
            }
            words.push(letter.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{words}/")
    }
}

impl Checked {
    /// The checks that found something, if that is an error.
    pub fn failure(&self) -> Option<String> {
        let rules: BTreeSet<Rule> = self.findings.iter().map(|finding| finding.rule).collect();
        let names: Vec<String> = rules.into_iter().map(Rule::name).collect();
        (self.is_fatal && !names.is_empty())
            .then(|| format!("lint violation found for rules: {}", names.join(", ")))
    }
}

/// Makes all checks that the Dockerfile, or `BUILDKIT_DOCKERFILE_CHECK` in its place, does not leave out.
///
/// # Errors
/// The Dockerfile is none, or says nonsense about checks.
pub fn check(store: &Store, order: &Order, extent: Extent) -> Result<Checked, Error> {
    let file = order.parsed()?;
    let options = Options::of(order, &file)?;
    if order.dockerfile.len() > MOST_TEXT || file.stages.len() > MOST_STAGES {
        return Ok(Checked {
            findings: Vec::new(),
            is_fatal: false,
        });
    }
    let look = Look::new(store, order, &file);
    let mut findings = casing::findings(&look);
    findings.extend(stages::findings(&look));
    let stages = match extent {
        Extent::Whole => (0..file.stages.len()).collect(),
        Extent::Target => needed::stages(&look),
    };
    findings.extend(steps::findings(&look, &stages));
    findings.retain(|finding| options.wants(finding.rule));
    findings.sort_by_key(|finding| (finding.place.first, finding.place.last));
    Ok(Checked {
        findings,
        is_fatal: options.error,
    })
}

/// Would findings be errors? Else there is no need to look before a build.
///
/// # Errors
/// As for [`check`].
pub fn is_fatal(order: &Order) -> Result<bool, Error> {
    let file = order.parsed()?;
    Ok(Options::of(order, &file)?.error)
}

/// What the checks look at.
pub(super) struct Look<'a> {
    pub(super) store: &'a Store,
    pub(super) order: &'a Order,
    pub(super) file: &'a Dockerfile,
    pub(super) given: Given,
    /// The ARGs before the first FROM, with what was given, and without.
    pub(super) global: Scope,
    defaults: Scope,
    /// As if nothing was.
    nothing: Given,
    meant: Meant,
}

impl Look<'_> {
    pub(super) fn new<'a>(store: &'a Store, order: &'a Order, file: &'a Dockerfile) -> Look<'a> {
        let target = order.target.as_deref().unwrap_or("default");
        let platform = order.platforms.first().cloned().unwrap_or_else(Platform::host);
        let given = Given::new(&order.args, target, &platform);
        let nothing = Given::new(&[], target, &platform);
        let scope = |given: &Given| {
            let mut scope = Scope::default();
            for arg in &file.args {
                let known = scope.clone();
                let get = |name: &str| known.of_from(given, name);
                // A default that cannot be expanded fails the build; here it counts as none.
                let default = arg.default.as_ref();
                let default = default.and_then(|word| expanded(file.directives.escape, word, &get).ok());
                scope.declare_global(given, &arg.name, default);
            }
            scope
        };
        Look {
            store,
            order,
            file,
            global: scope(&given),
            defaults: scope(&nothing),
            given,
            nothing,
            meant: Meant::default(),
        }
    }
}

/// `skip=A,B;error=true;experimental=all`.
#[derive(Debug, Default)]
struct Options {
    skip: Vec<String>,
    experimental: Vec<String>,
    error: bool,
}

impl Options {
    fn of(order: &Order, file: &Dockerfile) -> Result<Options, Error> {
        let given = order.args.iter().find(|(name, _)| name == CHECK);
        let said = given.map(|(_, value)| value).or(file.directives.check.as_ref());
        Options::parse(said.map_or("", String::as_str))
    }

    fn parse(text: &str) -> Result<Options, Error> {
        let invalid = |option: &str| Error::Value {
            what: "check option",
            value: option.into(),
        };
        let mut options = Options::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or_else(|| invalid(option))?;
            let list = || value.split(',').map(|name| name.trim().to_string()).collect();
            match name.trim() {
                "skip" => options.skip = list(),
                "experimental" => options.experimental = list(),
                "error" => {
                    options.error = truth(value.trim()).ok_or_else(|| invalid(option))?;
                }
                _ => return Err(invalid(option)),
            }
        }
        Ok(options)
    }

    fn wants(&self, rule: Rule) -> bool {
        let names = |list: &[String]| list.iter().any(|name| *name == "all" || *name == rule.name());
        match EXPERIMENTAL.contains(&rule) {
            true => names(&self.experimental) && !names(&self.skip),
            false => !names(&self.skip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_their_pages() {
        for (rule, page) in [
            (Rule::JSONArgsRecommended, "json-args-recommended"),
            (Rule::SecretsUsedInArgOrEnv, "secrets-used-in-arg-or-env"),
            (Rule::FromAsCasing, "from-as-casing"),
        ] {
            assert_eq!(
                rule.url(),
                format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
            );
        }
    }

    #[test]
    fn checks_are_left_out_by_name() {
        let options = Options::parse("skip=JSONArgsRecommended, StageNameCasing;error=true").unwrap();
        assert!(options.error && !options.wants(Rule::StageNameCasing) && options.wants(Rule::FromAsCasing));
        assert!(!options.wants(Rule::CopyIgnoredFile));
        let options = Options::parse("experimental=CopyIgnoredFile").unwrap();
        assert!(options.wants(Rule::CopyIgnoredFile) && !options.wants(Rule::InvalidDefinitionDescription));
        assert!(
            !Options::parse("skip=all;experimental=all")
                .unwrap()
                .wants(Rule::CopyIgnoredFile)
        );
        for bad in ["x", "error=maybe", "colour=red"] {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
    }
}
