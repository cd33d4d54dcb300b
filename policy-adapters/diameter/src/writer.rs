//! Writes one message, with nested groups, within the bounds that a receiver of ours would hold. The first thing
//! that does not fit is remembered and told by [`Writer::finish`]; nothing is cut or wrapped.

use crate::avp::{Avp, Definition, FLAG_VENDOR, IETF, Key, Kind, align4, time_from_unix_s};
use crate::grammar;
use crate::limits::{DEPTH_MAX, FRAME_LEN_MAX, FRAME_LEN_MIN};
use crate::message::{FLAG_PROXIABLE, FLAG_REQUEST, Header};
use std::net::IpAddr;

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    #[error("writing {0}: the message would be longer than 65,536 bytes")]
    TooLong(Key),
    #[error("writing {0}: groups deeper than 8")]
    TooDeep(Key),
    #[error("writing {0}: the value is of another type")]
    Kind(Key),
    #[error("writing {0}: the value is out of range")]
    Value(Key),
    #[error("a group was left open")]
    Open,
}

/// An open group; give it back to [`Writer::close`].
#[must_use = "an open group has no length until it is closed"]
#[derive(Debug)]
pub struct Group(usize);

#[derive(Debug)]
pub struct Writer {
    header: Header,
    bytes: Vec<u8>,
    depth: usize,
    error: Option<WriteError>,
}

impl Writer {
    pub fn new(header: Header) -> Writer {
        Writer::into(Vec::with_capacity(1_024), header)
    }

    /// Like [`Writer::new`], in a buffer that is used again.
    pub fn into(mut buffer: Vec<u8>, header: Header) -> Writer {
        buffer.clear();
        buffer.resize(FRAME_LEN_MIN, 0);
        Writer { header, bytes: buffer, depth: 0, error: None }
    }

    /// A request with the flags of its command. Both ids are set when it is sent.
    pub fn request(command: u32, application: u32) -> Writer {
        let is_proxiable = grammar::find(application, command).is_none_or(|c| c.is_proxiable);
        let proxiable = if is_proxiable { FLAG_PROXIABLE } else { 0 };
        Writer::new(Header {
            flags: FLAG_REQUEST | proxiable,
            command,
            application,
            hop_by_hop: 0,
            end_to_end: 0,
        })
    }

    fn fail(&mut self, error: WriteError) {
        self.error.get_or_insert(error);
    }

    fn is_kind(&mut self, avp: Definition, kinds: &[Kind]) -> bool {
        let fits = kinds.contains(&avp.kind);
        if !fits {
            self.fail(WriteError::Kind(avp.key));
        }
        fits
    }

    fn put_header(&mut self, key: Key, flags: u8, data_len: usize) -> bool {
        let header_len = if flags & FLAG_VENDOR != 0 { 12 } else { 8 };
        // A group at the last level may stand there but hold nothing: a receiver's walk ends there.
        if self.depth >= DEPTH_MAX {
            self.fail(WriteError::TooDeep(key));
            return false;
        }
        if data_len > FRAME_LEN_MAX || self.bytes.len() + header_len + align4(data_len) > FRAME_LEN_MAX {
            self.fail(WriteError::TooLong(key));
            return false;
        }
        let mut header = [0; 12];
        header[0..4].copy_from_slice(&key.code.to_be_bytes());
        header[4..8]
            .copy_from_slice(&(u32::from(flags) << 24 | (header_len + data_len) as u32).to_be_bytes());
        header[8..12].copy_from_slice(&key.vendor.to_be_bytes());
        self.bytes.extend_from_slice(&header[..header_len]);
        true
    }

    /// An AVP with these very flags, whatever the dictionary says.
    pub fn raw(&mut self, key: Key, flags: u8, data: &[u8]) {
        let flags = if key.vendor == IETF { flags } else { flags | FLAG_VENDOR };
        if self.put_header(key, flags, data.len()) {
            self.bytes.extend_from_slice(data);
            let padded = align4(self.bytes.len());
            self.bytes.resize(padded, 0);
        }
    }

