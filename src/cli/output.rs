//! How are lists, sizes and ages printed? As Docker prints them: tables, `--format`, go-units' sizes and durations.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value};

use super::report::Failure;
use super::template::{Functions, Template};
use crate::line::printable_line;

/// Least width of a column that another follows, and the space after its longest cell: those of Docker's tables.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// A kind of rows: the fields that templates can name with their column titles, and the usual table.
pub(crate) struct Listing {
    /// (field, title) in any order.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// The template of the table when none is asked for, without the word "table".
    pub(crate) table: &'static str,
}

/// One row: a JSON object with the listing's fields, and the labels that `.Label "name"` looks into.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) fields: Map<String, Value>,
    pub(crate) labels: Map<String, Value>,
}

/// A compiled `--format`.
struct Format {
    template: Template,
    is_table: bool,
}

impl Format {
    /// Docker's ways to write one: a template, `table TEMPLATE`, `table`, `json`; `\t` and `\n` may be spelled out.
    fn parse(text: &str, default_table: &str) -> Result<Format, Failure> {
        let (text, is_table) = match text.trim() {
            "" | "table" => (default_table, true),
            "json" => ("{{json .}}", false),
            _ => match text.strip_prefix("table ") {
                Some(rest) => (rest.trim_matches(' '), true),
                None => (text, false),
            },
        };
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        Ok(Format {
            template: Template::parse(&text).map_err(|error| Failure::of(&error))?,
            is_table,
        })
    }
}

impl Listing {
    /// Prints the rows as `format` says; without one, as the usual table.
    pub(crate) fn print(&self, rows: &[Row], format: Option<&str>) -> Result<(), Failure> {
        put(&self.render(rows, format.unwrap_or_default())?)
    }

    fn render(&self, rows: &[Row], format: &str) -> Result<String, Failure> {
        let format = Format::parse(format, self.table)?;
        let mut lines = Vec::with_capacity(rows.len() + 1);
        if format.is_table {
            let titles = self
                .fields
                .iter()
                .map(|(field, title)| (field.to_string(), Value::from(*title)));
            let label = |_: &str, args: &[Option<Value>]| args.first().cloned().flatten();
            let functions = Functions {
                method: &label,
                is_header: true,
            };
            lines.push(fill(&format.template, titles.collect(), &functions)?);
        }
        for row in rows {
            let shown = |value: &Value| match value {
                // A cell is a part of one line, whoever wrote what is in it.
                Value::String(text) if format.is_table => printable_line(text).into(),
                value => value.clone(),
            };
            let label = |name: &str, args: &[Option<Value>]| match (name, args) {
                ("Label", [Some(Value::String(label))]) => {
                    Some(row.labels.get(label).map_or_else(|| "".into(), shown))
                }
                _ => None,
            };
            let functions = Functions {
                method: &label,
                is_header: false,
            };
            let fields = row.fields.iter().map(|(key, value)| (key.clone(), shown(value)));
            lines.push(fill(&format.template, fields.collect(), &functions)?);
        }
        Ok(match format.is_table {
            true => align(&lines),
            false => lines.iter().map(|line| format!("{line}\n")).collect(),
        })
    }
}

fn fill(template: &Template, fields: Map<String, Value>, functions: &Functions) -> Result<String, Failure> {
    template
        .render_with(&Value::Object(fields), functions)
        .map_err(|error| Failure::of(&error))
}

