//! `build history ls --filter`: which builds are meant? buildx's conditions (`commands/history/utils.go`), which must all hold.

use jiff::Timestamp;

use super::{Status, microseconds, status};
use crate::build::Known;
use crate::cli::report::Failure;
use crate::moment::age;

/// One condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// A text, whether it must be so, and which.
    Text(Text, bool, String),
    /// A number, and how it must be to another.
    Number(Number, Order, i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Ref,
    Repository,
    Status,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Started,
    Completed,
    Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Filter {
    pub(super) fn parse(text: &str, now: Timestamp) -> Result<Filter, Failure> {
        let invalid = |why: &str| Failure::new(format!("invalid filter {text:?}: {why}"));
        let at = text
            .find(['=', '!', '<', '>'])
            .ok_or_else(|| invalid("expected KEY=VALUE, KEY!=VALUE or KEY<VALUE"))?;
        let (key, rest) = text.split_at(at);
        let known = ["!=", "<=", ">=", "=", "<", ">"];
        let sign = known.into_iter().find(|sign| rest.starts_with(sign));
        let sign = sign.ok_or_else(|| invalid("expected != behind the key"))?;
        let value = rest.strip_prefix(sign).unwrap_or_default();
        let text = |text| match sign {
            "=" | "!=" => Ok(Filter::Text(text, sign == "=", value.into())),
            _ => Err(invalid("expected = or !=")),
        };
        let number = |number| {
            let order = match sign {
                "<" => Order::Less,
                "<=" => Order::LessOrEqual,
                ">" => Order::More,
                ">=" => Order::MoreOrEqual,
                _ => return Err(invalid("expected <=, <, >= or >")),
            };
            let value = match (number, age(value)) {
                (Number::Duration, Some(age)) => i64::try_from(age.as_micros()).ok(),
                (Number::Duration, None) => return Err(invalid("no duration")),
                (_, Some(age)) => now.checked_sub(age).ok().map(Timestamp::as_microsecond),
                (_, None) => value.parse().ok().map(Timestamp::as_microsecond),
            };
            let value = value.ok_or_else(|| invalid("no time"))?;
            Ok(Filter::Number(number, order, value))
        };
        match key {
            "ref" => text(Text::Ref),
            "repository" => text(Text::Repository),
            "status" => text(Text::Status),
            "startedAt" => number(Number::Started),
            "completedAt" => number(Number::Completed),
            "duration" => number(Number::Duration),
            _ => Err(invalid(
                "ref, repository, status, startedAt, completedAt and duration work here",
            )),
        }
    }

    pub(super) fn accepts(&self, known: &Known) -> bool {
        match self {
            Filter::Text(text, wanted, value) => {
                let is = match text {
                    Text::Status => word(status(known)),
                    Text::Ref => &known.record.id,
                    Text::Repository => known.record.asked.repository.as_ref().map_or("", |(url, _)| url),
                };
                match (text, wanted) {
                    (Text::Ref | Text::Repository, true) => is.contains(value.as_str()),
                    _ => (is == value) == *wanted,
                }
            }
            Filter::Number(number, order, value) => {
                let is = match number {
                    Number::Started => known.record.started,
                    // As buildx has it, of one that goes on both are none.
                    _ if known.running => 0,
                    Number::Completed => known.last,
                    Number::Duration => microseconds(known),
                };
                match order {
                    Order::Less => is < *value,
                    Order::LessOrEqual => is <= *value,
                    Order::More => is > *value,
                    Order::MoreOrEqual => is >= *value,
                }
            }
        }
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Completed => "completed",
        Status::Failed => "error",
        Status::Canceled => "canceled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_buildx_reads_them() {
        let now = Timestamp::from_second(1000).unwrap();
        let read = |text| Filter::parse(text, now).map_err(|failure| failure.message);
        assert_eq!(
            read("status!=error"),
            Ok(Filter::Text(Text::Status, false, "error".into()))
        );
        assert_eq!(read("ref=a=b"), Ok(Filter::Text(Text::Ref, true, "a=b".into())));
        assert_eq!(
            read("duration>=1m30s"),
            Ok(Filter::Number(Number::Duration, Order::MoreOrEqual, 90_000_000))
        );
        assert_eq!(
            read("startedAt<10s"),
            Ok(Filter::Number(Number::Started, Order::Less, 990_000_000))
        );
        assert_eq!(
            read("completedAt>1970-01-01T00:00:05Z"),
            Ok(Filter::Number(Number::Completed, Order::More, 5_000_000))
        );
        for wrong in [
            "status",
            "status<1",
            "duration=1s",
            "duration>x",
            "startedAt>x",
            "a=b",
            "ref!b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
