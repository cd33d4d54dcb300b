//! Traffic control objects as rtnetlink sees them: qdiscs and classes, whatever their kind.

use crate::wire::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Writer, attribute, get_str, get_u32};
use std::fmt;

pub const RTM_NEWQDISC: u16 = 36;
pub const RTM_DELQDISC: u16 = 37;
pub const RTM_GETQDISC: u16 = 38;
pub const RTM_NEWTCLASS: u16 = 40;
pub const RTM_DELTCLASS: u16 = 41;
pub const RTM_GETTCLASS: u16 = 42;

pub const TCA_KIND: u16 = 1;
pub const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

/// `struct tcmsg`.
const TCMSG_LEN: usize = 20;

/// A qdisc handle or class id: `major:minor`, both hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Handle(pub u32);

impl Handle {
    /// As the parent of a root qdisc.
    pub const ROOT: Handle = Handle(u32::MAX);
    pub const NONE: Handle = Handle(0);

    pub const fn new(major: u16, minor: u16) -> Handle {
        Handle(((major as u32) << 16) | minor as u32)
    }

    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub const fn minor(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Handle::ROOT => f.write_str("root"),
            Handle(_) if self.minor() == 0 => write!(f, "{:x}:", self.major()),
            Handle(_) => write!(f, "{:x}:{:x}", self.major(), self.minor()),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counters of a qdisc or class. `bytes` are as the kernel counts them, Ethernet header included.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub bytes: u64,
    pub packets: u64,
    pub drops: u64,
    pub backlog_bytes: u32,
    pub backlog_packets: u32,
}

/// One qdisc or class of a dump, an event or an echo.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    pub ifindex: u32,
    pub handle: Handle,
    pub parent: Handle,
    /// For a class: handle of its leaf qdisc, 0 when that is the implicit one.
    pub info: u32,
    pub kind: &'a str,
    pub options: &'a [u8],
    pub stats: Stats,
}

impl<'a> Object<'a> {
    /// `None` when the message is not a whole `tcmsg` with a kind.
    pub fn parse(payload: &'a [u8]) -> Option<Object<'a>> {
        let header = payload.get(..TCMSG_LEN)?;
        let word = |at: usize| header.get(at..at + 4).and_then(get_u32);
        let attrs = &payload[TCMSG_LEN..];
        Some(Object {
            ifindex: word(4)?,
            handle: Handle(word(8)?),
            parent: Handle(word(12)?),
            info: word(16)?,
            kind: attribute(attrs, TCA_KIND).and_then(get_str)?,
            options: attribute(attrs, TCA_OPTIONS).unwrap_or(&[]),
            stats: attribute(attrs, TCA_STATS2).map(stats).unwrap_or_default(),
        })
    }
}

fn stats(attrs: &[u8]) -> Stats {
    let mut stats = Stats::default();
    if let Some(basic) = attribute(attrs, TCA_STATS_BASIC) {
        stats.bytes = u64_at(basic, 0).unwrap_or(0);
        stats.packets = u64::from(u32_at(basic, 8).unwrap_or(0));
    }
    // The kernel adds it only when the 32-bit counter does not hold the number.
    if let Some(packets) = attribute(attrs, TCA_STATS_PKT64).and_then(|v| u64_at(v, 0)) {
        stats.packets = packets;
    }
    if let Some(queue) = attribute(attrs, TCA_STATS_QUEUE) {
        stats.backlog_packets = u32_at(queue, 0).unwrap_or(0);
        stats.backlog_bytes = u32_at(queue, 4).unwrap_or(0);
        stats.drops = u64::from(u32_at(queue, 8).unwrap_or(0));
    }
    stats
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(get_u32)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let value: [u8; 8] = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    Some(u64::from_ne_bytes(value))
}

/// Begins a message about one object; the caller adds attributes and ends it.
pub fn begin(
    writer: &mut Writer,
    kind: u16,
    flags: u16,
    seq: u32,
    ifindex: u32,
    handle: Handle,
    parent: Handle,
) {
    writer.begin(kind, flags, seq);
    let mut header = [0u8; TCMSG_LEN];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.0.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.0.to_ne_bytes());
    writer.fixed(&header);
}

/// Asks for all classes of a device.
pub fn dump_classes(writer: &mut Writer, seq: u32, ifindex: u32) {
    begin(writer, RTM_GETTCLASS, NLM_F_DUMP, seq, ifindex, Handle::NONE, Handle::NONE);
    writer.end();
}

/// Asks for the qdiscs of every device.
pub fn dump_qdiscs(writer: &mut Writer, seq: u32) {
    begin(writer, RTM_GETQDISC, NLM_F_DUMP, seq, 0, Handle::NONE, Handle::NONE);
    writer.end();
}

/// Deletes a qdisc; the kernel puts the device's default one back when it was the root.
pub fn del_qdisc(writer: &mut Writer, flags: u16, seq: u32, ifindex: u32, handle: Handle, parent: Handle) {
    begin(writer, RTM_DELQDISC, flags, seq, ifindex, handle, parent);
    writer.end();
}

/// Flags of a creation that must not meet an older object.
pub const fn create_flags() -> u16 {
    NLM_F_CREATE | NLM_F_EXCL
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn handles_read_as_tc_prints_them() {
        let shown: Vec<String> = [Handle::new(0x7a11, 0), Handle::new(0x7a11, 0xffff), Handle::ROOT]
            .iter()
            .map(Handle::to_string)
            .collect();
        expect![[r#"["7a11:", "7a11:ffff", "root"]"#]].assert_eq(&format!("{shown:?}"));
    }

    #[test]
    fn counters_come_from_stats2() {
        let mut writer = Writer::new();
        begin(&mut writer, RTM_NEWTCLASS, 0, 1, 3, Handle::new(0x7a11, 0x100), Handle::new(0x7a11, 1));
        writer.attr_str(TCA_KIND, "htb");
        let nested = writer.open(TCA_STATS2);
        let mut basic = Vec::new();
        basic.extend_from_slice(&5_000_000_000u64.to_ne_bytes());
        basic.extend_from_slice(&7u32.to_ne_bytes());
        writer.attr(TCA_STATS_BASIC, &basic);
        writer.attr_u64(TCA_STATS_PKT64, 1 << 33);
        let queue: Vec<u8> = [2u32, 3000, 9, 0, 0].iter().flat_map(|v| v.to_ne_bytes()).collect();
        writer.attr(TCA_STATS_QUEUE, &queue);
        writer.close(nested);
        writer.end();
        let payload = &writer.bytes()[16..];
        let object = Object::parse(payload).expect("an object");
        expect!["Object { ifindex: 3, handle: 7a11:100, parent: 7a11:1, info: 0, kind: \"htb\", options: [], stats: Stats { bytes: 5000000000, packets: 8589934592, drops: 9, backlog_bytes: 3000, backlog_packets: 2 } }"]
            .assert_eq(&format!("{object:?}"));
        assert!(Object::parse(&payload[..19]).is_none());
        assert!(Object::parse(&payload[..20]).is_none());
    }
}
