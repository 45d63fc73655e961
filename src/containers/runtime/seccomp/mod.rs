//! Which system calls may a container make? A profile (Docker's JSON) becomes `linux.seccomp` of the Spec, that becomes
//! programs for the kernel. The default profile for the default capabilities is compiled by `build.rs`.

mod filter;
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
