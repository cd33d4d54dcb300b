//! Network devices: name, index, MTU and whether packets can leave.

use tollway_netlink::wire::{NLM_F_DUMP, Writer, attribute, get_str, get_u32};

pub const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFINFOMSG_LEN: usize = 16;

/// One device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub ifindex: u32,
    pub mtu: u32,
    /// Administratively up and with a carrier.
    pub up: bool,
}

pub fn dump(writer: &mut Writer, seq: u32) {
    writer.begin(RTM_GETLINK, NLM_F_DUMP, seq);
    writer.fixed(&[0; IFINFOMSG_LEN]);
    writer.end();
}

pub fn parse(payload: &[u8]) -> Option<(String, Link)> {
    let header = payload.get(..IFINFOMSG_LEN)?;
    let flags = get_u32(header.get(8..12)?)?;
    let attrs = payload.get(IFINFOMSG_LEN..)?;
    let name = attribute(attrs, IFLA_IFNAME).and_then(get_str)?.to_owned();
    let carrier = (libc::IFF_UP | libc::IFF_RUNNING).cast_unsigned();
    Some((
        name,
        Link {
            ifindex: get_u32(header.get(4..8)?)?,
            mtu: attribute(attrs, IFLA_MTU).and_then(get_u32).unwrap_or(1500),
            up: flags & carrier == carrier,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_carrier_is_down() {
        for (flags, up) in [(0x1u32, false), (0x41, true), (0x40, false)] {
            let mut writer = Writer::new();
            writer.begin(RTM_NEWLINK, 0, 1);
            let mut header = [0u8; IFINFOMSG_LEN];
            header[4..8].copy_from_slice(&7u32.to_ne_bytes());
            header[8..12].copy_from_slice(&flags.to_ne_bytes());
            writer.fixed(&header);
            writer.attr_str(IFLA_IFNAME, "wan0");
            writer.attr_u32(IFLA_MTU, 1400);
            writer.end();
            let parsed = parse(&writer.bytes()[16..]);
            assert_eq!(parsed, Some(("wan0".into(), Link { ifindex: 7, mtu: 1400, up })));
        }
        assert_eq!(parse(&[0; 15]), None);
    }
}
