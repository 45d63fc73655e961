//! How does a network namespace get its way out? By a TUN device, whose descriptor goes to whoever carries the packets.

use std::fs;
use std::io;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use super::{Addresses, NetError};
use crate::sys::net::{Interface, make_tun, open_tun};

/// The device's name, as programs in containers expect it.
const NAME: &str = "eth0";
/// The largest packet: what IPv4's 16 bits of length allow, so that no datagram of IPv4 needs fragments.
pub(super) const MTU: u16 = 65535;

/// Sets up the network namespace that the process is in: loopback, the device, addresses, routes. Wants CAP_NET_ADMIN
/// there, /dev/net/tun, and /proc.
///
/// # Errors
/// Names the step that failed.
pub fn set_up(addresses: &Addresses) -> Result<OwnedFd, NetError> {
    set_up_as(addresses, NAME)
}

/// The same, with another name for the device.
///
/// # Errors
/// As for [`set_up`].
pub fn set_up_as(addresses: &Addresses, name: &str) -> Result<OwnedFd, NetError> {
    let step = |what| move |error| NetError::SetUp { what, error };
    Interface::named("lo")
        .and_then(|lo| lo.up())
        .map_err(step("the loopback device"))?;
    let device = open_tun().map_err(NetError::Tun)?;
    make_tun(&device, name).map_err(NetError::MakeTun)?;
    // Before it is up, so that no address of the kernel's own choice appears.
    sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
    sysctl(&format!("net/ipv6/conf/{name}/addr_gen_mode"), "1");
    sysctl(
        &format!("net/ipv6/conf/{name}/disable_ipv6"),
        if addresses.v6.is_some() { "0" } else { "1" },
    );
    let eth0 = Interface::named(name).map_err(step("eth0"))?;
    eth0.set_mtu(MTU).map_err(step("eth0's MTU"))?;
    eth0.add_v4(addresses.v4.address, addresses.v4.prefix)
        .map_err(step("eth0's address"))?;
    eth0.up().map_err(step("eth0"))?;
    eth0.default_v4(addresses.v4.gateway)
        .map_err(step("the default route"))?;
    if let Some(v6) = addresses.v6 {
        eth0.add_v6(v6.address, v6.prefix)
            .map_err(step("eth0's IPv6 address"))?;
        eth0.default_v6(v6.gateway)
            .map_err(step("the default route of IPv6"))?;
        wait_for(v6.address);
    }
    sysctl("net/ipv4/ip_unprivileged_port_start", "0");
    allow_ping();
    Ok(device)
}

/// Waits until an address can be used: the kernel does the last of it in another thread, and until then programs would
/// send from no address.
fn wait_for(address: Ipv6Addr) {
    // Microseconds as a rule; what takes longer is not worth a start that fails.
    for _ in 0..1000 {
        match UdpSocket::bind((address, 0)) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                sleep(Duration::from_micros(200))
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Lets every group that the user namespace has open ping sockets, as far as the kernel takes it.
fn allow_ping() {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    let last = last_id(&map).unwrap_or(0);
    sysctl("net/ipv4/ping_group_range", &format!("0 {last}"));
}

/// The highest id of a map (user_namespaces(7)); the kernel's file takes ids below 2³¹ only.
fn last_id(map: &str) -> Option<u32> {
    let last = |line: &str| {
        let mut fields = line.split_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        let last = first.parse::<u64>().ok()? + count.parse::<u64>().ok()?.checked_sub(1)?;
        u32::try_from(last.min(i32::MAX as u64)).ok()
    };
    map.lines().filter_map(last).max()
}

/// Sets a value of the namespace. One that cannot be set costs a comfort, not the network.
pub(super) fn sysctl(name: &str, value: &str) {
    match fs::write(format!("/proc/sys/{name}"), value) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(name, value, %error, "not set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_of_a_map_is_found() {
        assert_eq!(
            last_id("         0       1001          1\n         1    1000000      65536\n"),
            Some(65536)
        );
        assert_eq!(last_id("0 1001 1"), Some(0));
        assert_eq!(last_id("0 0 4294967295"), Some(i32::MAX as u32));
        assert_eq!(last_id("rubbish"), None);
    }
}
