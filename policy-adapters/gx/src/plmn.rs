//! The network that a subscriber is in: 3GPP-SGSN-MCC-MNC, or else out of 3GPP-User-Location-Info
//! (TS 29.061 §16.4.7).

use tollway_diameter::Message;
use tollway_diameter::avp::tgpp::{TGPP_SGSN_MCC_MNC, TGPP_USER_LOCATION_INFO};

/// MCC and MNC as digits; an MNC of two digits leaves the last byte zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Plmn([u8; 6]);

impl Plmn {
    pub fn from_text(text: &str) -> Option<Plmn> {
        let is_good = matches!(text.len(), 5 | 6) && text.bytes().all(|b| b.is_ascii_digit());
        let mut digits = [0; 6];
        digits.get_mut(..text.len()).filter(|_| is_good)?.copy_from_slice(text.as_bytes());
        Some(Plmn(digits))
    }

    /// Three bytes of BCD, the digits of MCC and MNC interleaved (TS 29.274 §8.21).
    fn from_bcd([a, b, c]: [u8; 3]) -> Option<Plmn> {
        let nibbles = [a & 15, a >> 4, b & 15, c & 15, c >> 4, b >> 4];
        let len = if nibbles[5] == 15 { 5 } else { 6 };
        let mut digits = [0; 6];
        for (digit, nibble) in digits.iter_mut().zip(&nibbles[..len]) {
            *digit = b'0' + (*nibble < 10).then_some(*nibble)?;
        }
        Some(Plmn(digits))
    }

    /// What a message says; `None` when it says nothing, or nothing readable.
    pub(crate) fn of(message: &Message<'_>) -> Option<Plmn> {
        if let Some(text) = message.text(TGPP_SGSN_MCC_MNC) {
            return Plmn::from_text(text);
        }
        // CGI, SAI, RAI, TAI, ECGI, TAI and ECGI: each starts with the network.
        match message.find(TGPP_USER_LOCATION_INFO)?.data {
            [0 | 1 | 2 | 128 | 129 | 130, a, b, c, ..] => Plmn::from_bcd([*a, *b, *c]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_both_ways() {
        let plmn = |text| Plmn::from_text(text).unwrap();
        assert_eq!(Plmn::from_bcd([0x99, 0xf9, 0x07]), Some(plmn("99970")));
        assert_eq!(Plmn::from_bcd([0x13, 0x00, 0x14]), Some(plmn("310410")));
        assert_eq!(Plmn::from_bcd([0x9a, 0xf9, 0x07]), None);
        assert_eq!(Plmn::from_text("999-70"), None);
    }
}
