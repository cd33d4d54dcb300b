//! The netlink message format: headers and attributes, written into a growing buffer and walked over
//! borrowed bytes. Every length is checked before it is used.

/// A netlink header is 16 bytes.
pub const HEADER_LEN: usize = 16;

pub const NLMSG_NOOP: u16 = 1;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const NLM_F_REQUEST: u16 = 0x001;
pub const NLM_F_ACK: u16 = 0x004;
pub const NLM_F_ECHO: u16 = 0x008;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_DUMP_INTR: u16 = 0x010;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

const fn align4(len: usize) -> usize {
    (len + 3) & !3
}

/// Writes one or more messages into one buffer.
#[derive(Default, Debug)]
pub struct Writer {
    buffer: Vec<u8>,
    message_start: usize,
}

/// An open nested attribute; give it back to [`Writer::close`].
#[must_use = "an open attribute has no length until it is closed"]
#[derive(Debug)]
pub struct Nested(usize);

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Starts a message; `flags` gets `NLM_F_REQUEST` by itself.
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32) {
        self.message_start = self.buffer.len();
        self.buffer.extend_from_slice(&0u32.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.buffer.extend_from_slice(&seq.to_ne_bytes());
        self.buffer.extend_from_slice(&0u32.to_ne_bytes());
    }

    /// Fixed family header (ifinfomsg, tcmsg, nfgenmsg …), padded to 4.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pad();
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).expect("an attribute is shorter than 64 KiB");
        self.buffer.extend_from_slice(&len.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
    }

    pub fn attr_u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub fn attr_u16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub fn attr_u64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// Big-endian, as nf_tables wants its numbers.
    pub fn attr_be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_be64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// NUL-terminated.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub fn open(&mut self, kind: u16) -> Nested {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&0u16.to_ne_bytes());
        self.buffer.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        Nested(at)
    }

    /// Length so far of an open attribute, to split lists before 64 KiB.
    pub fn open_len(&self, nested: &Nested) -> usize {
        self.buffer.len() - nested.0
    }

    pub fn close(&mut self, nested: Nested) {
        let len = u16::try_from(self.buffer.len() - nested.0).expect("a nested list is shorter than 64 KiB");
        self.buffer[nested.0..nested.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// Ends the message begun last.
    pub fn end(&mut self) {
        let len = u32::try_from(self.buffer.len() - self.message_start).expect("a message fits 4 GiB");
        self.buffer[self.message_start..self.message_start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }

    fn pad(&mut self) {
        let padded = align4(self.buffer.len());
        self.buffer.resize(padded, 0);
    }
}

/// One message of a received buffer.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub pid: u32,
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// For `NLMSG_ERROR` (and `NLMSG_DONE` with a code): the errno as a negative number; 0 is an
    /// acknowledgement.
    pub fn error_code(&self) -> Option<i32> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let bytes: [u8; 4] = self.payload.get(..4)?.try_into().ok()?;
        Some(i32::from_ne_bytes(bytes))
    }
}

/// Walks the messages of one datagram; stops at the first that does not fit.
pub fn messages(mut buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = buffer.get(..HEADER_LEN)?;
        let len = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
        if len < HEADER_LEN || len > buffer.len() {
            return None;
        }
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            pid: u32::from_ne_bytes(header[12..16].try_into().ok()?),
            payload: &buffer[HEADER_LEN..len],
        };
        buffer = &buffer[align4(len).min(buffer.len())..];
        Some(message)
    })
}

/// Walks attributes: `(type without flags, value)`; stops at the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let len = u16::from_ne_bytes([header[0], header[1]]) as usize;
        if len < 4 || len > bytes.len() {
            return None;
        }
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = &bytes[4..len];
        bytes = &bytes[align4(len).min(bytes.len())..];
        Some((kind, value))
    })
}

/// First attribute of a type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// Little helpers for values that must have exactly this size.
pub fn get_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

pub fn get_u64(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_ne_bytes)
}

pub fn get_be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Text up to the first NUL.
pub fn get_str(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_walk() {
        let mut writer = Writer::new();
        writer.begin(36, NLM_F_ACK, 7);
        writer.fixed(&[1, 2, 3, 4]);
        writer.attr_str(1, "htb");
        let nested = writer.open(2);
        writer.attr_u32(3, 9);
        writer.close(nested);
        writer.end();
        let all: Vec<_> = messages(writer.bytes()).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].kind, all[0].seq), (36, 7));
        let attrs = &all[0].payload[4..];
        assert_eq!(attribute(attrs, 1).and_then(get_str), Some("htb"));
        let inner = attribute(attrs, 2).expect("nested");
        assert_eq!(attribute(inner, 3).and_then(get_u32), Some(9));
    }

    #[test]
    fn lies_about_length_end_the_walk() {
        let mut bytes = vec![0u8; 16];
        bytes[0] = 200;
        assert_eq!(messages(&bytes).count(), 0);
        bytes[0] = 3;
        assert_eq!(messages(&bytes).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
    }
}
