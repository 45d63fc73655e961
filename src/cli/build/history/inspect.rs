//! `build history inspect`: what is kept of a build? As buildx tells it (`commands/history/inspect.go`).

use serde_json::{Map, Value, json};

use super::super::{KEEP_GIT_DIR, is_kept};
use super::{KILLED, Status, find, microseconds, shown_duration, status};
use crate::build::{Asked, Hash, Known, Outcome};
use crate::cli::output::put;
use crate::cli::report::Failure;
use crate::cli::template::Template;
use crate::line::printable_line;
use crate::store::Store;

/// Flags of `build history inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// pretty, json, or a Go template
    #[arg(long, value_name = "FORMAT", default_value = "pretty")]
    format: String,
    /// A build's id, or ^1 for the one before the last; without it, the last
    #[arg(value_name = "REF")]
    build: Option<String>,
}

/// gRPC's code of errors without another, and its name.
const UNKNOWN: (u32, &str) = (2, "Unknown");

impl Inspect {
    pub(super) fn run(self, store: &Store) -> Result<(), Failure> {
        let known = find(store, self.build.as_deref())?;
        let document = document(&known);
        match self.format.as_str() {
            "pretty" => put(&pretty(&known, self.build.is_none())),
            "json" => {
                let told = Value::Object(document.into_iter().filter(is_told).collect());
                put(&format!("{told:#}\n"))
            }
            text => {
                let template = Template::parse(text).map_err(|error| Failure::of(&error))?;
                let shown = template.render(&Value::Object(document));
                put(&(shown.map_err(|error| Failure::of(&error))? + "\n"))
            }
        }
    }
}

/// What is empty is left out, but for what always has a meaning.
fn is_told((name, value): &(String, Value)) -> bool {
    let empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Bool(is) => !is,
        _ => false,
    };
    !empty || name == "Ref"
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    let pair = |(name, value)| json!({ "Name": name, "Value": value });
    pairs.into_iter().map(pair).collect()
}

fn time(at: i64) -> Option<jiff::Zoned> {
    let at = jiff::Timestamp::from_microsecond(at).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::system()))
}

/// All of Go's fields.
fn document(known: &Known) -> Map<String, Value> {
    let (record, asked) = (&known.record, &known.record.asked);
    let (repository, revision) = asked.repository.clone().unwrap_or_default();
    let told = |at: i64| time(at).map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string());
    let (outcome, materials) = match &record.end {
        Some(end) => (Some(&end.outcome), end.materials.as_slice()),
        None => (None, &[][..]),
    };
    let material = |one: &crate::build::Material| json!({ "URI": one.uri, "Digests": [digest(&one.hash)] });
    let attachments = match outcome {
        Some(Outcome::Completed {
            manifest: Some(manifest),
        }) => json!([{ "Digest": manifest.digest, "Type": manifest.media_type }]),
        _ => json!([]),
    };
    let document = json!({
        "Name": asked.name,
        "Ref": record.id,
        "Context": asked.context,
        "Dockerfile": asked.dockerfile,
        "VCSRepository": repository,
        "VCSRevision": revision,
        "Target": asked.target,
        "Platform": asked.platforms,
        "KeepGitDir": keeps_git_dir(asked),
        "NamedContexts": pairs(&asked.contexts),
        "StartedAt": told(record.started),
        "CompletedAt": (!known.running).then(|| told(known.last)),
        "Duration": microseconds(known).saturating_mul(1000),
        "Status": word(status(known)),
        "Error": error(known),
        "NumCompletedSteps": known.steps.completed,
        "NumTotalSteps": known.steps.total,
        "NumCachedSteps": known.steps.cached,
        "BuildArgs": pairs(&asked.args),
        "Labels": pairs(&asked.labels),
        "Config": asked.config,
        "Materials": materials.iter().map(material).collect::<Vec<_>>(),
        "Attachments": attachments,
    });
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

fn keeps_git_dir(asked: &Asked) -> bool {
    asked.args.get(KEEP_GIT_DIR).is_some_and(|value| is_kept(value))
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Canceled => "canceled",
    }
}

fn digest(hash: &Hash) -> String {
    match hash {
        Hash::Sha256(hex) => format!("sha256:{hex}"),
        Hash::Commit(hex) => format!("sha1:{hex}"),
    }
}

/// Why a build failed, and the lines of the Dockerfile where it did.
fn why(known: &Known) -> Option<(&str, &str)> {
    match known.record.end.as_ref().map(|end| &end.outcome) {
        Some(Outcome::Failed { message, lines }) => Some((message, lines)),
        None if !known.running => Some((KILLED, "")),
        _ => None,
    }
}

fn error(known: &Known) -> Value {
    let (message, lines) = match (why(known), status(known)) {
        (Some(why), _) => why,
        (None, Status::Canceled) => return json!({ "Code": 1, "Message": "context canceled" }),
        (None, _) => return Value::Null,
    };
    let mut error = json!({ "Code": UNKNOWN.0, "Message": message });
    if !lines.is_empty() {
        // Go's JSON of bytes.
        error["Sources"] = json!(crate::build::base64(lines));
    }
    error
}

