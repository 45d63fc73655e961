//! What runs in a container, and what does it use? Read from the host's /proc, from outside: nothing of the container is run or
//! asked (CVE-2022-1227). Its processes are those of its pid namespace (of its mount namespace, if it shares the pids of
//! others), and all that descend from its init, should the kernel not tell the namespace of one.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::exec::ids_of;
use super::process;
use super::record::{Life, Record};
use crate::host::IdMaps;

/// A process, as proc(5) tells of it. Times are in clock ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The host's number.
    pub pid: i32,
    /// Of its parent.
    pub parent: i32,
    /// Its number in the container.
    pub inner: i32,
    /// The container's user that it runs as, and group.
    pub ids: (u32, u32),
    /// The program's short name.
    pub name: String,
    /// Its words.
    pub arguments: String,
    /// As `ps` has it: `R`, `S`, `Z`, …
    pub state: char,
    /// Its terminal's device, 0 for none.
    pub terminal: i64,
    /// Of it alone.
    pub used: u64,
    /// Of its children that ended and were waited for.
    pub used_by_children: u64,
    /// Since boot.
    pub started: u64,
    /// How nice it is.
    pub nice: i64,
    /// Threads.
    pub threads: u64,
    /// Bytes of address space.
    pub size: u64,
    /// Bytes in memory, shared ones included.
    pub resident: u64,
}

/// What a container uses, as far as its living processes tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since it began, of processes that live and of those that they waited for.
    pub time: Duration,
    /// Bytes of memory that are its own, and its part of what is shared; `None` where that cannot be told.
    pub memory: Option<u64>,
    /// Bytes in memory, shared ones as often as they are used.
    pub resident: u64,
    /// Bytes read from and written to disks, of living processes; `None` where that cannot be told.
    pub io: Option<(u64, u64)>,
    /// Threads.
    pub tasks: u64,
}

/// Clock ticks in a second.
pub fn ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}

/// The processes of a container, by their numbers; none if it does not run.
pub fn processes(record: &Record) -> Vec<Running> {
    let Life::Running { init, .. } = record.life else {
        return Vec::new();
    };
    if !init.lives() {
        return Vec::new();
    }
    let ids = ids_of(init.pid);
    let mark = match record.settings.asked.pid.as_str() {
        "" => Mark::Pids,
        _ => Mark::Mounts,
    };
    let namespace = |pid| namespace(pid, mark);
    let mut found: Vec<Running> = process::all().filter_map(|pid| read(pid, &ids, mark)).collect();
    found.sort_by_key(|process| process.pid);
    let below = descendants(&found, init.pid);
    // With --init the kernel tells nobody of pid 1, but of its child, the command. Not of just any: what is below may have
    // namespaces of its own.
    let children = found.iter().filter(|process| process.parent == init.pid);
    let space = namespace(init.pid).or_else(|| children.map(|child| child.pid).find_map(namespace));
    found
        .retain(|process| below.contains(&process.pid) || space.is_some() && namespace(process.pid) == space);
    found
}

/// Which namespace only processes of the container are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// That of pids.
    Pids,
    /// That of mounts, where pids are another's.
    Mounts,
}

fn namespace(pid: i32, mark: Mark) -> Option<PathBuf> {
    let file = match mark {
        Mark::Pids => "pid",
        Mark::Mounts => "mnt",
    };
    fs::read_link(format!("/proc/{pid}/ns/{file}")).ok()
}

fn descendants(all: &[Running], top: i32) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let (mut below, mut ahead) = (HashSet::new(), vec![top]);
    while let Some(pid) = ahead.pop() {
        if below.insert(pid) {
            ahead.extend(children.get(&pid).into_iter().flatten());
        }
    }
    below
}

