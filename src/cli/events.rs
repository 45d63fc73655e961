//! `events`: what happened, and what happens.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::output::{is_heard, put};
use super::report::Failure;
use super::template::Template;
use crate::label::Label;
use crate::moment::moment;
use crate::store::events::{Event, From, Kind, Reader};
use crate::store::{Changes, Store, Which};

/// Flags of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Show those for which this holds: container, image, volume, network, event, type, label
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Also what happened since then: a time, or an age such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what happens until then; ends then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Go on with what happens; false shows all that is known and ends
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    stream: bool,
    /// Taken for Podman's sake: nothing is cut off
    #[arg(long)]
    no_trunc: bool,
}

/// How an event is printed.
enum Form {
    Text,
    Json,
    Template(Template),
}

impl Events {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open()?;
        let now = Timestamp::now();
        let time = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => moment(text, now)
                .and_then(|time| i64::try_from(time.as_nanosecond()).ok())
                .map(Some)
                .ok_or_else(|| Failure::new(format!("invalid value for \"{flag}\": \"{text}\" is no time"))),
        };
        let (since, until) = (time("since", &self.since)?, time("until", &self.until)?);
        let filters = Filters::parse(&self.filter)?;
        let form = Form::parse(self.format.as_deref())?;
        let kept = since.is_some() || until.is_some() || !self.stream;
        let unread = |error: io::Error| Failure::new(format!("cannot read the events: {error}"));
        // Before they are read: what comes after that ends the wait.
        let changes = Changes::of(store.state(), Which::Growth);
        let from = if kept { From::Beginning } else { From::Now };
        let mut reader = Reader::new(store.state(), from).map_err(unread)?;
        loop {
            let mut lines = Vec::new();
            reader
                .read(|event| {
                    let in_time = since.is_none_or(|since| event.time >= since)
                        && until.is_none_or(|until| event.time <= until);
                    if in_time && filters.accept(&event) {
                        lines.push(event);
                    }
                    Ok(())
                })
                .map_err(unread)?;
            for event in lines {
                put(&form.line(&event)?)?;
            }
            let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            let rest = until.map(|until| until.saturating_sub(now));
            if !self.stream || rest.is_some_and(|rest| rest <= 0) || !is_heard() {
                return Ok(ExitCode::SUCCESS);
            }
            let rest = rest
                .and_then(|rest| u64::try_from(rest).ok())
                .map(Duration::from_nanos);
            changes.wait(None, rest).map_err(unread)?;
        }
    }
}

impl Form {
    fn parse(text: Option<&str>) -> Result<Form, Failure> {
        match text.map(str::trim) {
            None | Some("") => Ok(Form::Text),
            Some("json" | "{{json .}}" | "{{ json . }}") => Ok(Form::Json),
            Some(text) => {
                let text = text.replace("\\t", "\t").replace("\\n", "\n");
                Ok(Form::Template(
                    Template::parse(&text).map_err(|error| Failure::of(&error))?,
                ))
            }
        }
    }

    fn line(&self, event: &Event) -> Result<String, Failure> {
        let line = match self {
            Form::Text => text(event),
            Form::Json => object(event).to_string(),
            Form::Template(template) => template
                .render(&fields(event))
                .map_err(|error| Failure::of(&error))?,
        };
        Ok(line + "\n")
    }
}

/// Docker's line.
fn text(event: &Event) -> String {
    let time = Timestamp::from_nanosecond(event.time.into()).unwrap_or_default();
    let time = time.to_zoned(TimeZone::system());
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z");
    let pairs = event
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let pairs = pairs.collect::<Vec<_>>().join(", ");
    // What others wrote cannot steer the terminal.
    crate::line::printable_line(&format!(
        "{time} {} {} {} ({pairs})",
        event.kind.name(),
        event.action,
        event.id
    ))
}

fn attribute<'a>(event: &'a Event, name: &str) -> &'a str {
    event.attributes.get(name).map_or("", String::as_str)
}

