//! From what was received, counted and billed to named figures.

use super::act::{Finished, Played};
use super::stage::Stage;
use super::step::{Flow, FlowKind, MEASURED_NS_MIN};
use crate::clock;
use crate::scenario::Plan;
use crate::scenario::metric::{Figures, Metric, OTHERS};
use crate::scenario::plan::Act;
use crate::traffic::probe::{self, Sample, Summary};
use tollway_model::BitsPerSecond;

/// The tier's packet size: the class rate follows from it.
pub const PACKET_BYTES: u32 = crate::market::config::PACKET_BYTES;
const MTU: f64 = 1_500.0;
/// Segments with timestamps, when a connection never came far enough to say.
const MSS_DEFAULT: u32 = 1_448;
/// The last moments of a flow, when its queues run dry, are not a dip.
const RUN_OUT_NS: u64 = 300 * clock::MS;
const SETTLING_NS: u64 = clock::SECOND;

struct Sheet<'a> {
    act: &'a str,
    figures: Figures,
}

impl Sheet<'_> {
    fn put(&mut self, subject: &str, figure: &str, value: f64) {
        let (act, subject, figure) = (self.act.to_owned(), subject.to_owned(), figure.to_owned());
        self.figures.insert(Metric { act, subject, figure }, value);
    }

    /// What was not measured has no figure.
    fn put_some(&mut self, subject: &str, figure: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.put(subject, figure, value);
        }
    }

    fn truth(&mut self, subject: &str, figure: &str, value: bool) {
        self.put(subject, figure, f64::from(u8::from(value)));
    }
}

/// Payload share of a full packet of this flow; nothing for a connection that never came far enough to say.
pub fn mss_over_mtu(flow: &Flow) -> Option<f64> {
    match flow.kind {
        FlowKind::Transfer { mss, .. } => mss.map(|mss| f64::from(mss) / MTU),
        FlowKind::Stream { .. } => Some(1.0),
    }
}

/// The bytes of the flow's series per second from its start to its end.
pub fn mean_bps(flow: &Flow) -> f64 {
    let took = flow.ended_ns.saturating_sub(flow.started_ns).max(1);
    flow.received.bytes as f64 * 8e9 / took as f64
}

/// Mean promise while the flow ran, in layer-3 bits per second.
pub fn promised_bps(flow: &Flow) -> Option<f64> {
    let bought = flow.purchase.as_ref()?;
    Some(bought.promised_bps(flow.started_ns, flow.ended_ns.min(bought.until_ns)))
}

pub fn of(plan: &Plan, act: &Act, played: &Played, stage: &Stage) -> Figures {
    let mut sheet = Sheet { act: &played.name, figures: Figures::new() };
    for finished in &played.flows {
        flow_figures(&mut sheet, finished);
        if finished.flow.purchase.is_some() {
            bought_figures(&mut sheet, finished);
        }
    }
    for load in &played.loads {
        let rate = load.received.rate_bps(played.from_ns, played.until_ns);
        sheet.put_some(&load.name, if load.is_tcp { "goodput_bps" } else { "l3_bps" }, rate);
        if let Some(loss) = load.loss {
            sheet.put(&load.name, "loss", loss);
        }
    }
    others(&mut sheet, plan, act, played, stage);
    sheet.figures
}

fn flow_figures(sheet: &mut Sheet<'_>, finished: &Finished) {
    let flow = &finished.flow;
    let name = flow.name.as_str();
    sheet.put_some(name, "gap_ms_max", flow.received.gap_ms_max());
    match flow.kind {
        FlowKind::Transfer { deadline_ns, completed_ns, .. } => {
            let met = completed_ns.is_some_and(|at| at <= flow.asked_ns + deadline_ns);
            sheet.truth(name, "deadline_met", met);
            if let Some(at) = completed_ns {
                sheet.put(name, "completed_s", (at - flow.asked_ns) as f64 / 1e9);
            }
            sheet.put(name, "goodput_bps", mean_bps(flow));
            sheet.put(name, "received_bytes", flow.received.bytes as f64);
        }
        FlowKind::Stream { loss } => {
            sheet.put_some(name, "l3_bps", flow.received.rate_bps(flow.started_ns, flow.ended_ns));
            sheet.put(name, "loss", loss);
            let last = flow.ended_ns.saturating_sub(clock::SECOND);
            sheet.truth(name, "resumed", flow.received.bytes_between(last, flow.ended_ns) > 0);
        }
    }
}

