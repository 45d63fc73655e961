//! `top`: what runs in a container? As `ps` shows it, without running one: the columns are made here.

use std::process::ExitCode;

use jiff::Timestamp;

use super::super::output::{align, put};
use super::super::report::Failure;
use super::end::load;
use crate::containers::Error;
use crate::containers::processes::{self, Running, printable};
use crate::containers::record::Life;
use crate::store::Store;

/// Flags of `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// -ef, aux, -o COLUMN,…, or columns alone; without them -ef. PID and PPID are the host's, NSPID is the container's
    #[arg(
        value_name = "PS OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

/// A column: its names, its title, its cell.
struct Column {
    names: &'static [&'static str],
    title: &'static str,
    cell: fn(&Running, &Now) -> String,
}

/// The moment at which it is looked.
struct Now {
    /// Seconds since boot.
    uptime: f64,
    /// Seconds since 1970.
    time: i64,
    ticks: f64,
    memory: f64,
}

impl Now {
    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks
    }

    fn age(&self, process: &Running) -> f64 {
        (self.uptime - self.seconds(process.started)).max(0.0)
    }

    /// Part of its life that it was running, in percent.
    fn share(&self, process: &Running) -> f64 {
        match self.age(process) {
            age if age > 0.0 => 100.0 * self.seconds(process.used) / age,
            _ => 0.0,
        }
    }
}

const COLUMNS: &[Column] = &[
    column(&["user", "euser", "uid_name"], "USER", |p, _| user(p)),
    column(&["uid", "euid"], "UID", |p, _| p.ids.0.to_string()),
    column(&["gid", "egid"], "GID", |p, _| p.ids.1.to_string()),
    column(&["pid", "hpid", "tgid"], "PID", |p, _| p.pid.to_string()),
    column(&["nspid"], "NSPID", |p, _| p.inner.to_string()),
    column(&["ppid", "hppid"], "PPID", |p, _| p.parent.to_string()),
    column(&["c"], "C", |p, now| format!("{:.0}", now.share(p).floor())),
    column(&["%cpu", "pcpu"], "%CPU", |p, now| format!("{:.1}", now.share(p))),
    column(&["%mem", "pmem"], "%MEM", |p, now| {
        format!("{:.1}", 100.0 * p.resident as f64 / now.memory.max(1.0))
    }),
    column(&["vsz", "vsize"], "VSZ", |p, _| (p.size >> 10).to_string()),
    column(&["rss", "rssize"], "RSS", |p, _| (p.resident >> 10).to_string()),
    column(&["tty", "tt", "tname"], "TTY", |p, _| terminal(p)),
    column(&["stat", "s", "state"], "STAT", |p, _| p.state.to_string()),
    column(&["stime", "start", "start_time", "bsdstart"], "STIME", started),
    column(&["etime", "elapsed"], "ELAPSED", |p, now| elapsed(now.age(p))),
    column(&["etimes"], "ELAPSED", |p, now| {
        format!("{:.0}", now.age(p).floor())
    }),
    column(&["time", "cputime"], "TIME", |p, now| clock(now.seconds(p.used))),
    column(&["ni", "nice"], "NI", |p, _| p.nice.to_string()),
    column(&["nlwp", "thcount"], "NLWP", |p, _| p.threads.to_string()),
    column(&["comm", "ucmd", "ucomm"], "COMMAND", |p, _| printable(&p.name)),
    column(&["cmd", "args", "command"], "CMD", |p, _| p.arguments.clone()),
];

const fn column(
    names: &'static [&'static str],
    title: &'static str,
    cell: fn(&Running, &Now) -> String,
) -> Column {
    Column { names, title, cell }
}

/// `ps -ef`, the first of whose columns is called UID and shows names.
const FULL: &str = "user=UID,pid,ppid,c,stime,tty,time,cmd";
/// `ps aux`.
const AUX: &str = "user,pid,%cpu,%mem,vsz,rss,tty,stat,stime=START,time,cmd=COMMAND";

/// Root has a name everywhere; who others are only the container's own files say, which are not asked.
fn user(process: &Running) -> String {
    match process.ids.0 {
        0 => "root".into(),
        uid => uid.to_string(),
    }
}

fn terminal(process: &Running) -> String {
    // The device number's parts, as makedev(3) has them for small ones; pts are majors 136 to 143.
    let (major, minor) = (process.terminal >> 8 & 0xfff, process.terminal & 0xff);
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        0 => "?".into(),
        _ => format!("{major}:{minor}"),
    }
}

