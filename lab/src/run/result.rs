//! `result.json`: the few figures that a script or a reader asks for first. What a scenario has no act for is
//! null.

use crate::report::model::{ActReport, FlowReport, PurchaseReport, Report};
use crate::scenario::Plan;
use serde::Serialize;

fn act<'a>(report: &'a Report, role: &str) -> Option<&'a ActReport> {
    report.acts.iter().find(|act| act.role.as_deref() == Some(role))
}

fn first(act: Option<&ActReport>) -> Option<&FlowReport> {
    act.and_then(|act| act.flows.first())
}

fn bought(flow: Option<&FlowReport>) -> Option<&PurchaseReport> {
    flow.and_then(|flow| flow.purchase.as_ref())
}

fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn seconds(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn ratio(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn met(flow: &FlowReport) -> bool {
    flow.completed_s.zip(flow.deadline_s).is_some_and(|(took, allowed)| took <= allowed)
}

/// `result.json`, its keys in a fixed order.
#[derive(Serialize, Debug)]
pub struct Results {
    baseline: Option<Baseline>,
    paid: Option<Paid>,
    idle: Option<Idle>,
    others_rtt_ms: OthersRtt,
    others_floor_kept: Option<bool>,
    counter_offer_ok: Option<bool>,
    broker_killed: Option<bool>,
    gap_ms_max: Option<u64>,
    link_bps: Option<u64>,
    class_rate_bps: Option<u64>,
    mss_over_mtu: Option<f64>,
    metered_bytes: Option<u64>,
    receiver_bytes: Option<u64>,
    charged_micros: Option<i64>,
    held_micros: Option<i64>,
    bill_recomputed_micros: Option<i64>,
    currency: Option<String>,
    rules_left: Option<usize>,
    degraded: bool,
}

#[derive(Serialize, Debug)]
struct Baseline {
    goodput_bps: u64,
    completed_s: Option<f64>,
    deadline_met: bool,
}

#[derive(Serialize, Debug)]
struct Paid {
    promised_bps: Option<u64>,
    goodput_bps: u64,
    completed_s: Option<f64>,
    deadline_met: bool,
    others_l3_bps: u64,
}

#[derive(Serialize, Debug)]
struct Idle {
    paid_over_unpaid: Option<f64>,
}

#[derive(Serialize, Debug)]
struct OthersRtt {
    before: Option<f64>,
    after: Option<f64>,
}

/// Picks the figures out of a report.
pub fn of(plan: &Plan, report: &Report) -> Results {
    let baseline = act(report, "baseline");
    let paid = act(report, "paid");
    let paid_flow = first(paid);
    let purchase = bought(paid_flow);
    Results {
        baseline: first(baseline).map(|flow| Baseline {
            goodput_bps: whole(flow.mean_bps),
            completed_s: flow.completed_s.map(seconds),
            deadline_met: met(flow),
        }),
        paid: paid.zip(paid_flow).map(|(act, flow)| Paid {
            promised_bps: purchase.map(|p| whole(p.promised_bps)),
            goodput_bps: whole(flow.mean_bps),
            completed_s: flow.completed_s.map(seconds),
            deadline_met: met(flow),
            others_l3_bps: whole(act.others.l3_bps),
        }),
        idle: act(report, "idle").map(|act| Idle { paid_over_unpaid: paid_over_unpaid(act) }),
        others_rtt_ms: OthersRtt {
            before: baseline.and_then(|act| act.others.rtt_p50_ms).map(seconds),
            after: paid.and_then(|act| act.others.rtt_p50_ms).map(seconds),
        },
        others_floor_kept: paid.and_then(floor_kept),
        counter_offer_ok: act(report, "counter_offer").map(|act| act.passed),
        broker_killed: act(report, "kill").map(|act| act.passed),
        gap_ms_max: gap_ms_max(report),
        link_bps: plan.up.rate_bps,
        class_rate_bps: paid.and_then(|act| act.others.class_rate_bps).map(whole),
        mss_over_mtu: paid_flow.map(|flow| ratio(flow.mss_over_mtu)),
        metered_bytes: purchase.and_then(|p| p.metered_bytes),
        receiver_bytes: paid_flow.map(|flow| flow.receiver_bytes),
        charged_micros: purchase.and_then(|p| p.charged_micros),
        held_micros: purchase.map(|p| p.held_micros),
        bill_recomputed_micros: purchase.and_then(|p| p.bill.recomputed_micros),
        currency: purchase.map(|p| p.currency.clone()),
        rules_left: report.rules_left,
        degraded: report.honesty.degraded,
    }
}

fn paid_over_unpaid(act: &ActReport) -> Option<f64> {
    let rate = |bought: bool| {
        act.flows.iter().find(|flow| flow.purchase.is_some() == bought).map(|flow| flow.mean_bps)
    };
    Some(ratio(rate(true)? / rate(false)?))
}

/// Longest silence of a paid flow where nothing should dip: in every act but the outage.
fn gap_ms_max(report: &Report) -> Option<u64> {
    report
        .acts
        .iter()
        .filter(|act| act.role.as_deref() != Some("outage"))
        .flat_map(|act| &act.flows)
        .filter(|flow| flow.purchase.is_some())
        .map(|flow| flow.gap_ms_max)
        .reduce(f64::max)
        .map(whole)
}

/// The floor kept: 95 % of what the shaped line has beside the class that was sold.
fn floor_kept(act: &ActReport) -> Option<bool> {
    Some(act.others.l3_bps >= 0.95 * act.others.floor_bps?)
}
