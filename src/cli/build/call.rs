//! What is asked of a Dockerfile instead of a build? `--call METHOD[,format=json][,ignorestatus]`, answered as buildx prints
//! BuildKit's answers: tables, or JSON.

use std::process::ExitCode;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::output::put;
use super::super::report::Failure;
use super::{check, failed};
use crate::build::{self, Order, Outline, Targets, Wanted};
use crate::line::printable_line;
use crate::store::Store;

/// `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    format: Format,
    /// What is found is no reason to fail.
    ignores_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Call, String> {
        let mut call = Call {
            method: Method::Build,
            format: Format::Text,
            ignores_status: false,
        };
        for field in text.split(',') {
            match field.split_once('=') {
                None => call.method = method(field)?,
                Some(("format", "json")) => call.format = Format::Json,
                Some(("format", "text" | "default" | "")) => call.format = Format::Text,
                Some(("format", _)) => return Err("the formats are json and text".into()),
                Some(("ignorestatus", "true" | "1")) => call.ignores_status = true,
                Some(("ignorestatus", "false" | "0")) => call.ignores_status = false,
                Some((key, _)) => return Err(format!("there is no key {key:?}")),
            }
        }
        Ok(call)
    }
}

fn method(name: &str) -> Result<Method, String> {
    Ok(match name {
        "build" => Method::Build,
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        _ => return Err("the methods are build, check, outline and targets".into()),
    })
}

impl Call {
    /// `--check`.
    pub(super) fn checks(self) -> Call {
        Call {
            method: Method::Check,
            ..self
        }
    }

    /// Prints what was asked for. Gives it as JSON, too, and the exit code.
    pub(super) fn answer(
        self,
        store: &Store,
        order: &Order,
        name: &str,
    ) -> Result<(Value, ExitCode), Failure> {
        let refused = |error: build::Error| failed(&error, name, &order.dockerfile).told();
        let (value, text, code) = match self.method {
            Method::Build => return Ok((Value::Null, ExitCode::SUCCESS)),
            Method::Check => {
                let checked = check::all(store, order, name)?;
                let code = u8::from(!checked.findings.is_empty() && !self.ignores_status);
                (
                    check::document(&checked, order, name),
                    check::text(&checked, order, name),
                    code,
                )
            }
            Method::Outline => {
                let outline = build::outline(store, order).map_err(refused)?;
                (document(&outline)?, outline_text(&outline), 0)
            }
            Method::Targets => {
                let targets = build::targets(order).map_err(refused)?;
                (document(&targets)?, targets_text(&targets), 0)
            }
        };
        match self.format {
            Format::Text => put(&text)?,
            Format::Json => put(&format!("{value:#}\n"))?,
        }
        Ok((value, ExitCode::from(code)))
    }
}

/// BuildKit's key for what is answered, in `--metadata-file`.
pub(super) fn metadata(answer: &Value) -> Value {
    json!({ "result.json": answer })
}

fn document(answer: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| Failure::new(format!("cannot write the answer: {error}")))
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    let mut table = |rows: Vec<Vec<&str>>, padding| {
        text += &aligned(&rows, padding);
        text.push('\n');
    };
    if outline.name.is_some() || outline.description.is_some() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        let mut rows = vec![vec!["TARGET:", name]];
        rows.extend(outline.description.iter().map(|text| vec!["DESCRIPTION:", text]));
        table(rows, 1);
    }
    if !outline.args.is_empty() {
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        rows.extend(outline.args.iter().map(|arg| {
            let description = arg.description.as_deref().unwrap_or_default();
            vec![arg.name.as_str(), &arg.value, description]
        }));
        table(rows, 3);
    }
    for (title, wanted) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !wanted.is_empty() {
            let row = |wanted: &'_ Wanted| if wanted.required { "true" } else { "" };
            let mut rows = vec![vec![title, "REQUIRED"]];
            rows.extend(
                wanted
                    .iter()
                    .map(|wanted| vec![wanted.name.as_str(), row(wanted)]),
            );
            table(rows, 3);
        }
    }
    text
}

fn targets_text(targets: &Targets) -> String {
    let names: Vec<String> = targets
        .targets
        .iter()
        .map(|target| match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (None, true) => "(default)".into(),
            (name, false) => name.clone().unwrap_or_default(),
        })
        .collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    for (name, target) in names.iter().zip(&targets.targets) {
        rows.push(vec![name, target.description.as_deref().unwrap_or_default()]);
    }
    aligned(&rows, 1)
}

/// Go's `text/tabwriter` with spaces: each column but the last is as wide as its longest cell, and `padding` more.
fn aligned(rows: &[Vec<&str>], padding: usize) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable_line(cell).to_string()).collect())
        .collect();
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + padding
    };
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            match column + 1 < row.len() {
                true => text += &format!("{cell:width$}", width = wide(column)),
                false => text += cell,
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_as_buildx_reads_them() {
        let call = "outline,format=json".parse::<Call>().unwrap();
        assert_eq!((call.method, call.format), (Method::Outline, Format::Json));
        let call = "lint,ignorestatus=true".parse::<Call>().unwrap();
        assert_eq!((call.method, call.ignores_status), (Method::Check, true));
        for wrong in ["make", "outline,format=xml", "check,colour=red", ""] {
            assert!(wrong.parse::<Call>().is_err(), "{wrong}");
        }
    }
}
