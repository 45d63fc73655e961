//! Docker's fields that no flag here sets: as Docker has them where nothing is asked. Templates and libraries read them all
//! the same.

use serde_json::{Map, Value, json};

/// Of `HostConfig`.
pub(super) fn host_config() -> Map<String, Value> {
    let null = [
        "Links",
        "DeviceCgroupRules",
        "DeviceRequests",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "MemorySwappiness",
        "OomKillDisable",
    ];
    let zero = [
        "BlkioWeight",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "CpuCount",
        "CpuPercent",
        "IOMaximumIOps",
        "IOMaximumBandwidth",
        "KernelMemory",
        "KernelMemoryTCP",
    ];
    let own = [
        ("ConsoleSize", json!([0, 0])),
        ("Isolation", "".into()),
        ("Cgroup", "".into()),
        ("VolumeDriver", "".into()),
    ];
    let null = null.into_iter().map(|name| (name, Value::Null));
    let zero = zero.into_iter().map(|name| (name, Value::from(0)));
    named(null.chain(zero).chain(own))
}

/// Of `NetworkSettings`.
pub(super) fn network_settings() -> Map<String, Value> {
    named(
        [
            ("Bridge", Value::from("")),
            ("SandboxID", "".into()),
            ("HairpinMode", false.into()),
            ("LinkLocalIPv6Address", "".into()),
            ("LinkLocalIPv6PrefixLen", 0.into()),
            ("SecondaryIPAddresses", Value::Null),
            ("SecondaryIPv6Addresses", Value::Null),
            ("EndpointID", "".into()),
        ]
        .into_iter(),
    )
}

/// Of one of its networks.
pub(super) fn network() -> Map<String, Value> {
    named(
        [
            ("IPAMConfig", Value::Null),
            ("Links", Value::Null),
            ("Aliases", Value::Null),
            ("DriverOpts", Value::Null),
            ("NetworkID", "".into()),
            ("EndpointID", "".into()),
        ]
        .into_iter(),
    )
}

fn named<'a>(fields: impl Iterator<Item = (&'a str, Value)>) -> Map<String, Value> {
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}
