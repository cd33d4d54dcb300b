//! How late the lab itself was: the measure that tells a slow product from a busy host.

use crate::clock;
use std::collections::BTreeMap;

const STEP_NS: u64 = 10_000;
const STEPS: usize = 5_000;
const BIN_NS: u64 = 100 * clock::MS;
/// A frame this late is a stall: the host did not run us.
pub const STALL_NS: u64 = 30 * clock::MS;

/// A histogram in steps of 10 µs up to 50 ms, and the worst of every tenth of a second.
#[derive(Clone)]
pub struct Lateness {
    steps: Vec<u64>,
    count: u64,
    max_ns: u64,
    worst_by_bin: BTreeMap<u64, u64>,
}

impl Default for Lateness {
    fn default() -> Lateness {
        Lateness { steps: vec![0; STEPS + 1], count: 0, max_ns: 0, worst_by_bin: BTreeMap::new() }
    }
}

impl Lateness {
    /// A frame due at one instant left at another.
    pub fn record(&mut self, due_ns: u64, sent_ns: u64) {
        let late = sent_ns.saturating_sub(due_ns);
        let step = usize::try_from(late / STEP_NS).unwrap_or(STEPS).min(STEPS);
        self.steps[step] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(late);
        let worst = self.worst_by_bin.entry(due_ns / BIN_NS).or_default();
        *worst = late.max(*worst);
    }

    /// Takes over everything recorded in another and empties it.
    pub fn absorb(&mut self, fresh: &mut Lateness) {
        if fresh.count == 0 {
            return;
        }
        for (mine, theirs) in self.steps.iter_mut().zip(fresh.steps.iter_mut()) {
            *mine += std::mem::take(theirs);
        }
        self.count += std::mem::take(&mut fresh.count);
        self.max_ns = self.max_ns.max(std::mem::take(&mut fresh.max_ns));
        while let Some((bin, worst)) = fresh.worst_by_bin.pop_first() {
            let known = self.worst_by_bin.entry(bin).or_default();
            *known = worst.max(*known);
        }
    }

    /// What was recorded since an earlier copy of this one; the maximum is that of the whole.
    pub fn since(&self, earlier: &Lateness) -> Lateness {
        let steps = self.steps.iter().zip(&earlier.steps).map(|(now, then)| now - then).collect();
        Lateness {
            steps,
            count: self.count - earlier.count,
            max_ns: self.max_ns,
            worst_by_bin: self.worst_by_bin.clone(),
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The lateness that this share (0 to 1) of the frames did not exceed, rounded up to a step.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let rank = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.steps.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return if step == STEPS { self.max_ns } else { (step as u64 + 1) * STEP_NS };
            }
        }
        0
    }

    /// Stalls that touch a window: (start of the tenth of a second, worst lateness).
    pub fn stalls(&self, from_ns: u64, until_ns: u64) -> Vec<(u64, u64)> {
        self.worst_by_bin
            .range(from_ns / BIN_NS..=until_ns / BIN_NS)
            .filter(|(_, worst)| **worst >= STALL_NS)
            .map(|(bin, worst)| (bin * BIN_NS, *worst))
            .collect()
    }
}

/// The most that p99 may be before the run is called degraded: 1 ms, or 5 % of a longer link's delay.
pub fn p99_allowed_ns(delay_ns: u64) -> u64 {
    clock::MS.max(delay_ns / 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_stalls_are_those_of_what_was_recorded() {
        let mut fresh = Lateness::default();
        for n in 0..1000u64 {
            fresh.record(n * clock::MS, n * clock::MS + 25_000);
        }
        let mut all = Lateness::default();
        all.absorb(&mut fresh);
        let before = all.clone();
        assert_eq!((fresh.count(), all.count()), (0, 1000));
        assert_eq!(all.quantile_ns(0.99), 30_000);
        fresh.record(5_000 * clock::MS, 5_040 * clock::MS);
        all.absorb(&mut fresh);
        assert_eq!(all.since(&before).count(), 1);
        assert_eq!(all.since(&before).quantile_ns(0.99), 40_010_000);
        assert_eq!(all.stalls(0, 900 * clock::MS), vec![]);
        assert_eq!(
            all.stalls(4_900 * clock::MS, 6_000 * clock::MS),
            vec![(5_000 * clock::MS, 40 * clock::MS)]
        );
        assert_eq!(p99_allowed_ns(10 * clock::MS), clock::MS);
        assert_eq!(p99_allowed_ns(100 * clock::MS), 5 * clock::MS);
    }
}
