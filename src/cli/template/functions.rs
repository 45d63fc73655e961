//! The functions of a template: Go's own (text/template, "Functions") and Docker's (docs, "Format command and log
//! output"): json, join, split, lower, upper, title, pad, truncate.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf::printf;
use super::value::{Term, is_true, plain, type_name};

/// Answers a field that is called with arguments; `None` if there is no such method.
pub(crate) type Method<'a> = &'a dyn Fn(&str, &[Option<Value>]) -> Option<Value>;

/// What a template can call besides the functions that all have.
pub(crate) struct Functions<'a> {
    /// A field that is called with arguments: Docker's contexts have `.Label "name"`.
    pub(crate) method: Method<'a>,
    /// The line of column titles: functions that would change a title leave it.
    pub(crate) is_header: bool,
}

const NAMES: [&str; 25] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne",
    "not", "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate",
];

pub(super) fn is_function(name: &str) -> bool {
    NAMES.contains(&name) || matches!(name, "upper" | "urlquery")
}

type Result<T> = std::result::Result<T, String>;

/// Calls a function; `and` and `or` are the evaluator's, since they do not evaluate all their arguments.
pub(super) fn call(functions: &Functions, name: &str, args: &[Term]) -> Result<Term> {
    if functions.is_header && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper") {
        return Ok(args.first().cloned().flatten());
    }
    let text = |text: String| Ok(Some(Value::String(text)));
    match name {
        "json" => {
            let value = one(args)?.clone().unwrap_or(Value::Null);
            text(serde_json::to_string(&value).map_err(|error| error.to_string())?)
        }
        "join" => join(args),
        "split" => match args {
            [source, separator] => Ok(Some(split(string(source)?, string(separator)?))),
            _ => Err(wanted(2, args)),
        },
        "title" => text(title(string(one(args)?)?)),
        "lower" => text(string(one(args)?)?.to_lowercase()),
        "upper" => text(string(one(args)?)?.to_uppercase()),
        "pad" => match args {
            [source, before, after] => text(pad(string(source)?, integer(before)?, integer(after)?)),
            _ => Err(wanted(3, args)),
        },
        "truncate" => match args {
            [source, length] => text(truncate(string(source)?, integer(length)?)),
            _ => Err(wanted(2, args)),
        },
        "not" => Ok(Some((!is_true(one(args)?)).into())),
        "len" => len(one(args)?),
        "index" => index(args),
        "slice" => slice(args),
        "print" => text(sprint(args)),
        "println" => text(args.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => match args.split_first() {
            Some((format, rest)) => text(printf(string(format)?, rest)),
            None => Err(wanted(1, args)),
        },
        "html" => text(html(&sprint(args))),
        "js" => text(js(&sprint(args))),
        "urlquery" => text(urlquery(&sprint(args))),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, args),
        "call" => Err("call of non-function".into()),
        _ => Err("is not a function".into()),
    }
}

fn wanted(count: usize, args: &[Term]) -> String {
    format!("wrong number of args: want {count} got {}", args.len())
}

fn one(args: &[Term]) -> Result<&Term> {
    match args {
        [only] => Ok(only),
        _ => Err(wanted(1, args)),
    }
}

fn string(value: &Term) -> Result<&str> {
    match value {
        Some(Value::String(text)) => Ok(text),
        other => Err(format!(
            "wrong type for value; expected string; got {}",
            type_name(other)
        )),
    }
}

fn integer(value: &Term) -> Result<usize> {
    let number = value.as_ref().and_then(Value::as_i64);
    let number =
        number.ok_or_else(|| format!("wrong type for value; expected int; got {}", type_name(value)))?;
    usize::try_from(number).map_err(|_| format!("index out of range: {number}"))
}

/// As `%v` prints it, a missing value included.
fn shown(value: &Term) -> String {
    value.as_ref().map_or_else(|| "<nil>".into(), plain)
}

/// fmt.Sprint: a space between two operands if neither is a string.
fn sprint(args: &[Term]) -> String {
    let is_string = |term: &Term| matches!(term, Some(Value::String(_)));
    let mut text = String::new();
    for (i, term) in args.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| args.get(i));
        if before.is_some_and(|before| !is_string(before) && !is_string(term)) {
            text.push(' ');
        }
        text.push_str(&shown(term));
    }
    text
}

fn join(args: &[Term]) -> Result<Term> {
    let [items, separator] = args else {
        return Err(wanted(2, args));
    };
    let items: Vec<String> = match items {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items.iter().map(plain).collect(),
        other => {
            return Err(format!(
                "wrong type for value; expected []string; got {}",
                type_name(other)
            ));
        }
    };
    Ok(Some(items.join(string(separator)?).into()))
}

/// strings.Split: an empty separator cuts after each character.
fn split(source: &str, separator: &str) -> Value {
    match separator {
        "" => source.chars().map(String::from).collect(),
        _ => source.split(separator).map(Value::from).collect(),
    }
}

fn title(text: &str) -> String {
    let mut starts = true;
    let mut raise = |c: char| -> String {
        let raised = if starts {
            c.to_uppercase().collect()
        } else {
            c.to_string()
        };
        starts = !(c.is_alphanumeric() || c == '_' || c == '\'');
        raised
    };
    text.chars().map(&mut raise).collect()
}

