//! Reports: what an adapter says happened. Late and duplicate reports are normal; attempts and cumulative
//! readings make them harmless.

use crate::road::SessionReport;
use minicbor::{Decode, Encode};
use tollway_model::{BitsPerSecond, Direction, LegId, Slot, Timestamp};

/// Cumulative counters of one class. Bytes are layer-3 bytes delivered (dequeued).
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug, Default)]
pub struct Reading {
    #[n(0)]
    pub bytes: u64,
    #[n(1)]
    pub packets: u64,
    /// Packets dropped in the class's queue.
    #[n(2)]
    pub drops: u64,
}

/// Silence under demand: backlog and no byte.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Gap {
    #[n(0)]
    pub from: Timestamp,
    #[n(1)]
    pub until: Timestamp,
}

/// What one leg's meters said about one slot, or about the part of it that the leg lived in.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct SlotReading {
    #[n(0)]
    pub leg: LegId,
    #[n(1)]
    pub attempt: u32,
    /// One life of the counters: a new one starts from zero and opens a segment.
    #[n(2)]
    pub incarnation: u64,
    /// Grows by one per reading of this leg and incarnation; a repeat changes nothing.
    #[n(3)]
    pub seq: u64,
    #[n(4)]
    pub slot: Slot,
    /// Cumulative at the end of the slot, in the sold direction.
    #[n(5)]
    pub sold: Reading,
    /// Cumulative at the end of the slot, on the return path.
    #[n(6)]
    pub reverse: Reading,
    /// Milliseconds of the slot in which the leg was in the kernel, read back, on a port that was up.
    #[n(7)]
    pub active_ms: u32,
    /// Milliseconds of the slot with backlog at both ends of a poll, sold direction.
    #[n(8)]
    pub busy_ms: u32,
    /// Longest stretch with backlog and not a byte, in milliseconds, sold direction.
    #[n(9)]
    pub gap_ms_max: u32,
    /// Whether any packet has matched the flow set since it was bound.
    #[n(10)]
    pub seen: bool,
    /// The last reading of this leg: it is gone from the enforcement point.
    #[n(11)]
    pub last: bool,
    /// When the reading was taken, by the agent's clock.
    #[n(12)]
    pub at: Timestamp,
    /// Milliseconds of the slot in which the leg was accepted by a peer that never says more.
    #[n(13)]
    #[cbor(skip_if = "is_zero")]
    pub unconfirmed_ms: u32,
}

fn is_zero(ms: &u32) -> bool {
    *ms == 0
}

/// The floor's meter: what the default class of one port carried in one slot.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct PortReading {
    #[n(0)]
    pub port: String,
    #[n(1)]
    pub direction: Direction,
    #[n(2)]
    pub slot: Slot,
    #[n(3)]
    pub incarnation: u64,
    /// Cumulative counters of the default class.
    #[n(4)]
    pub default_class: Reading,
    /// Class rate left to the default class, its smallest in the slot.
    #[n(5)]
    pub default_rate_min: BitsPerSecond,
    #[n(6)]
    pub backlog_bytes: u64,
    /// Packets that bypassed every class (`direct_packets_stat`); more than 0 is an alarm.
    #[n(7)]
    pub direct_packets: u64,
    #[n(8)]
    pub up: bool,
    /// Layer-3 bytes of the default class in this slot.
    #[n(9)]
    pub delivered_bytes: u64,
    /// Milliseconds of the slot in which the default class had backlog.
    #[n(10)]
    pub busy_ms: u32,
}

/// What happened to a leg.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum PolicyReport {
    /// The device said yes.
    #[n(0)]
    Accepted,
    /// The kernel was read back (or the peer reported the resource): it is so since `at`.
    #[n(1)]
    Active {
        #[n(0)]
        at: Timestamp,
    },
    /// The device said no; `reason` is for people.
    #[n(2)]
    Refused {
        #[n(0)]
        reason: String,
    },
    /// Gone, as asked or at `valid_until`.
    #[n(3)]
    Removed {
        #[n(0)]
        at: Timestamp,
    },
    /// Was active and is not: port down, rule taken away by another tool. Reported again as `Active` when
    /// it has been repaired.
    #[n(4)]
    Lost {
        #[n(0)]
        at: Timestamp,
        #[n(1)]
        reason: String,
    },
    /// Accepted since `at` by a peer that never says whether a rule is in force: the most that will be known.
    #[n(5)]
    Unconfirmed {
        #[n(0)]
        at: Timestamp,
    },
    /// It cannot be held there any more and will not be tried again, as when a subscriber moved to a foreign network.
    #[n(6)]
    Withdrawn {
        #[n(0)]
        at: Timestamp,
        #[n(1)]
        reason: String,
    },
}

/// One item of an adapter's report stream.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Report {
    #[n(0)]
    Leg {
        #[n(0)]
        leg: LegId,
        #[n(1)]
        attempt: u32,
        #[n(2)]
        report: PolicyReport,
    },
    #[n(1)]
    Usage(#[n(0)] SlotReading),
    #[n(2)]
    Port(#[n(0)] PortReading),
    /// A learnt access.
    #[n(3)]
    Session(#[n(0)] SessionReport),
}
