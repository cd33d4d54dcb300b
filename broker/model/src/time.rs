//! Time as the engine sees it: milliseconds since 1970 UTC, cut into slots of the market's length.

use minicbor::{Decode, Encode};
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Default)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

impl Timestamp {
    pub const ZERO: Timestamp = Timestamp(0);

    pub const fn from_secs(secs: u64) -> Timestamp {
        Timestamp(secs * 1000)
    }

    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Later by `ms`, saturating.
    pub const fn plus_ms(self, ms: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; zero when `earlier` is later.
    pub const fn ms_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

/// Half-open interval `[from, until)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Debug)]
pub struct Window {
    #[n(0)]
    pub from: Timestamp,
    #[n(1)]
    pub until: Timestamp,
}

impl Window {
    pub const fn new(from: Timestamp, until: Timestamp) -> Window {
        Window { from, until }
    }

    pub const fn len_ms(self) -> u64 {
        self.until.ms_since(self.from)
    }

    pub const fn is_empty(self) -> bool {
        self.until.0 <= self.from.0
    }

    pub const fn overlaps(self, other: Window) -> bool {
        self.from.0 < other.until.0 && other.from.0 < self.until.0
    }

    pub const fn contains(self, at: Timestamp) -> bool {
        self.from.0 <= at.0 && at.0 < self.until.0
    }

    /// The part that both cover; empty when they do not touch.
    pub fn intersect(self, other: Window) -> Window {
        let from = self.from.max(other.from);
        Window { from, until: self.until.min(other.until).max(from) }
    }
}

/// Index of a slot since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Debug, Default)]
#[cbor(transparent)]
pub struct Slot(#[n(0)] pub u64);

/// The market's slot length in seconds, fixed when the market is made; it divides a day.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug)]
#[cbor(transparent)]
pub struct SlotLength(#[n(0)] u32);

impl SlotLength {
    /// `None` unless `secs` is 1..=3600 and divides 86,400.
    pub const fn from_secs(secs: u32) -> Option<SlotLength> {
        if secs >= 1 && secs <= 3600 && 86_400 % secs == 0 { Some(SlotLength(secs)) } else { None }
    }

    pub const fn secs(self) -> u32 {
        self.0
    }

    pub const fn ms(self) -> u64 {
        self.0 as u64 * 1000
    }

    pub const fn slots_per_day(self) -> u64 {
        86_400 / self.0 as u64
    }

    /// The slot that holds `at`.
    pub const fn slot_of(self, at: Timestamp) -> Slot {
        Slot(at.0 / self.ms())
    }

    /// The first slot that starts at or after `at`.
    pub const fn slot_ceil(self, at: Timestamp) -> Slot {
        Slot(at.0.div_ceil(self.ms()))
    }

    pub const fn start_of(self, slot: Slot) -> Timestamp {
        Timestamp(slot.0 * self.ms())
    }

    pub const fn window_of(self, slot: Slot) -> Window {
        Window { from: self.start_of(slot), until: Timestamp((slot.0 + 1) * self.ms()) }
    }

    /// Slots that a window touches, rounded outward: what is *taken*.
    pub const fn slots_of(self, window: Window) -> std::ops::Range<u64> {
        if window.is_empty() {
            return 0..0;
        }
        self.slot_of(window.from).0..self.slot_ceil(window.until).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_rounded_outward() {
        let length = SlotLength::from_secs(60).unwrap();
        let window = Window::new(Timestamp::from_secs(59), Timestamp::from_secs(121));
        assert_eq!(length.slots_of(window), 0..3);
        assert_eq!(length.slots_of(Window::new(Timestamp::from_secs(60), Timestamp::from_secs(120))), 1..2);
        assert_eq!(length.slots_of(Window::new(Timestamp::from_secs(60), Timestamp::from_secs(60))), 0..0);
    }

    #[test]
    fn a_slot_length_divides_a_day() {
        assert!(SlotLength::from_secs(7).is_none());
        assert!(SlotLength::from_secs(0).is_none());
        assert!(SlotLength::from_secs(5).is_some());
    }
}
