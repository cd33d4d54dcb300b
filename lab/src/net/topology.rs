//! The lab's network: hosts on a switch, a router, one emulated line, a server.
//!
//! ```text
//! shop ──┐
//! neighbour ─┼─ lan (bridge) ── lan0 [router] wan0 ── near [line] far ── eth0 [server]
//! late ──┘
//! ```

use crate::error::{Error, Result};
use crate::net::namespace::Namespace;
use crate::net::offload;
use crate::net::rtnl::Rtnl;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tollway_netlink::link::{End, Mac};

pub const SERVER: &str = "server";
pub const LAN_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
pub const WAN_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 2);
pub const LAN_PREFIX: u8 = 24;
const WAN_PREFIX: u8 = 24;

const WAN_MAC: Mac = [0x02, 0x70, 0, 0, 1, 1];
const SERVER_MAC: Mac = [0x02, 0x70, 0, 0, 1, 2];

/// A machine of the lab.
#[derive(Clone)]
pub struct Host {
    pub ns: Namespace,
    pub address: Ipv4Addr,
}

/// Everything that was built; dropping it drops the network.
pub struct Topology {
    hosts: BTreeMap<String, Host>,
    pub router: Namespace,
    pub line: Namespace,
    _lan: Namespace,
}

impl Topology {
    /// Builds namespaces and links, brings all of it up.
    pub fn build(hosts: &[(String, Ipv4Addr)]) -> Result<Topology> {
        let lan = Namespace::new("lan")?;
        let router = Namespace::new("router")?;
        let line = Namespace::new("line")?;
        let server = Namespace::new(SERVER)?;
        for ns in [&lan, &router, &line, &server] {
            settle(ns)?;
        }
        router.sysctl("net/ipv4/ip_forward", "1")?;
        inside(&lan, |rtnl| {
            rtnl.bridge("br0")?;
            rtnl.set_up("br0", true)
        })?;
        connect(&lan, "uplink", mac(2, 1), &router, "lan0", mac(2, 2))?;
        join_bridge(&lan, "uplink")?;
        connect(&router, "wan0", WAN_MAC, &line, "near", mac(3, 1))?;
        connect(&line, "far", mac(3, 2), &server, "eth0", SERVER_MAC)?;
        bring_up_router(&router)?;
        inside(&line, |rtnl| {
            rtnl.set_up("near", true)?;
            rtnl.set_up("far", true)
        })?;
        inside(&server, |rtnl| {
            rtnl.address("eth0", SERVER_ADDRESS, WAN_PREFIX)?;
            rtnl.set_up("eth0", true)?;
            rtnl.neighbour("eth0", WAN_GATEWAY, WAN_MAC)?;
            rtnl.default_route(WAN_GATEWAY)
        })?;
        let mut made = BTreeMap::new();
        for (index, (name, address)) in hosts.iter().enumerate() {
            made.insert(name.clone(), add_host(&lan, name, *address, index)?);
        }
        made.insert(SERVER.to_owned(), Host { ns: server, address: SERVER_ADDRESS });
        Ok(Topology { hosts: made, router, line, _lan: lan })
    }

    /// A host that the plan has checked to exist.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).ok_or_else(|| Error::Thread(format!("no host named {name}")))
    }

    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Host)> {
        self.hosts.iter().map(|(name, host)| (name.as_str(), host))
    }

    pub fn server(&self) -> Result<&Host> {
        self.host(SERVER)
    }

    /// Takes a router port down, or up again with the neighbour that going down forgot.
    pub fn set_port(&self, port: &str, up: bool) -> Result<()> {
        let port = port.to_owned();
        inside(&self.router, move |rtnl| {
            rtnl.set_up(&port, up)?;
            if up && port == "wan0" {
                rtnl.neighbour("wan0", SERVER_ADDRESS, SERVER_MAC)?;
            }
            Ok(())
        })
    }

    /// Class ids that the kernel has on a router port.
    pub fn class_ids(&self, port: &str) -> Result<Vec<u32>> {
        let port = port.to_owned();
        inside(&self.router, move |rtnl| {
            Ok(rtnl.classes(&port)?.into_iter().map(|class| class.handle).collect())
        })
    }
}

fn mac(group: u8, member: u8) -> Mac {
    [0x02, 0x70, 0, 0, group, member]
}

/// Runs netlink work in a namespace.
fn inside<T: Send + 'static>(
    ns: &Namespace,
    work: impl FnOnce(&mut Rtnl) -> Result<T> + Send + 'static,
) -> Result<T> {
    ns.call(move || work(&mut Rtnl::open()?))?
}

/// A new namespace's defaults: loopback up, no IPv6 chatter on the counters, nothing remembered from one
/// connection to the next.
fn settle(ns: &Namespace) -> Result<()> {
    inside(ns, |rtnl| rtnl.set_up("lo", true))?;
    ns.sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
    // A kernel without IPv6 has no such file, and nothing to switch off.
    let _ = ns.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    let _ = ns.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    Ok(())
}

/// A veth pair between two namespaces, offloads off at both ends.
fn connect(
    near: &Namespace,
    near_name: &'static str,
    near_mac: Mac,
    far: &Namespace,
    far_name: &'static str,
    far_mac: Mac,
) -> Result<()> {
    connect_named(near, near_name.into(), near_mac, far, far_name.into(), far_mac)
}

fn connect_named(
    near: &Namespace,
    near_name: String,
    near_mac: Mac,
    far: &Namespace,
    far_name: String,
    far_mac: Mac,
) -> Result<()> {
    let (far_fd, name, peer) = (far.fd(), near_name.clone(), far_name.clone());
    inside(near, move |rtnl| {
        rtnl.veth(
            &End { name: &name, mac: near_mac, netns_fd: None },
            &End { name: &peer, mac: far_mac, netns_fd: Some(far_fd) },
        )
    })?;
    for (ns, name) in [(near, near_name), (far, far_name)] {
        let doing = format!("switching offloads off on {name}");
        ns.call(move || offload::off(&name))?.map_err(Error::io(doing))?;
    }
    Ok(())
}

fn join_bridge(lan: &Namespace, port: &str) -> Result<()> {
    let port = port.to_owned();
    inside(lan, move |rtnl| {
        rtnl.set_master(&port, "br0")?;
        rtnl.set_up(&port, true)
    })
}

fn bring_up_router(router: &Namespace) -> Result<()> {
    inside(router, |rtnl| {
        rtnl.address("lan0", LAN_GATEWAY, LAN_PREFIX)?;
        rtnl.set_up("lan0", true)?;
        rtnl.address("wan0", WAN_GATEWAY, WAN_PREFIX)?;
        rtnl.set_up("wan0", true)?;
        rtnl.neighbour("wan0", SERVER_ADDRESS, SERVER_MAC)
    })
}

fn add_host(lan: &Namespace, name: &str, address: Ipv4Addr, index: usize) -> Result<Host> {
    let ns = Namespace::new(name)?;
    settle(&ns)?;
    let member = u8::try_from(index).unwrap_or(u8::MAX);
    let port = format!("port{index}");
    connect_named(lan, port.clone(), mac(4, member), &ns, "eth0".into(), mac(5, member))?;
    join_bridge(lan, &port)?;
    inside(&ns, move |rtnl| {
        rtnl.address("eth0", address, LAN_PREFIX)?;
        rtnl.set_up("eth0", true)?;
        rtnl.default_route(LAN_GATEWAY)
    })?;
    Ok(Host { ns, address })
}
