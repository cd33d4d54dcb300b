//! Flows: which packets a reservation is for.

use minicbor::{Decode, Encode};
use std::fmt;
use std::net::IpAddr;

/// Up is from the access line into the operator's network, down is towards the line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum Direction {
    #[n(0)]
    Up,
    #[n(1)]
    Down,
}

impl Direction {
    pub const BOTH: [Direction; 2] = [Direction::Up, Direction::Down];

    pub const fn opposite(self) -> Direction {
        match self {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum Protocol {
    #[n(6)]
    Tcp,
    #[n(17)]
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A 5-tuple pattern. `device` is the endpoint behind the access line, as the enforcement point sees its
/// address; `remote` is the other end. Without `device_port` every flow of the device to that remote port
/// matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Flow {
    pub protocol: Protocol,
    pub device: IpAddr,
    pub device_port: Option<u16>,
    pub remote: IpAddr,
    pub remote_port: u16,
}

impl Flow {
    /// Whether one packet could match both.
    pub fn overlaps(&self, other: &Flow) -> bool {
        self.protocol == other.protocol
            && self.device == other.device
            && self.remote == other.remote
            && self.remote_port == other.remote_port
            && match (self.device_port, other.device_port) {
                (Some(a), Some(b)) => a == b,
                (None, _) | (_, None) => true,
            }
    }

    /// Both ends are of one address family.
    pub fn is_one_family(&self) -> bool {
        self.device.is_ipv4() == self.remote.is_ipv4()
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.as_str(), self.device)?;
        match self.device_port {
            Some(port) => write!(f, " port {port}")?,
            None => write!(f, " any port")?,
        }
        write!(f, " <-> {} port {}", self.remote, self.remote_port)
    }
}

/// Wire form: addresses as 4 or 16 bytes, numbered fields.
#[derive(Encode, Decode)]
struct FlowFields {
    #[n(0)]
    protocol: Protocol,
    #[cbor(n(1), with = "minicbor::bytes")]
    device: Vec<u8>,
    #[n(2)]
    device_port: Option<u16>,
    #[cbor(n(3), with = "minicbor::bytes")]
    remote: Vec<u8>,
    #[n(4)]
    remote_port: u16,
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

impl<C> Encode<C> for Flow {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        FlowFields {
            protocol: self.protocol,
            device: octets(self.device),
            device_port: self.device_port,
            remote: octets(self.remote),
            remote_port: self.remote_port,
        }
        .encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Flow {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let fields = FlowFields::decode(d, ctx)?;
        let bad = || minicbor::decode::Error::message("an address has 4 or 16 bytes");
        Ok(Flow {
            protocol: fields.protocol,
            device: address(&fields.device).ok_or_else(bad)?,
            device_port: fields.device_port,
            remote: address(&fields.remote).ok_or_else(bad)?,
            remote_port: fields.remote_port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(device_port: Option<u16>) -> Flow {
        Flow {
            protocol: Protocol::Tcp,
            device: "10.0.0.2".parse().unwrap(),
            device_port,
            remote: "192.0.2.1".parse().unwrap(),
            remote_port: 443,
        }
    }

    #[test]
    fn a_wildcard_port_overlaps_every_port() {
        assert!(flow(None).overlaps(&flow(Some(5))));
        assert!(flow(Some(5)).overlaps(&flow(Some(5))));
        assert!(!flow(Some(5)).overlaps(&flow(Some(6))));
    }

    #[test]
    fn a_flow_survives_its_encoding() {
        for port in [None, Some(40_000)] {
            let bytes = minicbor::to_vec(flow(port)).unwrap();
            assert_eq!(minicbor::decode::<Flow>(&bytes).unwrap(), flow(port));
        }
        assert!(minicbor::decode::<Flow>(&[0x85, 0x06, 0x41, 1, 0xf6, 0x41, 1, 1]).is_err());
    }
}
