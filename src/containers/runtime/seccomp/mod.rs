//! Which system calls may a container make? A profile (Docker's JSON) becomes `linux.seccomp` of the Spec, that becomes
//! programs for the kernel. The default profile for the default capabilities is compiled by `build.rs`.

mod filter;
pub(super) mod notify;
mod profile;

use caps::CapsHashSet;
use oci_spec::runtime::{LinuxSeccomp, Spec};
use seccompiler::TargetArch;

use super::plan::{PlanError, invalid};
use filter::Program;
pub use profile::DEFAULT_CAPABILITIES;
use profile::Profile;

/// The Spec's annotation that asks for Bryo's default profile, as far as the container's capabilities allow; its value is
/// `default`. It stands for the same list in `linux.seccomp`, and spares writing, reading and compiling that at each start.
pub const SECCOMP: &str = "bryo.seccomp";

const PROFILE: &str = include_str!("default.json");

/// Programs of the default profile for [`DEFAULT_CAPABILITIES`].
const COMPILED: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/seccomp.rs"));

#[cfg(target_arch = "x86_64")]
const ARCH: (TargetArch, &str) = (TargetArch::x86_64, "amd64");
#[cfg(target_arch = "aarch64")]
const ARCH: (TargetArch, &str) = (TargetArch::aarch64, "arm64");