/// Puts the cells of tab-separated lines under each other; the last cell of a line takes the space it needs.
pub(crate) fn align(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .flat_map(|line| line.split('\n'))
        .map(|l| l.split('\t').collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        let followed = row.len().saturating_sub(1);
        widths.resize(widths.len().max(followed), MIN_WIDTH);
        for (width, cell) in widths.iter_mut().zip(row.iter().take(followed)) {
            *width = (*width).max(cell.chars().count() + PADDING);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (i, cell) in row.iter().enumerate() {
            match widths.get(i).filter(|_| i + 1 < row.len()) {
                Some(width) => text.push_str(&format!("{cell:width$}")),
                None => text.push_str(cell),
            }
        }
        text.push('\n');
    }
    text
}

/// Writes to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn put(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Does anybody read standard output? Who prints for as long as it is read asks before each wait: there may be nothing to
/// write for long, which alone would tell.
pub(crate) fn is_heard() -> bool {
    let out = io::stdout();
    // Asked for nothing, the kernel tells of a pipe without a reader, and of a terminal or a connection without its other end.
    let mut end = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let told = poll(&mut end, PollTimeout::ZERO).and(Ok(end));
    !told.is_ok_and(|[end]| end.any() == Some(true))
}

/// Docker's list of what a prune has removed.
pub(crate) fn deleted(what: &str, gone: &[String]) -> String {
    match gone {
        [] => String::new(),
        gone => format!("Deleted {what}:\n{}\n\n", gone.join("\n")),
    }
}

/// What `inspect` prints of found objects: all of them as one indented list, or each by the template.
pub(crate) fn inspected(objects: &[Value], format: Option<&str>) -> Result<String, Failure> {
    match format {
        None | Some("") => Ok(indented(&Value::from(objects)) + "\n"),
        Some("json") => Ok(format!("{}\n", Value::from(objects))),
        Some(text) => {
            let template = Template::parse(text).map_err(|error| Failure::of(&error))?;
            let mut lines = String::new();
            for object in objects {
                lines.push_str(&template.render(object).map_err(|error| Failure::of(&error))?);
                lines.push('\n');
            }
            Ok(lines)
        }
    }
}

/// JSON with Docker's indentation, four spaces.
pub(crate) fn indented(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // A `Value` always has a text, and a `Vec` always takes it.
    let _ = serde::Serialize::serialize(value, &mut to);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// go-units' `HumanSizeWithPrecision(size, 3)`: powers of 1000, three digits.
pub(crate) fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{}{}", three_digits(size), UNITS.get(unit).unwrap_or(&"B"))
}

/// C's `%.3g` for 0 ≤ `size` < 1000: trailing zeros are left out. 999.9 becomes 1e+03, as in Docker.
fn three_digits(size: f64) -> String {
    if size >= 999.5 {
        return "1e+03".into();
    }
    let decimals = match size {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{size:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// go-units' `HumanDuration`: how long ago, in words.
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match () {
        _ if seconds < 1 => "Less than a second".into(),
        _ if seconds == 1 => "1 second".into(),
        _ if seconds < 60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// The first 12 digits of an id.
pub(crate) fn short_id(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

/// Go's `time.Time.String()` in the local time zone: `2024-05-01 10:00:00 +0200 CEST`, as lists show `.CreatedAt`.
pub(crate) fn local_time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string(),
        Err(_) => "N/A".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SAMPLE: Listing = Listing {
        fields: &[("Name", "NAME"), ("Size", "SIZE")],
        table: "{{.Name}}\t{{.Size}}",
    };

    fn rows() -> Vec<Row> {
        let row = |name: &str, size: &str| Row {
            fields: json!({"Name": name, "Size": size})
                .as_object()
                .cloned()
                .unwrap_or_default(),
            labels: json!({"site": "a"}).as_object().cloned().unwrap_or_default(),
        };
        vec![row("debian", "1MB"), row("a-long-long-name", "2B")]
    }

    #[test]
    fn tables_are_dockers() {
        let usual = SAMPLE.render(&rows(), "").unwrap();
        assert_eq!(
            usual,
            "NAME               SIZE\ndebian             1MB\na-long-long-name   2B\n"
        );
        let own = SAMPLE
            .render(&rows()[..1], "table {{upper .Size}}\\t{{.Label \"site\"}}")
            .unwrap();
        assert_eq!(own, "SIZE      site\n1MB       a\n");
    }

    #[test]
    fn a_cell_is_one_line_that_steers_no_terminal() {
        let mut rows = vec![rows().remove(0)];
        rows[0].fields.insert("Name".into(), "a\u{1b}[2Jb\tc\nd".into());
        rows[0].labels.insert("site".into(), "x\u{1b}y".into());
        let table = SAMPLE
            .render(&rows, "table {{.Name}}\t{{.Label \"site\"}}")
            .unwrap();
        assert_eq!(table, "NAME         site\na?[2Jb?c d   x?y\n");
        // Programs read these as they are.
        assert_eq!(SAMPLE.render(&rows, "{{.Name}}").unwrap(), "a\u{1b}[2Jb\tc\nd\n");
    }

    #[test]
    fn other_formats_have_no_titles() {
        assert_eq!(
            SAMPLE.render(&rows(), "{{.Name}}\\t{{.Size}}").unwrap(),
            "debian\t1MB\na-long-long-name\t2B\n"
        );
        let json = SAMPLE.render(&rows()[..1], "json").unwrap();
        assert_eq!(json, "{\"Name\":\"debian\",\"Size\":\"1MB\"}\n");
        assert!(
            SAMPLE
                .render(&rows(), "{{.Nope}}")
                .unwrap_err()
                .message
                .contains("Nope")
        );
    }

    #[test]
    fn sizes_and_ages_read_as_dockers() {
        let sizes = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (116_800_000, "117MB"),
        ];
        for (bytes, text) in sizes
            .into_iter()
            .chain([(77_900_000, "77.9MB"), (1_200_000_000, "1.2GB")])
        {
            assert_eq!(human_size(bytes), text);
        }
        let day = 86_400;
        let ages = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3600, "About an hour"),
            (2 * day - 1, "2 days"),
            (14 * day, "2 weeks"),
            (60 * day, "2 months"),
            (800 * day, "2 years"),
        ];
        for (seconds, text) in ages {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn inspected_objects_are_one_list() {
        assert_eq!(inspected(&[], None).unwrap(), "[]\n");
        let one = [json!({"Id": "x", "Tags": []})];
        assert_eq!(
            inspected(&one, None).unwrap(),
            "[\n    {\n        \"Id\": \"x\",\n        \"Tags\": []\n    }\n]\n"
        );
        assert_eq!(inspected(&one, Some("{{.Id}}")).unwrap(), "x\n");
    }
}