/// The parts of what is shown to people, each followed by an empty line.
fn pretty(known: &Known, by_default: bool) -> String {
    let (record, asked) = (&known.record, &known.record.asked);
    let mut text = tabbed(&head(known, by_default)) + "\n";
    text += &table("NAMED CONTEXT", &asked.contexts);
    text += &(tabbed(&course(known)) + "\n");
    let config = config(&asked.config);
    text += &(tabbed(&config) + "\n");
    text += &table("BUILD ARG", &asked.args);
    text += &table("LABEL", &asked.labels);
    if let Some(end) = &record.end {
        let rows = end
            .materials
            .iter()
            .map(|one| (one.uri.clone(), digest(&one.hash)));
        let rows: Vec<_> = std::iter::once(("URI".into(), "DIGEST".into()))
            .chain(rows)
            .collect();
        if rows.len() > 1 {
            text += &format!("Materials:\n{}\n", tabbed(&rows));
        }
        if let Outcome::Completed {
            manifest: Some(manifest),
        } = &end.outcome
        {
            let row = (manifest.digest.to_string(), manifest.media_type.clone());
            text += &format!(
                "Attachments:\n{}\n",
                tabbed(&[("DIGEST".into(), "TYPE".into()), row])
            );
        }
    }
    if let Some((_, lines)) = why(known).filter(|(_, lines)| !lines.is_empty()) {
        text += &format!("{lines}\n");
    }
    text + &format!("Print build logs: bryo build history logs {}\n", record.id)
}

fn row(name: &str, value: &str) -> (String, String) {
    (name.into(), printable_line(value))
}

fn head(known: &Known, by_default: bool) -> Vec<(String, String)> {
    let (record, asked) = (&known.record, &known.record.asked);
    let (repository, revision) = asked.repository.clone().unwrap_or_default();
    let keep = if keeps_git_dir(asked) { "true" } else { "" };
    let id = if by_default { record.id.as_str() } else { "" };
    let rows = [
        ("Name:", asked.name.as_str()),
        ("Ref:", id),
        ("Context:", &asked.context),
        ("Dockerfile:", &asked.dockerfile),
        ("VCS Repository:", &repository),
        ("VCS Revision:", &revision),
        ("Target:", asked.target.as_deref().unwrap_or_default()),
        ("Platforms:", &asked.platforms.join(", ")),
        ("Keep Git Dir:", keep),
    ];
    let told = rows.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| row(name, value)).collect()
}

fn course(known: &Known) -> Vec<(String, String)> {
    let started = time(known.record.started).map(|at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let mut duration = shown_duration(microseconds(known));
    if known.running {
        duration += " (running)";
    }
    let mut rows = vec![
        row("Started:", &started.unwrap_or_default()),
        row("Duration:", &duration),
    ];
    match (status(known), why(known)) {
        (Status::Canceled, _) => rows.push(row("Status:", "Canceled")),
        (_, Some((message, _))) => rows.push(row("Error:", &format!("{} {message}", UNKNOWN.1))),
        _ => {}
    }
    let steps = known.steps;
    let cached = 100.0 * f64::from(steps.cached) / f64::from(steps.total.max(1));
    let counts = format!("{}/{} ({cached:.0}% cached)", steps.completed, steps.total);
    rows.push(row("Build Steps:", &counts));
    rows
}

/// Go's names, and buildx's titles.
const CONFIG: [(&str, &str); 7] = [
    ("Network", "Network:"),
    ("ExtraHosts", "Extra Hosts:"),
    ("NoCache", "No Cache:"),
    ("NoCacheFilter", "No Cache Filter:"),
    ("ShmSize", "Shm Size:"),
    ("Ulimit", "Resource Limits:"),
    ("SourceDateEpoch", "Source Date Epoch:"),
];

fn config(config: &Map<String, Value>) -> Vec<(String, String)> {
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    let rows = CONFIG.iter();
    rows.filter_map(|(name, title)| Some(row(title, &shown(config.get(*name)?))))
        .collect()
}

fn table(title: &str, pairs: &std::collections::BTreeMap<String, String>) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let rows = pairs.iter().map(|(name, value)| row(name, value));
    let rows: Vec<_> = std::iter::once(row(title, "VALUE")).chain(rows).collect();
    tabbed(&rows) + "\n"
}

/// As Go's tabwriter with tabs: the second column begins at a multiple of eight.
fn tabbed(rows: &[(String, String)]) -> String {
    const TAB: usize = 8;
    let length = |name: &str| name.chars().count();
    let widest = rows.iter().map(|(name, _)| length(name)).max().unwrap_or(0);
    let width = (widest + 1).next_multiple_of(TAB);
    let line = |(name, value): &(String, String)| {
        let tabs = "\t".repeat((width - length(name)).div_ceil(TAB));
        format!("{name}{tabs}{value}\n")
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_at_tabs() {
        let rows = [row("Name:", "a"), row("Build Steps:", "b"), row("1234567", "c")];
        assert_eq!(tabbed(&rows), "Name:\t\ta\nBuild Steps:\tb\n1234567\t\tc\n");
        assert_eq!(tabbed(&[]), "");
    }
}
