//! Names of measured figures: `[ACT:]SUBJECT.FIGURE`, such as `upload.goodput_bps` or
//! `overload:others.rtt_p50_ms`.

use std::collections::BTreeMap;

/// The subject that stands for all traffic that nobody paid for.
pub const OTHERS: &str = "others";

/// What a subject is, which says what can be measured of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Transfer { bought: bool },
    Stream { bought: bool },
    TcpLoad,
    UdpLoad,
    Others { market: bool },
}

const TRANSFER: &[&str] = &["deadline_met", "completed_s", "goodput_bps", "received_bytes", "gap_ms_max"];
const STREAM: &[&str] = &["l3_bps", "loss", "gap_ms_max", "resumed"];
const BOUGHT: &[&str] = &[
    "promised_bps",
    "delivered_over_promise",
    "slowest_second_over_promise",
    "counter_offer_taken",
    "unmetered_bytes",
    "bill_difference_micros",
    "charged_micros",
    "evidence_gap_ms",
    "active_again",
];
const OTHERS_FIGURES: &[&str] = &["l3_bps", "rtt_p50_ms", "rtt_p99_ms", "rtt_loss"];
const OTHERS_MARKET: &[&str] = &["floor_bps", "l3_over_floor"];

impl Subject {
    /// What can be measured of it.
    pub fn figures(self) -> Vec<&'static str> {
        let with = |base: &[&'static str], more: &[&'static str], also: bool| {
            let mut all = base.to_vec();
            if also {
                all.extend_from_slice(more);
            }
            all
        };
        match self {
            Subject::Transfer { bought } => with(TRANSFER, BOUGHT, bought),
            Subject::Stream { bought } => with(STREAM, BOUGHT, bought),
            Subject::TcpLoad => vec!["goodput_bps"],
            Subject::UdpLoad => vec!["l3_bps", "loss"],
            Subject::Others { market } => with(OTHERS_FIGURES, OTHERS_MARKET, market),
        }
    }
}

/// A figure's full name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Metric {
    pub act: String,
    pub subject: String,
    pub figure: String,
}

impl Metric {
    /// Splits `[ACT:]SUBJECT.FIGURE`; the act defaults to the one that asks.
    pub fn parse(text: &str, act: &str) -> Option<Metric> {
        let (act, rest) = text.split_once(':').unwrap_or((act, text));
        let (subject, figure) = rest.split_once('.')?;
        Some(Metric { act: act.to_owned(), subject: subject.to_owned(), figure: figure.to_owned() })
    }
}

/// A figure's value; a truth is 1 or 0.
pub type Figures = BTreeMap<Metric, f64>;
