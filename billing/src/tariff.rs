//! What a tier costs. A tariff is immutable once used; a change is a new revision.

use crate::curve::Curve;
use minicbor::{Decode, Encode};
use tollway_model::{Currency, Micros};

/// Largest base price, in micro-units: a thousand currency units per Mbit/s-hour or GB. Bounds every
/// numerator far below 2^126.
pub const PRICE_MICROS_MAX: i64 = 1_000_000_000;

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Tariff {
    #[n(0)]
    pub name: String,
    #[n(1)]
    pub currency: Currency,
    /// Micro-units per Mbit/s-hour of promised IP rate.
    #[n(2)]
    pub mbps_hour: Micros,
    /// Micro-units per GB (10^9 bytes) of delivered layer-3 bytes.
    #[n(3)]
    pub gb: Micros,
    /// Micro-units once per reservation, charged with its first kept slot.
    #[n(4)]
    pub setup: Micros,
    #[n(5)]
    pub curve: Curve,
}

impl Tariff {
    /// Every price lies in `0..=PRICE_MICROS_MAX`.
    pub fn is_bounded(&self) -> bool {
        [self.mbps_hour, self.gb, self.setup].iter().all(|p| (0..=PRICE_MICROS_MAX).contains(&p.0))
    }
}
