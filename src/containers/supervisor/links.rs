//! Which networks of the user's own is a container on? The supervisor has a descriptor of each, which keeps it alive, and a file
//! that says so; both go with the container. It puts the container on, takes it off, and knows who else is there.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::wire::{self, Job, wire};
use crate::containers::bridge::{self, Attached, BridgeError, Definition, Endpoint, Given, Member, Members};
use crate::containers::network::Live;
use crate::containers::record::Record;
use crate::containers::{Error, files, names};
use crate::line::chain;
use crate::net::{Addresses, Bridge, Known, Plug, Reach, namespace_number, reversed};
use crate::store::Store;

/// A container's networks.
#[derive(Debug)]
pub(super) struct Links {
    store: Store,
    id: String,
    name: String,
    /// Of its way out, if it has a network of its own.
    addresses: Option<Addresses>,
    on_bridge: bool,
    /// The way out's device is called otherwise.
    first_device: u32,
    /// The user namespace, and the network namespace.
    namespaces: Option<(OwnedFd, OwnedFd)>,
    joined: Vec<Joined>,
    /// The last change of what is wanted that was seen to.
    serial: u64,
}

/// One of them.
#[derive(Debug)]
struct Joined {
    attached: Attached,
    member: PathBuf,
    /// Keeps it alive.
    namespace: OwnedFd,
}

impl Links {
    pub(super) fn new(store: &Store, record: &Record) -> Links {
        let ports = &record.settings.ports;
        Links {
            store: store.clone(),
            id: record.id.clone(),
            name: record.name.clone(),
            addresses: ports.addresses,
            on_bridge: ports.is_on_bridge(),
            first_device: u32::from(ports.is_on_bridge()),
            namespaces: None,
            joined: Vec::new(),
            serial: ports.serial,
        }
    }

    /// Puts a container that is about to start onto its networks.
    ///
    /// # Errors
    /// The first that cannot be joined; it is on those before that.
    pub(super) fn begin(
        &mut self,
        namespaces: (OwnedFd, OwnedFd),
        endpoints: &[Endpoint],
    ) -> Result<(), Error> {
        self.namespaces = Some(namespaces);
        for endpoint in endpoints {
            self.join(endpoint)?;
        }
        Ok(())
    }

    /// Its hostname means its address on the first network.
    pub(super) fn tell_hosts(&self, hostname: &str) {
        let Some(first) = self.joined.first().filter(|_| !self.on_bridge) else {
            return;
        };
        let addresses: Vec<IpAddr> = first.attached.given.iter().map(|given| given.address).collect();
        if let Err(error) = files::set_own(&self.store.container(&self.id), hostname, &addresses) {
            tracing::warn!("the container's hosts: {}", chain(&error));
        }
    }

    /// Brings the container onto the networks that its record names, and off others; notes what came of it there.
    pub(super) fn settle(&mut self, record: &mut Record) {
        let wanted = record.settings.ports.networks();
        self.name.clone_from(&record.name);
        self.on_bridge = wanted.bridge;
        let left = |joined: &Joined| {
            !wanted
                .endpoints
                .iter()
                .any(|one| one.network == joined.attached.network)
        };
        record.network.trouble.clear();
        for joined in std::mem::take(&mut self.joined) {
            if left(&joined)
                && let Err(why) = self.leave(&joined)
            {
                let network = joined.attached.network.clone();
                record.network.trouble.insert(network, why);
            } else if left(&joined) {
                continue;
            }
            self.joined.push(joined);
        }
        for endpoint in &wanted.endpoints {
            let is_there = self
                .joined
                .iter()
                .any(|one| one.attached.network == endpoint.network);
            if !is_there && let Err(error) = self.join(endpoint) {
                let why = chain(&error);
                record.network.trouble.insert(endpoint.network.clone(), why);
            }
        }
        self.serial = wanted.serial;
    }

    /// Is something wanted that was not seen to?
    pub(super) fn are_outdated(&self, record: &Record) -> bool {
        record.settings.ports.serial != self.serial
    }

    /// What is recorded.
    pub(super) fn note(&self, live: &mut Live) {
        live.attached = self.joined.iter().map(|joined| joined.attached.clone()).collect();
        live.settled = self.serial;
        live.hears = true;
    }

    /// How far the container reaches.
    pub(super) fn reach(&self) -> Reach {
        Reach {
            outside: self.on_bridge || self.joined.iter().any(|joined| !joined.attached.internal),
            names: !self.joined.is_empty(),
        }
    }

    /// Who is called so now, on the first network that has one; or how who has the address is called.
    pub(super) fn known(&self, name: &str) -> Option<Known> {
        let address = reversed(name);
        self.joined.iter().find_map(|joined| {
            // A directory that cannot be read has nobody.
            let members = Members::of(self.store.run(), &joined.attached.id).ok()?;
            match address {
                Some(address) => members.names(&self.store, address).map(Known::Names),
                None => members.addresses(&self.store, name).map(Known::Addresses),
            }
        })
    }

