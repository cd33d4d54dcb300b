//! Records: the facts that change state. Field numbers and variant numbers are never reused; each kind has a
//! golden encoding (`tests/golden`).

use crate::config::Change;
use crate::offer::{Offer, Quote};
use crate::refusal::Refusal;
use crate::reservation::{EndReason, Reservation};
use minicbor::{Decode, Encode};
use tollway_model::{
    AccessId, Amount, BitsPerSecond, CustomerId, Direction, Flow, LegId, Micros, PoolId, QuoteId,
    ReservationId, Seq, Slot, SlotLength, Timestamp,
};
use tollway_policy::{PolicyReport, PortReading, SessionReport, SlotReading, SubscriberRef};

/// The first record of every journal.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct MarketMade {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub slot_length: SlotLength,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Configured {
    #[n(0)]
    pub revision: u64,
    #[n(1)]
    pub changes: Vec<Change>,
    /// What was sold and is no longer there, newly found by this change.
    #[n(2)]
    pub deficits: Vec<Deficit>,
}

/// Commitments above what is on sale: nothing more is sold there.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Deficit {
    #[n(0)]
    pub pool: PoolId,
    #[n(1)]
    pub direction: Direction,
    /// Runs of slots: first, one past the last, largest excess in bit/s of class rate.
    #[n(2)]
    pub runs: Vec<DeficitRun>,
}

#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct DeficitRun {
    #[n(0)]
    pub from: Slot,
    #[n(1)]
    pub until: Slot,
    #[n(2)]
    pub excess_bps: u64,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Held {
    #[n(0)]
    pub reservation: ReservationId,
    #[n(1)]
    pub customer: CustomerId,
    #[n(2)]
    pub quote: QuoteId,
    #[n(3)]
    pub offer: Offer,
    #[n(4)]
    pub expires: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Ended {
    #[n(0)]
    pub reservation: ReservationId,
    #[n(1)]
    pub reason: EndReason,
    /// Charged for cancelling after the tier's notice.
    #[n(2)]
    pub fee: Micros,
    #[n(3)]
    pub detail: Option<String>,
}

/// One fact out of an adapter's report batch; stale and repeated reports leave none.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Fact {
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
    Usage(#[n(0)] UsageFact),
    /// Absent judgement: no pool's floor lies at this port alone, or the port was down.
    #[n(2)]
    Port(#[n(0)] PortReading, #[n(1)] Option<FloorFact>),
    #[n(3)]
    Session(#[n(0)] SessionFact),
}

/// What happened to a learnt access.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct SessionFact {
    #[n(0)]
    pub family: AccessId,
    #[n(1)]
    pub subscriber: SubscriberRef,
    #[n(2)]
    pub report: SessionReport,
}

/// What everyone else was left of a port in a slot, against what is never sold there.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct FloorFact {
    /// Class rate that is never sold: capacity × (1 − sell_share).
    #[n(0)]
    pub floor: BitsPerSecond,
    /// What the default class had: delivered under demand all through the slot, else the rate left to it.
    #[n(1)]
    pub measured: BitsPerSecond,
    #[n(2)]
    pub is_kept: bool,
}

/// A reading and what it was judged to be.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct UsageFact {
    #[n(0)]
    pub reading: SlotReading,
    /// Layer-3 bytes since the reading before, sold direction.
    #[n(1)]
    pub delivered_bytes: u64,
    #[n(2)]
    pub reverse_bytes: u64,
    /// Promised layer-3 bytes of the time that the reading covers.
    #[n(3)]
    pub promised_bytes: u64,
    /// Time for which a `reserved` line accrues.
    #[n(4)]
    pub kept_ms: u64,
    /// Active and not paid, since the flow set had matched nothing yet.
    #[n(5)]
    pub excused_ms: u64,
    /// Bytes for which a `delivered` line accrues.
    #[n(6)]
    pub charged_bytes: u64,
    /// Index of the price segment.
    #[n(7)]
    pub segment: u32,
    /// Posted by this fact.
    #[n(8)]
    pub posted: Micros,
    /// Readings account for all time before this, from here on.
    #[n(9)]
    pub covered_until: Timestamp,
    /// False for a reading out of its place (a slot gone by, or not come yet): it only meters.
    #[n(10)]
    pub is_placed: bool,
    /// Since when its promise is counted, when slots before it had no reading.
    #[n(11)]
    pub covers_from: Option<Timestamp>,
    /// Owed time in which the leg was accepted by a peer that never says more; in `kept_ms` only if the terms
    /// charge it.
    #[n(12)]
    #[cbor(skip_if = "is_zero")]
    pub unconfirmed_ms: u64,
}

fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Reported {
    #[n(0)]
    pub enforcement_point: String,
    /// Number of the adapter's batch; a repeat is acknowledged and changes nothing.
    #[n(1)]
    pub number: u64,
    #[n(2)]
    pub facts: Vec<Fact>,
}

/// An agent connected and is told of legs that no enforcement point can have heard of before.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct LegsTold {
    #[n(0)]
    pub enforcement_point: String,
    #[n(1)]
    pub legs: Vec<LegId>,
}

/// An answer stored under its key, in the same append as its effect.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Answered {
    #[n(0)]
    pub customer: CustomerId,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub key: [u8; 16],
    #[n(2)]
    pub request: u64,
    #[n(3)]
    pub reservation: Option<ReservationId>,
    #[n(4)]
    pub reply: Reply,
}

/// What a command is answered with.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Reply {
    #[n(0)]
    Quote(#[n(0)] Quote),
    #[n(1)]
    Reservation(#[n(0)] Box<Reservation>),
    #[n(2)]
    Refused(#[n(0)] Refusal),
    #[n(3)]
    ToppedUp {
        #[n(0)]
        customer: CustomerId,
        #[n(1)]
        balance: Amount,
    },
    #[n(4)]
    Configured {
        #[n(0)]
        revision: u64,
        #[n(1)]
        changes: u32,
        #[n(2)]
        deficits: Vec<Deficit>,
    },
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Record {
    #[n(1)]
    MarketMade(#[n(0)] MarketMade),
    #[n(2)]
    Configured(#[n(0)] Configured),
    #[n(3)]
    Quoted(#[n(0)] Quote),
    #[n(4)]
    Held(#[n(0)] Held),
    #[n(5)]
    HoldExpired {
        #[n(0)]
        reservation: ReservationId,
    },
    #[n(6)]
    Confirmed {
        #[n(0)]
        reservation: ReservationId,
        /// The enforcement point, when no agent of it was connected: then nobody was told of the leg.
        #[n(1)]
        missing: Option<String>,
    },
    #[n(7)]
    FlowsBound {
        #[n(0)]
        reservation: ReservationId,
        #[n(1)]
        flows: Vec<Flow>,
    },
    #[n(8)]
    Started {
        #[n(0)]
        reservation: ReservationId,
    },
    /// The leg is asked for again after a refusal.
    #[n(9)]
    LegRetried {
        #[n(0)]
        leg: LegId,
        #[n(1)]
        attempt: u32,
    },
    #[n(10)]
    Reported(#[n(0)] Reported),
    #[n(11)]
    Ended(#[n(0)] Ended),
    /// Money is final: what was not posted is given back.
    #[n(12)]
    Settled {
        #[n(0)]
        reservation: ReservationId,
        #[n(1)]
        voided: Micros,
        /// The last reading never came.
        #[n(2)]
        timed_out: bool,
    },
    #[n(13)]
    ToppedUp {
        #[n(0)]
        customer: CustomerId,
        #[n(1)]
        amount: Amount,
        #[n(2)]
        actor: String,
        #[n(3)]
        reason: String,
    },
    #[n(14)]
    Answered(#[n(0)] Answered),
    #[n(15)]
    LegsTold(#[n(0)] LegsTold),
}

impl Record {
    /// Version of a kind's encoding; grows when a field's meaning changes.
    pub const VERSION: u16 = 1;

    /// Number and name of the kind, as the journal's columns carry them.
    pub const fn kind(&self) -> (u16, &'static str) {
        match self {
            Record::MarketMade(_) => (1, "market_made"),
            Record::Configured(_) => (2, "configured"),
            Record::Quoted(_) => (3, "quoted"),
            Record::Held(_) => (4, "held"),
            Record::HoldExpired { .. } => (5, "hold_expired"),
            Record::Confirmed { .. } => (6, "confirmed"),
            Record::FlowsBound { .. } => (7, "flows_bound"),
            Record::Started { .. } => (8, "started"),
            Record::LegRetried { .. } => (9, "leg_retried"),
            Record::Reported(_) => (10, "reported"),
            Record::Ended(_) => (11, "ended"),
            Record::Settled { .. } => (12, "settled"),
            Record::ToppedUp { .. } => (13, "topped_up"),
            Record::Answered(_) => (14, "answered"),
            Record::LegsTold(_) => (15, "legs_told"),
        }
    }

    /// Highest kind this build can read.
    pub const KIND_MAX: u16 = 15;
}

/// A record in its place.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Envelope {
    #[n(0)]
    pub seq: Seq,
    /// When it was decided.
    #[n(1)]
    pub at: Timestamp,
    /// When it was due, for what a timer decided.
    #[n(2)]
    pub due: Option<Timestamp>,
    #[n(3)]
    pub record: Record,
}