fn started(process: &Running, now: &Now) -> String {
    let at = now.time - now.age(process).round() as i64;
    let zone = jiff::tz::TimeZone::system();
    let time = Timestamp::from_second(at).map(|time| time.to_zoned(zone));
    let format = if now.age(process) < 86_400.0 {
        "%H:%M"
    } else {
        "%b%d"
    };
    time.map_or_else(|_| "?".into(), |time| time.strftime(format).to_string())
}

fn elapsed(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes, seconds) = (
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

impl Top {
    pub(crate) fn run(self, store: &Store) -> Result<ExitCode, Failure> {
        let wanted = columns(&self.options)?;
        let record = load(store, &self.container)?;
        if !matches!(record.life, Life::Running { .. }) {
            return Err(Error::Stopped(record.name).into());
        }
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let now = Now {
            uptime: uptime
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0),
            time: Timestamp::now().as_second(),
            ticks: processes::ticks() as f64,
            memory: processes::machine_memory() as f64,
        };
        let mut lines = vec![join(wanted.iter().map(|(_, title)| title.clone()))];
        for process in processes::processes(&record) {
            let cells = wanted
                .iter()
                .map(|(column, _)| (column.cell)(&process, &now).replace('\t', " "));
            lines.push(join(cells));
        }
        put(&align(&lines))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn join(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join("\t")
}

/// What `ps` options mean, as far as they are known here.
fn columns(options: &[String]) -> Result<Vec<(&'static Column, String)>, Failure> {
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let list: String = match &words[..] {
        [] | ["-ef" | "-e" | "-f" | "ef"] => FULL.into(),
        ["aux" | "-aux" | "u" | "-u"] => AUX.into(),
        ["-o" | "-eo" | "o" | "-A", rest @ ..] if !rest.is_empty() => {
            let rest = rest.iter().filter(|word| !matches!(**word, "-o" | "o"));
            rest.copied().collect::<Vec<_>>().join(",")
        }
        [one] if one.starts_with("-o") || one.starts_with("-eo") => one
            .trim_start_matches("-e")
            .trim_start_matches("-o")
            .trim_start_matches('o')
            .into(),
        _ if words.iter().all(|word| !word.starts_with('-')) => words.join(","),
        _ => {
            let why = format!("top does not know the ps options \"{}\"", words.join(" "));
            return Err(Failure::new(why).hint(Some("-ef, aux, and -o COLUMN,… are known")));
        }
    };
    let names = list.split([',', ' ']).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let (name, title) = name
                .split_once('=')
                .map_or((name, None), |(name, title)| (name, Some(title)));
            let lower = name.to_ascii_lowercase();
            let found = COLUMNS
                .iter()
                .find(|column| column.names.contains(&lower.as_str()));
            found
                .map(|column| (column, title.unwrap_or(column.title).to_string()))
                .ok_or_else(|| Failure::new(format!("top does not know the column \"{name}\"")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let found = columns(&words).map_err(|failure| failure.message)?;
        Ok(found
            .into_iter()
            .map(|(_, title)| title)
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn options_are_those_of_ps() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        assert_eq!(titles(&[]).unwrap(), full);
        assert_eq!(titles(&["-ef"]).unwrap(), full);
        assert!(titles(&["aux"]).unwrap().starts_with("USER PID %CPU %MEM"));
        for words in [
            &["-o", "pid,comm"][..],
            &["-eo", "pid,comm"],
            &["-opid,comm"],
            &["pid", "comm"],
            &["pid,comm"],
        ] {
            assert_eq!(titles(words).unwrap(), "PID COMMAND", "{words:?}");
        }
        assert_eq!(titles(&["-o", "pid=X"]).unwrap(), "X");
        assert!(titles(&["-o", "nosuch"]).unwrap_err().contains("nosuch"));
        assert!(titles(&["--forest"]).is_err());
        assert!(titles(&["-ef", "--forest"]).is_err());
    }

    #[test]
    fn times_are_as_ps_has_them() {
        assert_eq!(elapsed(59.9), "00:59");
        assert_eq!(elapsed(3_661.0), "01:01:01");
        assert_eq!(elapsed(90_061.0), "1-01:01:01");
        assert_eq!(clock(3_661.5), "01:01:01");
    }
}
