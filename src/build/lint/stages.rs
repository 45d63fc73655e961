//! What do FROM lines name?

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::{Finding, Look, Rule};
use crate::build::dockerfile::From;
use crate::build::solve::expanded;
use crate::images::manifest::Platform;
use crate::images::reference::Reference;

/// Names that mean something else.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn findings(look: &Look<'_>) -> Vec<Finding> {
    let (mut findings, mut names) = (Vec::new(), BTreeSet::new());
    for stage in &look.file.stages {
        let from = &stage.from;
        let mut found = |rule, detail| {
            findings.push(Finding {
                rule,
                detail,
                place: from.place,
            });
        };
        if let Some(name) = &from.name {
            if RESERVED.contains(&name.as_str()) {
                let detail = format!("Stage name should not use the same name as reserved stage {name:?}");
                found(Rule::ReservedStageName, detail);
            }
            if !names.insert(name.as_str()) {
                let detail = format!("Duplicate stage name {name:?}, stage names should be unique");
                found(Rule::DuplicateStageName, detail);
            }
        }
        for name in undeclared(look, from) {
            let known = look.file.args.iter().map(|arg| arg.name.as_str());
            let meant = look.meant.of("", &name, known.chain(look.given.platforms()));
            let detail = format!("FROM argument '{name}' is not declared{meant}");
            found(Rule::UndefinedArgInFrom, detail);
        }
        if !has_default_base(look, from) {
            let base = &from.image;
            let detail = format!("Default value for ARG {base} results in empty or invalid base image name");
            found(Rule::InvalidDefaultArgInFrom, detail);
        }
        if let Some((rule, detail)) = platform(from) {
            found(rule, detail);
        }
    }
    findings
}

/// Variables that no ARG before the first FROM names.
fn undeclared(look: &Look<'_>, from: &From) -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    let get = |name: &str| {
        let value = look.global.of_from(&look.given, name);
        if value.is_none() && look.file.args.iter().all(|arg| arg.name != name) {
            names.borrow_mut().insert(name.to_string());
        }
        value
    };
    for word in std::iter::once(&from.image).chain(&from.platform) {
        // A word that cannot be expanded fails the build.
        drop(expanded(look.file.directives.escape, word, &get));
    }
    names.into_inner()
}

/// Is there something to stand on if nothing is given?
fn has_default_base(look: &Look<'_>, from: &From) -> bool {
    let get = |name: &str| look.defaults.of_from(&look.nothing, name);
    let base = expanded(look.file.directives.escape, &from.image, &get);
    base.is_ok_and(|base| Reference::parse(&base).is_ok())
}

fn platform(from: &From) -> Option<(Rule, String)> {
    let text = from.platform.as_deref()?;
    if ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&text) {
        let detail = format!(
            "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
        );
        return Some((Rule::RedundantTargetPlatform, detail));
    }
    let platform: Platform = text.parse().ok()?;
    let name = from.name.as_deref().unwrap_or_default();
    // A stage that is called after its platform is meant for it.
    let is_meant = name.contains(&platform.os) || name.contains(&platform.architecture);
    (!text.contains('$') && !is_meant).then(|| {
        let detail = format!("FROM --platform flag should not use constant value {text:?}");
        (Rule::FromPlatformFlagConstDisallowed, detail)
    })
}
