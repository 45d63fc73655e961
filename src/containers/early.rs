//! What does a start not wait for, since it was begun before the command line was parsed? Parsing takes a start's first two
//! milliseconds, and making a user namespace with newuidmap and newgidmap its next four: so they run side by side.

use parking_lot::Mutex;

use super::runtime::Ahead;
use crate::host::{IdMaps, Probe};
use crate::store::Store;

static BEGUN: Mutex<Option<Begun>> = Mutex::new(None);

/// What was found and begun.
#[derive(Debug)]
struct Begun {
    host: Probe,
    maps: IdMaps,
    ahead: Option<Ahead>,
}

/// Begins what most starts need. What cannot be done is tried again, and told, by who needs it; a process that needs none of
/// it ends, and the maker of the namespace with it. To be called by a process with one thread, which soon starts a container
/// or ends.
pub fn begin() {
    let Some(store) = Store::open_existing() else {
        return;
    };
    let host = Probe::now();
    let maps = host.id_maps();
    let ahead = Ahead::begin(store.run(), &host, maps.clone());
    *BEGUN.lock() = Some(Begun { host, maps, ahead });
}

/// The machine, and a user namespace with the maps that are wanted of it, if one is on its way: to be taken up once.
pub(super) fn take(store: &Store, wanted: impl Fn(&Probe) -> IdMaps) -> (Probe, Option<Ahead>) {
    let begun = BEGUN.lock().take();
    let (host, ahead) = match begun {
        Some(Begun { host, maps, ahead }) if maps == wanted(&host) => return (host, ahead),
        Some(Begun { host, ahead, .. }) => (host, ahead),
        None => (Probe::now(), None),
    };
    // One of other ids is in the way of the one that is wanted.
    drop(ahead);
    let ahead = Ahead::begin(store.run(), &host, wanted(&host));
    (host, ahead)
}
