//! How does a container come onto a network, or leave it, after it was made? What is wanted is written beside its record; where it
//! runs, its supervisor is told, and says in the record what came of it.

use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::definition::find;
use super::{BridgeError, Endpoint};
use crate::containers::Error;
use crate::containers::amended::{self, Networks};
use crate::containers::record::{self, Life, Record};
use crate::store::Store;

/// Says to a supervisor that other networks are wanted.
pub(in crate::containers) const NETWORKS: Signal = Signal::USR2;

/// How long it may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// The built-in one.
const BRIDGE: &str = "bridge";

/// Puts a container onto a network.
///
/// # Errors
/// It is there already, has none of its own, or cannot have the address.
pub fn connect(store: &Store, mut endpoint: Endpoint, container: &str) -> Result<(), Error> {
    let is_built_in = endpoint.network == BRIDGE;
    if is_built_in && endpoint != built_in() {
        return Err(BridgeError::Unnamed.into());
    }
    let network = match is_built_in {
        true => None,
        false => Some(find(store, &endpoint.network)?),
    };
    if let Some(network) = &network {
        endpoint.network.clone_from(&network.name);
        endpoint.fits(network)?;
    }
    let name = endpoint.network.clone();
    let (id, serial) = change(store, container, |record, wanted| {
        let there = match is_built_in {
            true => wanted.bridge.then_some(&endpoint),
            false => wanted
                .endpoints
                .iter()
                .find(|one| one.network == endpoint.network),
        };
        match there {
            None if is_built_in => wanted.bridge = true,
            None => wanted.endpoints.push(endpoint.clone()),
            // Whoever wanted the same was killed before the supervisor knew.
            Some(same) if *same == endpoint && is_pending(record) && !is_on(record, &name) => {}
            Some(_) => {
                return Err(BridgeError::Connected {
                    container: record.name.clone(),
                    network: name.clone(),
                });
            }
        }
        Ok(())
    })?;
    let Some(record) = settled(store, &id, serial)? else {
        return Ok(());
    };
    if let Some(why) = record.network.trouble.get(&name) {
        // So that its next start does not fail of it.
        let (_, undone) = change(store, &id, |_, wanted| {
            wanted.endpoints.retain(|one| one.network != name);
            Ok(())
        })?;
        // The supervisor tries it again with every other change, and it may be there by now. If nothing is heard, the failure
        // that was is what to tell.
        let _ = settled(store, &id, undone);
        let (network, why) = (name, why.clone());
        return Err(BridgeError::Join { network, why }.into());
    }
    Ok(())
}

fn built_in() -> Endpoint {
    Endpoint {
        network: BRIDGE.into(),
        ..Endpoint::default()
    }
}

/// Takes a container off a network.
///
/// # Errors
/// It is not there.
pub fn disconnect(store: &Store, network: &str, container: &str) -> Result<(), Error> {
    // What the container is on is meant first: one that was removed can still be wanted.
    let found = match network {
        BRIDGE => None,
        _ => find(store, network).ok(),
    };
    let mut name = network.to_owned();
    let (id, serial) = change(store, container, |record, wanted| {
        let before = wanted.clone();
        if let Some(found) = &found
            && !wanted.endpoints.iter().any(|one| one.network == network)
        {
            name.clone_from(&found.name);
        }
        match name.as_str() {
            BRIDGE => wanted.bridge = false,
            _ => wanted.endpoints.retain(|one| one.network != name),
        }
        match *wanted == before {
            // Whoever wanted the same was killed before the supervisor knew, or it could not be done.
            true if is_on(record, &name) || name == BRIDGE && is_pending(record) => Ok(()),
            true if found.is_none() && name != BRIDGE => Err(BridgeError::NotFound(name.clone())),
            true => Err(BridgeError::NotConnected {
                container: record.name.clone(),
                network: name.clone(),
            }),
            false => Ok(()),
        }
    })?;
    let record = settled(store, &id, serial)?;
    match record.and_then(|mut record| record.network.trouble.remove(&name)) {
        Some(why) => Err(BridgeError::Leave { network: name, why }.into()),
        None => Ok(()),
    }
}

/// Does it run, and its supervisor does not know what is wanted?
fn is_pending(record: &Record) -> bool {
    matches!(record.life, Life::Running { .. }) && record.network.settled < record.settings.ports.serial
}

/// Is it on this network now, whatever is wanted?
fn is_on(record: &Record, network: &str) -> bool {
    let mut attached = record.network.attached.iter();
    matches!(record.life, Life::Running { .. }) && attached.any(|one| one.network == network)
}

/// Changes what is wanted. Gives the container's id, and the change's number.
fn change(
    store: &Store,
    container: &str,
    change: impl FnOnce(&Record, &mut Networks) -> Result<(), BridgeError>,
) -> Result<(String, u64), Error> {
    let id = record::find(store, container)?;
    let (_, serial) = amended::amend(store, &id, |record, amended| {
        if record.settings.ports.addresses.is_none() {
            return Err(BridgeError::Mode {
                container: record.name.clone(),
                mode: record.settings.network.clone(),
            }
            .into());
        }
        if matches!(record.life, Life::Running { .. }) && !record.network.hears {
            return Err(BridgeError::Old(record.name.clone()).into());
        }
        let mut wanted = record.settings.ports.networks();
        change(record, &mut wanted)?;
        wanted.serial += 1;
        let serial = wanted.serial;
        amended.networks = Some(wanted);
        Ok(serial)
    })?;
    Ok((id, serial))
}

/// Has the supervisor of a container that runs see to it, and waits until it has: its record then. None if it does not run.
fn settled(store: &Store, id: &str, serial: u64) -> Result<Option<Record>, Error> {
    let end = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let Some(record) = record::read(store, id)? else {
            return Ok(None);
        };
        let Life::Running { supervisor, .. } = record.life else {
            return Ok(None);
        };
        if record.network.settled >= serial {
            return Ok(Some(record));
        }
        if !told && let Ok(Some(pidfd)) = supervisor.open() {
            // It may have ended just now.
            let _ = pidfd_send_signal(&pidfd, NETWORKS);
            told = true;
        }
        if Instant::now() > end {
            return Err(BridgeError::Silent(record.name).into());
        }
        std::thread::sleep(LOOK);
    }
}