/// One process; `None` if it is gone, or plainly another's: of no pid namespace below ours.
fn read(pid: i32, ids: &IdMaps, mark: Mark) -> Option<Running> {
    let text = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
    let status = String::from_utf8_lossy(&text("status")?).into_owned();
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let mut spaces = line("NSpid")?.split_whitespace();
    let inner = spaces.next_back()?.parse().ok()?;
    if mark == Mark::Pids {
        spaces.next()?;
    }
    let id = |name| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let kilobytes = |name| -> u64 {
        let words = line(name).and_then(|line| line.split_whitespace().next());
        words.and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let stat = String::from_utf8_lossy(&text("stat")?).into_owned();
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_string();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |place: usize| fields.get(place - 3).copied().unwrap_or_default();
    let number = |place| field(place).parse::<i64>().unwrap_or(0);
    let positive = |place| u64::try_from(number(place)).unwrap_or(0);
    Some(Running {
        pid,
        parent: number(4).try_into().unwrap_or(0),
        inner,
        ids: ids.shown(id("Uid")?, id("Gid")?),
        arguments: arguments(&text("cmdline").unwrap_or_default(), &name),
        name,
        state: field(3).chars().next().unwrap_or('?'),
        terminal: number(7),
        used: positive(14) + positive(15),
        used_by_children: positive(16) + positive(17),
        nice: number(19),
        threads: positive(20),
        started: positive(22),
        size: kilobytes("VmSize") << 10,
        resident: kilobytes("VmRSS") << 10,
    })
}

/// As `ps` shows them: with blanks between, nothing that a terminal would obey; a name in brackets where there are none.
fn arguments(bytes: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.trim_end_matches('\0').replace('\0', " ");
    match words.is_empty() {
        true => printable(&format!("[{name}]")),
        false => printable(&words),
    }
}

/// Without control characters, of which a container can give its processes' names any.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// What they use together.
pub fn usage(processes: &[Running]) -> Usage {
    let mut usage = Usage {
        memory: Some(0),
        io: Some((0, 0)),
        ..Usage::default()
    };
    let mut used = 0;
    for process in processes {
        used += process.used + process.used_by_children;
        usage.resident += process.resident;
        usage.tasks += process.threads;
        usage.memory = usage
            .memory
            .zip(own_memory(process.pid))
            .map(|(all, own)| all + own);
        usage.io = usage
            .io
            .zip(disk(process.pid))
            .map(|(all, own)| (all.0 + own.0, all.1 + own.1));
    }
    usage.time = Duration::from_secs_f64(used as f64 / ticks() as f64);
    usage
}

fn value(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Its part of the memory it uses (smaps_rollup).
fn own_memory(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(value(&text, "Pss")? << 10)
}

fn disk(pid: i32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    Some((value(&text, "read_bytes")?, value(&text, "write_bytes")?))
}

/// Bytes that came in and went out by the devices of a container's network, but for its loopback; `None` where it has none of
/// its own.
pub fn network(record: &Record) -> Option<(u64, u64)> {
    let Life::Running { init, .. } = record.life else {
        return None;
    };
    let devices = fs::read_to_string(format!("/proc/{}/net/dev", init.pid)).ok()?;
    (record.settings.network != "host" && init.lives()).then(|| traffic(&devices))
}

/// proc_pid_net(5): after the name, what came in has eight numbers, the bytes first, then what went out.
fn traffic(devices: &str) -> (u64, u64) {
    let mut all = (0, 0);
    for (name, numbers) in devices.lines().filter_map(|line| line.split_once(':')) {
        let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
        if let (Some(Ok(received)), Some(Ok(sent))) = (numbers.next(), numbers.nth(7))
            && name.trim() != "lo"
        {
            all = (all.0 + received, all.1 + sent);
        }
    }
    all
}

/// Bytes of memory that the machine has.
pub fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    value(&text, "MemTotal").unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_that_of_all_devices_but_the_loopback() {
        let devices = "Inter-|   Receive                   |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
            lo: 70 1 0 0 0 0 0 0 70 1 0 0 0 0 0 0\n  eth0: 1000 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\n  \
            eth1:5 2 0 0 0 0 0 0 6 4 0 0 0 0 0 0\n";
        assert_eq!(traffic(devices), (1005, 36));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(arguments(b"a\0b c\0", "x"), "a b c");
        assert_eq!(arguments(b"\x1b[2J\0", "x"), "?[2J");
        assert_eq!(arguments(b"", "k\x07"), "[k?]");
    }

    #[test]
    fn descendants_are_all_below() {
        let process = |pid, parent| Running {
            pid,
            parent,
            inner: 1,
            ids: (0, 0),
            name: String::new(),
            arguments: String::new(),
            state: 'S',
            terminal: 0,
            used: 0,
            used_by_children: 0,
            started: 0,
            nice: 0,
            threads: 1,
            size: 0,
            resident: 0,
        };
        let all = [(5, 1), (6, 5), (7, 6), (8, 1), (9, 5)].map(|(pid, parent)| process(pid, parent));
        let mut below: Vec<i32> = descendants(&all, 5).into_iter().collect();
        below.sort_unstable();
        assert_eq!(below, [5, 6, 7, 9]);
    }
}