    /// A received AVP as it was, children included.
    pub fn copy(&mut self, avp: &Avp<'_>) {
        self.raw(avp.key, avp.flags, avp.data);
    }

    /// OctetString.
    pub fn octets(&mut self, avp: Definition, data: &[u8]) {
        if self.is_kind(avp, &[Kind::OctetString]) {
            self.raw(avp.key, avp.flags(), data);
        }
    }

    /// UTF8String, DiameterIdentity, URI, IPFilterRule; also OctetStrings that hold text, as rule names do.
    pub fn text(&mut self, avp: Definition, text: &str) {
        if self
            .is_kind(avp, &[Kind::Utf8String, Kind::Identity, Kind::Uri, Kind::FilterRule, Kind::OctetString])
        {
            self.raw(avp.key, avp.flags(), text.as_bytes());
        }
    }

    /// Unsigned32 and Enumerated.
    pub fn u32(&mut self, avp: Definition, value: u32) {
        if self.is_kind(avp, &[Kind::Unsigned32, Kind::Enumerated]) {
            self.raw(avp.key, avp.flags(), &value.to_be_bytes());
        }
    }

    /// An Unsigned32 from a wider number: never wrapped, the message fails instead.
    pub fn u32_of(&mut self, avp: Definition, value: u64) {
        match u32::try_from(value) {
            Ok(value) => self.u32(avp, value),
            Err(_) => self.fail(WriteError::Value(avp.key)),
        }
    }

    pub fn u64(&mut self, avp: Definition, value: u64) {
        if self.is_kind(avp, &[Kind::Unsigned64]) {
            self.raw(avp.key, avp.flags(), &value.to_be_bytes());
        }
    }

    pub fn i32(&mut self, avp: Definition, value: i32) {
        if self.is_kind(avp, &[Kind::Integer32, Kind::Enumerated]) {
            self.raw(avp.key, avp.flags(), &value.to_be_bytes());
        }
    }

    pub fn i64(&mut self, avp: Definition, value: i64) {
        if self.is_kind(avp, &[Kind::Integer64]) {
            self.raw(avp.key, avp.flags(), &value.to_be_bytes());
        }
    }

    /// Address: family, then the address (RFC 6733 §4.3.1).
    pub fn address(&mut self, avp: Definition, address: IpAddr) {
        if !self.is_kind(avp, &[Kind::Address]) {
            return;
        }
        let mut data = [0; 18];
        match address {
            IpAddr::V4(v4) => {
                data[1] = 1;
                data[2..6].copy_from_slice(&v4.octets());
                self.raw(avp.key, avp.flags(), &data[..6]);
            }
            IpAddr::V6(v6) => {
                data[1] = 2;
                data[2..18].copy_from_slice(&v6.octets());
                self.raw(avp.key, avp.flags(), &data);
            }
        }
    }

    /// Time from seconds since 1970; fails after 2104.
    pub fn time(&mut self, avp: Definition, unix_s: u64) {
        match time_from_unix_s(unix_s) {
            Some(ntp) if self.is_kind(avp, &[Kind::Time]) => {
                self.raw(avp.key, avp.flags(), &ntp.to_be_bytes())
            }
            Some(_) => {}
            None => self.fail(WriteError::Value(avp.key)),
        }
    }

    /// Opens a group; what is written until [`Writer::close`] lies in it.
    pub fn open(&mut self, avp: Definition) -> Group {
        self.is_kind(avp, &[Kind::Grouped]);
        self.open_raw(avp.key, avp.flags())
    }

    /// [`Writer::open`] with these very flags.
    pub fn open_raw(&mut self, key: Key, flags: u8) -> Group {
        let at = self.bytes.len();
        let flags = if key.vendor == IETF { flags } else { flags | FLAG_VENDOR };
        self.put_header(key, flags, 0);
        self.depth += 1;
        Group(at)
    }

