//! Go's `fmt.Sprintf` over JSON values: `%v %s %d %q %t %x %X %o %b %c %U %f %e %g %T %%` with flags, width, precision.

use serde_json::Value;

use super::value::{Term, float, plain, type_name};
use crate::line::quoted;

/// Widths and precisions beyond this are cut: a typing error must not fill the memory.
const WIDEST: usize = 1 << 16;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

pub(super) fn printf(format: &str, args: &[Term]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = characters.next_if(|c| "-+0 #".contains(*c)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                ' ' => spec.space = true,
                _ => spec.sharp = true,
            }
        }
        spec.width = number(&mut characters, &mut args);
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut characters, &mut args).unwrap_or(0));
        }
        match characters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.next() {
                Some(value) => out.push_str(&spec.format(verb, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = args.map(typed).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// Digits, or `*` for the next argument.
fn number(
    characters: &mut std::iter::Peekable<std::str::Chars>,
    args: &mut std::slice::Iter<Term>,
) -> Option<usize> {
    if characters.next_if_eq(&'*').is_some() {
        let value = args.next()?.as_ref()?.as_u64()?;
        return Some(usize::try_from(value).unwrap_or(WIDEST).min(WIDEST));
    }
    let mut digits = String::new();
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    if digits.is_empty() {
        None
    } else {
        Some(digits.parse().unwrap_or(WIDEST).min(WIDEST))
    }
}

/// `type=value`, as Go shows an argument that fits no verb.
fn typed(value: &Term) -> String {
    match value {
        None | Some(Value::Null) => "<nil>".into(),
        Some(shown) => format!("{}={}", type_name(value), plain(shown)),
    }
}

impl Spec {
    fn format(&self, verb: char, term: &Term) -> String {
        let Some(value) = term.as_ref().filter(|value| !value.is_null()) else {
            return match verb {
                'v' => self.pad("<nil>".into(), false),
                _ => format!("%!{verb}(<nil>)"),
            };
        };
        let text = match (verb, value) {
            ('T', _) => type_name(term).into(),
            ('v' | 's' | 'd' | 'q' | 'x' | 'X', Value::Array(items)) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|item| self.format(verb, &Some(item.clone())))
                    .collect();
                return format!("[{}]", items.join(" "));
            }
            ('v', Value::Number(number)) if number.is_f64() => {
                self.signed(float(number.as_f64().unwrap_or(0.0)))
            }
            ('v' | 'd', Value::Number(number)) if !number.is_f64() => self.signed(plain(value)),
            ('v' | 's', Value::String(text)) => self.cut(text),
            ('v', value) => plain(value),
            ('t', Value::Bool(truth)) => truth.to_string(),
            ('q', Value::String(text)) => quoted(&self.cut(text)),
            ('x' | 'X', Value::String(text)) => text
                .bytes()
                .map(|b| {
                    if verb == 'x' {
                        format!("{b:02x}")
                    } else {
                        format!("{b:02X}")
                    }
                })
                .collect(),
            ('f' | 'F' | 'e' | 'g', Value::Number(number)) if number.is_f64() => {
                let number = number.as_f64().unwrap_or(0.0);
                let precision = self.precision.unwrap_or(6);
                self.signed(match verb {
                    'f' | 'F' => format!("{number:.precision$}"),
                    'e' => exponent(number, precision),
                    _ => float(number),
                })
            }
            ('x' | 'X' | 'o' | 'b' | 'c' | 'U', Value::Number(number)) if !number.is_f64() => {
                match self.integer(verb, number.as_i64().unwrap_or(i64::MAX)) {
                    Some(text) => text,
                    None => return format!("%!{verb}({})", typed(term)),
                }
            }
            _ => return format!("%!{verb}({})", typed(term)),
        };
        self.pad(text, matches!(value, Value::Number(_)))
    }

    fn integer(&self, verb: char, number: i64) -> Option<String> {
        let sign = if number < 0 { "-" } else { "" };
        let size = number.unsigned_abs();
        let prefix = |prefix| if self.sharp { prefix } else { "" };
        Some(match verb {
            'x' => format!("{sign}{}{size:x}", prefix("0x")),
            'X' => format!("{sign}{}{size:X}", prefix("0X")),
            'o' => format!("{sign}{}{size:o}", prefix("0")),
            'b' => format!("{sign}{}{size:b}", prefix("0b")),
            'U' => format!("U+{size:04X}"),
            _ => char::from_u32(u32::try_from(number).ok()?)?.to_string(),
        })
    }

    fn signed(&self, text: String) -> String {
        match (text.starts_with(['-', '+']), self.plus, self.space) {
            (false, true, _) => format!("+{text}"),
            (false, false, true) => format!(" {text}"),
            _ => text,
        }
    }

    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn pad(&self, text: String, is_number: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if self.zero {
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) if is_number => text.split_at(text.len() - digits.len()),
                _ => ("", text.as_str()),
            };
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        " ".repeat(missing) + &text
    }
}

fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}
