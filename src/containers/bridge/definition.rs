//! What is on disk of a network? A file of its id, as it was made; whoever makes or removes one holds the lock beside them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::subnet::{Pool, Subnet};
use super::{BridgeError, Member};
use crate::containers::record::now;
use crate::containers::{Error, names};
use crate::net::Routes;
use crate::store::events::{Event, Kind, tell};
use crate::store::lock::{Lock, Mode};
use crate::store::write::{Durability, replace, sync_parent};
use crate::store::{Store, root};

/// The version of the files that this program writes.
const VERSION: u32 = 1;

/// The networks that are there by themselves.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// The one option of the driver.
const MTU: &str = "com.docker.network.driver.mtu";

/// How long the lock of one is waited for, and how often it is looked at: a supervisor hears nobody meanwhile, but each start
/// before ours may hold it for some seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// A network as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Nothing leads out of it.
    pub internal: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver was told.
    pub options: BTreeMap<String, String>,
    /// Its subnets, IPv4's first.
    pub pools: Vec<Pool>,
}

/// A network to be made.
#[derive(Debug, Clone, Default)]
pub struct New {
    /// Its name.
    pub name: String,
    /// `--internal`.
    pub internal: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver is told.
    pub options: BTreeMap<String, String>,
    /// `--subnet`.
    pub subnets: Vec<Subnet>,
    /// `--gateway`.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`.
    pub ranges: Vec<Subnet>,
}

impl Definition {
    /// The largest packet.
    pub fn mtu(&self) -> u32 {
        self.options
            .get(MTU)
            .and_then(|mtu| mtu.parse().ok())
            .unwrap_or(1500)
    }

    /// The lock of its members, below `$BRYO_RUN`. A network that was removed meanwhile is not found.
    ///
    /// # Errors
    /// The file cannot be made, or somebody holds it for very long.
    pub fn lock(&self, store: &Store) -> Result<Lock, Error> {
        self.lock_within(store, PATIENCE)
    }

    fn lock_within(&self, store: &Store, patience: Duration) -> Result<Lock, Error> {
        let gone = || Error::from(BridgeError::NotFound(self.name.clone()));
        // Before the directory is made, which nobody would remove.
        load(&self.path(store))?.ok_or_else(gone)?;
        let directory = Member::directory(store.run(), &self.id);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        made.map_err(Error::io("create", &directory))?;
        let end = Instant::now() + patience;
        let lock = loop {
            match Lock::try_acquire(&directory.join("lock"), Mode::Exclusive) {
                Ok(Some(lock)) => break lock,
                Ok(None) if Instant::now() > end => return Err(BridgeError::Busy(self.name.clone()).into()),
                Ok(None) => std::thread::sleep(LOOK),
                // It went with the network.
                Err(crate::store::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    return Err(gone());
                }
                Err(error) => return Err(error.into()),
            }
        };
        load(&self.path(store))?.ok_or_else(gone)?;
        Ok(lock)
    }

    pub(super) fn path(&self, store: &Store) -> PathBuf {
        place(store).join(format!("{}.json", self.id))
    }

    /// Tells what becomes of it.
    pub(super) fn happened(&self, state: &Path, action: &str) {
        let event = Event::now(Kind::Network, action, &self.id);
        tell(state, &event.with("name", &self.name).with("type", "bridge"));
    }
}

fn place(store: &Store) -> PathBuf {
    store.state().join("networks")
}

/// Keeps others from making and removing networks.
pub(super) fn lock_all(store: &Store) -> Result<Lock, Error> {
    let place = place(store);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
    made.map_err(Error::io("create", &place))?;
    Ok(Lock::acquire(&place.join("lock"), Mode::Exclusive)?)
}

/// Makes a network.
///
/// # Errors
/// Its name is taken, or its addresses are; or they contradict each other.
pub fn create(store: &Store, new: New) -> Result<Definition, Error> {
    check(&new)?;
    let random = |source| Error::io("draw", Path::new("random numbers"))(source);
    let _lock = lock_all(store)?;
    let others = all(store)?;
    if others.iter().any(|other| other.name == new.name) {
        return Err(BridgeError::Exists(new.name).into());
    }
    let pools = pools(&new, &others)?;
    let definition = Definition {
        version: VERSION,
        id: names::new_id().map_err(random)?,
        name: new.name,
        created: now(),
        internal: new.internal,
        ipv6: new.ipv6,
        labels: new.labels,
        options: new.options,
        pools,
    };
    let path = definition.path(store);
    let text = serde_json::to_vec(&definition).map_err(|source| Error::Json {
        path: path.clone(),
        source,
    })?;
    replace(&place(store), &path, &text, Durability::Durable)?;
    sync_parent(&path)?;
    definition.happened(store.state(), "create");
    Ok(definition)
}

