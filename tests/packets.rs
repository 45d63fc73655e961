//! Do packets travel as on any network? Real programs of a container's network namespace and of a host, with the built-in
//! network between them, in a network of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

#[path = "packets/bytes.rs"]
mod bytes;
#[path = "packets/datagrams.rs"]
mod datagrams;
#[path = "packets/ends.rs"]
mod ends;
#[path = "packets/inside.rs"]
mod inside;
#[path = "packets/iperf.rs"]
mod iperf;
#[path = "packets/tcp.rs"]
mod tcp;
