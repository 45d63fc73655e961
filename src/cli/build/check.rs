//! How are the findings of checks shown? As buildx does: in full by `--check`, in a line each behind a build.

use serde_json::{Value, json};

use super::super::report::Failure;
use super::{Wrong, excerpt, failed};
use crate::build::{self, Checked, Extent, Location, Order};
use crate::line::printable_line;
use crate::store::Store;

/// `--check`. Without a target, all stages are looked at.
pub(super) fn all(store: &Store, order: &Order, name: &str) -> Result<Checked, Failure> {
    let extent = match order.target {
        None => Extent::Whole,
        Some(_) => Extent::Target,
    };
    let checked = build::check(store, order, extent);
    checked.map_err(|error| failed(&error, name, &order.dockerfile).told())
}

/// BuildKit's document (`frontend/subrequests/lint`).
pub(super) fn document(checked: &Checked, order: &Order, name: &str) -> Value {
    let warning = |finding: &build::Finding| {
        json!({
            "ruleName": finding.rule.name(),
            "description": finding.rule.description(),
            "url": finding.rule.url(),
            "detail": finding.detail,
            "location": Location::from(finding.place),
        })
    };
    json!({
        "warnings": checked.findings.iter().map(warning).collect::<Vec<_>>(),
        "sources": [{ "filename": name, "data": build::base64(&order.dockerfile), "language": "Dockerfile" }],
    })
}

pub(super) fn text(checked: &Checked, order: &Order, name: &str) -> String {
    let mut text = match checked.findings.len() {
        0 => "Check complete, no warnings found.\n".to_string(),
        1 => "Check complete, 1 warning has been found!\n".into(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    let lines: Vec<&str> = order.dockerfile.lines().collect();
    for finding in &checked.findings {
        text += &format!(
            "\nWARNING: {} - {}\n{}\n{}",
            finding.rule.name(),
            finding.rule.url(),
            printable_line(&finding.detail),
            excerpt(name, &lines, finding.place)
        );
    }
    text
}

/// `# check=error=true`: what was found is why nothing is built.
pub(super) fn allow(store: &Store, order: &Order, name: &str) -> Result<(), Wrong> {
    let refused = |error: build::Error| failed(&error, name, &order.dockerfile);
    if !build::is_fatal(order).map_err(refused)? {
        return Ok(());
    }
    let checked = build::check(store, order, Extent::Target).map_err(refused)?;
    let Some(failure) = checked.failure() else {
        return Ok(());
    };
    show(&checked);
    let failure = Failure::new(format!("failed to build: failed to solve: {failure}"));
    Err(failure.into())
}

/// What was found, once the bases are there.
pub(super) fn warn(store: &Store, order: &Order) {
    if let Ok(checked) = build::check(store, order, Extent::Target) {
        show(&checked);
    }
}

fn show(checked: &Checked) {
    match checked.findings.len() {
        0 => return,
        1 => crate::line::say!("\n 1 warning found (use --check to expand):"),
        count => crate::line::say!("\n {count} warnings found (use --check to expand):"),
    }
    for finding in &checked.findings {
        let detail = printable_line(&finding.detail);
        let (rule, line) = (finding.rule.name(), finding.place.first);
        crate::line::say!(" - {rule}: {detail} (line {line})");
    }
}