fn check(new: &New) -> Result<(), BridgeError> {
    if PREDEFINED.contains(&new.name.as_str()) {
        return Err(BridgeError::Predefined(new.name.clone()));
    }
    // `container:X` and the like are never a name by this; nor are the words that mean something to `--network`.
    let words = ["default", "private", "container", "pasta", "slirp4netns"];
    // One character is enough, as Docker has it.
    if !names::is_name(&format!("{}-", new.name))
        || new.name.len() > 128
        || words.contains(&new.name.as_str())
    {
        return Err(BridgeError::Name(new.name.clone()));
    }
    let is_known = |(key, value): &(&String, &String)| {
        key.as_str() == MTU && value.parse().is_ok_and(|mtu: u32| (68..=65535).contains(&mtu))
    };
    match new.options.iter().find(|option| !is_known(option)) {
        Some((key, value)) => Err(BridgeError::Option(format!("{key}={value}"))),
        None => Ok(()),
    }
}

/// The subnets: those that were named, or free ones.
fn pools(new: &New, others: &[Definition]) -> Result<Vec<Pool>, Error> {
    let taken: Vec<(Subnet, &str)> = others
        .iter()
        .flat_map(|other| other.pools.iter().map(|pool| (pool.subnet, other.name.as_str())))
        .collect();
    let mut pools = named(new)?;
    for pool in &pools {
        if let Some((_, name)) = taken.iter().find(|(subnet, _)| subnet.overlaps(&pool.subnet)) {
            return Err(BridgeError::Overlap(pool.subnet, (*name).into()).into());
        }
    }
    if !pools.iter().any(|pool| pool.subnet.is_v4()) {
        let routes = Routes::read().map_err(crate::containers::network::NetworkError::from)?;
        let subnets: Vec<Subnet> = taken.iter().map(|(subnet, _)| *subnet).collect();
        pools.insert(0, Pool::free_v4(&routes, &subnets)?);
    }
    if new.ipv6 && !pools.iter().any(|pool| !pool.subnet.is_v4()) {
        let id = names::new_id().map_err(Error::io("draw", Path::new("random numbers")))?;
        let mut random = [0; 7];
        for (to, from) in random.iter_mut().zip(id.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(from).unwrap_or_default();
            *to = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        pools.push(Pool::free_v6(random)?);
    }
    pools.sort_by_key(|pool| !pool.subnet.is_v4());
    Ok(pools)
}

fn named(new: &New) -> Result<Vec<Pool>, BridgeError> {
    let mut pools = Vec::new();
    for subnet in &new.subnets {
        if !subnet.is_v4() && !new.ipv6 {
            return Err(BridgeError::NeedsV6(*subnet));
        }
        let gateway = new.gateways.iter().find(|gateway| subnet.contains(**gateway));
        let range = new.ranges.iter().find(|range| subnet.overlaps(range));
        pools.push(Pool::named(*subnet, gateway.copied(), range.copied())?);
    }
    if let Some(gateway) = new
        .gateways
        .iter()
        .find(|gateway| !pools.iter().any(|pool| pool.gateway == **gateway))
    {
        return Err(match pools.is_empty() {
            true => BridgeError::Unpaired,
            false => BridgeError::Gateway(*gateway),
        });
    }
    if let Some(range) = new
        .ranges
        .iter()
        .find(|range| !pools.iter().any(|pool| pool.range == Some(**range)))
    {
        return Err(match pools.is_empty() {
            true => BridgeError::Unpaired,
            false => BridgeError::Range(*range),
        });
    }
    let of_v4 = pools.iter().filter(|pool| pool.subnet.is_v4()).count();
    match of_v4 > 1 || pools.len() - of_v4 > 1 {
        true => Err(BridgeError::Unpaired),
        false => Ok(pools),
    }
}

pub(super) fn load(path: &Path) -> Result<Option<Definition>, Error> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Error::io("read", path))?,
    };
    let definition: Definition = serde_json::from_slice(&text).map_err(|source| Error::Json {
        path: path.into(),
        source,
    })?;
    match definition.version {
        VERSION => Ok(Some(definition)),
        found => Err(Error::Newer {
            path: path.into(),
            found,
        }),
    }
}

