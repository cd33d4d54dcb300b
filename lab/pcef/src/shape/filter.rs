//! The u32 classifier: words of the IPv4 header and of the ports behind it.

use crate::rule::Match;
use std::net::Ipv4Addr;
use tollway_netlink::tc::{Handle, TCA_KIND, TCA_OPTIONS};
use tollway_netlink::wire::Writer;

const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
/// `TC_U32_TERMINAL`: a packet that matches goes nowhere else.
const TERMINAL: u8 = 1;
const ETH_P_IP: u16 = 0x0800;
const PROTOCOL_AT: i32 = 8;
const SOURCE_AT: i32 = 12;
const DESTINATION_AT: i32 = 16;
/// Right behind a header without options.
const PORTS_AT: i32 = 20;

/// A word of the packet: where it is, which bits count, what they are.
type Word = (i32, u32, u32);

fn mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

/// The words of packets towards the device; of the other direction with `is_up`.
pub fn words(found: &Match, is_up: bool) -> Vec<Word> {
    let near = (found.device, found.device_port);
    let far = (found.remote, found.remote_port);
    let (source, destination) = if is_up { (near, far) } else { (far, near) };
    let address = |at: i32, (address, len): (Ipv4Addr, u8)| (at, mask(len), address.to_bits() & mask(len));
    let port_mask = |port: u16| if port == 0 { 0 } else { u32::from(u16::MAX) };
    let ports_mask = (port_mask(source.1) << 16) | port_mask(destination.1);
    let ports = (PORTS_AT, ports_mask, (u32::from(source.1) << 16) | u32::from(destination.1));
    let protocol_mask = if found.protocol == 0 { 0 } else { 0x00ff_0000 };
    let protocol = (PROTOCOL_AT, protocol_mask, u32::from(found.protocol) << 16);
    let all = [protocol, address(SOURCE_AT, source.0), address(DESTINATION_AT, destination.0), ports];
    let mut words: Vec<Word> = all.into_iter().filter(|(_, mask, _)| *mask != 0).collect();
    if words.is_empty() {
        // Everything: a word that always matches.
        words.push((SOURCE_AT, 0, 0));
    }
    words
}

fn begin(w: &mut Writer, kind: u16, flags: u16, seq: u32, device: u32, root: Handle, priority: u16) {
    w.begin(kind, flags, seq);
    let info = (u32::from(priority) << 16) | u32::from(ETH_P_IP.to_be());
    let mut header = [0u8; 20];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    header[12..16].copy_from_slice(&root.0.to_ne_bytes());
    header[16..20].copy_from_slice(&info.to_ne_bytes());
    w.fixed(&header);
    w.attr_str(TCA_KIND, "u32");
}

/// Where a filter stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub device: u32,
    pub root: Handle,
    pub priority: u16,
}

/// Adds a filter that leads to a class.
pub fn add(w: &mut Writer, flags: u16, seq: u32, place: Place, class: Handle, words: &[Word]) {
    begin(w, RTM_NEWTFILTER, flags, seq, place.device, place.root, place.priority);
    let options = w.open(TCA_OPTIONS);
    w.attr_u32(TCA_U32_CLASSID, class.0);
    let mut selector = vec![0u8; 16];
    selector[0] = TERMINAL;
    selector[2] = u8::try_from(words.len()).expect("a filter has four words at most");
    for (at, mask, value) in words {
        selector.extend_from_slice(&mask.to_be_bytes());
        selector.extend_from_slice(&value.to_be_bytes());
        selector.extend_from_slice(&at.to_ne_bytes());
        selector.extend_from_slice(&0i32.to_ne_bytes());
    }
    w.attr(TCA_U32_SEL, &selector);
    w.close(options);
    w.end();
}

/// Removes every filter of a priority.
pub fn remove(w: &mut Writer, flags: u16, seq: u32, place: Place) {
    begin(w, RTM_DELTFILTER, flags, seq, place.device, place.root, place.priority);
    w.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn shown(description: &str) -> String {
        let found = Match::parse(description, Some(Ipv4Addr::new(10, 0, 0, 2))).unwrap();
        let show = |is_up| {
            let words = words(&found, is_up);
            let one = |(at, mask, value): &Word| format!("{at}:{value:08x}/{mask:08x}");
            words.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        format!("{}\n{}", show(false), show(true))
    }

    #[test]
    fn words_of_both_directions() {
        expect![[r#"
            8:00110000/00ff0000 12:c6336401/ffffffff 16:0a000002/ffffffff 20:01bb1388/ffffffff
            8:00110000/00ff0000 12:0a000002/ffffffff 16:c6336401/ffffffff 20:138801bb/ffffffff"#]]
        .assert_eq(&shown("permit out 17 from 198.51.100.1 443 to assigned 5000"));
        expect![[r#"
            8:00060000/00ff0000 12:c6336400/ffffff00 16:0a000002/ffffffff 20:01bb0000/ffff0000
            8:00060000/00ff0000 12:0a000002/ffffffff 16:c6336400/ffffff00 20:000001bb/0000ffff"#]]
        .assert_eq(&shown("permit out 6 from 198.51.100.0/24 443 to assigned"));
        expect![[r#"
            12:00000000/00000000
            12:00000000/00000000"#]]
        .assert_eq(&shown("permit out ip from any to any"));
    }
}
