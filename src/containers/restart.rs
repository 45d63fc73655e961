//! When is a container started again that ended? Docker's policies, and its back-off.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The pause before the first restart, and after a run of [`LONG`].
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const MOST: Duration = Duration::from_secs(60);
/// A run that is so long was none of a series of failures.
const LONG: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// When it failed, so many times at most (0: always).
    OnFailure(u32),
    /// Whenever nobody has stopped it.
    Always,
    /// The same; whoever starts containers with the machine leaves out those that somebody has stopped.
    UnlessStopped,
}

/// Why a text is no policy; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Another word.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
    /// `always:3`.
    #[error("invalid restart policy: maximum retry count cannot be used with policy '{0}'")]
    Count(String),
    /// `on-failure:x`.
    #[error("invalid restart policy format: maximum retry count must be a number, not '{0}'")]
    NoNumber(String),
}

impl Policy {
    /// Reads `--restart`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        let (name, count) = text
            .split_once(':')
            .map_or((text, None), |(name, count)| (name, Some(count)));
        let policy = match name {
            "" | "no" => Policy::No,
            "always" => Policy::Always,
            "unless-stopped" => Policy::UnlessStopped,
            "on-failure" => {
                let count = count.map(|count| {
                    count
                        .parse()
                        .map_err(|_| PolicyError::NoNumber(count.to_string()))
                });
                return Ok(Policy::OnFailure(count.transpose()?.unwrap_or(0)));
            }
            _ => return Err(PolicyError::Unknown(name.into())),
        };
        match count {
            None => Ok(policy),
            Some(_) => Err(PolicyError::Count(name.into())),
        }
    }

    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Policy::No => "no",
            Policy::OnFailure(_) => "on-failure",
            Policy::Always => "always",
            Policy::UnlessStopped => "unless-stopped",
        }
    }

    /// How often at most it restarts a container that fails; 0 if that is not limited.
    pub fn most(self) -> u32 {
        match self {
            Policy::OnFailure(most) => most,
            Policy::No | Policy::Always | Policy::UnlessStopped => 0,
        }
    }

    /// Is a container started with the machine, which somebody may have `stopped`? Podman's should-start-on-boot.
    pub fn starts_on_boot(self, stopped: bool) -> bool {
        match self {
            Policy::Always => true,
            Policy::UnlessStopped => !stopped,
            Policy::No | Policy::OnFailure(_) => false,
        }
    }

    /// Is a container started again that ended with `code`, after so many `restarts`, and that nobody has stopped?
    pub(super) fn restarts(self, code: i32, restarts: u32) -> bool {
        match self {
            Policy::No => false,
            Policy::Always | Policy::UnlessStopped => true,
            Policy::OnFailure(most) => code != 0 && (most == 0 || restarts < most),
        }
    }
}

/// How long to wait before a restart, after the last pause (zero: there was none) and a run that took so long.
pub(super) fn pause(last: Duration, run: Duration) -> Duration {
    if last.is_zero() || run >= LONG {
        return FIRST;
    }
    (last * 2).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_dockers() {
        let cases = [
            ("", Policy::No),
            ("no", Policy::No),
            ("always", Policy::Always),
            ("unless-stopped", Policy::UnlessStopped),
            ("on-failure", Policy::OnFailure(0)),
            ("on-failure:7", Policy::OnFailure(7)),
        ];
        for (text, policy) in cases {
            assert_eq!(Policy::parse(text), Ok(policy), "{text}");
        }
        for wrong in ["always:3", "sometimes", "on-failure:", "on-failure:-1", "no:1"] {
            assert!(Policy::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_counts_restarts_of_failures() {
        let limited = Policy::OnFailure(2);
        assert!(limited.restarts(1, 0) && limited.restarts(1, 1));
        assert!(!limited.restarts(1, 2) && !limited.restarts(0, 0));
        assert!(Policy::OnFailure(0).restarts(1, 1000));
        assert!(Policy::Always.restarts(0, 1000) && !Policy::No.restarts(1, 0));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
        let short = Duration::from_secs(1);
        let mut last = Duration::ZERO;
        let mut all = Vec::new();
        for _ in 0..12 {
            last = pause(last, short);
            all.push(last.as_millis());
        }
        assert_eq!(
            all,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000
            ]
        );
        assert_eq!(pause(last, Duration::from_secs(10)), FIRST);
    }
}
