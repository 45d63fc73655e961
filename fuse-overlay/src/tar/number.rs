//! Numbers as tar spells them: octal, base-256, and decimal in PAX records.

use crate::attr::Time;

/// A numeric header field: octal text, or GNU's big-endian two's complement when the first bit is set.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

/// As [`field`], above or equal 0.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<u64> {
    field(bytes)?.try_into().ok()
}

/// Octal digits amid spaces and NULs, up to the first NUL among them; none at all are 0, as many writers leave fields
/// empty.
fn octal(bytes: &[u8]) -> Option<i64> {
    let is_digit = |byte: &u8| !matches!(byte, b' ' | 0);
    let start = bytes.iter().position(is_digit).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_digit).map_or(start, |last| last + 1);
    let text = bytes.get(start..end)?.split(|&byte| byte == 0).next()?;
    text.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn base256(bytes: &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    // The first bit is the mark, the second the sign.
    let negative = first & 0x40 != 0;
    let first = if negative { first | 0x80 } else { first & 0x7f };
    let sign = i128::from(first as i8);
    let value = rest.iter().try_fold(sign, |value, &byte| {
        value.checked_mul(256)?.checked_add(i128::from(byte))
    })?;
    i64::try_from(value).ok()
}

/// A decimal number without sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// A PAX time: seconds with an optional sign and fraction, of which nanoseconds are kept and the rest cut toward zero.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let sec = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nsec = 0;
    let mut unit = 100_000_000;
    for digit in parts.next().unwrap_or_default() {
        nsec += u32::from(digit.checked_sub(b'0').filter(|&digit| digit < 10)?) * unit;
        unit /= 10;
    }
    Some(match (negative, nsec) {
        (false, _) => Time { sec, nsec },
        (true, 0) => Time { sec: -sec, nsec },
        (true, _) => Time {
            sec: -sec - 1,
            nsec: 1_000_000_000 - nsec,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields_as_writers_spell_them() {
        for (bytes, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b" 644 \0  ", Some(0o644)),
            (b"644\0junk", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"7 \0 7   ", None),
            (b"00000008", None),
            (b"-0000001", None),
            (b"777777777777777777777777", None),
        ] {
            assert_eq!(field(bytes), value, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn base_256_fields_keep_their_sign() {
        assert_eq!(field(b"\x80\0\0\0\0\0\0\x01"), Some(1));
        assert_eq!(field(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(field(b"\x80\0\0\0\0\0\0\x02\x54\x0b\xe4\0"), Some(10_000_000_000));
        assert_eq!(field(b"\xff\xff\xff\xff\xff\xff\xff\0"), Some(-256));
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(field(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None, "beyond 63 bits");
    }

    #[test]
    fn pax_times_before_and_after_the_epoch() {
        let time_of = |text: &str| time(text.as_bytes()).map(|time| (time.sec, time.nsec));
        assert_eq!(time_of("1700000000"), Some((1_700_000_000, 0)));
        assert_eq!(time_of("1.5"), Some((1, 500_000_000)));
        assert_eq!(time_of("1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time_of("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time_of("-0.000000001"), Some((-1, 999_999_999)));
        assert_eq!(time_of("-3"), Some((-3, 0)));
        assert_eq!(time_of("1."), Some((1, 0)));
        for bad in ["", "-", ".5", "1.x", "+1", "99999999999999999999"] {
            assert_eq!(time_of(bad), None, "{bad}");
        }
    }
}
