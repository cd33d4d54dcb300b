//! What a subscriber's device is reached at: an IPv4 address, an IPv6 prefix, or both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 prefix; bits beyond its length are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Prefix {
    len: u8,
    bits: u128,
}

impl Prefix {
    pub fn new(address: Ipv6Addr, len: u8) -> Option<Prefix> {
        (1..=128).contains(&len).then(|| Prefix { len, bits: u128::from(address) & mask(len) })
    }

    /// Framed-IPv6-Prefix: a reserved byte, the length, then as many bytes as needed (RFC 7155 §4.4.10.5.6,
    /// RFC 3162 §2.3).
    pub(crate) fn from_avp(data: &[u8]) -> Option<Prefix> {
        let [_, len, bytes @ ..] = data else { return None };
        let mut address = [0; 16];
        address.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let is_whole = bytes.len() * 8 >= usize::from(*len);
        Prefix::new(Ipv6Addr::from(address), *len).filter(|_| is_whole)
    }

    pub fn contains(self, address: Ipv6Addr) -> bool {
        u128::from(address) & mask(self.len) == self.bits
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum UeAddress {
    V4(Ipv4Addr),
    V6(Prefix),
    Both(Ipv4Addr, Prefix),
}

impl UeAddress {
    pub(crate) fn of(v4: Option<Ipv4Addr>, v6: Option<Prefix>) -> Option<UeAddress> {
        match (v4, v6) {
            (Some(v4), Some(v6)) => Some(UeAddress::Both(v4, v6)),
            (Some(v4), None) => Some(UeAddress::V4(v4)),
            (None, Some(v6)) => Some(UeAddress::V6(v6)),
            (None, None) => None,
        }
    }

    pub(crate) fn parts(self) -> (Option<Ipv4Addr>, Option<Prefix>) {
        match self {
            UeAddress::V4(v4) => (Some(v4), None),
            UeAddress::V6(v6) => (None, Some(v6)),
            UeAddress::Both(v4, v6) => (Some(v4), Some(v6)),
        }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let (v4, v6) = self.parts();
        match address {
            IpAddr::V4(address) => v4 == Some(address),
            IpAddr::V6(address) => v6.is_some_and(|prefix| prefix.contains(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_hold_their_addresses() {
        let prefix = Prefix::from_avp(&[0, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7]).unwrap();
        assert!(prefix.contains("2001:db8:0:7::9".parse().unwrap()));
        assert!(!prefix.contains("2001:db8:0:8::9".parse().unwrap()));
        for bad in [&[][..], &[0], &[0, 64, 1], &[0, 0], &[0, 129], &[0; 19]] {
            assert_eq!(Prefix::from_avp(bad), None);
        }
        let both = UeAddress::of(Some(Ipv4Addr::new(10, 0, 0, 1)), Some(prefix)).unwrap();
        assert!(both.contains("10.0.0.1".parse().unwrap()) && !both.contains("10.0.0.2".parse().unwrap()));
    }
}
