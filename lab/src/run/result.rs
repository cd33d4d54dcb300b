//! `result.json`: the few figures that a script or a reader asks for first. What a scenario has no act for, and
//! what an act could not measure, is null: a 0 or a false was found.

use crate::report::model::{ActReport, FlowReport, PurchaseReport, RefusalReport, Report, Verdict};
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

/// A flow without a deadline can neither meet nor miss it.
fn met(flow: &FlowReport) -> Option<bool> {
    flow.deadline_s.map(|allowed| flow.completed_s.is_some_and(|took| took <= allowed))
}

/// Whether an act showed what it is for. What was measured and did not hold is a no; an act that only could
/// not be measured is neither.
fn shown(act: &ActReport) -> Option<bool> {
    let refuted = act.expectations.iter().any(|expected| !expected.holds && expected.found.is_some());
    (act.passed || refuted).then_some(act.passed)
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
    verdict: Verdict,
    /// What the product refused, also where the scenario wanted it to.
    refusals: Vec<RefusalReport>,
}

#[derive(Serialize, Debug)]
struct Baseline {
    goodput_bps: u64,
    completed_s: Option<f64>,
    deadline_met: Option<bool>,
}

#[derive(Serialize, Debug)]
struct Paid {
    promised_bps: Option<u64>,
    goodput_bps: u64,
    completed_s: Option<f64>,
    deadline_met: Option<bool>,
    others_l3_bps: Option<u64>,
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
    // Without a purchase nothing of the paid act was shown.
    let paid_flow = paid.and_then(|act| act.flows.iter().find(|flow| flow.purchase.is_some()));
    let paid = paid.filter(|_| paid_flow.is_some());
    let purchase = bought(paid_flow);
    Results {
        baseline: first(baseline).map(|flow| Baseline {
            goodput_bps: whole(flow.mean_bps),
            completed_s: flow.completed_s.map(seconds),
            deadline_met: met(flow),
        }),
        paid: paid.zip(paid_flow).map(|(act, flow)| Paid {
            promised_bps: purchase.and_then(|p| p.promised_bps).map(whole),
            goodput_bps: whole(flow.mean_bps),
            completed_s: flow.completed_s.map(seconds),
            deadline_met: met(flow),
            others_l3_bps: act.others.l3_bps.map(whole),
        }),
        idle: act(report, "idle").map(|act| Idle { paid_over_unpaid: paid_over_unpaid(act) }),
        others_rtt_ms: OthersRtt {
            before: baseline.and_then(|act| act.others.rtt_p50_ms).map(seconds),
            after: paid.and_then(|act| act.others.rtt_p50_ms).map(seconds),
        },
        others_floor_kept: paid.and_then(floor_kept),
        counter_offer_ok: act(report, "counter_offer").and_then(shown),
        broker_killed: act(report, "kill").and_then(shown),
        gap_ms_max: gap_ms_max(report),
        link_bps: plan.up.rate_bps,
        class_rate_bps: paid.and_then(|act| act.others.class_rate_bps).map(whole),
        mss_over_mtu: paid_flow.and_then(|flow| flow.mss_over_mtu).map(ratio),
        metered_bytes: purchase.and_then(|p| p.metered_bytes),
        receiver_bytes: paid_flow.map(|flow| flow.receiver_bytes),
        charged_micros: purchase.and_then(|p| p.charged_micros),
        held_micros: purchase.map(|p| p.held_micros),
        bill_recomputed_micros: purchase.and_then(|p| p.bill.as_ref()?.recomputed_micros),
        currency: purchase.map(|p| p.currency.clone()),
        rules_left: report.rules_left,
        degraded: report.honesty.degraded,
        verdict: report.verdict,
        refusals: report.acts.iter().flat_map(|act| act.refusals.clone()).collect(),
    }
}

fn paid_over_unpaid(act: &ActReport) -> Option<f64> {
    let rate = |bought: bool| {
        act.flows.iter().find(|flow| flow.purchase.is_some() == bought).map(|flow| flow.mean_bps)
    };
    let unpaid = rate(false).filter(|bps| *bps > 0.0)?;
    Some(ratio(rate(true)? / unpaid))
}

/// Longest silence of a paid flow where nothing should dip: in every act but the outage.
fn gap_ms_max(report: &Report) -> Option<u64> {
    report
        .acts
        .iter()
        .filter(|act| act.role.as_deref() != Some("outage"))
        .flat_map(|act| &act.flows)
        .filter(|flow| flow.purchase.is_some())
        .filter_map(|flow| flow.gap_ms_max)
        .reduce(f64::max)
        .map(whole)
}

/// The floor kept: at least the share that the act expects of what the shaped line has beside the class sold.
fn floor_kept(act: &ActReport) -> Option<bool> {
    Some(act.others.l3_over_floor? >= act.others.floor_share_min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::{Expectation, OthersReport};
    use std::collections::BTreeMap;

    fn act(found: &[(Option<f64>, bool)], problems: &[&str]) -> ActReport {
        let expect = |&(found, holds)| Expectation { text: "x is 1".into(), found, holds };
        let expectations: Vec<Expectation> = found.iter().map(expect).collect();
        ActReport {
            name: "a".into(),
            title: "A".into(),
            role: Some("kill".into()),
            sentence: String::new(),
            passed: problems.is_empty() && expectations.iter().all(|e| e.holds),
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
            refusals: vec![],
            from_s: 0.0,
            until_s: 1.0,
            series: vec![],
            schedules: vec![],
            rtt: vec![],
            flows: vec![],
            others: OthersReport {
                l3_bps: Some(0.0),
                class_rate_bps: None,
                floor_bps: None,
                l3_over_floor: None,
                floor_share_min: 0.95,
                rtt_p50_ms: None,
                rtt_p99_ms: None,
                rtt_loss: None,
            },
            marks: vec![],
            expectations,
            figures: BTreeMap::new(),
        }
    }

    #[test]
    fn only_what_was_measured_is_a_no() {
        let (good, bad, unmeasured) = ((Some(1.0), true), (Some(0.0), false), (None, false));
        assert_eq!(shown(&act(&[good, good], &[])), Some(true));
        assert_eq!(shown(&act(&[good, bad, unmeasured], &[])), Some(false));
        assert_eq!(shown(&act(&[good, unmeasured], &[])), None);
        assert_eq!(shown(&act(&[unmeasured], &["the product refused"])), None);
        assert_eq!(shown(&act(&[bad], &["the product refused"])), Some(false));
    }

    #[test]
    fn a_floor_is_kept_broken_or_not_measured() {
        let with = |share| {
            let mut act = act(&[], &[]);
            act.others.l3_over_floor = share;
            floor_kept(&act)
        };
        assert_eq!([Some(0.991), Some(0.949), None].map(with), [Some(true), Some(false), None]);
    }
}
