//! A network of the test's own with a host and a container: two network namespaces, between which `bryo::net` carries packets.
#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bryo::net::{Addresses, NetError, Network, Port, Protocol, Resolvers, Routes, listen, set_up};
use nix::sched::{CloneFlags, setns, unshare};

use super::common::Done;
use super::common::sandbox::in_own_namespaces;

/// The host's address towards the world, which ends at its cable.
pub const HOST: &str = "10.77.0.1";
pub const HOST_V6: &str = "2001:db8:77::1";
/// Ours, as the container knows us.
pub const GATEWAY: &str = "10.0.2.2";
pub const DNS: &str = "10.0.2.3";

/// A network namespace with `bryo::net` as its way out.
#[derive(Clone)]
pub struct Container {
    namespace: Arc<File>,
    pub ports: Vec<SocketAddr>,
}

/// The end of a network: how it is ordered, and what came of it.
pub struct End {
    pub orders: UnixStream,
    pub serving: JoinHandle<Result<(), NetError>>,
}

/// Runs `body` as root on a host without a container. `test` is the calling test's name.
#[track_caller]
pub fn on_a_host(test: &str, body: impl FnOnce()) {
    in_own_namespaces(test, || {
        // What is sent to the world stays in the cable.
        shell(&format!(
            "ip link set lo up
             ip link add cable type veth peer name end
             echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/cable/accept_dad
             ip link set cable up; ip link set end up
             ip address add {HOST}/24 dev cable; ip -6 address add {HOST_V6}/64 dev cable nodad
             ip route add default via 10.77.0.254; ip -6 route add default via 2001:db8:77::fe dev cable
             echo '0 0' > /proc/sys/net/ipv4/ping_group_range"
        ));
        body();
    });
}

/// Runs commands of a shell, as the calling thread's namespaces have it.
#[track_caller]
pub fn shell(script: &str) -> String {
    let done = Done::of(Command::new("sh").args(["-ec", script]));
    assert!(done.status.success(), "{done}");
    done.stdout
}

/// A published port of the host's: the test's own number, since the network is its own.
pub fn port(protocol: Protocol, host: &str, container: u16) -> Port {
    Port {
        protocol,
        host: host.parse().unwrap(),
        container,
    }
}

impl Container {
    /// Starts one, with the host's routes.
    pub fn start(ports: &[Port]) -> Container {
        Container::with_resolvers(ports, "")
    }

    pub fn with_resolvers(ports: &[Port], resolv_conf: &str) -> Container {
        let (container, End { orders, serving }) = Container::with_end(ports, resolv_conf);
        thread::spawn(move || {
            let ended = serving.join().unwrap();
            drop(orders);
            eprintln!("the network ended: {ended:?}");
            std::process::abort();
        });
        container
    }

    /// One whose network may end.
    pub fn with_end(ports: &[Port], resolv_conf: &str) -> (Container, End) {
        let listeners: Vec<_> = ports.iter().map(|port| listen(port).unwrap()).collect();
        let ports = listeners.iter().map(|listener| listener.port().host).collect();
        let addresses = Addresses::choose(&Routes::read().unwrap()).unwrap();
        let made = thread::spawn(move || -> (OwnedFd, File) {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let tun = set_up(&addresses).unwrap();
            (tun, File::open("/proc/thread-self/ns/net").unwrap())
        });
        let (tun, namespace) = made.join().unwrap();
        let (orders, theirs) = UnixStream::pair().unwrap();
        let network = Network {
            tun,
            addresses,
            listeners,
            resolvers: Resolvers::parse(resolv_conf),
            orders: theirs.into(),
        };
        let serving = thread::spawn(move || network.serve());
        let container = Container {
            namespace: Arc::new(namespace),
            ports,
        };
        (container, End { orders, serving })
    }

    /// Runs `body` inside, in a thread of its own.
    pub fn spawn<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = Arc::clone(&self.namespace);
        thread::spawn(move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        })
    }

    /// Runs `body` inside, and waits for it.
    #[track_caller]
    pub fn inside<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(body).join().unwrap()
    }
}
