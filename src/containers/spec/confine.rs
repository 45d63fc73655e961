//! What may the command do? Capabilities, limits, hidden paths: Docker's defaults and the flags that change them.

use std::collections::HashSet;
use std::path::PathBuf;

use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use super::SpecError;

/// Docker's default set (moby, `daemon/pkg/oci/caps/defaults.go`).
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// What Docker hides (moby, `daemon/pkg/oci/defaults.go`): the kernel's secrets and knobs that no namespace separates, and
/// what tells one container of another's work (GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What Docker shows read-only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Which system calls are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON, read from this file.
    Profile(PathBuf),
}

/// The flags about rights.
#[derive(Debug, Clone, Default)]
pub struct Confine {
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--privileged`: every capability within the user's own namespace, nothing hidden, no seccomp filter. Not more:
    /// nobody gets rights on the host that they lack.
    pub privileged: bool,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=…`.
    pub seccomp: Seccomp,
    /// `--security-opt systempaths=unconfined`: nothing hidden or read-only in /proc and /sys.
    pub unconfined_paths: bool,
}

impl Confine {
    /// Reads one `--security-opt`.
    ///
    /// # Errors
    /// Refuses what is unknown or not supported.
    pub fn security_opt(&mut self, text: &str) -> Result<(), SpecError> {
        let unsupported = || SpecError::SecurityOpt(text.into());
        // Docker still reads the old spelling with a colon.
        let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => self.no_new_privileges = true,
            ("no-new-privileges", "false") => self.no_new_privileges = false,
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", "" | "builtin") => self.seccomp = Seccomp::Default,
            ("seccomp", file) => self.seccomp = Seccomp::Profile(file.into()),
            ("systempaths", "unconfined") => self.unconfined_paths = true,
            // No profile of ours is ever loaded, so this asks for what is.
            ("apparmor", "unconfined") | ("label", "disable") => {}
            _ => return Err(unsupported()),
        }
        Ok(())
    }

    /// The paths hidden, `of_machine` among them, and the paths shown read-only.
    pub(super) fn paths(&self, of_machine: &[String]) -> (Vec<String>, Vec<String>) {
        if self.privileged || self.unconfined_paths {
            return (Vec::new(), Vec::new());
        }
        (
            [&MASKED.map(String::from), of_machine].concat(),
            READ_ONLY.map(String::from).into(),
        )
    }

    /// The sets of a command that runs as `uid`. Inheritable and ambient stay empty (CVE-2022-24769 and its kin); a
    /// user other than root holds none and may gain, by set-uid programs, what is in the bounding set.
    pub(super) fn capabilities(&self, uid: u32) -> Result<LinuxCapabilities, SpecError> {
        let bounding = self.bounding()?;
        let held = if uid == 0 {
            bounding.clone()
        } else {
            HashSet::new()
        };
        Ok(LinuxCapabilitiesBuilder::default()
            .bounding(bounding)
            .effective(held.clone())
            .permitted(held)
            .inheritable(HashSet::new())
            .ambient(HashSet::new())
            .build()?)
    }

    /// The bounding set by name (`CAP_CHOWN`), for what depends on it: the groups of a seccomp profile.
    ///
    /// # Errors
    /// Refuses unknown names.
    pub fn bounding_names(&self) -> Result<Vec<String>, SpecError> {
        let bounding = self.bounding()?;
        Ok(bounding.iter().map(|cap| format!("CAP_{cap}")).collect())
    }

    /// Docker's rule: `ALL` first, single names after it, so `--cap-drop ALL --cap-add CHOWN` leaves CHOWN.
    fn bounding(&self) -> Result<HashSet<Capability>, SpecError> {
        let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("all"));
        let (add, drop) = (named(&self.cap_add)?, named(&self.cap_drop)?);
        if self.privileged {
            return Ok(every());
        }
        Ok(match (all(&self.cap_add), all(&self.cap_drop)) {
            (true, _) => every().difference(&drop).copied().collect(),
            (false, true) => add,
            (false, false) => {
                let kept = DEFAULT.into_iter().filter(|cap| !drop.contains(cap));
                kept.chain(add.iter().copied()).collect()
            }
        })
    }
}

fn every() -> HashSet<Capability> {
    caps::all()
        .into_iter()
        .filter_map(|cap| parse(&cap.to_string()))
        .collect()
}

fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).parse().ok()
}

