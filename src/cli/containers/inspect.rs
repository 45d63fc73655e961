//! `inspect`: everything about a container, in Docker's shape.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Map, Value, json};

use super::ps::state;
use crate::containers::changes;
use crate::containers::log::Driver;
use crate::containers::record::{self, Base, Life, Record, Settings};
use crate::containers::storage::Storage;
use crate::containers::upkeep::STOP_TIMEOUT;
use crate::containers::volume::{Kind, Mounted};
use crate::containers::{Error, health};
use crate::store::Store;

mod absent;
mod limits;
mod network;

/// Docker's way to write that it never happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The container's JSON; `None` if there is no such container.
pub(in crate::cli) fn found(store: &Store, name: &str, sized: bool) -> Result<Option<Value>, Error> {
    let mut object = match object(store, name) {
        Err(Error::NoSuchContainer(_)) => return Ok(None),
        other => other?,
    };
    if sized
        && let Some(record) = record::read(store, &record::find(store, name)?)?
        && let Value::Object(fields) = &mut object
    {
        let sizes = changes::sizes(store, &record)?;
        fields.insert("SizeRw".into(), sizes.changed.into());
        fields.insert("SizeRootFs".into(), sizes.whole.into());
    }
    Ok(Some(object))
}

fn object(store: &Store, name: &str) -> Result<Value, Error> {
    let record = record::of_name(store, name)?;
    let directory = store.container(&record.id);
    let spec = record::read_spec(&directory)?;
    let process = spec.process().as_ref();
    let args: Vec<String> = process.and_then(|p| p.args().clone()).unwrap_or_default();
    let file = |name: &str| directory.join(name).display().to_string();
    Ok(json!({
        "Id": record.id,
        "Created": record.created,
        "Path": args.first(),
        "Args": args.get(1..).unwrap_or_default(),
        "State": life(store, &record),
        "Image": record.base.image().map(ToString::to_string).unwrap_or_default(),
        "Rootfs": match &record.base {
            Base::Rootfs(directory) => directory.to_string_lossy(),
            Base::Image(_) => "".into(),
        },
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": match record.settings.log.driver {
            Driver::File => file("log"),
            Driver::None => String::new(),
        },
        "Name": format!("/{}", record.name),
        "RestartCount": record.restarts,
        "Driver": "fuse-overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        // A command of `exec` has no id here.
        "ExecIDs": [],
        "HostConfig": host_config(&record, &spec),
        "GraphDriver": {"Name": "fuse-overlay", "Data": {"UpperDir": file("upper")}},
        "Mounts": mounts(&record),
        "Config": config(&record, &spec),
        "NetworkSettings": network::settings(&record),
    }))
}

fn life(store: &Store, record: &Record) -> Value {
    let (mut pid, mut server, mut code, mut error) = (0, 0, 0, "");
    let (mut started_at, mut finished_at) = (NEVER, NEVER);
    match &record.life {
        Life::Created => {}
        Life::Running {
            init,
            server: process,
            started,
            ..
        } => {
            (pid, server, started_at) = (init.pid, process.pid, started.as_str());
        }
        Life::Restarting {
            code: exit,
            started,
            finished,
            ..
        } => {
            (code, started_at, finished_at) = (*exit, started, finished);
        }
        Life::Exited {
            code: exit,
            error: why,
            started,
            finished,
        } => {
            (code, error) = (*exit, why.as_str());
            if !started.is_empty() {
                (started_at, finished_at) = (started, finished);
            }
        }
    }
    let restarting = matches!(record.life, Life::Restarting { .. });
    let mut life = json!({
        "Status": state(record),
        // Docker's: whoever wants it to run is not disappointed yet.
        "Running": record.life.supervisor().is_some(),
        "Paused": record.paused,
        "Restarting": restarting,
        "OOMKilled": record.out_of_memory,
        "Dead": false,
        "Pid": pid,
        "FilesystemPid": server,
        "FilesystemTakeovers": {
            "Servers": record.takeovers.servers,
            "Busy": record.takeovers.busy,
            "InHand": record.takeovers.in_hand,
            "Happened": record.takeovers.happened,
        },
        "NetworkPid": record.network.process.map_or(0, |process| process.pid),
        "NetworkRestarts": record.network.restarts,
        "ExitCode": code,
        "Error": error,
        "StartedAt": started_at,
        "FinishedAt": finished_at,
    });
    // Docker leaves it out where nothing is asked.
    if let Some(health) = health::found(store, record) {
        life["Health"] = json!({
            "Status": health.status,
            "FailingStreak": health.failing_streak,
            "Log": health.log,
        });
    }
    life
}

