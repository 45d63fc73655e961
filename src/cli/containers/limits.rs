//! Flags of `run`, `create` and `update` that limit what a container may use.

use crate::containers::cgroup::{self, Limits, LimitsError};
use crate::containers::spec::mounts;

/// The flags.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LimitFlags {
    /// Limit memory
    #[arg(short, long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Limit memory and swap together; -1 leaves swap without limit
    #[arg(long, value_name = "BYTES", value_parser = swap, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Memory that is left to it when the machine is short of it
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_reservation: Option<u64>,
    /// Limit processor time: a number of processors, such as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = processors)]
    cpus: Option<u64>,
    /// Its share of processor time where that is short; 1024 is what everybody has
    #[arg(short = 'c', long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Processor time that it may use in each period, in microseconds
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// That period, in microseconds (100000)
    #[arg(long, value_name = "TIME")]
    cpu_period: Option<u64>,
    /// Processors that it may use, such as 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit the number of processes and threads; -1: no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
}

/// Those of `run` and `create` alone.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CgroupFlags {
    #[command(flatten)]
    limits: LimitFlags,
    /// Make the container's cgroup in this one: from the top if it begins with /, else from bryo's own
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// How willingly the kernel kills it when memory is short: -1000 to 1000, and not less than bryo's own
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(super) oom_score_adj: Option<i32>,
}

impl LimitFlags {
    /// As they are given; 0 is as if it were not said, as Docker has it.
    pub(super) fn limits(&self) -> Limits {
        let text = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
        Limits {
            memory: self.memory.filter(|bytes| *bytes > 0),
            memory_swap: self.memory_swap.filter(|bytes| *bytes != 0),
            memory_reservation: self.memory_reservation.filter(|bytes| *bytes > 0),
            nano_cpus: self.cpus.filter(|cpus| *cpus > 0),
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpu_period: self.cpu_period.filter(|period| *period > 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpuset_cpus: text(&self.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems),
            pids: self.pids_limit.filter(|pids| *pids != 0),
        }
    }
}

impl CgroupFlags {
    /// What they mean.
    pub(super) fn read(&self) -> Result<cgroup::Settings, LimitsError> {
        let limits = self.limits.limits();
        limits.check(cgroup::processors())?;
        Ok(cgroup::Settings {
            limits,
            parent: self.cgroup_parent.clone(),
        })
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    mounts::bytes(text).ok_or_else(|| "a size is 67108864, 64m or 1g".into())
}

fn swap(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        _ => i64::try_from(bytes(text)?).map_err(|_| "it is too large".into()),
    }
}

/// Billionths of a decimal number.
fn processors(text: &str) -> Result<u64, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() + part.len() == 0 {
        return Err("it is a number such as 2 or 0.5".into());
    }
    if part.len() > 9 {
        return Err("it has more than nine digits after the point".into());
    }
    let number = format!("{whole}{part:0<9}").parse();
    number.map_err(|_| "it is too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_decimal() {
        let cases = [
            ("2", 2_000_000_000),
            ("0.5", 500_000_000),
            (".25", 250_000_000),
            ("1.", 1_000_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(processors(text), Ok(nanos), "{text}");
        }
        for text in [
            "",
            ".",
            "-1",
            "1,5",
            "1e3",
            "0.0000000001",
            "99999999999999999999",
        ] {
            assert!(processors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn swap_may_be_without_limit() {
        assert_eq!((swap("-1"), swap("1g")), (Ok(-1), Ok(1 << 30)));
        assert!(swap("-2").is_err() && swap("x").is_err());
    }
}
