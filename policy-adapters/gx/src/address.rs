//! What a subscriber's device is reached at, as a gateway writes it.

use std::net::{Ipv4Addr, Ipv6Addr};
use tollway_policy::DeviceAddress;

/// Framed-IPv6-Prefix: a reserved byte, the length, then as many bytes as needed (RFC 7155 §4.4.10.5.6,
/// RFC 3162 §2.3). Bits beyond the length are cleared, so that equal prefixes are equal.
pub(crate) fn prefix(data: &[u8]) -> Option<(Ipv6Addr, u8)> {
    let [_, len, bytes @ ..] = data else { return None };
    let mut address = [0; 16];
    address.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let is_whole = bytes.len() * 8 >= usize::from(*len) && (1..=128).contains(len);
    let mask = u128::MAX.checked_shl(128u32.saturating_sub(u32::from(*len))).unwrap_or(0);
    is_whole.then(|| (Ipv6Addr::from(u128::from_be_bytes(address) & mask), *len))
}

/// At least one of both.
pub(crate) fn device(v4: Option<Ipv4Addr>, v6: Option<(Ipv6Addr, u8)>) -> Option<DeviceAddress> {
    (v4.is_some() || v6.is_some()).then_some(DeviceAddress { v4, v6 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_hold_their_addresses() {
        let read = prefix(&[0, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 9]).unwrap();
        assert_eq!(read, ("2001:db8:0:7::".parse().unwrap(), 64), "no bits beyond its length");
        let both = device(Some(Ipv4Addr::new(10, 0, 0, 1)), Some(read)).unwrap();
        assert!(both.contains("2001:db8:0:7::9".parse().unwrap()));
        assert!(!both.contains("2001:db8:0:8::9".parse().unwrap()));
        assert!(both.contains("10.0.0.1".parse().unwrap()) && !both.contains("10.0.0.2".parse().unwrap()));
        assert_eq!(device(None, None), None);
        for bad in [&[][..], &[0], &[0, 64, 1], &[0, 0], &[0, 129], &[0; 19]] {
            assert_eq!(prefix(bad), None);
        }
    }
}
