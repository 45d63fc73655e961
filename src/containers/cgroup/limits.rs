//! What do `--memory`, `--cpus` and the like mean? Docker's checks of them, and what is written into which file of a cgroup.

use serde::{Deserialize, Serialize};

use super::{Controller, Version};

/// The least that Docker takes for `--memory`.
pub const MEMORY_MINIMUM: u64 = 6 << 20;

/// Docker's period where `--cpus` says how much, in microseconds.
const PERIOD: u64 = 100_000;

/// The flags. Nothing is limited that is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `--memory`: bytes.
    pub memory: Option<u64>,
    /// `--memory-swap`: bytes of memory and swap together; -1: without limit.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`: bytes.
    pub memory_reservation: Option<u64>,
    /// `--cpus`: billionths of a processor.
    pub nano_cpus: Option<u64>,
    /// `--cpu-shares`: 1024 is what everybody has.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`: microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`: microseconds in a period; -1: without limit.
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`: a list of numbers and ranges.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`: the same of memory nodes.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`: threads; not positive: without limit.
    pub pids: Option<i64>,
}

/// Flags that contradict each other, or what there is. Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// `--memory`.
    #[error("Minimum memory limit allowed is 6MB")]
    Memory,
    /// `--memory-swap` alone.
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapAlone,
    /// `--memory-swap` is both together.
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    Swap,
    /// `--memory-reservation` above `--memory`.
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    Reservation,
    /// `--cpus` beside what it stands for.
    #[error("Conflicting options: Nano CPUs and CPU {0} cannot both be set.")]
    Cpus(&'static str),
    /// More than there are.
    #[error("Range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    TooManyCpus(u64),
    /// `--cpu-period`.
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    Period,
    /// `--cpu-quota`.
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    Quota,
    /// Not a list of numbers and ranges.
    #[error("Invalid value {text} for cpuset {what}")]
    List {
        /// `cpus` or `mems`.
        what: &'static str,
        /// As given.
        text: String,
    },
}

/// One line for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) text: String,
    /// Whose it is.
    pub(super) flag: &'static str,
}

impl Limits {
    /// Do the flags fit together, on a machine with so many processors?
    ///
    /// # Errors
    /// Docker's.
    pub fn check(&self, processors: u64) -> Result<(), LimitsError> {
        self.check_memory()?;
        if self.nano_cpus.is_some() {
            if self.cpu_period.is_some() {
                return Err(LimitsError::Cpus("Period"));
            }
            if self.cpu_quota.is_some() {
                return Err(LimitsError::Cpus("Quota"));
            }
        }
        let most = processors.saturating_mul(1_000_000_000);
        if self
            .nano_cpus
            .is_some_and(|cpus| cpus < 10_000_000 || cpus > most)
        {
            return Err(LimitsError::TooManyCpus(processors));
        }
        if self
            .cpu_period
            .is_some_and(|period| !(1000..=1_000_000).contains(&period))
        {
            return Err(LimitsError::Period);
        }
        if self.cpu_quota.is_some_and(|quota| (0..1000).contains(&quota)) {
            return Err(LimitsError::Quota);
        }
        for (what, list) in [("cpus", &self.cpuset_cpus), ("mems", &self.cpuset_mems)] {
            if let Some(text) = list.clone().filter(|text| !is_list(text)) {
                return Err(LimitsError::List { what, text });
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), LimitsError> {
        if self.memory.is_some_and(|memory| memory < MEMORY_MINIMUM) {
            return Err(LimitsError::Memory);
        }
        let swap = self.memory_swap.and_then(|swap| u64::try_from(swap).ok());
        match (self.memory, swap) {
            (None, Some(_)) => return Err(LimitsError::SwapAlone),
            (Some(memory), Some(swap)) if swap < memory => return Err(LimitsError::Swap),
            _ => {}
        }
        match (self.memory, self.memory_reservation) {
            (Some(memory), Some(reserved)) if memory < reserved => Err(LimitsError::Reservation),
            _ => Ok(()),
        }
    }

    /// These, with what `newer` says in their place.
    #[must_use]
    pub fn with(self, newer: Limits) -> Limits {
        let mut all = Limits {
            memory: newer.memory.or(self.memory),
            memory_swap: newer.memory_swap.or(self.memory_swap),
            memory_reservation: newer.memory_reservation.or(self.memory_reservation),
            nano_cpus: newer.nano_cpus.or(self.nano_cpus),
            cpu_shares: newer.cpu_shares.or(self.cpu_shares),
            cpu_period: newer.cpu_period.or(self.cpu_period),
            cpu_quota: newer.cpu_quota.or(self.cpu_quota),
            cpuset_cpus: newer.cpuset_cpus.or(self.cpuset_cpus),
            cpuset_mems: newer.cpuset_mems.or(self.cpuset_mems),
            pids: newer.pids.or(self.pids),
        };
        // Two ways to say one thing: the newer is meant.
        if newer.nano_cpus.is_some() {
            (all.cpu_period, all.cpu_quota) = (newer.cpu_period, newer.cpu_quota);
        } else if newer.cpu_period.is_some() || newer.cpu_quota.is_some() {
            all.nano_cpus = None;
        }
        all
    }

    /// Memory and swap together, as Docker has it: twice the memory, if nothing else is said.
    pub fn swap_in_force(&self) -> Option<i64> {
        let double = |memory: u64| i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX);
        self.memory_swap.or(self.memory.map(double))
    }

    /// The controllers that they need.
    pub(super) fn controllers(&self) -> Vec<Controller> {
        let mut needed: Vec<Controller> = self
            .lines(Version::Two)
            .iter()
            .map(|line| line.controller)
            .collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    }

    /// What is written into a cgroup.
    pub(super) fn lines(&self, version: Version) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut add = |controller, files: [&'static str; 2], text: Option<String>, flag| {
            let [one, two] = files;
            let file = if version == Version::One { one } else { two };
            lines.extend(text.map(|text| Line {
                controller,
                file,
                text,
                flag,
            }));
        };
        use Controller::{Cpu, CpuSet, Memory, Pids};
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let files = ["memory.limit_in_bytes", "memory.max"];
        add(Memory, files, number(self.memory), "--memory");
        let files = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
        add(Memory, files, self.swap(version), "--memory-swap");
        let files = ["memory.soft_limit_in_bytes", "memory.low"];
        add(
            Memory,
            files,
            number(self.memory_reservation),
            "--memory-reservation",
        );
        let shares = self.cpu_shares.map(|shares| match version {
            Version::One => shares.to_string(),
            Version::Two => weight(shares).to_string(),
        });
        add(Cpu, ["cpu.shares", "cpu.weight"], shares, "--cpu-shares");
        let (period, quota, flag) = self.time();
        match version {
            Version::One => {
                add(Cpu, ["cpu.cfs_period_us", ""], number(period), flag);
                let quota = quota.map(|quota| quota.map_or("-1".into(), |quota| quota.to_string()));
                add(Cpu, ["cpu.cfs_quota_us", ""], quota, flag);
            }
            Version::Two => {
                let quota = quota.flatten().map_or("max".into(), |quota| quota.to_string());
                let text = period.map(|period| format!("{quota} {period}"));
                add(Cpu, ["", "cpu.max"], text, flag);
            }
        }
        add(
            CpuSet,
            ["cpuset.cpus"; 2],
            self.cpuset_cpus.clone(),
            "--cpuset-cpus",
        );
        add(
            CpuSet,
            ["cpuset.mems"; 2],
            self.cpuset_mems.clone(),
            "--cpuset-mems",
        );
        let pids = self.pids.map(|pids| match pids {
            1.. => pids.to_string(),
            _ => "max".into(),
        });
        add(Pids, ["pids.max"; 2], pids, "--pids-limit");
        lines
    }

    /// Version 1 counts both together, version 2 swap alone.
    fn swap(&self, version: Version) -> Option<String> {
        let both = self.swap_in_force()?;
        let memory = self.memory.unwrap_or(0);
        Some(match (version, u64::try_from(both)) {
            (Version::One, Err(_)) => "-1".into(),
            (Version::One, Ok(both)) => both.to_string(),
            (Version::Two, Err(_)) => "max".into(),
            (Version::Two, Ok(both)) => both.saturating_sub(memory).to_string(),
        })
    }

    /// Period and quota (`Some(None)`: no limit), and the flag that says so; a quota has a period.
    fn time(&self) -> (Option<u64>, Option<Option<u64>>, &'static str) {
        if let Some(cpus) = self.nano_cpus {
            return (
                Some(PERIOD),
                Some(Some(cpus / (1_000_000_000 / PERIOD))),
                "--cpus",
            );
        }
        let quota = self.cpu_quota.map(|quota| u64::try_from(quota).ok());
        let flag = if quota.is_some() {
            "--cpu-quota"
        } else {
            "--cpu-period"
        };
        (self.cpu_period.or(quota.map(|_| PERIOD)), quota, flag)
    }
}

/// Shares of 2–262144 as a weight of 1–10000, as the OCI runtimes do it.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `0-3,7`, as cpuset(7) has it.
fn is_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b),
        None => number(part).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits, version: Version) -> Vec<(&'static str, String)> {
        let lines = limits.lines(version);
        lines.into_iter().map(|line| (line.file, line.text)).collect()
    }

    fn all() -> Limits {
        Limits {
            memory: Some(64 << 20),
            memory_swap: None,
            memory_reservation: Some(32 << 20),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".into()),
            pids: Some(100),
            ..Limits::default()
        }
    }

    #[test]
    fn files_of_version_2() {
        let expected = [
            ("memory.max", "67108864"),
            ("memory.swap.max", "67108864"),
            ("memory.low", "33554432"),
            ("cpu.weight", "39"),
            ("cpu.max", "150000 100000"),
            ("cpuset.cpus", "0-1"),
            ("pids.max", "100"),
        ];
        assert_eq!(
            written(&all(), Version::Two),
            expected.map(|(file, text)| (file, text.to_string()))
        );
        let free = Limits {
            memory: Some(8 << 20),
            memory_swap: Some(-1),
            cpu_quota: Some(-1),
            pids: Some(-1),
            ..Limits::default()
        };
        let expected = [
            ("memory.max", "8388608"),
            ("memory.swap.max", "max"),
            ("cpu.max", "max 100000"),
            ("pids.max", "max"),
        ];
        assert_eq!(
            written(&free, Version::Two),
            expected.map(|(file, text)| (file, text.to_string()))
        );
    }

    #[test]
    fn files_of_version_1() {
        let expected = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "134217728"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("cpu.shares", "1024"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "150000"),
            ("cpuset.cpus", "0-1"),
            ("pids.max", "100"),
        ];
        assert_eq!(
            written(&all(), Version::One),
            expected.map(|(file, text)| (file, text.to_string()))
        );
    }

    #[test]
    fn only_what_is_asked_for_is_needed() {
        assert_eq!(Limits::default().controllers(), []);
        assert_eq!(
            all().controllers(),
            [
                Controller::Memory,
                Controller::Cpu,
                Controller::CpuSet,
                Controller::Pids
            ]
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_dockers_words() {
        let limits = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.check(2)
        };
        let mb = 1 << 20;
        assert_eq!(
            limits(|l| l.memory = Some((6 << 20) - 1)),
            Err(LimitsError::Memory)
        );
        assert_eq!(limits(|l| l.memory = Some(6 << 20)), Ok(()));
        assert_eq!(
            limits(|l| l.memory_swap = Some(64 << 20)),
            Err(LimitsError::SwapAlone)
        );
        let small_swap = Limits {
            memory: Some(64 * mb),
            memory_swap: Some(32 << 20),
            ..Limits::default()
        };
        assert_eq!(small_swap.check(2), Err(LimitsError::Swap));
        let reserved = Limits {
            memory: Some(64 * mb),
            memory_reservation: Some(65 * mb),
            ..Limits::default()
        };
        assert_eq!(reserved.check(2), Err(LimitsError::Reservation));
        assert_eq!(
            limits(|l| l.nano_cpus = Some(2_000_000_001)),
            Err(LimitsError::TooManyCpus(2))
        );
        let both = Limits {
            nano_cpus: Some(1_000_000_000),
            cpu_quota: Some(5000),
            ..Limits::default()
        };
        assert_eq!(both.check(2), Err(LimitsError::Cpus("Quota")));
        assert_eq!(limits(|l| l.cpu_period = Some(999)), Err(LimitsError::Period));
        assert_eq!(limits(|l| l.cpu_quota = Some(999)), Err(LimitsError::Quota));
        for text in ["", "a", "1-", "3-1", "1,,2", "+1", "0-1-2"] {
            let limits = Limits {
                cpuset_cpus: Some(text.into()),
                ..Limits::default()
            };
            assert!(limits.check(2).is_err(), "{text}");
        }
    }

    #[test]
    fn an_update_replaces_what_it_says() {
        let updated = all().with(Limits {
            cpu_quota: Some(50_000),
            pids: Some(5),
            ..Limits::default()
        });
        assert_eq!((updated.nano_cpus, updated.cpu_quota), (None, Some(50_000)));
        assert_eq!((updated.pids, updated.memory), (Some(5), Some(64 << 20)));
    }
}