/// Docker's JSON.
fn object(event: &Event) -> Value {
    let mut object = json!({
        "status": event.action,
        "id": event.id,
        "from": attribute(event, "image"),
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    });
    if let (Value::Object(object), false) = (&mut object, event.kind == Kind::Container) {
        object.shift_remove("from");
    }
    object
}

/// What templates can name: Docker's fields, and Podman's.
fn fields(event: &Event) -> Value {
    json!({
        "Status": event.action,
        "ID": event.id,
        "From": attribute(event, "image"),
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "Scope": "local",
        "Time": event.time / 1_000_000_000,
        "TimeNano": event.time,
        "Name": attribute(event, "name"),
        "Image": attribute(event, "image"),
        "Attributes": event.attributes,
    })
}

/// Several of one key: any of them; of different keys: all.
struct Filters(Vec<(String, String)>);

impl Filters {
    fn parse(texts: &[String]) -> Result<Filters, Failure> {
        const KNOWN: [&str; 7] = [
            "container",
            "image",
            "volume",
            "network",
            "event",
            "type",
            "label",
        ];
        let one = |text: &String| {
            let pair = text.split_once('=').filter(|(key, _)| KNOWN.contains(key));
            let (key, value) = pair.ok_or_else(|| {
                Failure::new(format!("invalid filter '{text}'"))
                    .hint(Some(format!("{} work here", KNOWN.join(", "))))
            })?;
            Ok((key.to_owned(), value.to_owned()))
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(Filters)
    }

    fn accept(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, _)| {
            let mut same = self.0.iter().filter(|(other, _)| other == key);
            same.any(|(key, value)| matches(event, key, value))
        })
    }
}

fn matches(event: &Event, key: &str, value: &str) -> bool {
    // By name, or the beginning of an id.
    let is_of = |kind: Kind| {
        event.kind == kind
            && (attribute(event, "name") == value || (!value.is_empty() && event.id.starts_with(value)))
    };
    match key {
        "container" => is_of(Kind::Container),
        "volume" => is_of(Kind::Volume),
        "network" => is_of(Kind::Network),
        "image" => {
            is_of(Kind::Image) || (event.kind == Kind::Container && attribute(event, "image") == value)
        }
        "type" => event.kind.name() == value,
        // `exec_create: COMMAND`, `health_status: healthy`: Docker's, by the word before the colon, too.
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        _ => Label::new(value).is_among(|name| event.attributes.get(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_dockers() {
        let event = Event {
            time: 1_450_906_704_705_709_133,
            kind: Kind::Container,
            action: "create".into(),
            id: "5a2d".into(),
            attributes: [("name", "foo"), ("image", "alpine:latest")]
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .into(),
        };
        let line = text(&event);
        assert!(
            line.ends_with(" container create 5a2d (image=alpine:latest, name=foo)"),
            "{line}"
        );
        assert!(line.contains(":38:24.705709133"), "{line}");
        assert_eq!(
            object(&event).to_string(),
            r#"{"status":"create","id":"5a2d","from":"alpine:latest","Type":"container","Action":"create","Actor":{"ID":"5a2d","Attributes":{"image":"alpine:latest","name":"foo"}},"scope":"local","time":1450906704,"timeNano":1450906704705709133}"#
        );
    }

    #[test]
    fn filters_of_one_key_widen_and_of_others_narrow() {
        let event = Event::now(Kind::Container, "exec_start: sh", "abc")
            .with("name", "one")
            .with("role", "web");
        let accepts = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
            Filters::parse(&texts).unwrap().accept(&event)
        };
        assert!(accepts(&[]));
        assert!(
            accepts(&["container=two", "container=ab"]) && accepts(&["container=one", "event=exec_start"])
        );
        assert!(!accepts(&["container=one", "event=die"]) && !accepts(&["container=on"]));
        assert!(accepts(&["label=role=web", "type=container"]) && !accepts(&["label=role=db"]));
        assert!(!accepts(&["image=one"]));
        for wrong in ["colour=red", "container"] {
            assert!(Filters::parse(&[wrong.into()]).is_err(), "{wrong}");
        }
    }
}
