//! The report as data, versioned: what `report.json` says and `report.html` shows.

use crate::run::Exit;
use serde::Serialize;
use std::collections::BTreeMap;

/// Raised whenever a key changes its meaning or goes.
pub const VERSION: u32 = 2;

#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Failed,
    Degraded,
}

#[derive(Serialize, Clone, Debug)]
pub struct Report {
    pub version: u32,
    pub name: String,
    pub title: String,
    pub seed: u64,
    pub backend: String,
    /// TCP congestion control of every host.
    pub tcp: String,
    pub kernel: String,
    pub started: String,
    pub took_s: f64,
    pub verdict: Verdict,
    /// Why the run ended before its last act, if it did.
    pub aborted: Option<String>,
    pub link: LinkReport,
    pub honesty: Honesty,
    pub rules_left: Option<usize>,
    pub acts: Vec<ActReport>,
}

impl Report {
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Pass => Exit::Pass,
            Verdict::Failed => Exit::ExpectationFailed,
            Verdict::Degraded => Exit::Degraded,
        }
    }
}

#[derive(Serialize, Clone, Debug)]
pub struct LinkReport {
    pub up_bps: u64,
    pub down_bps: u64,
    pub delay_up_ms: f64,
    pub delay_down_ms: f64,
    pub buffer_up_bytes: u64,
    pub buffer_down_bytes: u64,
    pub shaped_bps: Option<u64>,
}

/// How well the lab itself kept its times.
#[derive(Serialize, Clone, Debug)]
pub struct Honesty {
    pub degraded: bool,
    pub frames: u64,
    /// Nothing when no frame crossed the line.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p99_allowed_ms: f64,
    pub max_ms: Option<f64>,
    pub late_acts: Vec<String>,
    /// Inside measured windows: seconds since the start, and how late in milliseconds.
    pub stalls: Vec<(f64, f64)>,
    /// Frames that the kernel did not take from, or give to, the line.
    pub kernel_drops: u64,
}

#[derive(Serialize, Clone, Debug)]
pub struct ActReport {
    pub name: String,
    pub title: String,
    pub role: Option<String>,
    pub sentence: String,
    pub passed: bool,
    /// What the product refused or failed to do against the scenario's will.
    pub problems: Vec<String>,
    /// Each refusal, also one that the scenario wanted.
    pub refusals: Vec<RefusalReport>,
    /// Seconds relative to the act's first step.
    pub from_s: f64,
    pub until_s: f64,
    pub series: Vec<SeriesReport>,
    pub schedules: Vec<ScheduleReport>,
    pub rtt: Vec<RttReport>,
    pub flows: Vec<FlowReport>,
    pub others: OthersReport,
    pub marks: Vec<MarkReport>,
    pub expectations: Vec<Expectation>,
    pub figures: BTreeMap<String, f64>,
}

/// What a series is of.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum SeriesKind {
    /// A step's transfer or stream.
    Flow,
    TcpLoad,
    UdpLoad,
}

#[derive(Serialize, Clone, Debug)]
pub struct SeriesReport {
    pub name: String,
    pub kind: SeriesKind,
    pub host: String,
    pub bought: bool,
    pub from_s: f64,
    pub bin_s: f64,
    pub mbps: Vec<f64>,
}

/// A promise: (from, until, layer-3 Mbit/s).
#[derive(Serialize, Clone, Debug)]
pub struct ScheduleReport {
    pub flow: String,
    pub segments: Vec<(f64, f64, f64)>,
}

/// Round trips: (sent, milliseconds or lost).
#[derive(Serialize, Clone, Debug)]
pub struct RttReport {
    pub host: String,
    pub samples: Vec<(f64, Option<f64>)>,
}

#[derive(Serialize, Clone, Debug)]
pub struct FlowReport {
    pub name: String,
    pub host: String,
    pub bytes: Option<u64>,
    pub deadline_s: Option<f64>,
    pub completed_s: Option<f64>,
    pub mean_bps: f64,
    /// Nothing for a connection that never came far enough to say.
    pub mss_over_mtu: Option<f64>,
    /// Layer-3 bytes by the counter at the receiver.
    pub receiver_bytes: u64,
    /// Layer-3 bytes that the line dropped; nothing where the line does not tell flows apart.
    pub dropped_bytes: Option<u64>,
    pub gap_ms_max: Option<f64>,
    pub purchase: Option<PurchaseReport>,
}

#[derive(Serialize, Clone, Debug)]
pub struct PurchaseReport {
    pub reservation_id: String,
    pub promised_bps: Option<f64>,
    /// From the quote until the kernel had it.
    pub active_after_ms: f64,
    pub held_micros: i64,
    pub charged_micros: Option<i64>,
    pub metered_bytes: Option<u64>,
    pub currency: String,
    pub price_lines: Vec<String>,
    pub evidence: serde_json::Value,
    /// Nothing when the reservation's end could not be read.
    pub bill: Option<BillReport>,
}

/// The product refused: with which code, and what it offered instead.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct RefusalReport {
    pub act: String,
    pub flow: String,
    pub host: String,
    pub status: u16,
    pub code: String,
    pub message: String,
    pub counter_offers: Vec<CounterOfferReport>,
}

#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct CounterOfferReport {
    /// `later`, `slower` or `fewer_bytes`.
    pub variant: String,
    pub rate_bps: u64,
    pub bytes: Option<u64>,
    pub from: String,
    pub until: String,
    /// From the asking to the start; 0 is now.
    pub starts_in_ms: u64,
    pub price_micros: i64,
    pub currency: String,
    pub taken: bool,
    /// The same for people.
    pub text: String,
}

impl RefusalReport {
    /// The code without the name of its API.
    pub fn short_code(&self) -> &str {
        self.code.rsplit('.').next().unwrap_or_default()
    }
}

#[derive(Serialize, Clone, Debug)]
pub struct BillReport {
    pub recomputed_micros: Option<i64>,
    pub text: String,
}

/// Everyone who did not pay.
#[derive(Serialize, Clone, Debug)]
pub struct OthersReport {
    pub l3_bps: Option<f64>,
    pub class_rate_bps: Option<f64>,
    pub floor_bps: Option<f64>,
    /// What they got, as a share of their floor.
    pub l3_over_floor: Option<f64>,
    /// The least share of it that the act expects.
    pub floor_share_min: f64,
    pub rtt_p50_ms: Option<f64>,
    pub rtt_p99_ms: Option<f64>,
    pub rtt_loss: Option<f64>,
}

#[derive(Serialize, Clone, Debug)]
pub struct MarkReport {
    pub at_s: f64,
    pub text: String,
}

#[derive(Serialize, Clone, Debug)]
pub struct Expectation {
    pub text: String,
    pub found: Option<f64>,
    pub holds: bool,
}

impl Expectation {
    /// What was found, in the words in which it was expected.
    pub fn found_text(&self) -> String {
        let truth = self.text.ends_with(" is true") || self.text.ends_with(" is false");
        match self.found {
            None => "not measured".into(),
            Some(found) if truth => format!("found {}", found > 0.5),
            Some(found) => format!("found {}", (found * 1e4).round() / 1e4),
        }
    }
}
