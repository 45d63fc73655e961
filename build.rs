//! Compiles the default seccomp profile for the default capabilities, so that no start does.

#[path = "src/containers/runtime/seccomp/filter.rs"]
#[allow(unreachable_pub)]
mod filter;
#[path = "src/containers/runtime/seccomp/profile.rs"]
#[allow(unreachable_pub)]
mod profile;

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use seccompiler::TargetArch;

const PROFILE: &str = "src/containers/runtime/seccomp/default.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/containers/runtime/seccomp");
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH")?;
    let (arch, name) = match machine.as_str() {
        "x86_64" => (TargetArch::x86_64, "amd64"),
        "aarch64" => (TargetArch::aarch64, "arm64"),
        other => return Err(format!("no seccomp profile for machines of type {other}").into()),
    };
    let profile = profile::Profile::parse(&std::fs::read_to_string(PROFILE)?)?;
    let profile = profile.resolve(name, |capability| {
        profile::DEFAULT_CAPABILITIES.contains(&capability)
    });
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut list = String::new();
    for (position, program) in filter::compile(&profile.rules()?, arch)?.iter().enumerate() {
        let file = out.join(format!("seccomp-{position}.bpf"));
        std::fs::write(&file, program)?;
        writeln!(list, "include_bytes!({:?}),", file.display().to_string())?;
    }
    std::fs::write(out.join("seccomp.rs"), format!("&[{list}]"))?;
    Ok(())
}
