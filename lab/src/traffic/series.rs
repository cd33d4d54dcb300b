//! What a receiver saw, by tenth of a second.

use crate::clock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Width of a bin.
pub const BIN_NS: u64 = 100 * clock::MS;

/// A copy of a series at one instant.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Received {
    pub bytes: u64,
    pub packets: u64,
    pub first_ns: Option<u64>,
    pub last_ns: Option<u64>,
    /// Longest time between two arrivals.
    pub gap_ns_max: u64,
    bins: BTreeMap<u64, u64>,
}

impl Received {
    /// Bytes of arrival, spread over bins of [`BIN_NS`].
    pub fn record(&mut self, at_ns: u64, bytes: u64) {
        if let Some(last) = self.last_ns {
            self.gap_ns_max = self.gap_ns_max.max(at_ns.saturating_sub(last));
        }
        self.first_ns.get_or_insert(at_ns);
        self.last_ns = Some(at_ns);
        self.bytes += bytes;
        self.packets += 1;
        *self.bins.entry(at_ns / BIN_NS).or_default() += bytes;
    }

    /// Bytes that arrived in the whole bins of a window.
    pub fn bytes_between(&self, from_ns: u64, until_ns: u64) -> u64 {
        if until_ns <= from_ns {
            return 0;
        }
        self.bins.range(from_ns.div_ceil(BIN_NS)..until_ns / BIN_NS).map(|(_, bytes)| bytes).sum()
    }

    /// Bits per second in the whole bins of a window; nothing when it has none.
    pub fn rate_bps(&self, from_ns: u64, until_ns: u64) -> Option<f64> {
        let bins = (until_ns / BIN_NS).saturating_sub(from_ns.div_ceil(BIN_NS));
        (bins > 0).then(|| self.bytes_between(from_ns, until_ns) as f64 * 8e9 / (bins * BIN_NS) as f64)
    }

    /// Longest time between two arrivals; nothing before there were two.
    pub fn gap_ms_max(&self) -> Option<f64> {
        (self.packets > 1).then(|| self.gap_ns_max as f64 / 1e6)
    }

    /// The slowest stretch of this many bins inside a window, in bits per second; nothing when it is shorter.
    pub fn slowest_bps(&self, from_ns: u64, until_ns: u64, width: u64) -> Option<f64> {
        let (first, end) = (from_ns.div_ceil(BIN_NS), until_ns / BIN_NS);
        let last = end.checked_sub(width)?;
        (first..=last).filter_map(|bin| self.rate_bps(bin * BIN_NS, (bin + width) * BIN_NS)).reduce(f64::min)
    }

    /// Megabits per second in each bin of a window, zeros included.
    pub fn mbps_by_bin(&self, from_ns: u64, until_ns: u64) -> Vec<f64> {
        (from_ns / BIN_NS..until_ns.div_ceil(BIN_NS))
            .map(|bin| self.bins.get(&bin).copied().unwrap_or(0) as f64 * 8e3 / BIN_NS as f64)
            .collect()
    }
}

/// A series that a receiver fills and the lab reads.
#[derive(Clone, Default)]
pub struct Series(Arc<Mutex<Received>>);

impl Series {
    pub fn record(&self, at_ns: u64, bytes: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record(at_ns, bytes);
    }

    pub fn read(&self) -> Received {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_gaps_and_the_slowest_stretch() {
        let mut seen = Received::default();
        for bin in 0..20u64 {
            if bin != 10 {
                seen.record(bin * BIN_NS + 5, 12_500);
            }
        }
        assert_eq!(Received::default().gap_ms_max(), None);
        assert_eq!(seen.rate_bps(0, 10 * BIN_NS), Some(1_000_000.0));
        assert_eq!(seen.gap_ms_max(), Some(200.0));
        assert_eq!(seen.slowest_bps(0, 20 * BIN_NS, 1), Some(0.0));
        assert_eq!(seen.slowest_bps(0, 20 * BIN_NS, 2), Some(500_000.0));
        assert_eq!(seen.slowest_bps(0, 10 * BIN_NS, 10), Some(1_000_000.0));
        assert_eq!(seen.slowest_bps(0, 5 * BIN_NS, 10), None);
        assert_eq!(seen.mbps_by_bin(9 * BIN_NS, 12 * BIN_NS), vec![1.0, 0.0, 1.0]);
        assert_eq!(seen.rate_bps(0, 1), None);
    }
}
