//! A charge line: frozen price segments, one numerator, what has been posted of it. There is one rounding
//! per line, whatever the usage was cut into: `total = round_half_even(numerator / scale)`, and a posting is
//! the difference between the total and what was posted before.

use crate::tariff::Tariff;
use minicbor::{Decode, Encode};
use tollway_model::money::round_half_even;
use tollway_model::{BitsPerSecond, Micros, Timestamp, Window};

const PPM: i128 = 1_000_000;

/// What a price counts.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum Unit {
    /// Mbit/s-hours of promised rate over kept time.
    #[n(0)]
    MbpsHour,
    /// GB (10^9) of delivered layer-3 bytes, at most the promised ones of each slot.
    #[n(1)]
    Gb,
}

impl Unit {
    /// Denominator of a line's numerator: quantity scale × ppm.
    pub const fn scale(self) -> i128 {
        match self {
            Unit::MbpsHour => 1_000_000 * 3_600_000 * PPM,
            Unit::Gb => 1_000_000_000 * PPM,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::MbpsHour => "mbps_hour",
            Unit::Gb => "gb",
        }
    }

    pub fn base_price(self, tariff: &Tariff) -> Micros {
        match self {
            Unit::MbpsHour => tariff.mbps_hour,
            Unit::Gb => tariff.gb,
        }
    }
}

/// A stretch of the schedule at one frozen price.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
pub struct PriceSegment {
    #[n(0)]
    pub window: Window,
    /// Promised IP rate.
    #[n(1)]
    pub rate: BitsPerSecond,
    #[n(2)]
    pub unit_price: Micros,
    #[n(3)]
    pub multiplier_ppm: u32,
}

impl PriceSegment {
    fn price(&self) -> i128 {
        i128::from(self.unit_price.0).saturating_mul(i128::from(self.multiplier_ppm))
    }

    fn of_time(&self, kept_ms: u64) -> i128 {
        i128::from(self.rate.0).saturating_mul(i128::from(kept_ms)).saturating_mul(self.price())
    }

    fn of_bytes(&self, bytes: u64) -> i128 {
        i128::from(bytes).saturating_mul(self.price())
    }

