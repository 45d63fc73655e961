//! The same lines typed to Bryo and to podman: exit code, streams and machine-readable output, compared. What is meant to
//! differ is in the tables, with its reason; where podman does other than Docker, Bryo does as Docker.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

#[path = "table/beside.rs"]
mod beside;
mod common;
#[path = "table/copying.rs"]
mod copying;
#[path = "table/images.rs"]
mod images;
#[path = "table/life.rs"]
mod life;
#[path = "table/looking.rs"]
mod looking;
#[path = "table/networks.rs"]
mod networks;
#[path = "table/refused.rs"]
mod refused;
#[path = "table/upkeep.rs"]
mod upkeep;
#[path = "table/volumes.rs"]
mod volumes;
#[path = "table/within.rs"]
mod within;