fn bought_figures(sheet: &mut Sheet<'_>, finished: &Finished) {
    let flow = &finished.flow;
    let name = flow.name.as_str();
    let promised = promised_bps(flow);
    let payload = promised.unwrap_or(0.0) * mss_over_mtu(flow).unwrap_or(f64::from(MSS_DEFAULT) / MTU);
    sheet.put_some(name, "promised_bps", promised);
    if payload > 0.0 {
        sheet.put(name, "delivered_over_promise", mean_bps(flow) / payload);
        let (from, until) = (flow.started_ns + SETTLING_NS, flow.ended_ns.saturating_sub(RUN_OUT_NS));
        let slowest = flow.received.slowest_bps(from, until, 10);
        sheet.put_some(name, "slowest_second_over_promise", slowest.map(|bps| bps / payload));
    }
    let refused = flow.purchase.as_ref().is_some_and(|p| p.refused.is_some());
    sheet.truth(name, "counter_offer_taken", refused);
    let Some((settled, checked)) = &finished.settled else { return };
    if let Some(metered) = settled.metered_bytes() {
        // netem does not tell flows apart; what was paid never queues there, because the agent shapes to less.
        let seen = finished.receiver_bytes + finished.dropped_bytes.unwrap_or(0);
        sheet.put(name, "unmetered_bytes", seen as f64 - metered as f64);
    }
    if let Some(charged) = settled.charged_micros() {
        sheet.put(name, "charged_micros", charged as f64);
        if let Some(recomputed) = checked.recomputed_micros {
            sheet.put(name, "bill_difference_micros", (charged - recomputed) as f64);
        }
    }
    if let Some(gap_ms) = settled.gap_ms() {
        sheet.put(name, "evidence_gap_ms", gap_ms as f64);
        sheet.truth(name, "active_again", settled.active_again());
    }
}

/// The part of an act in which everyone else is measured: while its first measured flow ran, else all of it.
/// Nothing when none of the act's flows came to be, or when it was too short to say anything.
pub fn others_window(act: &Act, played: &Played) -> Option<(u64, u64)> {
    if let Some(m) = played.flows.iter().find_map(|f| f.flow.measured.as_ref()) {
        return Some((m.from_ns, m.until_ns));
    }
    let planned = act.steps.iter().any(|step| step.name().is_some());
    let shown = !played.flows.is_empty() || !planned;
    let long_enough = played.until_ns >= played.from_ns + MEASURED_NS_MIN;
    (shown && long_enough).then_some((played.from_ns, played.until_ns))
}

/// Class rate of everything bought, on average over a window.
pub fn class_rate_bps(played: &Played, from_ns: u64, until_ns: u64) -> f64 {
    let class = |flow: &Flow| {
        let bps = flow.purchase.as_ref().map_or(0.0, |p| p.promised_bps(from_ns, until_ns));
        BitsPerSecond(bps as u64).class_rate(PACKET_BYTES).get() as f64
    };
    played.flows.iter().map(|f| class(&f.flow)).sum()
}

/// Samples of all probes in a window, those of a buyer's host included: the probe itself is never bought.
pub fn others_rtt(stage: &Stage, from_ns: u64, until_ns: u64) -> Summary {
    let samples: Vec<Sample> =
        stage.probes.values().flat_map(|probe| probe.samples(from_ns, until_ns)).collect();
    probe::summarise(&samples, clock::now_ns())
}

fn others(sheet: &mut Sheet<'_>, plan: &Plan, act: &Act, played: &Played, stage: &Stage) {
    let Some((from_ns, until_ns)) = others_window(act, played) else { return };
    let measured = played.flows.iter().find_map(|f| f.flow.measured.as_ref());
    let l3_bps = match measured {
        Some(m) => {
            let bytes = m.until.others().bytes - m.from.others().bytes;
            bytes as f64 * 8e9 / (m.until_ns - m.from_ns).max(1) as f64
        }
        None => played.loads.iter().filter_map(|load| load.received.rate_bps(from_ns, until_ns)).sum(),
    };
    sheet.put(OTHERS, "l3_bps", l3_bps);
    if let Some(market) = plan.market {
        let floor = market.shaped_bps as f64 - class_rate_bps(played, from_ns, until_ns);
        sheet.put(OTHERS, "floor_bps", floor);
        if floor > 0.0 {
            sheet.put(OTHERS, "l3_over_floor", l3_bps / floor);
        }
    }
    let rtt = others_rtt(stage, from_ns, until_ns);
    sheet.put_some(OTHERS, "rtt_p50_ms", rtt.p50_ms);
    sheet.put_some(OTHERS, "rtt_p99_ms", rtt.p99_ms);
    sheet.put_some(OTHERS, "rtt_loss", (rtt.count > 0).then_some(rtt.loss));
}
