//! One AVP on the wire (RFC 6733 §4), what the dictionary knows of it, and the walk over borrowed bytes.
//!
//! The vendor is part of the key: AVP 8 of 3GPP is not Framed-IP-Address. Unknown AVPs are kept as they are.

use crate::error::{Error, Offender};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub mod ietf;
pub mod tgpp;

/// Vendor id of the AVPs that IANA manages; never on the wire (RFC 6733 §4.1).
pub const IETF: u32 = 0;
/// Vendor id of 3GPP.
pub const TGPP: u32 = 10_415;

/// Bits of the AVP header's flags (RFC 6733 §4.1).
pub const FLAG_VENDOR: u8 = 0x80;
pub const FLAG_MANDATORY: u8 = 0x40;
/// Deprecated "P" bit: accepted and kept, never set.
pub const FLAG_PROTECTED: u8 = 0x20;
const FLAGS_RESERVED: u8 = 0x1f;

/// Seconds from 1900 to 1970: the epoch of Time (RFC 6733 §4.3.1) is the one of NTP.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What identifies an AVP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub vendor: u32,
    pub code: u32,
}

impl From<Definition> for Key {
    fn from(definition: Definition) -> Key {
        definition.key
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match definition(*self) {
            Some(known) => f.write_str(known.name),
            None => write!(f, "AVP {} of vendor {}", self.code, self.vendor),
        }
    }
}

/// Data formats (RFC 6733 §4.2, §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    OctetString,
    Integer32,
    Integer64,
    Unsigned32,
    Unsigned64,
    Enumerated,
    Grouped,
    Address,
    Time,
    Utf8String,
    Identity,
    Uri,
    FilterRule,
}

impl Kind {
    /// Least and greatest length of the data.
    pub const fn len_range(self) -> (usize, usize) {
        match self {
            Kind::Integer32 | Kind::Unsigned32 | Kind::Enumerated | Kind::Time => (4, 4),
            Kind::Integer64 | Kind::Unsigned64 => (8, 8),
            Kind::Address => (3, 32),
            Kind::Identity | Kind::Uri => (1, 1 << 24),
            Kind::OctetString | Kind::Grouped | Kind::Utf8String | Kind::FilterRule => (0, 1 << 24),
        }
    }
}

/// Whether a sender sets the M bit. A receiver ignores M on what it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MBit {
    Must,
    May,
    MustNot,
}

/// One row of the dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Definition {
    pub key: Key,
    pub name: &'static str,
    pub kind: Kind,
    pub m_bit: MBit,
    pub clause: &'static str,
}

impl Definition {
    /// Flags that we send.
    pub const fn flags(&self) -> u8 {
        let vendor = if self.key.vendor == IETF { 0 } else { FLAG_VENDOR };
        let mandatory = if matches!(self.m_bit, MBit::Must) { FLAG_MANDATORY } else { 0 };
        vendor | mandatory
    }
}

/// Writes a table of AVPs once, as constants and as the rows of the dictionary.
macro_rules! avps {
    ($vendor:expr; $($name:ident = $code:literal, $text:literal, $kind:ident, $m:ident, $clause:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "` (", stringify!($code), "), ", stringify!($kind), ", ", $clause, ".")]
            pub const $name: Definition = Definition {
                key: Key { vendor: $vendor, code: $code },
                name: $text,
                kind: Kind::$kind,
                m_bit: MBit::$m,
                clause: $clause,
            };
        )*
        pub(super) static TABLE: &[Definition] = &[$($name),*];
    };
}
use avps;

/// Codes of the tables are below this; a test holds it.
const CODE_END: usize = 3_000;
static INDEX_IETF: [u16; CODE_END] = index(ietf::TABLE);
static INDEX_TGPP: [u16; CODE_END] = index(tgpp::TABLE);

/// Row number plus one by code, so that a look-up is one load.
const fn index(table: &[Definition]) -> [u16; CODE_END] {
    let mut index = [0; CODE_END];
    let mut row = 0;
    while row < table.len() {
        index[table[row].key.code as usize] = row as u16 + 1;
        row += 1;
    }
    index
}