/// All networks of the user's own, by name.
///
/// # Errors
/// They cannot be listed. One that cannot be read is told of and passed over.
pub fn all(store: &Store) -> Result<Vec<Definition>, Error> {
    let mut found = Vec::new();
    for entry in root::list(&place(store))? {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
        if !id.is_some_and(|id| id.len() == 64 && names::is_id_prefix(id)) {
            continue;
        }
        match load(&entry.path()) {
            Ok(definition) => found.extend(definition),
            Err(error @ (Error::Json { .. } | Error::Newer { .. })) => {
                let why = crate::line::chain(&error);
                tracing::warn!("network {} is passed over: {why}", name.display());
            }
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a: &Definition, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The network that `text` names: a name, an id, or the beginning of one.
///
/// # Errors
/// There is none, or there are several.
pub fn find(store: &Store, text: &str) -> Result<Definition, Error> {
    let mut networks = all(store)?;
    if let Some(at) = networks.iter().position(|one| one.name == text || one.id == text) {
        return Ok(networks.swap_remove(at));
    }
    networks.retain(|one| !text.is_empty() && one.id.starts_with(text));
    match networks.len() {
        0 => Err(BridgeError::NotFound(text.into()).into()),
        1 => Ok(networks.swap_remove(0)),
        _ => Err(BridgeError::Ambiguous(text.into()).into()),
    }
}

/// The network of this very name, as records have it: what was removed must not be another's id by chance.
///
/// # Errors
/// There is none.
pub fn find_named(store: &Store, name: &str) -> Result<Definition, Error> {
    let found = all(store)?.into_iter().find(|one| one.name == name);
    found.ok_or_else(|| BridgeError::NotFound(name.into()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, subnets: &[&str]) -> New {
        New {
            name: name.into(),
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            ..New::default()
        }
    }

    #[test]
    fn a_network_has_one_name_and_addresses_of_its_own() {
        let (_dir, store) = crate::store::scratch();
        let one = create(&store, new("one", &["10.9.0.0/24"])).unwrap();
        let refused = |new| create(&store, new).unwrap_err().to_string();
        assert!(refused(new("one", &["10.8.0.0/24"])).contains("already exists"));
        assert!(refused(new("two", &["10.0.0.0/8"])).contains("Pool overlaps"));
        assert!(refused(new("host", &[])).contains("predefined host network"));
        for name in ["", "a/b", "-a", "container", "container:x", "a b", "default"] {
            assert!(refused(new(name, &[])).contains("invalid network name"), "{name}");
        }
        assert!(refused(new("six", &["fd00::/64"])).contains("needs --ipv6"));
        assert_eq!(find(&store, "one").unwrap(), one);
        assert_eq!(find(&store, &one.id[..6]).unwrap(), one);
        assert!(find(&store, "two").is_err() && find(&store, "").is_err());
        assert_eq!(find_named(&store, "one").unwrap(), one);
        assert!(find_named(&store, &one.id[..6]).is_err());
    }

    #[test]
    fn a_lock_that_is_held_is_not_waited_for_for_ever_nor_that_of_a_network_that_is_gone() {
        let (_dir, store) = crate::store::scratch();
        let one = create(&store, new("one", &["10.9.0.0/24"])).unwrap();
        let held = one.lock(&store).unwrap();
        let refused = |patience| one.lock_within(&store, patience).unwrap_err().to_string();
        assert!(refused(Duration::from_millis(20)).contains("network one is busy"));
        drop(held);
        drop(one.lock(&store).unwrap());
        super::super::remove(&store, "one").unwrap();
        assert!(refused(PATIENCE).contains("network one not found"));
        assert!(!Member::directory(store.run(), &one.id).exists());
    }

    #[test]
    fn both_families_can_be_named() {
        let both = New {
            ipv6: true,
            gateways: vec!["fd00::9".parse().unwrap(), "10.9.0.9".parse().unwrap()],
            ..new("both", &["fd00::/64", "10.9.0.0/24"])
        };
        let (_dir, store) = crate::store::scratch();
        let made = create(&store, both.clone()).unwrap();
        let gateways: Vec<String> = made.pools.iter().map(|pool| pool.gateway.to_string()).collect();
        assert_eq!(gateways, ["10.9.0.9", "fd00::9"]);
        let far = New {
            gateways: vec!["10.7.0.9".parse().unwrap()],
            name: "far".into(),
            subnets: vec!["10.6.0.0/24".parse().unwrap()],
            ..New::default()
        };
        assert!(matches!(named(&far), Err(BridgeError::Gateway(_))));
        let alone = New {
            subnets: Vec::new(),
            ..far
        };
        assert!(matches!(named(&alone), Err(BridgeError::Unpaired)));
    }
}