    fn join(&mut self, endpoint: &Endpoint) -> Result<(), Error> {
        let network = bridge::find_named(&self.store, &endpoint.network)?;
        endpoint.fits(&network)?;
        if let Some(addresses) = &self.addresses {
            bridge::apart(&network, addresses)?;
        }
        let _lock = network.lock(&self.store)?;
        let mut members = Members::swept(self.store.run(), &network.id)?;
        if members.namespace().is_none() && !members.is_empty() {
            // Who was there has left meanwhile, or was killed.
            members = Members::of(self.store.run(), &network.id)?;
        }
        let attached = self.attached(&network, endpoint, &members)?;
        let namespace = self.connect(&network, &attached, &members)?;
        let member = match self.tell_others(endpoint, &attached, &namespace) {
            Ok(member) => member,
            Err(error) => {
                // Nobody would know of its devices. What failed first is what to tell.
                let _ = self.unplug(&attached, &namespace);
                return Err(error);
            }
        };
        attached.happened(self.store.state(), "connect", &self.id);
        self.joined.push(Joined {
            attached,
            member,
            namespace,
        });
        Ok(())
    }

    /// Has others see that it is there: the file.
    fn tell_others(
        &self,
        endpoint: &Endpoint,
        attached: &Attached,
        namespace: &OwnedFd,
    ) -> Result<PathBuf, Error> {
        let own = (self.id.as_str(), self.name.as_str());
        let member = Member::new(own, &endpoint.aliases, attached.clone(), namespace);
        let failed = Error::io("join", Path::new(&attached.network));
        member.map_err(failed)?.write(self.store.run())
    }

    /// What it gets there.
    fn attached(
        &self,
        network: &Definition,
        endpoint: &Endpoint,
        members: &Members,
    ) -> Result<Attached, Error> {
        let others = members.iter().filter(|member| member.container != self.id);
        let taken: HashSet<IpAddr> = others
            .flat_map(|member| member.attached.given.iter().map(|given| given.address))
            .collect();
        let given = network.pools.iter().map(|pool| {
            Ok(Given {
                address: pool.give(endpoint.wanted(pool), &taken)?,
                gateway: pool.gateway,
                prefix: pool.subnet.prefix(),
            })
        });
        let given = given.collect::<Result<Vec<_>, BridgeError>>()?;
        let endpoint = names::new_id().map_err(Error::io("draw", Path::new("random numbers")))?;
        let is_free = |device: &String| !self.joined.iter().any(|one| one.attached.device == *device);
        let device = (self.first_device..)
            .map(|number| format!("eth{number}"))
            .find(is_free);
        Ok(Attached {
            network: network.name.clone(),
            id: network.id.clone(),
            endpoint,
            internal: network.internal,
            device: device.unwrap_or_default(),
            given,
        })
    }

    /// Makes the devices. Gives the network's namespace: that of those who are there, or a new one.
    fn connect(
        &self,
        network: &Definition,
        attached: &Attached,
        members: &Members,
    ) -> Result<OwnedFd, Error> {
        let refused = |why: String| BridgeError::Join {
            network: network.name.clone(),
            why,
        };
        let (user, own) = self
            .namespaces
            .as_ref()
            .ok_or_else(|| refused("the container's namespaces are not there".into()))?;
        let found = members.namespace();
        if let Some(found) = &found {
            let same = wire::owner(found).and_then(|owner| Ok(owner == namespace_number(user)?));
            if !same.map_err(|error| refused(error.to_string()))? {
                return Err(BridgeError::OtherIds {
                    container: self.name.clone(),
                    network: network.name.clone(),
                }
                .into());
            }
        } else if !members.is_empty() {
            return Err(refused("its namespace cannot be opened".into()).into());
        }
        let job = Job::Connect {
            bridge: found.is_none().then(|| Bridge {
                places: network
                    .pools
                    .iter()
                    .map(|pool| (pool.gateway, pool.subnet.prefix()))
                    .collect(),
                mtu: network.mtu(),
            }),
            plug: Plug {
                device: attached.device.clone(),
                outer: outer(attached),
                mac: attached.mac(),
                places: attached
                    .given
                    .iter()
                    .map(|given| (given.address, given.prefix))
                    .collect(),
                mtu: network.mtu(),
            },
        };
        let mut namespaces = vec![user, own];
        namespaces.extend(&found);
        let made = wire(&job, &namespaces).map_err(refused)?;
        made.or(found)
            .ok_or_else(|| refused("no namespace came back".into()).into())
    }

    /// Nobody is to find it there.
    fn forget(&self, joined: &Joined) {
        // One that stays is seen to be stale.
        let _ = fs::remove_file(&joined.member);
        joined
            .attached
            .happened(self.store.state(), "disconnect", &self.id);
    }

    /// Takes it off, and says so then: until that, its address is nobody else's.
    fn leave(&self, joined: &Joined) -> Result<(), String> {
        self.unplug(&joined.attached, &joined.namespace)?;
        self.forget(joined);
        Ok(())
    }

    /// Takes the devices away.
    fn unplug(&self, attached: &Attached, network: &OwnedFd) -> Result<(), String> {
        let Some((user, _)) = &self.namespaces else {
            return Ok(());
        };
        let outer = outer(attached);
        wire(&Job::Disconnect { outer }, &[user, network]).map(drop)
    }
}

impl Drop for Links {
    /// The container has ended, or did not come to run. Its network namespace may stay for a while, for what it sent last by
    /// its way out; without its devices, or its kernel would answer for addresses that others have by then.
    fn drop(&mut self) {
        for joined in std::mem::take(&mut self.joined) {
            if let Err(why) = self.leave(&joined) {
                // Its devices end with its namespace, soon.
                tracing::warn!("the container's networks: {why}");
                self.forget(&joined);
            }
        }
    }
}

/// The name of the network's end of a container's devices: drawn, and shorter than names of devices may be.
fn outer(attached: &Attached) -> String {
    format!("v{}", attached.endpoint.get(..12).unwrap_or_default())
}