/// The dictionary: what is known of an AVP.
pub fn definition(key: Key) -> Option<&'static Definition> {
    let (table, index) = match key.vendor {
        IETF => (ietf::TABLE, &INDEX_IETF),
        TGPP => (tgpp::TABLE, &INDEX_TGPP),
        _ => return None,
    };
    let row = *index.get(key.code as usize)?;
    table.get(usize::from(row).checked_sub(1)?)
}

/// Every row, for documentation and tests.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    ietf::TABLE.iter().chain(tgpp::TABLE)
}

pub(crate) const fn align4(len: usize) -> usize {
    (len + 3) & !3
}

/// One AVP in a received message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Avp<'a> {
    pub key: Key,
    pub flags: u8,
    /// The data without header and padding.
    pub data: &'a [u8],
    /// Where the data starts in the message.
    at: u32,
}

impl<'a> Avp<'a> {
    /// The row of the dictionary, if there is one.
    pub fn definition(&self) -> Option<&'static Definition> {
        definition(self.key)
    }

    pub fn is_mandatory(&self) -> bool {
        self.flags & FLAG_MANDATORY != 0
    }

    /// For Unsigned32, Enumerated and Time, and for addresses of four bytes; `None` at any other length.
    pub fn u32(&self) -> Option<u32> {
        self.data.try_into().ok().map(u32::from_be_bytes)
    }

    pub fn u64(&self) -> Option<u64> {
        self.data.try_into().ok().map(u64::from_be_bytes)
    }

    pub fn i32(&self) -> Option<i32> {
        self.data.try_into().ok().map(i32::from_be_bytes)
    }

    pub fn i64(&self) -> Option<i64> {
        self.data.try_into().ok().map(i64::from_be_bytes)
    }

    /// UTF8String, DiameterIdentity, URI and IPFilterRule.
    pub fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.data).ok()
    }

    /// Address (RFC 6733 §4.3.1): a family of two bytes, then the address. `None` for other families than IP.
    pub fn address(&self) -> Option<IpAddr> {
        match self.data {
            [0, 1, v4 @ ..] => <[u8; 4]>::try_from(v4).ok().map(|b| IpAddr::V4(Ipv4Addr::from(b))),
            [0, 2, v6 @ ..] => <[u8; 16]>::try_from(v6).ok().map(|b| IpAddr::V6(Ipv6Addr::from(b))),
            _ => None,
        }
    }

    /// Time as seconds since 1970; `None` for the two years before. With the top bit clear it lies after 2036
    /// (RFC 6733 §4.3.1, RFC 5905).
    pub fn unix_s(&self) -> Option<u64> {
        let ntp = u64::from(self.u32()?);
        let era = if ntp >> 31 == 1 { 0 } else { 1 << 32 };
        (ntp + era).checked_sub(NTP_TO_UNIX)
    }

    /// Walks the AVPs of a group; ends silently at the first that does not fit ([`Avp::walk`] names it).
    pub fn children(&self) -> impl Iterator<Item = Avp<'a>> + use<'a> {
        self.walk().map_while(Result::ok)
    }

    /// First child of a key.
    pub fn find(&self, key: impl Into<Key>) -> Option<Avp<'a>> {
        let key = key.into();
        self.children().find(|avp| avp.key == key)
    }

    /// Walks the AVPs of a group and names what is wrong.
    pub fn walk(&self) -> Walk<'a> {
        Walk { rest: self.data, at: self.at }
    }

    /// Where this AVP is, for an error.
    pub fn offender(&self) -> Offender {
        Offender { key: self.key, flags: self.flags, at: self.at, len: self.data.len() as u32 }
    }
}

/// Seconds since 1970 as Time; `None` before 1968 and after 2104.
pub fn time_from_unix_s(unix_s: u64) -> Option<u32> {
    let ntp = unix_s.checked_add(NTP_TO_UNIX)?;
    (ntp < (1 << 32) + (1 << 31)).then_some(ntp as u32)
}

/// A strict walk over AVPs that lie side by side; after an error it ends.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    rest: &'a [u8],
    at: u32,
}

