//! The message: header and borrowed AVPs (RFC 6733 §3). Parsing checks the frame and the lengths of the AVPs at
//! the top; [`crate::check`] looks into groups, values and grammar.

use crate::avp::{Avp, Definition, Key, Walk};
use crate::error::Error;
use crate::limits::{FRAME_LEN_MAX, FRAME_LEN_MIN};
use std::net::IpAddr;

/// Bits of the command flags (RFC 6733 §3). The reserved ones are ignored and kept.
pub const FLAG_REQUEST: u8 = 0x80;
pub const FLAG_PROXIABLE: u8 = 0x40;
pub const FLAG_ERROR: u8 = 0x20;
pub const FLAG_RETRANSMITTED: u8 = 0x10;

/// Command codes; a request and its answer share one.
pub mod command {
    pub const CAPABILITIES_EXCHANGE: u32 = 257;
    pub const RE_AUTH: u32 = 258;
    pub const AA: u32 = 265;
    pub const CREDIT_CONTROL: u32 = 272;
    pub const ABORT_SESSION: u32 = 274;
    pub const SESSION_TERMINATION: u32 = 275;
    pub const DEVICE_WATCHDOG: u32 = 280;
    pub const DISCONNECT_PEER: u32 = 282;
}

/// Application ids.
pub mod application {
    /// Messages of the connection itself (RFC 6733 §11.3).
    pub const BASE: u32 = 0;
    pub const CREDIT_CONTROL: u32 = 4;
    pub const RX: u32 = 16_777_236;
    pub const GX: u32 = 16_777_238;
    /// Advertised by relays: every application (RFC 6733 §2.4).
    pub const RELAY: u32 = 0xffff_ffff;
}

/// The 20 bytes in front (RFC 6733 §3), without version and length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub flags: u8,
    pub command: u32,
    pub application: u32,
    pub hop_by_hop: u32,
    pub end_to_end: u32,
}

impl Header {
    /// Reads a header whose length field is not looked at: for the answer to a message that is not taken.
    pub fn peek(bytes: &[u8]) -> Option<Header> {
        let b = bytes.first_chunk::<FRAME_LEN_MIN>()?;
        let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Some(Header {
            flags: b[4],
            command: word(4) & 0x00ff_ffff,
            application: word(8),
            hop_by_hop: word(12),
            end_to_end: word(16),
        })
    }

    pub const fn is_request(&self) -> bool {
        self.flags & FLAG_REQUEST != 0
    }

    pub const fn is_proxiable(&self) -> bool {
        self.flags & FLAG_PROXIABLE != 0
    }

    pub const fn is_error(&self) -> bool {
        self.flags & FLAG_ERROR != 0
    }

    pub const fn is_retransmitted(&self) -> bool {
        self.flags & FLAG_RETRANSMITTED != 0
    }

    pub(crate) fn write(&self, len: usize) -> [u8; FRAME_LEN_MIN] {
        let mut bytes = [0; FRAME_LEN_MIN];
        bytes[0..4].copy_from_slice(&(0x0100_0000 | (len as u32 & 0x00ff_ffff)).to_be_bytes());
        bytes[4..8]
            .copy_from_slice(&(u32::from(self.flags) << 24 | (self.command & 0x00ff_ffff)).to_be_bytes());
        bytes[8..12].copy_from_slice(&self.application.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.hop_by_hop.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.end_to_end.to_be_bytes());
        bytes
    }
}

/// Length of the frame that starts here; `None` while fewer than 4 bytes are there.
///
/// # Errors
/// When version or length are not taken: the stream is lost then.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    if head[0] != 1 {
        return Err(Error::Version(head[0]));
    }
    let len = u32::from_be_bytes([0, head[1], head[2], head[3]]);
    if (len as usize) < FRAME_LEN_MIN || len as usize > FRAME_LEN_MAX || !len.is_multiple_of(4) {
        return Err(Error::MessageLength(len));
    }
    Ok(Some(len as usize))
}

