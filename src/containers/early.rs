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
    ahead: Option<Ahead>,
}

/// Begins what most starts need. What cannot be done is tried again, and told, by who needs it; a process that needs none of
/// it ends, and the maker of the namespace with it. To be called by a process with one thread.
pub fn begin() {
    let Some(store) = Store::open_existing() else {
        return;
    };
    let host = Probe::now();
    let ahead = Ahead::begin(store.run(), &host, host.id_maps());
    *BEGUN.lock() = Some(Begun { host, ahead });
}

/// The machine, and a user namespace with the maps that are wanted of it, if one is on its way: to be taken up once.
pub(super) fn take(store: &Store, maps: impl Fn(&Probe) -> IdMaps) -> (Probe, Option<Ahead>) {
    let Some(Begun { host, ahead }) = BEGUN.lock().take() else {
        let host = Probe::now();
        let ahead = Ahead::begin(store.run(), &host, maps(&host));
        return (host, ahead);
    };
    let wanted = maps(&host);
    let ahead = match ahead {
        Some(ahead) if *ahead.maps() == wanted => Some(ahead),
        _ => Ahead::begin(store.run(), &host, wanted),
    };
    (host, ahead)
}
