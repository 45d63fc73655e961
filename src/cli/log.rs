//! What does the tool say beside its errors? Warnings, one plain line each, as the tool's other messages are; with
//! `BRYO_LOG` whatever that asks for, with times and places.

use std::fmt;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::line::printable_line;
use crate::stderr::Stderr;

/// Ours alone: a library's warnings are not worded for a user.
const DEFAULT: &str = "bryo=warn,fuse_overlay=warn";

/// `BRYO_LOG=debug` or `BRYO_LOG=bryo::images=trace` writes a log to stderr; without it there are the warnings.
pub(super) fn start() {
    let wanted = std::env::var("BRYO_LOG").ok().filter(|filter| !filter.is_empty());
    let log = tracing_subscriber::fmt().with_writer(|| Stderr);
    match wanted.map(EnvFilter::try_new) {
        Some(Ok(filter)) => log
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
        wanted => {
            if let Some(Err(error)) = wanted {
                crate::line::say!("bryo: BRYO_LOG is not understood: {error}");
            }
            log.with_env_filter(EnvFilter::new(DEFAULT))
                .event_format(Plain)
                .init();
        }
    }
}

/// `bryo: warning: MESSAGE (NAME=VALUE, …)`.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let kind = match *event.metadata().level() {
            Level::ERROR => "error",
            _ => "warning",
        };
        writeln!(to, "bryo: {kind}: {}", said.line())
    }
}

/// An event's words.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<String>,
}

impl Said {
    /// What others wrote into it cannot steer the terminal.
    fn line(&self) -> String {
        let line = match self.fields.as_slice() {
            [] => self.message.clone(),
            fields => format!("{} ({})", self.message, fields.join(", ")),
        };
        printable_line(&line)
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push(format!("{name}={value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_plain_line() {
        let mut said = Said {
            message: "the layer is damaged".into(),
            fields: Vec::new(),
        };
        assert_eq!(said.line(), "the layer is damaged");
        said.fields = vec!["layer=a\u{1b}[2J".into(), "error=b\nc".into()];
        assert_eq!(said.line(), "the layer is damaged (layer=a?[2J, error=b c)");
    }
}