/// Reads a profile in Docker's JSON for a container with these capabilities (as `CAP_CHOWN`): what belongs in the Spec.
///
/// # Errors
/// Says what cannot be read.
pub fn custom(text: &str, capabilities: &[String]) -> Result<LinuxSeccomp, String> {
    let profile = Profile::parse(text)?.resolve(ARCH.1, |name| capabilities.iter().any(|has| has == name));
    // Refused here rather than at the start.
    let unknown = |what: String| format!("{what} is not supported");
    profile.rules().map_err(unknown)?;
    let text = serde_json::to_string(&profile).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// The filters to install, oldest first; none without a profile.
pub(super) fn programs(
    spec: &Spec,
    asked: Option<&LinuxSeccomp>,
    bounding: &CapsHashSet,
) -> Result<Vec<Program>, PlanError> {
    let note = spec.annotations().as_ref().and_then(|notes| notes.get(SECCOMP));
    let profile = match (asked, note.map(String::as_str)) {
        (None, None) => return Ok(Vec::new()),
        (Some(asked), None) => of_spec(asked)?,
        (None, Some("default")) if is_default(bounding) => {
            return Ok(COMPILED.iter().map(|program| program.to_vec()).collect());
        }
        (None, Some("default")) => default_for(bounding).map_err(|why| invalid(&why))?,
        (_, Some(other)) => return Err(invalid(&format!("annotation {SECCOMP} \"{other}\""))),
    };
    let unknown = |what: String| PlanError::Unsupported(format!("seccomp {what}"));
    filter::compile(&profile.rules().map_err(unknown)?, ARCH.0)
        .map_err(|why| invalid(&format!("seccomp: {why}")))
}

/// A Spec's list is a profile without conditions.
fn of_spec(asked: &LinuxSeccomp) -> Result<Profile, PlanError> {
    let text = serde_json::to_string(asked).map_err(|error| invalid(&error.to_string()))?;
    Profile::parse(&text).map_err(|why| invalid(&format!("linux.seccomp: {why}")))
}

fn default_for(bounding: &CapsHashSet) -> Result<Profile, String> {
    let has = |name: &str| bounding.iter().any(|capability| capability.to_string() == name);
    Ok(Profile::parse(PROFILE)?.resolve(ARCH.1, has))
}

fn is_default(bounding: &CapsHashSet) -> bool {
    bounding.len() == DEFAULT_CAPABILITIES.len()
        && bounding
            .iter()
            .all(|capability| DEFAULT_CAPABILITIES.contains(&capability.to_string().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> CapsHashSet {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn annotated() -> Spec {
        let mut spec = Spec::default();
        spec.set_annotations(Some([(SECCOMP.to_owned(), "default".to_owned())].into()));
        spec
    }

    #[test]
    fn what_the_build_compiled_is_what_would_be_compiled_now() {
        let default = set(&DEFAULT_CAPABILITIES);
        let now = filter::compile(&default_for(&default).unwrap().rules().unwrap(), ARCH.0).unwrap();
        assert_eq!(programs(&annotated(), None, &default).unwrap(), now);
        // Allow list, clone3, calls of the future.
        assert_eq!(now.len(), 3);
    }

    /// What a classic BPF program answers (linux/filter.h), as far as these programs go.
    pub(super) fn run(program: &[u8], data: &[u32; 16]) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = &program[8 * at..8 * at + 8];
            let (code, [jt, jf]) = (u16::from_ne_bytes([step[0], step[1]]), [step[2], step[3]]);
            let k = u32::from_ne_bytes(step[4..].try_into().unwrap());
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                0x20 => a = data[k as usize / 4],
                0x54 => a &= k,
                0x15 => jump(a == k),
                0x25 => jump(a > k),
                0x35 => jump(a >= k),
                0x05 => at += k as usize,
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn each_call_is_answered_as_its_rules_say() {
        let rules = default_for(&set(&DEFAULT_CAPABILITIES)).unwrap().rules().unwrap();
        let programs = filter::compile(&rules, ARCH.0).unwrap();
        let length: usize = programs.iter().map(Vec::len).sum();
        assert!(length < 8 * 400, "{length} bytes cost each start");
        // The strictest answer counts, of equal ones the newest program's (seccomp(2)).
        let answer = |arch: u32, number: u32, first: u32| {
            let mut data = [0; 16];
            (data[0], data[1], data[4]) = (number, arch, first);
            let answers = programs.iter().rev().map(|program| run(program, &data));
            answers
                .min_by_key(|answer| (answer & 0xffff_0000).cast_signed())
                .unwrap()
        };
        const NATIVE: u32 = if cfg!(target_arch = "x86_64") {
            0xc000_003e
        } else {
            0xc000_00b7
        };
        let (allow, kill, eperm, enosys) = (0x7fff_0000, 0x8000_0000, 0x0005_0001, 0x0005_0026);
        for call in syscalls::Sysno::iter() {
            let number = call.id() as u32;
            let found: Vec<_> = rules
                .rules
                .iter()
                .filter(|rule| rule.name == call.name())
                .collect();
            let expected = match found.as_slice() {
                [] => eperm,
                found
                    if found
                        .iter()
                        .any(|rule| rule.action != seccompiler::SeccompAction::Allow) =>
                {
                    enosys
                }
                found if found.iter().any(|rule| rule.arguments.is_empty()) => allow,
                // Which arguments, is seccompiler's to know.
                _ => continue,
            };
            assert_eq!(answer(NATIVE, number, 0), expected, "{}", call.name());
            // Another architecture's call of the same number, and one of x32.
            assert_eq!(answer(0x4000_0003, number, 0), kill, "{}", call.name());
            assert_ne!(answer(NATIVE, number | 0x4000_0000, 0), allow, "{}", call.name());
        }
        assert_eq!(answer(NATIVE, 5000, 0), enosys);
        let personality = syscalls::Sysno::personality.id() as u32;
        assert_eq!(answer(NATIVE, personality, 8), allow);
        assert_eq!(answer(NATIVE, personality, 0x0040_0000), eperm);
    }

    #[test]
    fn capabilities_open_their_calls() {
        let allowed = |caps: &[&str], call: &str| {
            let rules = default_for(&set(caps)).unwrap().rules().unwrap().rules;
            rules.iter().any(|rule| {
                rule.name == call
                    && rule.arguments.is_empty()
                    && rule.action == seccompiler::SeccompAction::Allow
            })
        };
        assert!(!allowed(&DEFAULT_CAPABILITIES, "mount") && allowed(&["CAP_SYS_ADMIN"], "mount"));
        assert!(allowed(&DEFAULT_CAPABILITIES, "chroot") && !allowed(&[], "chroot"));
        assert!(allowed(&["CAP_SYS_ADMIN"], "clone3") && !allowed(&[], "clone3"));
    }

    #[test]
    fn a_custom_profile_goes_through_the_spec() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"excludes":{"caps":["CAP_CHOWN"]}},
            {"name":"chdir","action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":1,"op":"SCMP_CMP_GT"}]}]}"#;
        let spec = custom(text, &[]).unwrap();
        assert_eq!(spec.syscalls().as_ref().unwrap().len(), 2);
        assert_eq!(
            programs(&Spec::default(), Some(&spec), &set(&[])).unwrap().len(),
            2
        );
        assert_eq!(
            custom(text, &["CAP_CHOWN".into()])
                .unwrap()
                .syscalls()
                .as_ref()
                .unwrap()
                .len(),
            1
        );
        for bad in [
            "{",
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"X","syscalls":[]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent"}"#,
        ] {
            assert!(custom(bad, &[]).is_err(), "{bad}");
        }
    }
}
