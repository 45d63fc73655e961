//! Where is what a container wrote? In `log`, beside its record: a line for each line, as Kubernetes' runtimes and podman
//! (`k8s-file`) write it. Unlike Docker's JSON it keeps every byte, and costs no escaping.
//!
//! ```text
//! 2026-11-26T13:05:00.123456789Z stdout F a whole line
//! 2026-11-26T13:05:01.000000000Z stderr P the beginning of a line, whose rest is in the next entry of the stream
//! ```
//! The time is always UTC with nine digits, so an entry's content begins at its byte [`HEAD`]; what a terminal shows is
//! `stdout`. A full log is renamed `log.1`, that `log.2`, and so on; the oldest goes.

mod read;
mod wait;
mod write;

pub use read::{Entry, Reader};
pub use wait::Wait;
pub(in crate::containers) use write::Log;

use serde::{Deserialize, Serialize};

use super::spec::{SpecError, mounts};

/// The newest file's name.
pub(super) const NAME: &str = "log";

/// Bytes of an entry before its content.
const HEAD: usize = "2026-11-26T13:05:00.123456789Z stdout F ".len();

/// Bytes of the time.
const TIME: usize = "2026-11-26T13:05:00.123456789Z".len();

/// Options about what `logs --details` shows; for the log itself they mean nothing.
pub const ATTRIBUTES: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// Which of the container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// `--log-driver`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A file, read by `logs`.
    #[default]
    File,
    /// Nothing is kept.
    None,
}

/// How a container's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it is.
    pub driver: Driver,
    /// Bytes of a file, after which the next is begun; `None`: the disk's.
    pub max_size: Option<u64>,
    /// Number of files.
    pub max_file: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            driver: Driver::File,
            max_size: None,
            max_file: 1,
        }
    }
}

impl Settings {
    /// Reads `--log-driver` and `--log-opt`.
    ///
    /// # Errors
    /// A driver or an option that is not there, or a number that is none.
    pub fn parse(driver: Option<&str>, options: &[String]) -> Result<Settings, SpecError> {
        let mut settings = Settings {
            // `json-file` is another name of the same, as it is with podman.
            driver: match driver {
                None | Some("k8s-file" | "json-file") => Driver::File,
                Some("none") => Driver::None,
                Some(other) => return Err(SpecError::LogDriver(other.into())),
            },
            ..Settings::default()
        };
        for text in options {
            let wrong = || SpecError::LogOpt(text.clone());
            let (key, value) = text.split_once('=').ok_or_else(wrong)?;
            match key {
                "max-size" => {
                    let size = mounts::bytes(value).filter(|size| *size > 0);
                    settings.max_size = Some(size.ok_or_else(wrong)?);
                }
                "max-file" => {
                    let count = value.parse().ok().filter(|count| *count > 0);
                    settings.max_file = count.ok_or_else(wrong)?;
                }
                key if ATTRIBUTES.contains(&key) => {}
                _ => return Err(wrong()),
            }
        }
        if settings.max_file > 1 && settings.max_size.is_none() {
            return Err(SpecError::LogOpt("max-file without max-size".into()));
        }
        Ok(settings)
    }

    /// The driver's name.
    pub fn name(&self) -> &'static str {
        match self.driver {
            Driver::File => "k8s-file",
            Driver::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options_are_taken_or_refused() {
        let parse = |driver, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|text| text.to_string()).collect();
            Settings::parse(driver, &options)
        };
        assert_eq!(parse(None, &[]).ok(), Some(Settings::default()));
        let limited = Settings {
            max_size: Some(10 << 20),
            max_file: 3,
            ..Settings::default()
        };
        assert_eq!(
            parse(Some("json-file"), &["max-size=10m", "max-file=3"]).ok(),
            Some(limited)
        );
        assert_eq!(parse(Some("none"), &[]).unwrap().name(), "none");
        assert!(parse(Some("syslog"), &[]).is_err());
        for option in [
            "max-size",
            "max-size=0",
            "max-size=x",
            "max-file=0",
            "max-file=2",
            "compress=true",
        ] {
            assert!(parse(None, &[option]).is_err(), "{option}");
        }
    }
}