    pub fn close(&mut self, group: Group) {
        self.depth = self.depth.saturating_sub(1);
        if self.error.is_none() {
            let len = (self.bytes.len() - group.0) as u32;
            self.bytes[group.0 + 5..group.0 + 8].copy_from_slice(&len.to_be_bytes()[1..]);
        }
    }

    /// A group written by a closure.
    pub fn group(&mut self, avp: Definition, fill: impl FnOnce(&mut Writer)) {
        let group = self.open(avp);
        fill(self);
        self.close(group);
    }

    /// Bytes so far, to split lists before the bound.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == FRAME_LEN_MIN
    }

    /// The whole message.
    ///
    /// # Errors
    /// The first thing that did not fit.
    pub fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.depth != 0 {
            return Err(WriteError::Open);
        }
        let header = self.header.write(self.bytes.len());
        self.bytes[..FRAME_LEN_MIN].copy_from_slice(&header);
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avp::{ietf, tgpp};
    use crate::message::{Message, application, command};

    fn writer() -> Writer {
        Writer::request(command::RE_AUTH, application::GX)
    }

    #[test]
    fn groups_nest_and_come_back() {
        let mut w = writer();
        w.group(tgpp::QOS_INFORMATION, |w| {
            w.u32(tgpp::QOS_CLASS_IDENTIFIER, 4);
            w.group(tgpp::ALLOCATION_RETENTION_PRIORITY, |w| w.u32(tgpp::PRIORITY_LEVEL, 9));
        });
        w.text(tgpp::CHARGING_RULE_NAME, "tw-1-1");
        let bytes = w.finish().unwrap();
        let message = Message::parse(&bytes).unwrap();
        let arp =
            message.find(tgpp::QOS_INFORMATION).unwrap().find(tgpp::ALLOCATION_RETENTION_PRIORITY).unwrap();
        assert_eq!(arp.find(tgpp::PRIORITY_LEVEL).unwrap().u32(), Some(9));
        assert_eq!(arp.flags, 0x80);
        assert_eq!(message.text(tgpp::CHARGING_RULE_NAME), Some("tw-1-1"));
        assert_eq!(message.find(ietf::FRAMED_IP_ADDRESS), None);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut w = writer();
        w.octets(tgpp::MONITORING_KEY, &vec![0; 65_536]);
        assert_eq!(w.finish(), Err(WriteError::TooLong(tgpp::MONITORING_KEY.key)));
        let mut w = writer();
        w.octets(tgpp::MONITORING_KEY, &[0; 65_504]);
        assert_eq!(w.len(), FRAME_LEN_MAX);
        w.u32(ietf::RESULT_CODE, 1);
        assert_eq!(w.finish(), Err(WriteError::TooLong(ietf::RESULT_CODE.key)));
        let mut w = writer();
        let groups: Vec<_> = (0..9).map(|_| w.open(ietf::SUBSCRIPTION_ID)).collect();
        groups.into_iter().rev().for_each(|group| w.close(group));
        assert_eq!(w.finish(), Err(WriteError::TooDeep(ietf::SUBSCRIPTION_ID.key)));
        let mut w = writer();
        w.u32(ietf::SESSION_ID, 1);
        assert_eq!(w.finish(), Err(WriteError::Kind(ietf::SESSION_ID.key)));
        let mut w = writer();
        w.u32_of(tgpp::GUARANTEED_BITRATE_DL, 4_294_967_296);
        assert_eq!(w.finish(), Err(WriteError::Value(tgpp::GUARANTEED_BITRATE_DL.key)));
        let mut w = writer();
        let _open = w.open(ietf::SUBSCRIPTION_ID);
        assert_eq!(w.finish(), Err(WriteError::Open));
    }
}