    /// What the segment adds when all of it is kept and used.
    pub fn worst(&self, unit: Unit) -> i128 {
        match unit {
            Unit::MbpsHour => self.of_time(self.window.len_ms()),
            Unit::Gb => self.of_bytes(self.rate.bytes_in_ms(self.window.len_ms())),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct ChargeLine {
    #[n(0)]
    pub unit: Unit,
    /// In time order, without overlap.
    #[n(1)]
    pub segments: Vec<PriceSegment>,
    /// Once, with the first accrual.
    #[n(2)]
    pub setup: Micros,
    #[n(3)]
    numerator: Numerator,
    #[n(4)]
    posted: Micros,
}

/// An `i128` as two halves, since the encoding has no such integer.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug, Default)]
struct Numerator {
    #[n(0)]
    high: i64,
    #[n(1)]
    low: u64,
}

impl Numerator {
    fn get(self) -> i128 {
        (i128::from(self.high) << 64) | i128::from(self.low)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn of(value: i128) -> Numerator {
        Numerator { high: (value >> 64) as i64, low: value as u64 }
    }
}

impl ChargeLine {
    pub fn new(unit: Unit, segments: Vec<PriceSegment>, setup: Micros) -> ChargeLine {
        ChargeLine { unit, segments, setup, numerator: Numerator::default(), posted: Micros::ZERO }
    }

    /// The most this line can ever come to: what is held.
    pub fn worst_case(&self) -> Micros {
        let sum =
            self.segments.iter().fold(self.setup_numerator(), |n, s| n.saturating_add(s.worst(self.unit)));
        to_micros(sum, self.unit)
    }

    /// Total so far, rounded once.
    pub fn total(&self) -> Micros {
        to_micros(self.numerator.get(), self.unit)
    }

    pub fn posted(&self) -> Micros {
        self.posted
    }

    pub fn numerator(&self) -> i128 {
        self.numerator.get()
    }

    /// The segment in force at an instant.
    pub fn segment_at(&self, at: Timestamp) -> Option<usize> {
        self.segments.iter().position(|s| s.window.contains(at))
    }

    /// Adds kept time of one segment (`Unit::MbpsHour`) or delivered bytes (`Unit::Gb`); returns what is to
    /// be posted now. The charge never passes `cap`, what was held.
    pub fn accrue(&mut self, segment: usize, kept_ms: u64, bytes: u64, cap: Micros) -> Micros {
        let (numerator, delta) = self.after(segment, kept_ms, bytes, cap);
        self.numerator = Numerator::of(numerator);
        self.posted = self.posted.checked_add(delta).unwrap_or(self.posted);
        delta
    }

    /// What [`ChargeLine::accrue`] would post, without changing anything.
    pub fn preview(&self, segment: usize, kept_ms: u64, bytes: u64, cap: Micros) -> Micros {
        self.after(segment, kept_ms, bytes, cap).1
    }

    /// Numerator and posting after one more accrual.
    fn after(&self, segment: usize, kept_ms: u64, bytes: u64, cap: Micros) -> (i128, Micros) {
        let before = self.numerator.get();
        let Some(priced) = self.segments.get(segment) else { return (before, Micros::ZERO) };
        let (quantity, added) = match self.unit {
            Unit::MbpsHour => (kept_ms, priced.of_time(kept_ms)),
            Unit::Gb => (bytes, priced.of_bytes(bytes)),
        };
        if quantity == 0 {
            return (before, Micros::ZERO);
        }
        let first = before == 0 && self.posted == Micros::ZERO;
        let setup = if first { self.setup_numerator() } else { 0 };
        let numerator = before.saturating_add(added).saturating_add(setup);
        let due = to_micros(numerator, self.unit).min(cap);
        let delta = due.checked_sub(self.posted).unwrap_or(Micros::ZERO).max(Micros::ZERO);
        (numerator, delta)
    }

    fn setup_numerator(&self) -> i128 {
        i128::from(self.setup.0).saturating_mul(self.unit.scale())
    }
}

fn to_micros(numerator: i128, unit: Unit) -> Micros {
    Micros(i64::try_from(round_half_even(numerator, unit.scale())).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn line(unit: Unit, price: i64) -> ChargeLine {
        let window = Window::new(Timestamp::from_secs(0), Timestamp::from_secs(3600));
        let segment = PriceSegment {
            window,
            rate: BitsPerSecond(3_333_333),
            unit_price: Micros(price),
            multiplier_ppm: 1_234_567,
        };
        ChargeLine::new(unit, vec![segment], Micros::ZERO)
    }

    #[test]
    fn the_total_does_not_depend_on_the_cut() {
        for price in [1, 7, 20_000] {
            let mut whole = line(Unit::MbpsHour, price);
            let cap = whole.worst_case();
            let at_once = whole.accrue(0, 3_600_000, 0, cap);
            for step in [1_000u64, 7_000, 60_000] {
                let mut cut = line(Unit::MbpsHour, price);
                let mut sum = 0;
                let mut left = 3_600_000u64;
                while left > 0 {
                    let part = step.min(left);
                    let delta = cut.accrue(0, part, 0, cap);
                    assert!(delta.0 >= 0);
                    sum += delta.0;
                    left -= part;
                }
                assert_eq!(sum, at_once.0, "price {price}, step {step}");
            }
        }
    }

    #[test]
    fn the_charge_is_capped_by_what_was_held() {
        let mut bytes = line(Unit::Gb, 50_000);
        let cap = bytes.worst_case();
        let delta = bytes.accrue(0, 1, u64::MAX / 2, cap);
        assert_eq!(delta, cap);
        assert_eq!(bytes.accrue(0, 1, 1_000_000_000, cap), Micros::ZERO);
    }

    #[test]
    fn setup_is_charged_with_the_first_kept_slot_only() {
        let mut paid = line(Unit::MbpsHour, 20_000);
        paid.setup = Micros(500);
        let cap = paid.worst_case();
        assert_eq!(paid.accrue(0, 0, 0, cap), Micros::ZERO);
        let first = paid.accrue(0, 1_000, 0, cap);
        let second = paid.accrue(0, 1_000, 0, cap);
        assert!(first.0 >= 500 && second.0 < 500);
    }

    #[test]
    fn a_numerator_survives_its_encoding() {
        for value in [0i128, 1, -1, i128::MAX / 3, i128::MIN / 5, 1 << 64, (1 << 64) - 1] {
            assert_eq!(Numerator::of(value).get(), value);
        }
    }
}
