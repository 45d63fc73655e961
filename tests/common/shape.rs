//! The shape of a JSON document: which fields it has, and of which types.

use serde_json::Value;

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "?",
        Value::Bool(_) => "b",
        Value::Number(_) => "n",
        Value::String(_) => "s",
        Value::Array(_) => "a",
        Value::Object(_) => "o",
    }
}

/// Those of `fields` that `object` lacks, or has as another type. Each is `path:types`, with one letter for each type that it may
/// have: `b`ool, `n`umber, `s`tring, `a`rray, `o`bject, `?` for null.
pub fn misfits(object: &Value, fields: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in fields.split_whitespace() {
        let (path, kinds) = field.split_once(':').expect("path:types");
        let found = object.pointer(&format!("/{}", path.replace('.', "/")));
        if !found.is_some_and(|value| kinds.contains(kind(value))) {
            wrong.push(format!("{field}: {found:?}"));
        }
    }
    wrong
}
