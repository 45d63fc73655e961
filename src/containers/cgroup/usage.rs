//! What does a container use, as its cgroups count it: also what ended, and pages that only the kernel knows of.

use std::path::Path;
use std::time::Duration;

use super::group::{Group, Seat, of};
use super::place::read;
use super::{Controller, Version};

/// What the cgroups tell; `None` where there is no such controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the start.
    pub time: Option<Duration>,
    /// Bytes of memory, without files' pages that nobody has used for long: Docker's number.
    pub memory: Option<u64>,
    /// How much it may use, if that is limited.
    pub memory_limit: Option<u64>,
    /// Threads.
    pub tasks: Option<u64>,
}

/// That of the container in this directory.
pub fn usage(container: &Path) -> Usage {
    let group = of(container);
    let with = |controller| group.with(controller);
    Usage {
        time: with(Controller::Time).and_then(Seat::time),
        memory: with(Controller::Memory).and_then(Seat::memory),
        memory_limit: with(Controller::Memory).and_then(Seat::memory_limit),
        tasks: with(Controller::Pids).and_then(|seat| seat.number("pids.current")),
    }
}

/// Was a process of it killed because its memory was at its end? To be asked before the groups go.
pub(in crate::containers) fn was_short_of_memory(group: &Group) -> bool {
    group.with(Controller::Memory).is_some_and(|seat| {
        let file = match seat.version {
            Version::Two => "memory.events",
            Version::One => "memory.oom_control",
        };
        seat.field(file, "oom_kill").is_some_and(|count| count > 0)
    })
}

impl Seat {
    fn text(&self, file: &str) -> Option<String> {
        read(&self.path.join(file)).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.parse().ok()
    }

    /// A line `name number`.
    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = self.text(file)?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(found, _)| *found == name)?.1.parse().ok()
    }

    fn time(&self) -> Option<Duration> {
        match self.version {
            Version::Two => self.field("cpu.stat", "usage_usec").map(Duration::from_micros),
            Version::One => self.number("cpuacct.usage").map(Duration::from_nanos),
        }
    }

    fn memory(&self) -> Option<u64> {
        let (used, idle) = match self.version {
            Version::Two => ("memory.current", "inactive_file"),
            Version::One => ("memory.usage_in_bytes", "total_inactive_file"),
        };
        let idle = self.field("memory.stat", idle).unwrap_or(0);
        Some(self.number(used)?.saturating_sub(idle))
    }

    fn memory_limit(&self) -> Option<u64> {
        let limit = match self.version {
            Version::Two => "memory.max",
            Version::One => "memory.limit_in_bytes",
        };
        // `max`, or in version 1 a number that no machine has.
        self.number(limit).filter(|bytes| *bytes < 1 << 62)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn group(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, Group) {
        let top = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(top.path().join(file), text).unwrap();
        }
        let seat = Seat {
            path: top.path().to_owned(),
            version,
            controllers: Controller::ALL.to_vec(),
        };
        let group = Group { seats: vec![seat] };
        fs::write(
            top.path().join("cgroup.json"),
            serde_json::to_vec(&group).unwrap(),
        )
        .unwrap();
        (top, group)
    }

    #[test]
    fn version_2_is_read() {
        let (top, group) = group(
            Version::Two,
            &[
                ("cpu.stat", "usage_usec 1500000\nuser_usec 1\n"),
                ("memory.current", "5000\n"),
                ("memory.stat", "anon 100\ninactive_file 2000\n"),
                ("memory.max", "67108864\n"),
                ("memory.events", "low 0\noom 1\noom_kill 1\n"),
                ("pids.current", "3\n"),
            ],
        );
        let expected = Usage {
            time: Some(Duration::from_millis(1500)),
            memory: Some(3000),
            memory_limit: Some(64 << 20),
            tasks: Some(3),
        };
        assert_eq!(usage(top.path()), expected);
        assert!(was_short_of_memory(&group));
    }

    #[test]
    fn version_1_is_read() {
        let (top, group) = group(
            Version::One,
            &[
                ("cpuacct.usage", "1500000000\n"),
                ("memory.usage_in_bytes", "5000\n"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
                ),
            ],
        );
        let found = usage(top.path());
        assert_eq!(found.time, Some(Duration::from_millis(1500)));
        assert_eq!(
            (found.memory, found.memory_limit, found.tasks),
            (Some(3000), None, None)
        );
        assert!(!was_short_of_memory(&group));
    }
}
