//! Runs a command in a network namespace of its own, with the built-in network as its way out, and nothing else of a
//! container: `carry [-p HOST:CONTAINER]… COMMAND…`. `scripts/bench.sh network` sets it beside pasta and slirp4netns.
#![allow(missing_docs)]

use std::error::Error;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use bryo::net::{Addresses, Network, Port, Protocol, Resolvers, Routes, listen, set_up};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let run = match words.first().map(String::as_str) {
        Some("--inside") => inside(&words[1..]),
        _ => outside(&words),
    };
    run.unwrap_or_else(|error| {
        eprintln!("carry: {error}");
        ExitCode::FAILURE
    })
}

fn outside(mut words: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let mut listeners = Vec::new();
    while let [flag, ports, rest @ ..] = words
        && flag == "-p"
    {
        let (host, container) = ports.split_once(':').ok_or("-p HOST:CONTAINER")?;
        listeners.push(listen(&Port {
            protocol: Protocol::Tcp,
            host: ([0, 0, 0, 0], host.parse()?).into(),
            container: container.parse()?,
        })?);
        words = rest;
    }
    let addresses = Addresses::choose(&Routes::read()?)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe()?)
        .args(["--inside", &serde_json::to_string(&addresses)?])
        .args(words)
        // The way back; the command gets another.
        .stdin(OwnedFd::from(theirs))
        .spawn()?;
    let (order, orders) = UnixStream::pair()?;
    let network = Network {
        tun: receive(&ours)?,
        addresses,
        listeners,
        resolvers: Resolvers::read(),
        orders: orders.into(),
    };
    let serving = std::thread::spawn(move || network.serve());
    drop(ours);
    let code = child.wait()?.code().unwrap_or(1);
    drop(order);
    serving.join().map_err(|_| "the network ended")??;
    Ok(ExitCode::from(code as u8))
}

fn inside(words: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let [addresses, program, arguments @ ..] = words else {
        return Err("no command".into());
    };
    let tun = set_up(&serde_json::from_str(addresses)?)?;
    let descriptors = [tun.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(
        std::io::stdin(),
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )?;
    drop(tun);
    let nothing = std::fs::File::open("/dev/null")?;
    Err(Command::new(program).args(arguments).stdin(nothing).exec().into())
}

fn receive(from: &UnixStream) -> Result<OwnedFd, Box<dyn Error>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    rights.ok_or_else(|| "the network could not be set up".into())
}
