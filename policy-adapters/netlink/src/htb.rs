//! The HTB codec: root qdisc and classes. Rates are bytes per second on the wire of the device, Ethernet
//! header included; above 2^32 they travel in 64-bit attributes of their own.

use crate::tc::{self, Handle, Object, RTM_DELTCLASS, RTM_NEWQDISC, RTM_NEWTCLASS, TCA_KIND, TCA_OPTIONS};
use crate::tc::{u32_at, u64_at};
use crate::wire::{NLM_F_ECHO, Writer, attribute};

pub const KIND: &str = "htb";

const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
/// `HTB_VER >> 16`; anything else is EINVAL.
const INIT_VERSION: u32 = 3;
const RATE_TO_QUANTUM: u32 = 10;
/// Without it the kernel asks for rate tables of the time before Linux 3.8.
const LINKLAYER_ETHERNET: u8 = 1;

/// One class as the kernel stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params {
    /// Bytes per second that the class is owed.
    pub rate: u64,
    /// Bytes per second that it may reach by borrowing.
    pub ceil: u64,
    /// Burst at `rate`, in psched ticks.
    pub buffer: u32,
    /// Burst at `ceil`, in psched ticks.
    pub cbuffer: u32,
    /// Bytes a turn among classes that borrow.
    pub quantum: u32,
    pub prio: u32,
}

/// What the options of a dumped HTB root say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootOptions {
    pub default_minor: u32,
    /// Packets that bypassed every class.
    pub direct_packets: u32,
}

/// Creates (or, with `NLM_F_REPLACE` in `flags`, puts in the place of another kind) the root qdisc.
pub fn new_root(writer: &mut Writer, flags: u16, seq: u32, ifindex: u32, handle: Handle, default_minor: u16) {
    tc::begin(writer, RTM_NEWQDISC, flags, seq, ifindex, handle, Handle::ROOT);
    writer.attr_str(TCA_KIND, KIND);
    let options = writer.open(TCA_OPTIONS);
    let glob: Vec<u8> = [INIT_VERSION, RATE_TO_QUANTUM, u32::from(default_minor), 0, 0]
        .iter()
        .flat_map(|v| v.to_ne_bytes())
        .collect();
    writer.attr(TCA_HTB_INIT, &glob);
    writer.close(options);
    writer.end();
}

/// Creates or changes a class, by `flags`. A change keeps the counters.
pub fn new_class(
    writer: &mut Writer,
    flags: u16,
    seq: u32,
    ifindex: u32,
    id: Handle,
    parent: Handle,
    params: &Params,
) {
    tc::begin(writer, RTM_NEWTCLASS, flags, seq, ifindex, id, parent);
    writer.attr_str(TCA_KIND, KIND);
    let options = writer.open(TCA_OPTIONS);
    let mut opt = Vec::with_capacity(44);
    ratespec(&mut opt, params.rate);
    ratespec(&mut opt, params.ceil);
    for word in [params.buffer, params.cbuffer, params.quantum, 0, params.prio] {
        opt.extend_from_slice(&word.to_ne_bytes());
    }
    writer.attr(TCA_HTB_PARMS, &opt);
    if params.rate > u64::from(u32::MAX) {
        writer.attr_u64(TCA_HTB_RATE64, params.rate);
    }
    if params.ceil > u64::from(u32::MAX) {
        writer.attr_u64(TCA_HTB_CEIL64, params.ceil);
    }
    writer.close(options);
    writer.end();
}

/// Deletes a class; the echo carries its final counters.
pub fn del_class(writer: &mut Writer, flags: u16, seq: u32, ifindex: u32, id: Handle) {
    tc::begin(writer, RTM_DELTCLASS, flags | NLM_F_ECHO, seq, ifindex, id, Handle::NONE);
    writer.end();
}