/// A whole message over borrowed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Parses exactly one message.
    ///
    /// # Errors
    /// Frame (5011, 5015), or length or flags of an AVP at the top (5014, 3009).
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Error> {
        let message = Message::parse_frame(bytes)?;
        message.walk().try_for_each(|avp| avp.map(drop))?;
        Ok(message)
    }

    /// Parses the frame only; the AVPs may be anything.
    ///
    /// # Errors
    /// Frame (5011, 5015).
    pub fn parse_frame(bytes: &'a [u8]) -> Result<Message<'a>, Error> {
        let short = || Error::MessageLength(bytes.len() as u32);
        let len = frame_len(bytes)?.ok_or_else(short)?;
        if len != bytes.len() {
            return Err(short());
        }
        let header = Header::peek(bytes).ok_or_else(short)?;
        Ok(Message { header, bytes })
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn is_request(&self) -> bool {
        self.header.is_request()
    }

    /// The strict walk over the AVPs at the top.
    pub fn walk(&self) -> Walk<'a> {
        Walk::new(&self.bytes[FRAME_LEN_MIN..], FRAME_LEN_MIN as u32)
    }

    /// The AVPs at the top; ends at the first that does not fit, which [`Message::parse`] would have named.
    pub fn avps(&self) -> impl Iterator<Item = Avp<'a>> + use<'a> {
        self.walk().map_while(Result::ok)
    }

    /// First AVP of a key.
    pub fn find(&self, key: impl Into<Key>) -> Option<Avp<'a>> {
        let key = key.into();
        self.avps().find(|avp| avp.key == key)
    }

    /// All AVPs of a key, in order.
    pub fn all(&self, avp: Definition) -> impl Iterator<Item = Avp<'a>> + use<'a> {
        self.avps().filter(move |found| found.key == avp.key)
    }

    pub fn u32(&self, key: impl Into<Key>) -> Option<u32> {
        self.find(key)?.u32()
    }

    pub fn u64(&self, key: impl Into<Key>) -> Option<u64> {
        self.find(key)?.u64()
    }

    pub fn text(&self, key: impl Into<Key>) -> Option<&'a str> {
        self.find(key)?.text()
    }

    pub fn address(&self, key: impl Into<Key>) -> Option<IpAddr> {
        self.find(key)?.address()
    }

    /// Result-Code, or the code and vendor within Experimental-Result (RFC 6733 §7.1, §7.6).
    pub fn result(&self) -> Option<Outcome> {
        use crate::avp::ietf::{EXPERIMENTAL_RESULT, EXPERIMENTAL_RESULT_CODE, RESULT_CODE, VENDOR_ID};
        if let Some(code) = self.u32(RESULT_CODE) {
            return Some(Outcome { vendor: 0, code });
        }
        let group = self.find(EXPERIMENTAL_RESULT)?;
        let code = group.find(EXPERIMENTAL_RESULT_CODE)?.u32()?;
        Some(Outcome { vendor: group.find(VENDOR_ID).and_then(|avp| avp.u32()).unwrap_or(0), code })
    }
}

/// What an answer says: a Result-Code (vendor 0) or an Experimental-Result-Code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Outcome {
    pub vendor: u32,
    pub code: u32,
}

impl Outcome {
    pub const fn is_success(&self) -> bool {
        self.code / 1000 == 2
    }
}

/// A received message that owns its bytes and was parsed before.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// # Errors
    /// As [`Message::parse`].
    pub fn new(bytes: Vec<u8>) -> Result<Frame, Error> {
        Message::parse(&bytes)?;
        Ok(Frame(bytes))
    }

    pub fn message(&self) -> Message<'_> {
        Message::parse_frame(&self.0).expect("a frame was parsed when it was made")
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl std::fmt::Debug for Frame {
    /// Without the AVPs, which may name a subscriber.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:?}, {} bytes)", self.message().header, self.0.len())
    }
}

/// Writes the hop-by-hop id into an encoded message.
pub fn set_hop_by_hop(bytes: &mut [u8], id: u32) {
    bytes[12..16].copy_from_slice(&id.to_be_bytes());
}

/// Writes the end-to-end id into an encoded message.
pub fn set_end_to_end(bytes: &mut [u8], id: u32) {
    bytes[16..20].copy_from_slice(&id.to_be_bytes());
}

/// Sets the T flag of an encoded request (RFC 6733 §5.5.4).
pub fn set_retransmitted(bytes: &mut [u8]) {
    bytes[4] |= FLAG_RETRANSMITTED;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bounded() {
        assert_eq!(frame_len(&[1, 0, 0]), Ok(None));
        assert_eq!(frame_len(&[1, 0, 0, 20]), Ok(Some(20)));
        assert_eq!(frame_len(&[1, 1, 0, 0]), Ok(Some(65_536)));
        for (bytes, error) in [
            ([1, 0, 0, 0], Error::MessageLength(0)),
            ([1, 0, 0, 16], Error::MessageLength(16)),
            ([1, 0, 0, 22], Error::MessageLength(22)),
            ([1, 1, 0, 4], Error::MessageLength(65_540)),
            ([1, 255, 255, 252], Error::MessageLength(0x00ff_fffc)),
            ([2, 0, 0, 20], Error::Version(2)),
            ([0x16, 3, 1, 0], Error::Version(0x16)),
        ] {
            assert_eq!(frame_len(&bytes), Err(error));
            assert!(error.loses_the_stream());
        }
    }

    #[test]
    fn a_header_survives() {
        let header = Header {
            flags: FLAG_REQUEST | FLAG_PROXIABLE | 0x01,
            command: command::CREDIT_CONTROL,
            application: application::GX,
            hop_by_hop: 7,
            end_to_end: u32::MAX,
        };
        let mut bytes = header.write(20);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.header, header);
        assert!(message.is_request() && !message.header.is_retransmitted());
        set_retransmitted(&mut bytes);
        set_hop_by_hop(&mut bytes, 8);
        set_end_to_end(&mut bytes, 9);
        let header = Message::parse(&bytes).unwrap().header;
        assert!(header.is_retransmitted());
        assert_eq!((header.hop_by_hop, header.end_to_end), (8, 9));
        assert!(Message::parse(&bytes[..16]).is_err());
    }
}
