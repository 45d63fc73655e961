//! How do packets travel without root? Between the container's device and ordinary sockets of the host, which a process of
//! its own keeps in step: each connection of the container is one of the user's.

mod addresses;
mod bridge;
mod clients;
mod connections;
mod datagrams;
mod descriptors;
mod device;
mod dns;
mod engine;
mod error;
mod names;
pub mod packet;
mod ports;
mod reach;
mod resolvers;
pub mod tcp;
mod timers;

use std::os::fd::OwnedFd;

pub use addresses::{Addresses, Family, Outlet, Routes};
pub use bridge::{Bridge, Place, Plug, disconnect, number as namespace_number, own_namespace};
pub use descriptors::{Raised, raise_limit};
pub use device::{set_up, set_up_as};
pub use error::NetError;
pub use names::{Keeper, Known, Reach, Word, reversed};
pub use ports::{Listener, Port, Protocol, listen};
pub use resolvers::Resolvers;

/// All that the network of one container needs.
#[derive(Debug)]
pub struct Network {
    /// What [`set_up`] gave.
    pub tun: OwnedFd,
    /// What it was given.
    pub addresses: Addresses,
    /// The published ports.
    pub listeners: Vec<Listener>,
    /// Whom the container's questions for names go to.
    pub resolvers: Resolvers,
    /// Readable or closed when the container has ended: then all that it sent is carried to its end, and no more. Closed when
    /// that is done.
    pub orders: OwnedFd,
}

impl Network {
    /// Carries packets until all is done that was to be done before the end that was ordered, in the namespaces whose network the container is to use. Each connection is a
    /// descriptor: see [`raise_limit`].
    ///
    /// # Errors
    /// The device is gone, or memory.
    pub fn serve(self) -> Result<(), NetError> {
        let reach = Reach {
            outside: true,
            names: false,
        };
        engine::Engine::new(self, None, reach)?.run()
    }

    /// The same, with somebody beside it who speaks by `orders`, knows names, and says how far the container reaches.
    ///
    /// # Errors
    /// As for [`Network::serve`].
    pub fn serve_beside(self, keeper: Box<dyn Keeper>, reach: Reach) -> Result<(), NetError> {
        engine::Engine::new(self, Some(keeper), reach)?.run()
    }
}
