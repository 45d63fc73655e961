//! Is a container well? What is asked of it (HEALTHCHECK of its image, `--health-cmd` and the like), as Docker understands
//! it. `state`: what was found; `watch`: the process beside the supervisor that keeps the
//! time; `probe`: the one that asks.

mod probe;
mod state;
mod watch;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use probe::once;
pub use state::{Health, Probe, Status, found};
pub use watch::{NAME, beside};

/// A check. Fields that are 0 have Docker's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Check {
    /// `CMD` and a command, or `CMD-SHELL` and a line for a shell.
    pub test: Vec<String>,
    /// Nanoseconds between two.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Nanoseconds that one may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// Nanoseconds after the start in which a failure does not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Nanoseconds between two in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// So many failures in a row are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--no-healthcheck`, `--health-cmd none`.
    pub none: bool,
    /// The check; what is 0 or empty was not said.
    pub check: Check,
}

/// What makes no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Flags about a check that is not there.
    #[error("there is no health check to set the times of: --health-cmd defines one")]
    NoCommand,
    /// Both ways.
    #[error("--no-healthcheck conflicts with --health-* options")]
    Conflict,
    /// A test of another kind.
    #[error("unknown kind of health check '{0}': CMD, CMD-SHELL and NONE are known")]
    Kind(String),
}

impl Asked {
    /// The check of a container of an image with this config; `None`: there is none.
    ///
    /// # Errors
    /// What is asked makes no check.
    pub fn over(&self, image: &[u8]) -> Result<Option<Check>, CheckError> {
        let asked = &self.check;
        if self.none {
            return match *asked == Check::default() {
                true => Ok(None),
                false => Err(CheckError::Conflict),
            };
        }
        let or = |asked: u64, image: u64| if asked == 0 { image } else { asked };
        let image = of_image(image);
        let check = Check {
            test: if asked.test.is_empty() {
                image.test
            } else {
                asked.test.clone()
            },
            interval: or(asked.interval, image.interval),
            timeout: or(asked.timeout, image.timeout),
            start_period: or(asked.start_period, image.start_period),
            start_interval: or(asked.start_interval, image.start_interval),
            retries: or(asked.retries, image.retries),
        };
        match check.test.first().map(String::as_str) {
            None if *asked != Check::default() => Err(CheckError::NoCommand),
            None | Some("NONE") => Ok(None),
            Some("CMD" | "CMD-SHELL") if check.test.len() > 1 => Ok(Some(check)),
            Some(kind) => Err(CheckError::Kind(kind.into())),
        }
    }
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// That of an image's config; one that makes no sense is none, as nothing in there may keep an image from running.
fn of_image(config: &[u8]) -> Check {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let check = config.get("config").and_then(|config| config.get("Healthcheck"));
    let check: Check = check
        .and_then(|check| serde_json::from_value(check.clone()).ok())
        .unwrap_or_default();
    let known = match check.test.first().map(String::as_str) {
        Some("CMD" | "CMD-SHELL") => check.test.len() > 1,
        Some("NONE") => true,
        _ => false,
    };
    if known { check.seldom() } else { Check::default() }
}

impl Check {
    /// The same, no more often than once a second: who runs an image is not to pay for what it says of itself.
    fn seldom(mut self) -> Check {
        for time in [&mut self.interval, &mut self.timeout, &mut self.start_interval] {
            if *time != 0 {
                *time = (*time).max(SECOND);
            }
        }
        self
    }

    /// `--health-cmd`: a line for a shell, or as Podman has it also a list in JSON.
    pub fn test(text: &str) -> Vec<String> {
        let list: Option<Vec<String>> = serde_json::from_str(text).ok();
        match list {
            Some(list)
                if matches!(
                    list.first().map(String::as_str),
                    Some("CMD" | "CMD-SHELL" | "NONE")
                ) =>
            {
                list
            }
            Some(list) if !list.is_empty() => [vec!["CMD".into()], list].concat(),
            _ => vec!["CMD-SHELL".into(), text.into()],
        }
    }

    /// The command that is run.
    pub fn command(&self) -> Vec<String> {
        match self.test.split_first() {
            Some((kind, rest)) if kind == "CMD-SHELL" => {
                [vec!["/bin/sh".into(), "-c".into()], rest.to_vec()].concat()
            }
            Some((_, rest)) => rest.to_vec(),
            None => Vec::new(),
        }
    }

    /// How long one may take.
    pub fn patience(&self) -> Duration {
        or(self.timeout, 30)
    }

    fn retries(&self) -> u64 {
        if self.retries == 0 { 3 } else { self.retries }
    }
}

fn or(nanoseconds: u64, seconds: u64) -> Duration {
    match nanoseconds {
        0 => Duration::from_secs(seconds),
        _ => Duration::from_nanos(nanoseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &[u8] =
        br#"{"config": {"Healthcheck": {"Test": ["CMD", "a", "b"], "Interval": 7000000000, "Timeout": 1, "Retries": 2}}}"#;

    #[test]
    fn what_is_asked_counts_before_the_image() {
        let none = Asked::default();
        assert_eq!(none.over(b"{}"), Ok(None));
        let check = none.over(IMAGE).unwrap().unwrap();
        assert_eq!(
            (check.command(), check.interval, check.timeout),
            (vec!["a".into(), "b".into()], 7 * SECOND, SECOND)
        );
        let asked = Asked {
            check: Check {
                test: Check::test("curl x"),
                retries: 5,
                ..Check::default()
            },
            none: false,
        };
        let check = asked.over(IMAGE).unwrap().unwrap();
        assert_eq!(check.command(), ["/bin/sh", "-c", "curl x"]);
        assert_eq!((check.interval, check.retries), (7 * SECOND, 5));
        let times = Asked {
            check: Check {
                interval: 1,
                ..Check::default()
            },
            none: false,
        };
        assert_eq!(times.over(b"{}"), Err(CheckError::NoCommand));
        assert!(times.over(IMAGE).is_ok());
        let off = Asked { none: true, ..times };
        assert_eq!(off.over(IMAGE), Err(CheckError::Conflict));
        let off = Asked {
            none: true,
            ..Asked::default()
        };
        assert_eq!(off.over(IMAGE), Ok(None));
    }

    #[test]
    fn an_image_that_says_nonsense_has_no_check() {
        for text in [
            "",
            "{}",
            r#"{"config": {"Healthcheck": 7}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["CMD"]}}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["EVIL", "x"]}}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["NONE"]}}}"#,
            r#"{"config": {"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}}}"#,
        ] {
            assert_eq!(Asked::default().over(text.as_bytes()), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_test_is_a_line_or_a_list() {
        assert_eq!(Check::test("a b"), ["CMD-SHELL", "a b"]);
        assert_eq!(Check::test(r#"["CMD", "a"]"#), ["CMD", "a"]);
        assert_eq!(Check::test(r#"["a", "b"]"#), ["CMD", "a", "b"]);
        assert_eq!(Check::test("[ -e /x ]"), ["CMD-SHELL", "[ -e /x ]"]);
    }
}
