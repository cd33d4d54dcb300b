//! Needs, quotes and offers.

use crate::config::{ChargeBy, TierKind};
use minicbor::{Decode, Encode};
use tollway_billing::{ChargeLine, PriceSegment};
use tollway_model::{
    AccessId, Amount, BitsPerSecond, CustomerId, Direction, Micros, QuoteId, Schedule, TierId, Timestamp,
    Window,
};
use tollway_policy::{ClassShape, SubscriberRef};

/// What a customer needs inside a window.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub enum Need {
    /// A constant IP rate over the whole window.
    #[n(0)]
    Rate(#[n(0)] BitsPerSecond),
    /// Payload bytes by the window's end.
    #[n(1)]
    Bytes(#[n(0)] u64),
}

/// A time that a request names absolutely, or from the instant it is handled.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub enum When {
    #[n(0)]
    At(#[n(0)] Timestamp),
    /// Milliseconds from now.
    #[n(1)]
    In(#[n(0)] u64),
}

impl When {
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::In(ms) => now.plus_ms(ms),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct QuoteRequest {
    #[n(0)]
    pub access: AccessId,
    #[n(1)]
    pub direction: Direction,
    /// Absent: one offer for each tier on sale.
    #[n(2)]
    pub tier: Option<TierId>,
    #[n(3)]
    pub need: Need,
    /// Absent: now.
    #[n(4)]
    pub start: Option<When>,
    #[n(5)]
    pub end: When,
    /// Whose line it is, where the access is a family.
    #[n(6)]
    pub subscriber: Option<SubscriberRef>,
}

/// The parts of a tier that a reservation carries through its whole life.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Terms {
    #[n(0)]
    pub kind: TierKind,
    #[n(1)]
    pub charge_by: ChargeBy,
    #[n(2)]
    pub shape: ClassShape,
    #[n(3)]
    pub start_grace_ms: u64,
    #[n(4)]
    pub unseen_free_ms: u64,
    #[n(5)]
    pub gap_ms_max: u64,
    #[n(6)]
    pub notice_ms: u64,
    #[n(7)]
    pub cancel_fee_ppm: u32,
    #[n(8)]
    pub overhead_ppm: u32,
    /// Unconfirmed time is paid for like active time.
    #[n(9)]
    #[cbor(skip_if = "crate::config::is_false")]
    pub charge_unconfirmed: bool,
}

/// How a counter-offer differs from what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum Variant {
    #[n(0)]
    AsAsked,
    #[n(1)]
    Later,
    #[n(2)]
    Slower,
    #[n(3)]
    FewerBytes,
}

impl Variant {
    pub const fn as_str(self) -> &'static str {
        match self {
            Variant::AsAsked => "as_asked",
            Variant::Later => "later",
            Variant::Slower => "slower",
            Variant::FewerBytes => "fewer_bytes",
        }
    }
}

/// One priced alternative.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Offer {
    #[n(0)]
    pub index: u32,
    #[n(1)]
    pub variant: Variant,
    #[n(2)]
    pub tier: TierId,
    #[n(3)]
    pub tier_revision: u32,
    #[n(4)]
    pub access: AccessId,
    #[n(5)]
    pub direction: Direction,
    #[n(6)]
    pub window: Window,
    /// Promised IP rate by time.
    #[n(7)]
    pub schedule: Schedule,
    /// Payload bytes, for a bytes offer.
    #[n(8)]
    pub bytes: Option<u64>,
    #[n(9)]
    pub terms: Terms,
    #[n(10)]
    pub segments: Vec<PriceSegment>,
    #[n(11)]
    pub setup: Micros,
    /// The worst case: what will be held.
    #[n(12)]
    pub total: Amount,
    /// Whose line it is, where the access is a family.
    #[n(13)]
    pub subscriber: Option<SubscriberRef>,
}

impl Offer {
    pub fn charge_line(&self) -> ChargeLine {
        ChargeLine::new(self.terms.charge_by.unit(), self.segments.clone(), self.setup)
    }

    /// Whether what is left of the schedule still carries the bytes.
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        is_in_time(&self.schedule, self.bytes, &self.terms, now)
    }
}

/// Whether a schedule taken or confirmed at `now` still carries its bytes. Half of the tier's overhead may be
/// lost on the way from the quote; then the deadline would be missed though every slot left is kept.
pub(crate) fn is_in_time(schedule: &Schedule, bytes: Option<u64>, terms: &Terms, now: Timestamp) -> bool {
    let Some(bytes) = bytes else { return true };
    let left = schedule.after(now);
    let carried = left.window().map_or(0, |window| left.bytes_in(window));
    let least = u128::from(bytes) * (1_000_000 + u128::from(terms.overhead_ppm) / 2) / 1_000_000;
    u128::from(carried) >= least
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Quote {
    #[n(0)]
    pub id: QuoteId,
    #[n(1)]
    pub customer: CustomerId,
    #[n(2)]
    pub valid_until: Timestamp,
    #[n(3)]
    pub request: QuoteRequest,
    #[n(4)]
    pub offers: Vec<Offer>,
    /// Set when nothing as asked fits: the offers are counter-offers.
    #[n(5)]
    pub is_counter: bool,
    /// The quote whose offer no longer fitted when it was taken; it is over.
    #[n(6)]
    pub replaces: Option<QuoteId>,
}
