//! How does a network go? When nobody is on it; a container that starts meanwhile finds it gone, or is there before.

use std::fs;

use super::definition::{Definition, PREDEFINED, all, find, lock_all};
use super::{BridgeError, Member, Members};
use crate::containers::Error;
use crate::line::chain;
use crate::store::Store;
use crate::store::write::{remove as unlink, sync_parent};

/// Removes a network.
///
/// # Errors
/// There is none, or a running container is on it.
pub fn remove(store: &Store, text: &str) -> Result<(), Error> {
    if PREDEFINED.contains(&text) {
        return Err(BridgeError::Kept(text.into()).into());
    }
    let _lock = lock_all(store)?;
    take(store, &find(store, text)?)
}

fn take(store: &Store, network: &Definition) -> Result<(), Error> {
    let _lock = network.lock(store)?;
    let members = Members::of(store.run(), &network.id)?;
    if !members.is_empty() {
        let user = |member: &Member| {
            let id = member.container.get(..12).unwrap_or_default();
            format!("name:{:?} id:{id:?}", member.name)
        };
        return Err(BridgeError::InUse {
            name: network.name.clone(),
            users: members.iter().map(user).collect(),
        }
        .into());
    }
    let path = network.path(store);
    unlink(&path)?;
    sync_parent(&path)?;
    network.happened(store.state(), "destroy");
    // Nobody finds the way there any more; what stays is in $BRYO_RUN, which a reboot empties.
    let _ = fs::remove_dir_all(Member::directory(store.run(), &network.id));
    Ok(())
}

/// Removes networks that nobody is on. Gives the names of those that are gone.
///
/// # Errors
/// They cannot be listed. One that cannot be removed is told of and stays.
pub fn prune(store: &Store, is_chosen: &dyn Fn(&Definition) -> bool) -> Result<Vec<String>, Error> {
    let _lock = lock_all(store)?;
    let mut gone = Vec::new();
    for network in all(store)?.into_iter().filter(is_chosen) {
        match take(store, &network) {
            Ok(()) => gone.push(network.name),
            Err(Error::Bridge(BridgeError::InUse { .. })) => {}
            Err(error) => tracing::warn!("network {} stays: {}", network.name, chain(&error)),
        }
    }
    Ok(gone)
}