fn config(record: &Record, spec: &Spec) -> Value {
    let settings = &record.settings;
    let process = spec.process().as_ref();
    let terminal = process
        .and_then(oci_spec::runtime::Process::terminal)
        .unwrap_or(false);
    let [stdin, stdout, stderr] = settings
        .asked
        .attached
        .unwrap_or([settings.open_stdin, true, true]);
    let mut config = json!({
        "Hostname": settings.hostname,
        "Domainname": settings.asked.domain,
        "User": settings.user,
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        "Tty": terminal,
        "OpenStdin": settings.open_stdin,
        "StdinOnce": settings.open_stdin && stdin,
        "ExposedPorts": network::exposed(record),
        "Env": process.and_then(|p| p.env().clone()).unwrap_or_default(),
        "Cmd": settings.command,
        "Image": record.image_name,
        "Volumes": volumes(record),
        "WorkingDir": process.map(|p| p.cwd().display().to_string()),
        "Entrypoint": settings.entrypoint,
        "Labels": settings.labels,
        "StopSignal": settings.stop_signal,
        "StopTimeout": settings.upkeep.stop_timeout.unwrap_or(STOP_TIMEOUT),
        "OnBuild": null,
    });
    if let Some(check) = &settings.upkeep.health {
        config["Healthcheck"] = json!(check);
    }
    config
}

/// The places of volumes that nobody named.
fn volumes(record: &Record) -> Value {
    let own = |mount: &&Mounted| mount.kind == Kind::Volume && mount.anonymous && mount.spec.is_none();
    let places = record.settings.mounts.iter().filter(own);
    let places: Map<_, _> = places.map(|mount| (mount.target.clone(), json!({}))).collect();
    if places.is_empty() {
        Value::Null
    } else {
        places.into()
    }
}