impl<'a> Walk<'a> {
    pub(crate) const fn new(bytes: &'a [u8], at: u32) -> Walk<'a> {
        Walk { rest: bytes, at }
    }

    fn step(&mut self) -> Result<Avp<'a>, Error> {
        let rest = self.rest;
        let at = self.at;
        self.rest = &[];
        let Some(head) = rest.first_chunk::<8>() else {
            // Fewer bytes than a header are left: nothing of an AVP can be named.
            return Err(Error::AvpLength(Offender { key: Key { vendor: 0, code: 0 }, flags: 0, at, len: 0 }));
        };
        let code = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let len = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let (header_len, vendor) = match (flags & FLAG_VENDOR, rest.get(8..12)) {
            (0, _) => (8, IETF),
            (_, Some(vendor)) => (12, vendor.try_into().map_or(IETF, u32::from_be_bytes)),
            (_, None) => (12, IETF),
        };
        let key = Key { vendor, code };
        let broken = Offender { key, flags, at: at.saturating_add(header_len as u32), len: 0 };
        // The padding counts too: a group's length covers the padding of its last AVP (RFC 6733 §4.4).
        if len < header_len || align4(len) > rest.len() {
            return Err(Error::AvpLength(broken));
        }
        if flags & FLAGS_RESERVED != 0 {
            return Err(Error::AvpFlags(Offender { len: (len - header_len) as u32, ..broken }));
        }
        self.rest = &rest[align4(len)..];
        self.at = at + align4(len) as u32;
        Ok(Avp { key, flags, data: &rest[header_len..len], at: broken.at })
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Avp<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.rest.is_empty()).then(|| self.step())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_below_the_index() {
        for table in [ietf::TABLE, tgpp::TABLE] {
            assert!(table.windows(2).all(|pair| pair[0].key < pair[1].key));
            assert!(table.iter().all(|row| (row.key.code as usize) < CODE_END));
            assert!(table.iter().all(|row| definition(row.key) == Some(row)));
        }
        assert_eq!(definition(Key { vendor: TGPP, code: 1001 }), Some(&tgpp::CHARGING_RULE_INSTALL));
        assert_eq!(definition(Key { vendor: IETF, code: 1001 }), None);
        assert_eq!(definition(Key { vendor: TGPP, code: u32::MAX }), None);
    }

    #[test]
    fn time_turns_over_in_2036() {
        for unix_s in [0, 1_700_000_000, 2_085_978_495, 2_085_978_496, 4_000_000_000] {
            let ntp = time_from_unix_s(unix_s).unwrap();
            let data = ntp.to_be_bytes();
            let avp = Avp { key: tgpp::RULE_DEACTIVATION_TIME.key, flags: 0, data: &data, at: 0 };
            assert_eq!(avp.unix_s(), Some(unix_s));
        }
        assert_eq!(time_from_unix_s(u64::MAX), None);
        // 1968: a mutant found that this has no number.
        let data = 0x8000_0000u32.to_be_bytes();
        let avp = Avp { key: tgpp::RULE_DEACTIVATION_TIME.key, flags: 0, data: &data, at: 0 };
        assert_eq!(avp.unix_s(), None);
    }

    #[test]
    fn lies_about_length_are_named() {
        for len in 0..8u8 {
            let bytes = [0, 0, 1, 7, 0x40, 0, 0, len];
            let mut walk = Walk::new(&bytes, 20);
            assert!(matches!(walk.next(), Some(Err(Error::AvpLength(o))) if o.key == ietf::SESSION_ID.key));
            assert_eq!(walk.next(), None);
        }
        let vendor_without_room = [0, 0, 1, 7, 0xc0, 0, 0, 8];
        assert!(matches!(Walk::new(&vendor_without_room, 0).next(), Some(Err(Error::AvpLength(_)))));
        let padding_missing = [0, 0, 1, 7, 0x40, 0, 0, 9, b'a'];
        assert!(matches!(Walk::new(&padding_missing, 0).next(), Some(Err(Error::AvpLength(_)))));
        let reserved = [0, 0, 1, 7, 0x41, 0, 0, 8];
        assert!(matches!(Walk::new(&reserved, 0).next(), Some(Err(Error::AvpFlags(_)))));
    }
}
