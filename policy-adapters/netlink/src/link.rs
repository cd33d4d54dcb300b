//! Links, addresses, routes and neighbours (rtnetlink): what a lab needs to build its topology. Encodes
//! requests and decodes answers; the sockets are elsewhere. Numbers from `linux/rtnetlink.h`,
//! `linux/if_link.h` and `linux/if_addr.h`.

use crate::wire::{self, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Writer};
use std::net::Ipv4Addr;

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_GETLINK: u16 = 18;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_NEWNEIGH: u16 = 28;
pub const RTM_NEWQDISC: u16 = 36;
pub const RTM_NEWTCLASS: u16 = 40;
pub const RTM_GETTCLASS: u16 = 42;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_NETEM_LATENCY64: u16 = 10;
const TC_ROOT: u32 = u32::MAX;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

const IFINFOMSG_LEN: usize = 16;
const TCMSG_LEN: usize = 20;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub name: &'a str,
    pub mac: Mac,
    /// A descriptor of the namespace it is born in; `None` is the socket's own.
    pub netns_fd: Option<i32>,
}

/// What a dump says about one link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub index: i32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
}

/// One traffic class of a dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class {
    pub ifindex: i32,
    pub handle: u32,
    pub kind: String,
}

fn ifinfo(index: i32, flags: u32, change: u32) -> [u8; IFINFOMSG_LEN] {
    let mut bytes = [0u8; IFINFOMSG_LEN];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn write_end(writer: &mut Writer, end: &End<'_>) {
    writer.attr_str(IFLA_IFNAME, end.name);
    writer.attr(IFLA_ADDRESS, &end.mac);
    if let Some(fd) = end.netns_fd {
        writer.attr_u32(IFLA_NET_NS_FD, fd.cast_unsigned());
    }
}

/// Makes a veth pair, each end in its namespace.
pub fn new_veth(seq: u32, near: &End<'_>, far: &End<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, seq);
    w.fixed(&ifinfo(0, 0, 0));
    write_end(&mut w, near);
    let info = w.open(IFLA_LINKINFO);
    w.attr_str(IFLA_INFO_KIND, "veth");
    let data = w.open(IFLA_INFO_DATA);
    let peer = w.open(VETH_INFO_PEER);
    w.fixed(&ifinfo(0, 0, 0));
    write_end(&mut w, far);
    w.close(peer);
    w.close(data);
    w.close(info);
    w.end();
    w.into_bytes()
}

/// Makes a bridge.
pub fn new_bridge(seq: u32, name: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, seq);
    w.fixed(&ifinfo(0, 0, 0));
    w.attr_str(IFLA_IFNAME, name);
    let info = w.open(IFLA_LINKINFO);
    w.attr_str(IFLA_INFO_KIND, "bridge");
    w.close(info);
    w.end();
    w.into_bytes()
}

fn set_link(seq: u32, index: i32, flags: u32, change: u32, attrs: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWLINK, NLM_F_ACK, seq);
    w.fixed(&ifinfo(index, flags, change));
    attrs(&mut w);
    w.end();
    w.into_bytes()
}

/// Takes a link up or down.
pub fn set_up(seq: u32, index: i32, up: bool) -> Vec<u8> {
    set_link(seq, index, if up { IFF_UP } else { 0 }, IFF_UP, |_| {})
}

/// Makes a link a port of a bridge.
pub fn set_master(seq: u32, index: i32, master: i32) -> Vec<u8> {
    set_link(seq, index, 0, 0, |w| w.attr_u32(IFLA_MASTER, master.cast_unsigned()))
}

/// Gives a link another name; it must be down.
pub fn rename(seq: u32, index: i32, name: &str) -> Vec<u8> {
    set_link(seq, index, 0, 0, |w| w.attr_str(IFLA_IFNAME, name))
}

/// Adds an address with its connected route.
pub fn add_address(seq: u32, index: i32, address: Ipv4Addr, prefix: u8) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, seq);
    let mut fixed = [AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    w.fixed(&fixed);
    w.attr(IFA_LOCAL, &address.octets());
    w.attr(IFA_ADDRESS, &address.octets());
    w.end();
    w.into_bytes()
}

