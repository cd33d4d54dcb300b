//! A row of the result and how it is measured: the median of several rounds, so that one hiccup of the
//! machine does not decide.

use serde::Serialize;
use std::time::Instant;

const ROUNDS: usize = 7;

#[derive(Serialize)]
pub struct Row {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What it is compared with, measured in the same run.
    pub peer: Option<&'static str>,
    pub peer_value: Option<f64>,
    /// How many times better than the peer.
    pub ratio: Option<f64>,
    /// The aim, in the row's unit, and whether it was reached.
    pub aim: String,
    pub reached: bool,
    pub bound_by: &'static str,
}

/// Nanoseconds of one `step`, the median over rounds of `count` steps each.
pub fn nanos(count: u32, mut round: impl FnMut(u32)) -> f64 {
    let mut samples: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round(count);
            start.elapsed().as_nanos() as f64 / f64::from(count)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[ROUNDS / 2]
}

/// SplitMix64: enough randomness for a workload, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
