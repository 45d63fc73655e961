//! Runs an OCI bundle: `oci-run BUNDLE [RUN]`. Shows that the executor needs nothing but the Spec; `tests/runtime.rs`
//! drives it.
#![allow(missing_docs)]

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bryo::containers::runtime::{RootSource, Stdio, plan, spawn};
use bryo::host::Probe;
use nix::sys::wait::{WaitStatus, waitpid};
use oci_spec::runtime::Spec;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("oci-run: {error}");
            let code = error
                .downcast_ref::<bryo::containers::runtime::StartError>()
                .map_or(125, |error| error.code());
            ExitCode::from(code)
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bundle = PathBuf::from(arguments.next().ok_or("usage: oci-run BUNDLE [RUN]")?);
    let run = arguments.next().map_or_else(|| bundle.join("run"), PathBuf::from);
    let mut spec = Spec::load(bundle.join("config.json"))?;
    let root = bundle.join(
        spec.root()
            .as_ref()
            .map_or(Path::new("rootfs"), |root| root.path().as_path()),
    );
    if let Some(root_) = spec.root_mut() {
        root_.set_path(root.clone());
    }
    let host = Probe::now();
    let plan = plan(&spec, RootSource::Path(root), &host)?;
    let terminal = spec
        .process()
        .as_ref()
        .and_then(|process| process.terminal())
        .unwrap_or(false);
    let stdio = if terminal {
        Stdio::Terminal
    } else {
        Stdio::Fds(own_descriptors()?)
    };
    let mut launch = spawn(plan, host, stdio, &run, None)?;
    launch.devices()?;
    let init = launch.go()?;
    for warning in &init.warnings {
        eprintln!("oci-run: {warning}");
    }
    if let Some(master) = init.terminal {
        // EIO is how a pty says that its last user is gone.
        let _ = std::io::copy(&mut File::from(master), &mut std::io::stdout());
    }
    match waitpid(init.pid, None)? {
        WaitStatus::Exited(_, code) => Ok(u8::try_from(code)?),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as u8),
        other => Err(format!("{other:?}").into()),
    }
}

fn own_descriptors() -> std::io::Result<[OwnedFd; 3]> {
    let duplicate = |descriptor: &dyn AsFd| descriptor.as_fd().try_clone_to_owned();
    Ok([
        duplicate(&std::io::stdin())?,
        duplicate(&std::io::stdout())?,
        duplicate(&std::io::stderr())?,
    ])
}
