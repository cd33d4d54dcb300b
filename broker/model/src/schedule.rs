//! `Schedule`: a rate by time. One type for every adapter.

use crate::rate::BitsPerSecond;
use crate::time::{Timestamp, Window};
use minicbor::{Decode, Encode};

/// Most segments a schedule may have; equal neighbours are merged first.
pub const SEGMENTS_MAX: usize = 64;

/// A constant rate over a half-open interval.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Debug)]
pub struct Segment {
    #[n(0)]
    pub window: Window,
    #[n(1)]
    pub rate: BitsPerSecond,
}

/// Segments in time order, without overlap and without equal neighbours; gaps are rate zero.
#[derive(Clone, PartialEq, Eq, Hash, Encode, Decode, Debug, Default)]
#[cbor(transparent)]
pub struct Schedule(#[n(0)] Vec<Segment>);

impl Schedule {
    /// A single rate over one window.
    pub fn constant(window: Window, rate: BitsPerSecond) -> Schedule {
        if window.is_empty() || rate.0 == 0 {
            return Schedule::default();
        }
        Schedule(vec![Segment { window, rate }])
    }

    /// Drops empty and zero-rate segments and merges equal neighbours; `None` when segments overlap or are
    /// out of order.
    pub fn from_segments(segments: impl IntoIterator<Item = Segment>) -> Option<Schedule> {
        let mut merged: Vec<Segment> = Vec::new();
        for segment in segments {
            if segment.window.is_empty() || segment.rate.0 == 0 {
                continue;
            }
            match merged.last_mut() {
                Some(last) if last.window.until > segment.window.from => return None,
                Some(last) if last.window.until == segment.window.from && last.rate == segment.rate => {
                    last.window.until = segment.window.until;
                }
                Some(_) | None => merged.push(segment),
            }
        }
        Some(Schedule(merged))
    }

    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From the first segment's start to the last one's end.
    pub fn window(&self) -> Option<Window> {
        let first = self.0.first()?;
        let last = self.0.last()?;
        Some(Window::new(first.window.from, last.window.until))
    }

    /// The rate in force at an instant; zero outside.
    pub fn rate_at(&self, at: Timestamp) -> BitsPerSecond {
        match self.0.binary_search_by(|s| {
            if s.window.until <= at {
                std::cmp::Ordering::Less
            } else if s.window.from > at {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        }) {
            Ok(index) => self.0[index].rate,
            Err(_) => BitsPerSecond::ZERO,
        }
    }

    /// The next instant after `at` at which the rate changes.
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        self.0.iter().flat_map(|s| [s.window.from, s.window.until]).find(|edge| *edge > at)
    }

    pub fn rate_max(&self) -> BitsPerSecond {
        self.0.iter().map(|s| s.rate).max().unwrap_or_default()
    }

    /// Whole bytes that the schedule carries inside `window`, rounded down once.
    pub fn bytes_in(&self, window: Window) -> u64 {
        let bit_ms: u128 = self
            .0
            .iter()
            .map(|s| u128::from(s.rate.0) * u128::from(s.window.intersect(window).len_ms()))
            .sum();
        u64::try_from(bit_ms / 8_000).unwrap_or(u64::MAX)
    }

    /// The same times at rates mapped one by one.
    pub fn map_rates(&self, map: impl Fn(BitsPerSecond) -> BitsPerSecond) -> Schedule {
        let mapped = self.0.iter().map(|s| Segment { window: s.window, rate: map(s.rate) });
        Schedule::from_segments(mapped).unwrap_or_default()
    }

    /// What lies at or after `from`.
    pub fn after(&self, from: Timestamp) -> Schedule {
        let rest = self
            .0
            .iter()
            .map(|s| Segment { window: Window::new(s.window.from.max(from), s.window.until), rate: s.rate });
        Schedule::from_segments(rest).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn seg(from: u64, until: u64, rate: u64) -> Segment {
        Segment {
            window: Window::new(Timestamp::from_secs(from), Timestamp::from_secs(until)),
            rate: BitsPerSecond(rate),
        }
    }

    #[test]
    fn equal_neighbours_merge_and_overlap_is_refused() {
        let schedule = Schedule::from_segments([seg(0, 5, 8), seg(5, 10, 8), seg(10, 15, 0), seg(20, 25, 9)]);
        expect![[r#"
            Some(Schedule([Segment { window: Window { from: 0.000s, until: 10.000s }, rate: 8bps }, Segment { window: Window { from: 20.000s, until: 25.000s }, rate: 9bps }]))"#]]
        .assert_eq(&format!("{schedule:?}"));
        assert!(Schedule::from_segments([seg(0, 5, 8), seg(4, 10, 8)]).is_none());
    }

    #[test]
    fn rate_and_bytes_follow_time() {
        let schedule = Schedule::from_segments([seg(0, 10, 80), seg(20, 25, 800)]).unwrap();
        assert_eq!(schedule.rate_at(Timestamp::from_secs(9)).0, 80);
        assert_eq!(schedule.rate_at(Timestamp::from_secs(10)).0, 0);
        assert_eq!(schedule.rate_at(Timestamp::from_secs(24)).0, 800);
        assert_eq!(schedule.next_change(Timestamp::from_secs(10)), Some(Timestamp::from_secs(20)));
        assert_eq!(schedule.bytes_in(Window::new(Timestamp::from_secs(5), Timestamp::from_secs(21))), 150);
        assert_eq!(schedule.after(Timestamp::from_secs(22)).bytes_in(schedule.window().unwrap()), 300);
    }
}