fn host_config(record: &Record, spec: &Spec) -> Value {
    let settings = &record.settings;
    let (added, dropped) = &settings.capabilities;
    let read_only = spec
        .root()
        .as_ref()
        .and_then(|root| root.readonly())
        .unwrap_or(false);
    let linux = spec.linux().as_ref();
    let mut config = json!({
        "Binds": list(settings.binds.iter().map(String::as_str)),
        "ContainerIDFile": settings.asked.id_file,
        "VolumesFrom": list(settings.volumes_from.iter().map(String::as_str)),
        "Mounts": list(settings.mounts.iter().filter_map(|mount| mount.spec.clone())),
        "NetworkMode": settings.network,
        "PortBindings": network::bindings(record),
        "PublishAllPorts": settings.ports.publish_all,
        "Dns": settings.ports.names.servers,
        "DnsOptions": settings.ports.names.options,
        "DnsSearch": settings.ports.names.search,
        "ExtraHosts": network::extra_hosts(record),
        "AutoRemove": record.afterwards != record::Afterwards::Keep,
        "RestartPolicy": {
            "Name": settings.upkeep.restart.name(),
            "MaximumRetryCount": settings.upkeep.restart.most(),
        },
        "CapAdd": added,
        "CapDrop": dropped,
        "Privileged": settings.privileged,
        "ReadonlyRootfs": read_only,
        "SecurityOpt": settings.security_opts,
        "GroupAdd": list(settings.asked.groups.iter().map(String::as_str)),
        "Devices": devices(record),
        "Tmpfs": settings.asked.tmpfs(),
        "Sysctls": settings.asked.sysctls,
        "Annotations": settings.asked.annotations,
        "Runtime": "bryo",
        "CgroupnsMode": or(&settings.asked.cgroupns, "private"),
        "IpcMode": or(&settings.asked.ipc, "private"),
        "PidMode": settings.asked.pid,
        "UTSMode": settings.asked.uts,
        "UsernsMode": settings.asked.userns,
        "ShmSize": shm_size(spec),
        "Ulimits": ulimits(spec),
        "Init": settings.init,
        "StorageOpt": storage_opt(settings.storage),
        "LogConfig": {"Type": or(&settings.asked.log_driver, settings.log.name()), "Config": log_opt(settings)},
        "MaskedPaths": linux.and_then(|l| l.masked_paths().clone()),
        "ReadonlyPaths": linux.and_then(|l| l.readonly_paths().clone()),
    });
    if let Value::Object(config) = &mut config {
        config.extend(absent::host_config());
        config.extend(limits::fields(record, spec));
    }
    config
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn devices(record: &Record) -> Value {
    list(record.settings.asked.devices().map(|[host, place, permissions]| {
        json!({"PathOnHost": host, "PathInContainer": place, "CgroupPermissions": permissions})
    }))
}

/// What its /dev/shm may hold, as its mount says.
fn shm_size(spec: &Spec) -> u64 {
    let mounts = spec.mounts().iter().flatten();
    let shm = mounts.filter(|mount| mount.destination() == Path::new("/dev/shm"));
    let mut options = shm.filter_map(|mount| mount.options().as_ref()).flatten();
    let size = options.find_map(|option| option.strip_prefix("size=")?.parse().ok());
    size.unwrap_or(0)
}

/// `--ulimit`.
fn ulimits(spec: &Spec) -> Value {
    let limits = spec
        .process()
        .as_ref()
        .and_then(|process| process.rlimits().as_ref());
    list(limits.into_iter().flatten().map(|limit| {
        let name = limit.typ().to_string().to_lowercase();
        json!({"Name": name.trim_start_matches("rlimit_"), "Hard": limit.hard(), "Soft": limit.soft()})
    }))
}

fn log_opt(settings: &Settings) -> BTreeMap<&str, String> {
    let log = settings.log;
    let size = log.max_size.map(|size| ("max-size", size.to_string()));
    let count = log.max_size.map(|_| ("max-file", log.max_file.to_string()));
    let more = settings.asked.log_options.iter();
    let more = more.map(|(key, value)| (key.as_str(), value.clone()));
    size.into_iter().chain(count).chain(more).collect()
}

/// As Docker has it: text by name, null if nothing is limited.
fn storage_opt(storage: Storage) -> Option<BTreeMap<&'static str, String>> {
    let limits = [("size", storage.size), ("inodes", storage.inodes)];
    let set = limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name, limit?.to_string())));
    let set: BTreeMap<_, _> = set.collect();
    (!set.is_empty()).then_some(set)
}

fn mounts(record: &Record) -> Vec<Value> {
    let shown = |mount: &Mounted| {
        let mut shown = Map::new();
        shown.insert("Type".into(), mount.type_name().into());
        if mount.kind == Kind::Volume {
            shown.insert("Name".into(), mount.name.as_str().into());
        }
        shown.insert("Source".into(), mount.source.to_string_lossy().into());
        shown.insert("Destination".into(), mount.target.as_str().into());
        if mount.kind == Kind::Volume {
            shown.insert("Driver".into(), "local".into());
        }
        shown.insert("Mode".into(), mount.mode.as_str().into());
        shown.insert("RW".into(), mount.is_writable().into());
        shown.insert("Propagation".into(), mount.propagation().into());
        shown.into()
    };
    record.settings.mounts.iter().map(shown).collect()
}

/// Docker's way with lists: null if there is nothing.
fn list<T: Into<Value>>(items: impl Iterator<Item = T>) -> Value {
    let items: Vec<Value> = items.map(Into::into).collect();
    if items.is_empty() {
        Value::Null
    } else {
        items.into()
    }
}