/// Adds a route by a gateway; prefix 0 is the default route.
pub fn add_route(seq: u32, network: Ipv4Addr, prefix: u8, gateway: Ipv4Addr) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, seq);
    w.fixed(&[
        AF_INET,
        prefix,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ]);
    if prefix > 0 {
        w.attr(RTA_DST, &network.octets());
    }
    w.attr(RTA_GATEWAY, &gateway.octets());
    w.end();
    w.into_bytes()
}

/// Adds or replaces a neighbour that needs no ARP.
pub fn set_neighbour(seq: u32, index: i32, address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, seq);
    let mut fixed = [0u8; 12];
    fixed[0] = AF_INET;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    w.fixed(&fixed);
    w.attr(NDA_DST, &address.octets());
    w.attr(NDA_LLADDR, &mac);
    w.end();
    w.into_bytes()
}

/// Asks for one link by name.
pub fn get_link(seq: u32, name: &str) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_GETLINK, 0, seq);
    w.fixed(&ifinfo(0, 0, 0));
    w.attr_str(IFLA_IFNAME, name);
    w.end();
    w.into_bytes()
}

/// Asks for every class of a link.
pub fn dump_classes(seq: u32, index: i32) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_GETTCLASS, NLM_F_DUMP, seq);
    let mut fixed = [0u8; TCMSG_LEN];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    w.fixed(&fixed);
    w.end();
    w.into_bytes()
}

/// Puts a netem with a fixed delay at the root of a link. `limit_packets` counts packets in flight too: it
/// must be above the delay times the packet rate, or the delay becomes a buffer limit.
pub fn new_netem(seq: u32, index: i32, delay_ns: u64, limit_packets: u32) -> Vec<u8> {
    let mut w = Writer::new();
    w.begin(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, seq);
    let mut fixed = [0u8; TCMSG_LEN];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[12..16].copy_from_slice(&TC_ROOT.to_ne_bytes());
    w.fixed(&fixed);
    w.attr_str(TCA_KIND, "netem");
    let options = w.open(TCA_OPTIONS);
    // struct tc_netem_qopt: latency (ticks; the 64-bit attribute below counts), limit, loss, gap, duplicate,
    // jitter.
    let qopt: Vec<u8> = [0, limit_packets, 0, 0, 0, 0].iter().flat_map(|v: &u32| v.to_ne_bytes()).collect();
    w.fixed(&qopt);
    w.attr_u64(TCA_NETEM_LATENCY64, delay_ns);
    w.close(options);
    w.end();
    w.into_bytes()
}

/// Reads an `RTM_NEWLINK` payload.
pub fn read_link(payload: &[u8]) -> Option<Link> {
    let index = i32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?);
    let attrs = payload.get(IFINFOMSG_LEN..)?;
    let name = wire::attribute(attrs, IFLA_IFNAME).and_then(wire::get_str)?.to_owned();
    let mtu = wire::attribute(attrs, IFLA_MTU).and_then(wire::get_u32).unwrap_or(0);
    Some(Link { index, name, up: flags & IFF_UP != 0, mtu })
}

