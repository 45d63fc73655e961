//! What does a seccomp profile say? Docker's JSON (github.com/moby/profiles, seccomp), whose groups depend on the machine
//! and on the container's capabilities. Also part of `build.rs`.

use seccompiler::{SeccompAction, SeccompCmpOp};
use serde::{Deserialize, Serialize};

use super::filter::{self, Filter, Rule};

/// What Docker leaves a container able to (moby, oci/caps/defaults.go).
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A profile as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    pub(super) default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_errno_ret: Option<u32>,
    #[serde(default)]
    pub(super) syscalls: Vec<Group>,
    /// What no filter here does: read to be refused.
    #[serde(default, skip_serializing)]
    flags: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    listener_path: Option<String>,
}

/// Calls that are treated alike.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    #[serde(default)]
    pub(super) names: Vec<String>,
    /// The older way to write one.
    #[serde(skip_serializing)]
    name: Option<String>,
    pub(super) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Argument>>,
    #[serde(default, skip_serializing)]
    includes: Condition,
    #[serde(default, skip_serializing)]
    excludes: Condition,
}

/// A condition on an argument.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub(super) index: usize,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: String,
}

/// `minKernel` is not looked at: what it asks for (4.8) is older than anything Bryo runs on.
#[derive(Clone, Debug, Default, Deserialize)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

impl Profile {
    pub(super) fn parse(text: &str) -> Result<Profile, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The profile for a machine of this `arch` (as Go names it: amd64, arm64) and a container with these capabilities (as
    /// `CAP_CHOWN`): what is left has no conditions but those on arguments.
    pub(super) fn resolve(mut self, arch: &str, has: impl Fn(&str) -> bool) -> Profile {
        let here = |list: &[String]| list.iter().any(|name| name == arch);
        self.syscalls.retain(|group| {
            let Group {
                includes, excludes, ..
            } = group;
            includes.caps.iter().all(|capability| has(capability))
                && (includes.arches.is_empty() || here(&includes.arches))
                && !excludes.caps.iter().any(|capability| has(capability))
                && !here(&excludes.arches)
        });
        for group in &mut self.syscalls {
            group.names.extend(group.name.take());
        }
        self
    }

    /// The rules of a resolved profile.
    pub(super) fn rules(&self) -> Result<Filter, String> {
        if self.listener_path.is_some() {
            return Err("field listenerPath".to_owned());
        }
        if self.flags.as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err("field flags".to_owned());
        }
        let mut rules = Vec::new();
        for group in &self.syscalls {
            let arguments = group
                .args
                .iter()
                .flatten()
                .map(Argument::read)
                .collect::<Result<Vec<_>, _>>()?;
            let action = action(&group.action, group.errno_ret)?;
            rules.extend(group.names.iter().map(|name| Rule {
                name: name.clone(),
                action: action.clone(),
                arguments: arguments.clone(),
            }));
        }
        Ok(Filter {
            otherwise: action(&self.default_action, self.default_errno_ret)?,
            rules,
        })
    }
}

impl Argument {
    fn read(&self) -> Result<filter::Argument, String> {
        let index = u8::try_from(self.index).ok().filter(|index| *index < 6);
        let (operator, value) = match self.op.as_str() {
            "SCMP_CMP_NE" => (SeccompCmpOp::Ne, self.value),
            "SCMP_CMP_LT" => (SeccompCmpOp::Lt, self.value),
            "SCMP_CMP_LE" => (SeccompCmpOp::Le, self.value),
            "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, self.value),
            "SCMP_CMP_GE" => (SeccompCmpOp::Ge, self.value),
            "SCMP_CMP_GT" => (SeccompCmpOp::Gt, self.value),
            // libseccomp has the mask first.
            "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
            other => return Err(format!("operator \"{other}\"")),
        };
        let index = index.ok_or_else(|| format!("argument number {}", self.index))?;
        Ok(filter::Argument {
            index,
            operator,
            value,
        })
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, String> {
    const EPERM: u32 = 1;
    match name {
        "SCMP_ACT_ALLOW" => Ok(SeccompAction::Allow),
        "SCMP_ACT_ERRNO" => Ok(SeccompAction::Errno(errno.unwrap_or(EPERM))),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(SeccompAction::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(SeccompAction::KillProcess),
        "SCMP_ACT_LOG" => Ok(SeccompAction::Log),
        "SCMP_ACT_TRAP" => Ok(SeccompAction::Trap),
        "SCMP_ACT_TRACE" => Ok(SeccompAction::Trace(errno.unwrap_or(EPERM))),
        other => Err(format!("action \"{other}\"")),
    }
}