fn ratespec(out: &mut Vec<u8>, rate: u64) {
    let low = u32::try_from(rate).unwrap_or(u32::MAX);
    // cell_log, linklayer, overhead (2), cell_align (2), mpu (2)
    out.extend_from_slice(&[0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&low.to_ne_bytes());
}

/// Reads the options of a dumped class; `None` when they are not HTB's.
pub fn parse_class(object: &Object<'_>) -> Option<Params> {
    let opt = attribute(object.options, TCA_HTB_PARMS)?;
    let wide = |kind: u16| attribute(object.options, kind).and_then(|v| u64_at(v, 0));
    Some(Params {
        rate: wide(TCA_HTB_RATE64).unwrap_or(u64::from(u32_at(opt, 8)?)),
        ceil: wide(TCA_HTB_CEIL64).unwrap_or(u64::from(u32_at(opt, 20)?)),
        buffer: u32_at(opt, 24)?,
        cbuffer: u32_at(opt, 28)?,
        quantum: u32_at(opt, 32)?,
        prio: u32_at(opt, 40)?,
    })
}

/// Reads the options of a dumped root qdisc.
pub fn parse_root(object: &Object<'_>) -> Option<RootOptions> {
    let glob = attribute(object.options, TCA_HTB_INIT)?;
    Some(RootOptions { default_minor: u32_at(glob, 8)?, direct_packets: u32_at(glob, 16)? })
}

/// Psched ticks that `bytes` take at `rate` bytes per second; a tick is `tick_ns`.
pub fn ticks(bytes: u64, rate: u64, tick_ns: u32) -> u32 {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    u32::try_from(ns / u128::from(tick_ns.max(1))).unwrap_or(u32::MAX).max(1)
}

/// Nanoseconds of a psched tick from the text of `/proc/net/psched`; 64 on every kernel since 2.6.31, which
/// is also the answer to unreadable text.
pub fn tick_ns(psched: &str) -> u32 {
    const TICK_NS: u32 = 64;
    let mut words = psched.split_whitespace().map(|w| u32::from_str_radix(w, 16));
    let (Some(Ok(to_us)), Some(Ok(from_us))) = (words.next(), words.next()) else { return TICK_NS };
    // A microsecond is `to_us / from_us` ticks of the nanosecond clock.
    if to_us == 0 || from_us == 0 || 1000 * from_us < to_us { TICK_NS } else { 1000 * from_us / to_us }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages;
    use expect_test::expect;

    #[test]
    fn a_class_survives_its_encoding_also_above_34_gbit() {
        for rate in [2_187_500u64, 6_250_000_000] {
            let params = Params { rate, ceil: rate * 2, buffer: 15_625, cbuffer: 1, quantum: 3000, prio: 0 };
            let mut writer = Writer::new();
            new_class(&mut writer, 0, 1, 2, Handle::new(0x7a11, 0x100), Handle::new(0x7a11, 1), &params);
            let message = messages(writer.bytes()).next().expect("a message");
            let object = Object::parse(message.payload).expect("an object");
            assert_eq!(parse_class(&object), Some(params));
        }
    }

    #[test]
    fn the_root_message_is_the_one_the_kernel_took() {
        let mut writer = Writer::new();
        new_root(&mut writer, tc::create_flags(), 1, 2, Handle::new(0x7a11, 0), 0xffff);
        let hex: String = writer.bytes().iter().map(|b| format!("{b:02x}")).collect();
        expect!["4800000024000106010000000000000000000000020000000000117affffffff0000000008000100687462001c00028018000200030000000a000000ffff00000000000000000000"]
            .assert_eq(&hex);
        let object = Object::parse(&writer.bytes()[16..]).expect("an object");
        assert_eq!(parse_root(&object), Some(RootOptions { default_minor: 0xffff, direct_packets: 0 }));
    }

    #[test]
    fn ticks_are_what_tc_computes() {
        assert_eq!(tick_ns("000003e8 00000040 000f4240 3b9aca00"), 64);
        assert_eq!(tick_ns("rubbish"), 64);
        // tc shows 20000 ticks for a burst of 1600 bytes at 10 Mbit/s.
        assert_eq!(ticks(1600, 1_250_000, 64), 20_000);
        assert_eq!(ticks(1, 0, 0), 1_000_000_000);
    }
}
