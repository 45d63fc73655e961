//! The limits of a container as Docker's HostConfig has them: 0 or nothing where nothing is limited.

use oci_spec::runtime::Spec;
use serde_json::{Map, Value, json};

use crate::containers::record::Record;

/// The fields.
pub(super) fn fields(record: &Record, spec: &Spec) -> Map<String, Value> {
    let settings = &record.settings.cgroup;
    let limits = &settings.limits;
    let process = spec.process().as_ref();
    let fields = json!({
        "CgroupParent": settings.parent.clone().unwrap_or_default(),
        "Memory": limits.memory.unwrap_or(0),
        "MemorySwap": limits.swap_in_force().unwrap_or(0),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": limits.pids,
        "OomScoreAdj": process.and_then(|process| process.oom_score_adj()).unwrap_or(0),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
