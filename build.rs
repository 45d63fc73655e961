//! Compiles the seccomp profiles, so that no start does.

#[path = "src/containers/runtime/seccomp/filter.rs"]
#[allow(unreachable_pub)]
mod filter;
#[path = "src/containers/runtime/seccomp/profile.rs"]
#[allow(unreachable_pub)]
mod profile;

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use filter::{Filter, Rule};
use seccompiler::{SeccompAction, TargetArch};

/// For containers, with the default capabilities.
const PROFILE: &str = "src/containers/runtime/seccomp/default.json";
/// For filesystem servers.
const SERVER: &str = "src/containers/supervisor/server.json";
/// For network processes.
const NETWORK: &str = "src/containers/supervisor/network.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/containers/runtime/seccomp");
    println!("cargo::rerun-if-changed={SERVER}");
    println!("cargo::rerun-if-changed={NETWORK}");
    compile(&read(PROFILE)?, "seccomp")?;
    compile(&read(NETWORK)?, "network")?;
    let mut server = read(SERVER)?;
    if std::env::var("PROFILE")? == "debug" {
        // Such a server kills itself where a test wants it to (fuse-overlay's `crash`).
        server.rules.push(allow("tgkill"));
    }
    compile(&server, "server")?;
    // With files below that are opened when they are read.
    server.rules.push(allow("openat2"));
    compile(&server, "opening-server")
}

fn allow(call: &str) -> Rule {
    Rule {
        name: call.into(),
        action: SeccompAction::Allow,
        arguments: Vec::new(),
    }
}

/// The machine's architecture, and what profiles call it.
fn machine() -> Result<(TargetArch, &'static str), Box<dyn Error>> {
    match std::env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => Ok((TargetArch::x86_64, "amd64")),
        "aarch64" => Ok((TargetArch::aarch64, "arm64")),
        other => Err(format!("no seccomp profile for machines of type {other}").into()),
    }
}

/// Reads a profile, as it is for this machine and the default capabilities.
fn read(profile: &str) -> Result<Filter, Box<dyn Error>> {
    let profile = profile::Profile::parse(&std::fs::read_to_string(profile)?)?;
    let profile = profile.resolve(machine()?.1, |capability| {
        profile::DEFAULT_CAPABILITIES.contains(&capability)
    });
    Ok(profile.rules()?)
}

/// Compiles a filter; the list of its programs becomes `$OUT_DIR/<name>.rs`.
fn compile(filter: &Filter, name: &str) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut list = String::new();
    for (position, program) in filter::compile(filter, machine()?.0)?.iter().enumerate() {
        // Named as the list's neighbour, so that a target directory can be moved or copied.
        let file = format!("{name}-{position}.bpf");
        std::fs::write(out.join(&file), program)?;
        writeln!(list, "include_bytes!({file:?}),")?;
    }
    std::fs::write(out.join(format!("{name}.rs")), format!("&[{list}]"))?;
    Ok(())
}
