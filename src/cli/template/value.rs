//! How does a value print, compare and count? Go's rules (package fmt, `%v`; text/template, "Arguments"), over JSON.

use serde_json::Value;

/// A value during execution; `None` is Go's "no value", of a key that a map does not have.
pub(super) type Term = Option<Value>;

/// Go's truth: not false, 0, nil, nor empty.
pub(super) fn is_true(value: &Term) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(truth)) => *truth,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
    }
}

/// What an action prints.
pub(super) fn print(value: &Term) -> String {
    match value {
        None | Some(Value::Null) => "<no value>".into(),
        Some(value) => plain(value),
    }
}

/// `%v`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (.., number) => float(number.unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", plain(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// From here on, `%g` and `%v` write an exponent.
const LARGE: f64 = 1e6;

/// `%g` with the shortest digits, an exponent for the large and the small.
pub(super) fn float(number: f64) -> String {
    if number != 0.0 && !(1e-4..LARGE).contains(&number.abs()) && number.is_finite() {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    match number {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        number => number.to_string(),
    }
}

/// The name of its type, as messages say it.
pub(super) fn type_name(value: &Term) -> &'static str {
    match value {
        None | Some(Value::Null) => "nil",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(number)) if number.is_f64() => "float64",
        Some(Value::Number(_)) => "int",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "slice",
        Some(Value::Object(_)) => "map",
    }
}
