//! Rates. What is promised is IP bits per second; what the kernel shapes and the calendar commits is class
//! rate, which also carries the 14-byte Ethernet header of every packet.

use minicbor::{Decode, Encode};
use std::fmt;

/// Ethernet header bytes that an HTB class counts for each packet and that a promise does not.
pub const L2_HEADER_BYTES: u64 = 14;

/// Smallest return path of a one-way reservation, in IP bits per second.
pub const RETURN_PATH_BPS_MIN: u64 = 64_000;

/// Return path of a one-way reservation, in parts per hundred of its rate.
pub const RETURN_PATH_PERCENT: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
#[cbor(transparent)]
pub struct BitsPerSecond(#[n(0)] pub u64);

impl BitsPerSecond {
    pub const ZERO: BitsPerSecond = BitsPerSecond(0);

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The kernel's class rate that carries this IP rate in packets of `packet_bytes`, rounded up:
    /// `rate × (p + 14) / p`. Saturates.
    pub fn class_rate(self, packet_bytes: u32) -> BitsPerSecond {
        let p = u128::from(packet_bytes.max(1));
        let scaled = (u128::from(self.0) * (p + u128::from(L2_HEADER_BYTES))).div_ceil(p);
        BitsPerSecond(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// The IP rate that a class rate carries, rounded down; inverse of [`BitsPerSecond::class_rate`].
    pub fn ip_rate(self, packet_bytes: u32) -> BitsPerSecond {
        let p = u128::from(packet_bytes.max(1));
        let scaled = u128::from(self.0) * p / (p + u128::from(L2_HEADER_BYTES));
        BitsPerSecond(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// What a one-way reservation also takes in the other direction: `max(64 kbit/s, 3 %)`.
    pub fn return_path(self) -> BitsPerSecond {
        if self.0 == 0 {
            return BitsPerSecond::ZERO;
        }
        let share = u128::from(self.0) * u128::from(RETURN_PATH_PERCENT) / 100;
        BitsPerSecond(u64::try_from(share).unwrap_or(u64::MAX).max(RETURN_PATH_BPS_MIN))
    }

    /// Whole bytes carried in `ms` at this rate, rounded down.
    pub fn bytes_in_ms(self, ms: u64) -> u64 {
        u64::try_from(u128::from(self.0) * u128::from(ms) / 8_000).unwrap_or(u64::MAX)
    }

    /// `self × ppm / 1,000,000`, rounded down.
    pub fn share_ppm(self, ppm: u32) -> BitsPerSecond {
        BitsPerSecond(u64::try_from(u128::from(self.0) * u128::from(ppm) / 1_000_000).unwrap_or(u64::MAX))
    }

    pub const fn saturating_sub(self, other: BitsPerSecond) -> BitsPerSecond {
        BitsPerSecond(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}bps", self.0)
    }
}

impl fmt::Display for BitsPerSecond {
    /// In the largest unit that leaves at most three decimals: `16.96 Mbit/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..=999 => return write!(f, "{} bit/s", self.0),
            1_000..=999_999 => (1_000, "kbit/s"),
            1_000_000..=999_999_999 => (1_000_000, "Mbit/s"),
            _ => (1_000_000_000, "Gbit/s"),
        };
        let text = format!("{}.{:03}", self.0 / unit, self.0 % unit * 1000 / unit);
        write!(f, "{} {name}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_rate_and_back_never_promises_more() {
        for p in [64u32, 200, 1200, 1500] {
            for rate in [1u64, 64_000, 17_000_001, 10_000_000_000] {
                let class = BitsPerSecond(rate).class_rate(p);
                assert!(class.ip_rate(p).0 >= rate, "{rate} at {p}");
                assert!(class.ip_rate(p).0 <= rate + 1, "{rate} at {p}");
            }
        }
        assert_eq!(BitsPerSecond(15_000_000).class_rate(1500).0, 15_140_000);
        assert_eq!(BitsPerSecond(u64::MAX).class_rate(64).0, u64::MAX);
    }

    #[test]
    fn return_path_has_a_floor() {
        assert_eq!(BitsPerSecond(1_000).return_path().0, 64_000);
        assert_eq!(BitsPerSecond(100_000_000).return_path().0, 3_000_000);
        assert_eq!(BitsPerSecond(0).return_path().0, 0);
    }

    #[test]
    fn rates_read_well() {
        assert_eq!(BitsPerSecond(16_960_000).to_string(), "16.96 Mbit/s");
        assert_eq!(BitsPerSecond(64_000).to_string(), "64 kbit/s");
        assert_eq!(BitsPerSecond(1_000_000_000).to_string(), "1 Gbit/s");
    }
}
