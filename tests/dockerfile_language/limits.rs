//! What hostile text may cost.

use bryo::build::dockerfile::{
    ExpandError, Fault, MAX_EXPANDED, MAX_NESTING, MAX_TEXT, expand, expand_words, parse,
};

#[test]
fn a_file_too_long_is_not_read() {
    let text = format!("FROM x\n#{}", "x".repeat(MAX_TEXT));
    assert!(matches!(parse(&text).unwrap_err().fault(), Fault::TooLong { .. }));
    assert!(parse(&text[..MAX_TEXT]).is_ok());
}

#[test]
fn braces_have_a_depth() {
    let nested = |depth: usize| format!("{}x{}", "${a:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expand(&nested(MAX_NESTING), '\\', &|_| None).unwrap(), "x");
    assert_eq!(
        expand(&nested(MAX_NESTING + 1), '\\', &|_| None),
        Err(ExpandError::TooDeep)
    );
    assert_eq!(
        expand(&nested(1_000_000), '\\', &|_| None),
        Err(ExpandError::TooDeep)
    );
    // Such a line announces no here-document, as any line that cannot be read.
    assert!(parse(&format!("FROM x\nRUN {} <<E", nested(1_000_000))).is_ok());
}

#[test]
fn values_have_a_size() {
    let big = |_: &str| Some("x".repeat(MAX_EXPANDED / 2));
    assert_eq!(
        expand("$a$a", '\\', &big).map(|value| value.len()),
        Ok(MAX_EXPANDED)
    );
    assert_eq!(expand("$a$a$a", '\\', &big), Err(ExpandError::TooLarge));
    assert_eq!(expand_words("\"$a$a$a\"", '\\', &big), Err(ExpandError::TooLarge));
    let ones = |_: &str| Some("x".repeat(1 << 20));
    assert_eq!(
        expand("${a//x/0123456789abcdef0123}", '\\', &ones),
        Err(ExpandError::TooLarge)
    );
}

/// Every suffix of the value would be tried with every part of the pattern.
#[test]
fn patterns_have_a_budget() {
    let value = |_: &str| Some("a".repeat(100_000));
    let pattern = "*a".repeat(10_000);
    assert_eq!(
        expand(&format!("${{x%%b{pattern}}}"), '\\', &value),
        Err(ExpandError::TooMuchWork)
    );
    assert_eq!(
        expand(&format!("${{x//{pattern}b/}}"), '\\', &value),
        Err(ExpandError::TooMuchWork)
    );
}

/// A message shows what was written, not all of it.
#[test]
fn messages_are_short() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("{long} y"),
        format!("COPY --{long} a b"),
        format!("FROM a AS {long}/"),
        format!("RUN <<{long}"),
    ] {
        assert!(parse(&format!("FROM x\n{text}")).unwrap_err().to_string().len() < 1000);
    }
}
