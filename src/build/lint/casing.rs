//! How are words written: keywords, names of stages, empty continuation lines, comments that describe.

use super::{Finding, Look, Rule};
use crate::build::dockerfile::{From, Instruction, Place};

pub(super) fn findings(look: &Look<'_>) -> Vec<Finding> {
    let mut findings = keywords(look);
    for stage in &look.file.stages {
        findings.extend(stage_name(&stage.from));
        findings.extend(from_as(&stage.from));
    }
    findings.extend(look.file.empty_continuations.iter().map(|line| Finding {
        rule: Rule::NoEmptyContinuation,
        detail: "Empty continuation line".into(),
        place: Place {
            first: *line,
            last: *line,
        },
    }));
    findings.extend(descriptions(look));
    findings
}

/// The first word of an instruction, as it is written.
pub(super) fn keyword(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn is_lower(word: &str) -> bool {
    word == word.to_lowercase()
}

fn is_upper(word: &str) -> bool {
    word == word.to_uppercase()
}

/// What most instructions are written in is right.
fn keywords(look: &Look<'_>) -> Vec<Finding> {
    let stages = look.file.stages.iter();
    let all: Vec<(&str, Place)> = stages
        .flat_map(|stage| {
            let steps = stage.steps.iter().map(|step| (keyword(&step.text), step.place));
            std::iter::once((keyword(&stage.from.text), stage.from.place)).chain(steps)
        })
        .collect();
    let lower = all.iter().filter(|(word, _)| is_lower(word)).count();
    let upper = all.iter().filter(|(word, _)| is_upper(word)).count();
    let (is_right, right): (fn(&str) -> bool, _) = match lower > upper {
        true => (is_lower, "lowercase"),
        false => (is_upper, "uppercase"),
    };
    let wrong = all.iter().filter(|(word, _)| !is_right(word));
    wrong
        .map(|(word, place)| Finding {
            rule: Rule::ConsistentInstructionCasing,
            detail: format!("Command '{word}' should match the case of the command majority ({right})"),
            place: *place,
        })
        .collect()
}

/// `FROM image AS name` without its flags.
fn words(from: &From) -> Vec<&str> {
    let words = from.text.split_whitespace().enumerate();
    let kept = words.filter(|(at, word)| *at == 0 || !word.starts_with("--"));
    kept.map(|(_, word)| word).collect()
}

fn stage_name(from: &From) -> Option<Finding> {
    let words = words(from);
    let name = words.get(3).filter(|name| !is_lower(name))?;
    Some(Finding {
        rule: Rule::StageNameCasing,
        detail: format!("Stage name '{name}' should be lowercase"),
        place: from.place,
    })
}

fn from_as(from: &From) -> Option<Finding> {
    let words = words(from);
    let (keyword, link) = (words.first()?, words.get(2)?);
    let matches = match (is_lower(keyword), is_upper(keyword)) {
        (true, _) => is_lower(link),
        (_, true) => is_upper(link),
        // What is written in both is another check's.
        _ => true,
    };
    (!matches).then(|| Finding {
        rule: Rule::FromAsCasing,
        detail: format!("'{link}' and '{keyword}' keywords' casing do not match"),
        place: from.place,
    })
}

/// A comment right above FROM … AS or ARG describes what is named there, and begins with the name.
fn descriptions(look: &Look<'_>) -> Vec<Finding> {
    let lines: Vec<&str> = look.order.dockerfile.lines().collect();
    let mut findings = Vec::new();
    let mut check = |place: Place, keyword: &str, names: &[&str]| {
        let above = usize::try_from(place.first)
            .ok()
            .and_then(|line| line.checked_sub(2));
        let above = above.and_then(|line| lines.get(line)).map(|line| line.trim());
        let comment = above.and_then(|line| line.strip_prefix('#')).map(str::trim);
        let Some(word) = comment.and_then(|comment| comment.split(' ').next()) else {
            return;
        };
        // The top of the file has directives.
        if !names.contains(&word) && !word.contains('=') {
            let name = match names {
                [name] => name,
                _ => "<arg_key>",
            };
            findings.push(Finding {
                rule: Rule::InvalidDefinitionDescription,
                detail: format!("Comment for {keyword} should follow the format: `# {name} <description>`"),
                place,
            });
        }
    };
    for stage in &look.file.stages {
        if let Some(name) = words(&stage.from).get(3) {
            check(stage.from.place, "FROM", &[name]);
        }
        for step in &stage.steps {
            if let Instruction::Arg(args) = &step.instruction {
                let names: Vec<&str> = args.iter().map(|arg| arg.name.as_str()).collect();
                check(step.place, "ARG", &names);
            }
        }
    }
    findings
}