/// Reads an `RTM_NEWTCLASS` payload.
pub fn read_class(payload: &[u8]) -> Option<Class> {
    let ifindex = i32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let handle = u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?);
    let attrs = payload.get(TCMSG_LEN..)?;
    let kind = wire::attribute(attrs, TCA_KIND).and_then(wire::get_str)?.to_owned();
    Some(Class { ifindex, handle, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> wire::Message<'_> {
        let mut all = wire::messages(bytes);
        let first = all.next().expect("a message");
        assert!(all.next().is_none(), "one message only");
        first
    }

    #[test]
    fn a_veth_request_names_both_ends_and_their_namespaces() {
        let near = End { name: "lan0", mac: [2, 0, 0, 0, 0, 1], netns_fd: None };
        let far = End { name: "up", mac: [2, 0, 0, 0, 0, 2], netns_fd: Some(9) };
        let bytes = new_veth(3, &near, &far);
        let message = one(&bytes);
        assert_eq!((message.kind, message.seq), (RTM_NEWLINK, 3));
        let attrs = &message.payload[IFINFOMSG_LEN..];
        assert_eq!(wire::attribute(attrs, IFLA_IFNAME).and_then(wire::get_str), Some("lan0"));
        assert_eq!(wire::attribute(attrs, IFLA_NET_NS_FD), None);
        let info = wire::attribute(attrs, IFLA_LINKINFO).unwrap();
        assert_eq!(wire::attribute(info, IFLA_INFO_KIND).and_then(wire::get_str), Some("veth"));
        let data = wire::attribute(info, IFLA_INFO_DATA).unwrap();
        let peer = &wire::attribute(data, VETH_INFO_PEER).unwrap()[IFINFOMSG_LEN..];
        assert_eq!(wire::attribute(peer, IFLA_IFNAME).and_then(wire::get_str), Some("up"));
        assert_eq!(wire::attribute(peer, IFLA_NET_NS_FD).and_then(wire::get_u32), Some(9));
        assert_eq!(wire::attribute(peer, IFLA_ADDRESS), Some(&far.mac[..]));
    }

    #[test]
    fn the_default_route_has_no_destination() {
        let bytes = add_route(1, Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 0, 1));
        let attrs = &one(&bytes).payload[12..];
        assert_eq!(wire::attribute(attrs, RTA_DST), None);
        assert_eq!(wire::attribute(attrs, RTA_GATEWAY), Some(&[10, 0, 0, 1][..]));
        let bytes = add_route(1, Ipv4Addr::new(10, 9, 0, 0), 16, Ipv4Addr::new(10, 0, 0, 1));
        let message = one(&bytes);
        assert_eq!(message.payload[1], 16);
        assert_eq!(wire::attribute(&message.payload[12..], RTA_DST), Some(&[10, 9, 0, 0][..]));
    }

    #[test]
    fn a_netem_carries_its_delay_in_nanoseconds_and_its_limit_in_packets() {
        let bytes = new_netem(4, 7, 10_000_000, 100_000);
        let message = one(&bytes);
        assert_eq!((message.kind, message.payload[4]), (RTM_NEWQDISC, 7));
        let attrs = &message.payload[TCMSG_LEN..];
        assert_eq!(wire::attribute(attrs, TCA_KIND).and_then(wire::get_str), Some("netem"));
        let options = wire::attribute(attrs, TCA_OPTIONS).unwrap();
        assert_eq!(wire::get_u32(&options[4..8]), Some(100_000));
        assert_eq!(
            wire::attribute(&options[24..], TCA_NETEM_LATENCY64).and_then(wire::get_u64),
            Some(10_000_000)
        );
    }

    #[test]
    fn links_and_classes_are_read_and_short_ones_refused() {
        let mut w = Writer::new();
        w.begin(RTM_NEWLINK, 0, 1);
        w.fixed(&ifinfo(7, IFF_UP, 0));
        w.attr_str(IFLA_IFNAME, "wan0");
        w.attr_u32(IFLA_MTU, 1500);
        w.end();
        let payload = one(w.bytes()).payload.to_vec();
        let want = Link { index: 7, name: "wan0".into(), up: true, mtu: 1500 };
        assert_eq!(read_link(&payload), Some(want));
        assert_eq!(read_link(&payload[..12]), None);
        let mut class = vec![0u8; TCMSG_LEN];
        class[4] = 7;
        class[8..12].copy_from_slice(&0x7a11_0001u32.to_ne_bytes());
        class.extend_from_slice(&[8, 0, 1, 0, b'h', b't', b'b', 0]);
        let want = Class { ifindex: 7, handle: 0x7a11_0001, kind: "htb".into() };
        assert_eq!(read_class(&class), Some(want));
        assert_eq!(read_class(&class[..10]), None);
    }
}
