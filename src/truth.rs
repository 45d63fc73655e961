//! What is true, and what is false? Go's `strconv.ParseBool`, which Docker's flags and filters are read by.

/// `None`: neither.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
