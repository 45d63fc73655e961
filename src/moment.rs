//! When is it that a user means? Docker's ways to say a time: an age, a Unix time, a date.

use jiff::{SignedDuration, Timestamp};

/// The time that `text` says: an age before `now` (`24h`, `1h30m`), a Unix time (`1136073600.5`), or a date and time of
/// RFC 3339, whose end (zone, time) may be left out; then it is the machine's own time.
pub(crate) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(age) = age(text) {
        return now.checked_sub(age).ok();
    }
    if let Some(time) = unix(text) {
        return Some(time);
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
}

/// Seconds since 1970, and a part of one.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanoseconds = format!("{fraction:0<9}");
    let nanoseconds = nanoseconds
        .get(..9)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds.parse().ok()?).ok()
}

/// Go's `time.ParseDuration`: numbers with units, `1h30m`.
pub(crate) fn age(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match rest.get(..letters)? {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = rest.get(letters..)?;
    }
    SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ages_or_dates() {
        let now = Timestamp::new(1_000_000, 0).unwrap_or_default();
        let cases = [
            ("24h", (1_000_000 - 86_400, 0)),
            ("1h30m", (1_000_000 - 5400, 0)),
            ("1.5s", (999_998, 500_000_000)),
            ("500", (500, 0)),
            ("500.25", (500, 250_000_000)),
            ("500.0000000019", (500, 1)),
            ("1970-01-01T00:01:00Z", (60, 0)),
            ("1970-01-01T00:01:00.5Z", (60, 500_000_000)),
            ("1970-01-01T01:01:00+01:00", (60, 0)),
        ];
        for (text, (seconds, nanoseconds)) in cases {
            assert_eq!(
                moment(text, now),
                Timestamp::new(seconds, nanoseconds).ok(),
                "{text}"
            );
        }
        for text in ["", "1h1", "yesterday", "5.x", "1e400h"] {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }
}