fn pad(text: &str, before: usize, after: usize) -> String {
    const MOST: usize = 1 << 16;
    if text.is_empty() {
        return String::new();
    }
    format!(
        "{}{text}{}",
        " ".repeat(before.min(MOST)),
        " ".repeat(after.min(MOST))
    )
}

fn truncate(text: &str, length: usize) -> String {
    text.get(..text.floor_char_boundary(length))
        .unwrap_or(text)
        .to_owned()
}

fn len(value: &Term) -> Result<Term> {
    let length = match value {
        Some(Value::String(text)) => text.len(),
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(fields)) => fields.len(),
        // A list or map that is not set is an empty one in Go.
        None | Some(Value::Null) => 0,
        other => return Err(format!("len of type {}", type_name(other))),
    };
    Ok(Some(length.into()))
}

fn index(args: &[Term]) -> Result<Term> {
    let (first, keys) = args.split_first().ok_or_else(|| wanted(1, args))?;
    let mut value = first.clone();
    for key in keys {
        value = match value {
            Some(Value::Array(items)) => {
                let i = integer(key)?;
                Some(
                    items
                        .get(i)
                        .cloned()
                        .ok_or_else(|| format!("index out of range: {i}"))?,
                )
            }
            Some(Value::String(text)) => {
                let i = integer(key)?;
                Some(
                    (*text
                        .as_bytes()
                        .get(i)
                        .ok_or_else(|| format!("index out of range: {i}"))?)
                    .into(),
                )
            }
            // The zero value of a map that has not the key; labels and such are strings.
            Some(Value::Object(mut fields)) => Some(fields.remove(string(key)?).unwrap_or_else(|| "".into())),
            None | Some(Value::Null) => match key {
                Some(Value::String(_)) => Some("".into()),
                _ => return Err("index of untyped nil".into()),
            },
            other => return Err(format!("can't index item of type {}", type_name(&other))),
        };
    }
    Ok(value)
}

fn slice(args: &[Term]) -> Result<Term> {
    let (first, bounds) = args.split_first().ok_or_else(|| wanted(1, args))?;
    let bounds = bounds.iter().map(integer).collect::<Result<Vec<_>>>()?;
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let range = |length: usize| {
        let start = bounds.first().copied().unwrap_or(0);
        let end = bounds.get(1).copied().unwrap_or(length);
        let limit = bounds.get(2).copied().unwrap_or(length);
        match start <= end && end <= limit && limit <= length {
            true => Ok(start..end),
            false => Err(format!("index out of range: {}", start.max(end).max(limit))),
        }
    };
    match first {
        Some(Value::String(_)) if bounds.len() == 3 => Err("cannot 3-index slice a string".into()),
        Some(Value::String(text)) => {
            let bytes = text.as_bytes().get(range(text.len())?).unwrap_or_default();
            Ok(Some(String::from_utf8_lossy(bytes).into_owned().into()))
        }
        Some(Value::Array(items)) => Ok(Some(
            items.get(range(items.len())?).unwrap_or_default().to_vec().into(),
        )),
        other => Err(format!("can't slice item of type {}", type_name(other))),
    }
}

fn compare(name: &str, args: &[Term]) -> Result<Term> {
    let [first, second, rest @ ..] = args else {
        return Err("missing argument for comparison".into());
    };
    let result = match name {
        "eq" => {
            let mut equal = equals(first, second)?;
            for other in rest {
                equal = equal || equals(first, other)?;
            }
            equal
        }
        _ if !rest.is_empty() => return Err(wanted(2, args)),
        "ne" => !equals(first, second)?,
        "lt" => order(first, second)? == Ordering::Less,
        "le" => order(first, second)? != Ordering::Greater,
        "gt" => order(first, second)? == Ordering::Greater,
        _ => order(first, second)? != Ordering::Less,
    };
    Ok(Some(result.into()))
}

fn equals(a: &Term, b: &Term) -> Result<bool> {
    match (a, b) {
        (None | Some(Value::Null), other) | (other, None | Some(Value::Null)) => {
            Ok(matches!(other, None | Some(Value::Null)))
        }
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => Ok(a == b),
        (Some(Value::String(a)), Some(Value::String(b))) => Ok(a == b),
        (Some(Value::Number(_)), Some(Value::Number(_))) => Ok(order(a, b)? == Ordering::Equal),
        (Some(Value::Array(_) | Value::Object(_)), _) | (_, Some(Value::Array(_) | Value::Object(_))) => {
            Err("non-comparable type".into())
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn order(a: &Term, b: &Term) -> Result<Ordering> {
    let incompatible = || String::from("incompatible types for comparison");
    match (a, b) {
        (Some(Value::String(a)), Some(Value::String(b))) => Ok(a.cmp(b)),
        (Some(Value::Number(a)), Some(Value::Number(b))) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ if a.is_f64() != b.is_f64() => Err(incompatible()),
            _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(incompatible),
        },
        (Some(Value::Bool(_)), Some(Value::Bool(_))) => Err("invalid type for comparison".into()),
        _ => Err(incompatible()),
    }
}

fn html(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => "&#34;".into(),
        '\'' => "&#39;".into(),
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '\0' => "\u{fffd}".into(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn js(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' => "\\\\".into(),
        '\'' => "\\'".into(),
        '"' => "\\\"".into(),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if u32::from(c) < 0x20 => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// As Go's url.QueryEscape.
pub(crate) fn urlquery(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b' ' => "+".into(),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