fn named(list: &[String]) -> Result<HashSet<Capability>, SpecError> {
    list.iter()
        .filter(|name| !name.eq_ignore_ascii_case("all"))
        .map(|name| parse(name).ok_or_else(|| SpecError::Capability(name.clone())))
        .collect()
}

/// `--ulimit NAME=SOFT[:HARD]`; -1 is unlimited.
///
/// # Errors
/// Refuses unknown names, bad numbers, and a soft limit above the hard one.
pub fn ulimit(text: &str) -> Result<PosixRlimit, SpecError> {
    let refuse = || SpecError::Ulimit(text.into());
    let (name, values) = text.split_once('=').ok_or_else(refuse)?;
    let kind: PosixRlimitType = format!("RLIMIT_{}", name.to_ascii_uppercase())
        .parse()
        .map_err(|_| refuse())?;
    let value = |text: &str| match text.parse::<i64>() {
        Ok(-1) => Ok(u64::MAX),
        Ok(number) => u64::try_from(number).map_err(|_| refuse()),
        Err(_) => Err(refuse()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        return Err(refuse());
    }
    Ok(PosixRlimitBuilder::default()
        .typ(kind)
        .soft(soft)
        .hard(hard)
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }
    fn bounding(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        let confine = Confine {
            cap_add: strings(add),
            cap_drop: strings(drop),
            ..Default::default()
        };
        confine.bounding().unwrap_or_default()
    }

    #[test]
    fn docker_defaults_and_changes() {
        assert_eq!(bounding(&[], &[]).len(), 14);
        assert!(bounding(&["sys_ptrace"], &[]).contains(&Capability::SysPtrace));
        assert!(!bounding(&[], &["CAP_CHOWN"]).contains(&Capability::Chown));
        assert_eq!(bounding(&["CHOWN"], &["all"]), HashSet::from([Capability::Chown]));
        let almost = bounding(&["ALL"], &["net_raw"]);
        assert!(almost.len() > 35 && !almost.contains(&Capability::NetRaw));
        let bad = Confine {
            cap_add: strings(&["FLY"]),
            ..Default::default()
        };
        assert!(matches!(bad.bounding(), Err(SpecError::Capability(_))));
    }

    /// CVE-2022-24769, -27649, -27650, -27651, -29162.
    #[test]
    fn nothing_is_ever_inheritable() {
        for (uid, privileged) in [(0, false), (1000, false), (0, true), (1000, true)] {
            let confine = Confine {
                privileged,
                ..Default::default()
            };
            let sets = confine.capabilities(uid).unwrap_or_default();
            assert_eq!(sets.inheritable().as_ref().map(HashSet::len), Some(0));
            assert_eq!(sets.ambient().as_ref().map(HashSet::len), Some(0));
            assert_eq!(sets.effective().as_ref().is_some_and(HashSet::is_empty), uid != 0);
        }
    }

    #[test]
    fn security_options() {
        let read = |texts: &[&str]| {
            let mut confine = Confine::default();
            texts
                .iter()
                .try_for_each(|text| confine.security_opt(text))
                .map(|()| confine)
        };
        assert!(read(&["no-new-privileges"]).is_ok_and(|c| c.no_new_privileges));
        assert!(read(&["no-new-privileges:true"]).is_ok_and(|c| c.no_new_privileges));
        assert!(read(&["seccomp=unconfined"]).is_ok_and(|c| c.seccomp == Seccomp::Unconfined));
        assert!(read(&["seccomp=/p.json"]).is_ok_and(|c| c.seccomp == Seccomp::Profile("/p.json".into())));
        assert!(read(&["label=disable", "apparmor=unconfined"]).is_ok());
        for bad in [
            "apparmor=mine",
            "label=type:t",
            "bogus",
            "seccomp2=x",
            "no-new-privileges=maybe",
        ] {
            assert!(matches!(read(&[bad]), Err(SpecError::SecurityOpt(_))), "{bad}");
        }
    }

    #[test]
    fn ulimits() {
        let limits = |text| ulimit(text).ok().map(|l| (l.soft(), l.hard()));
        assert_eq!(limits("nofile=1024:2048"), Some((1024, 2048)));
        assert_eq!(limits("core=-1"), Some((u64::MAX, u64::MAX)));
        for bad in ["nofile", "bogus=1", "nofile=2:1", "nofile=x", "nofile=-2"] {
            assert_eq!(limits(bad), None, "{bad}");
        }
    }
}
