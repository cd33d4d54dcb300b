//! Puts what was played together into the report.

use super::act::{Finished, Played, RefusedFlow};
use super::figures::{self, class_rate_bps, others_rtt, others_window};
use super::judge;
use super::sentence::{figure, floor_share_min};
use super::stage::Stage;
use super::step::FlowKind;
use crate::clock;
use crate::error::{Error, Result};
use crate::market::offer::Offered;
use crate::market::purchase::Settled;
use crate::report::model::{
    ActReport, BillReport, CounterOfferReport, FlowReport, LinkReport, MarkReport, OthersReport,
    PurchaseReport, RefusalReport, Report, RttReport, ScheduleReport, SeriesKind, SeriesReport, VERSION,
    Verdict,
};
use crate::scenario::Plan;
use crate::scenario::metric::OTHERS;
use crate::scenario::plan::Act;
use crate::traffic::series::Received;

/// How far before its steps an act's graphs begin.
const LEAD_NS: u64 = 2 * clock::SECOND;

/// Puts the whole run together.
pub fn report(plan: &Plan, stage: &Stage, played: &[Played], aborted: Option<&Error>) -> Result<Report> {
    let rules_left = match (&stage.market, aborted) {
        (Some(market), None) => Some(market.rules_left(&stage.topology)?),
        (Some(_) | None, _) => None,
    };
    let honesty = judge::honesty(plan, stage, played);
    let acts: Vec<ActReport> =
        plan.acts.iter().zip(played).map(|(act, played)| act_report(plan, act, played, stage)).collect();
    let failed =
        acts.iter().any(|act| !act.passed) || rules_left.is_some_and(|left| left > 0) || aborted.is_some();
    let verdict = match (honesty.degraded, failed) {
        (true, _) => Verdict::Degraded,
        (false, true) => Verdict::Failed,
        (false, false) => Verdict::Pass,
    };
    Ok(Report {
        version: VERSION,
        name: plan.name.clone(),
        title: plan.title.clone(),
        seed: plan.seed,
        backend: stage.backend.to_owned(),
        tcp: plan.tcp.name().to_owned(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        started: rfc3339(stage.started_wall_ms),
        took_s: (clock::now_ns() - stage.started_ns) as f64 / 1e9,
        verdict,
        aborted: aborted.map(Error::chain),
        link: link_report(plan),
        honesty,
        rules_left,
        acts,
    })
}

fn rfc3339(wall_ms: u64) -> String {
    let ms = i64::try_from(wall_ms).unwrap_or(0);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string())
}

fn link_report(plan: &Plan) -> LinkReport {
    LinkReport {
        up_bps: plan.up.rate_bps.unwrap_or(0),
        down_bps: plan.down.rate_bps.unwrap_or(0),
        delay_up_ms: plan.up.delay_ns as f64 / 1e6,
        delay_down_ms: plan.down.delay_ns as f64 / 1e6,
        buffer_up_bytes: plan.up.buffer_bytes(),
        buffer_down_bytes: plan.down.buffer_bytes(),
        shaped_bps: plan.market.map(|m| m.shaped_bps),
    }
}

fn act_report(plan: &Plan, act: &Act, played: &Played, stage: &Stage) -> ActReport {
    let from_ns = played.from_ns.saturating_sub(LEAD_NS.min(act.warm_up_ns));
    let at_s = |ns: u64| (ns as f64 - played.from_ns as f64) / 1e9;
    let series = |kind, name: &str, host: &str, bought: bool, received: &Received| SeriesReport {
        kind,
        name: name.to_owned(),
        host: host.to_owned(),
        bought,
        from_s: at_s(from_ns / 100_000_000 * 100_000_000),
        bin_s: 0.1,
        mbps: received.mbps_by_bin(from_ns, played.until_ns),
    };
    let mut lines: Vec<SeriesReport> = played
        .flows
        .iter()
        .map(|f| {
            let bought = f.flow.purchase.is_some();
            series(SeriesKind::Flow, &f.flow.name, &f.flow.host, bought, &f.flow.received)
        })
        .collect();
    lines.extend(played.loads.iter().map(|load| {
        let host = plan.loads.get(&load.name).map_or("", |l| l.from.as_str());
        let kind = if load.is_tcp { SeriesKind::TcpLoad } else { SeriesKind::UdpLoad };
        series(kind, &load.name, host, false, &load.received)
    }));
    ActReport {
        name: act.name.clone(),
        title: act.title.clone(),
        role: act.role.map(|role| role.name().to_owned()),
        sentence: played.sentence.clone(),
        passed: played.passed(),
        problems: played.problems.clone(),
        refusals: played.refusals.iter().map(|refused| refusal_report(&act.name, refused)).collect(),
        from_s: at_s(from_ns),
        until_s: at_s(played.until_ns),
        series: lines,
        schedules: played.flows.iter().filter_map(|f| schedule_report(f, &at_s)).collect(),
        rtt: rtt_reports(stage, from_ns, played),
        flows: played.flows.iter().map(flow_report).collect(),
        others: others_report(plan, act, played, stage),
        marks: played
            .marks
            .iter()
            .map(|m| MarkReport { at_s: at_s(m.at_ns), text: m.text.clone() })
            .collect(),
        expectations: played.checked.clone(),
        figures: played
            .figures
            .iter()
            .map(|(metric, value)| (format!("{}.{}", metric.subject, metric.figure), *value))
            .collect(),
    }
}

fn schedule_report(finished: &Finished, at_s: &impl Fn(u64) -> f64) -> Option<ScheduleReport> {
    let bought = finished.flow.purchase.as_ref()?;
    let at = |t: tollway_model::Timestamp| at_s(clock::monotonic_of_wall_ms(t.ms()));
    let segments = bought
        .schedule
        .segments()
        .iter()
        .map(|s| (at(s.window.from), at(s.window.until), s.rate.get() as f64 / 1e6))
        .collect();
    Some(ScheduleReport { flow: finished.flow.name.clone(), segments })
}

fn rtt_reports(stage: &Stage, from_ns: u64, played: &Played) -> Vec<RttReport> {
    stage
        .probes
        .iter()
        .map(|(host, probe)| RttReport {
            host: host.clone(),
            samples: probe
                .samples(from_ns, played.until_ns)
                .iter()
                .map(|s| {
                    let at = (s.sent_ns as f64 - played.from_ns as f64) / 1e9;
                    (at, s.rtt_ns.map(|ns| ns as f64 / 1e6))
                })
                .collect(),
        })
        .collect()
}

fn flow_report(finished: &Finished) -> FlowReport {
    let flow = &finished.flow;
    let (bytes, deadline_s, completed_s) = match flow.kind {
        FlowKind::Transfer { bytes, deadline_ns, completed_ns, .. } => (
            Some(bytes),
            Some(deadline_ns as f64 / 1e9),
            completed_ns.map(|at| (at - flow.asked_ns) as f64 / 1e9),
        ),
        FlowKind::Stream { .. } => (None, None, None),
    };
    FlowReport {
        name: flow.name.clone(),
        host: flow.host.clone(),
        bytes,
        deadline_s,
        completed_s,
        mean_bps: figures::mean_bps(flow),
        mss_over_mtu: figures::mss_over_mtu(flow),
        receiver_bytes: finished.receiver_bytes,
        dropped_bytes: finished.dropped_bytes,
        gap_ms_max: flow.received.gap_ms_max(),
        purchase: purchase_report(finished),
    }
}

fn purchase_report(finished: &Finished) -> Option<PurchaseReport> {
    let bought = finished.flow.purchase.as_ref()?;
    let (settled, checked) = finished.settled.as_ref().map(|(s, c)| (s, c)).unzip();
    Some(PurchaseReport {
        reservation_id: bought.reservation_id.clone(),
        promised_bps: figures::promised_bps(&finished.flow),
        active_after_ms: (bought.active_ns - bought.asked_ns) as f64 / 1e6,
        held_micros: bought.held_micros,
        charged_micros: settled.and_then(Settled::charged_micros),
        metered_bytes: settled.and_then(Settled::metered_bytes),
        currency: bought.currency.clone(),
        price_lines: bought.price_lines.clone(),
        evidence: settled.map_or(serde_json::Value::Null, |s| s.evidence.clone()),
        bill: checked.map(|c| BillReport { recomputed_micros: c.recomputed_micros, text: c.text.clone() }),
    })
}

fn refusal_report(act: &str, RefusedFlow { flow, host, refused }: &RefusedFlow) -> RefusalReport {
    let counter_offer = |(at, offer): (usize, &Offered)| CounterOfferReport {
        variant: offer.variant.clone(),
        rate_bps: offer.rate_bps,
        bytes: offer.bytes,
        from: rfc3339(offer.from.ms()),
        until: rfc3339(offer.until.ms()),
        starts_in_ms: offer.starts_in_ms,
        price_micros: offer.price_micros,
        currency: offer.currency.clone(),
        taken: refused.taken == Some(at),
        text: offer.words(),
    };
    RefusalReport {
        act: act.to_owned(),
        flow: flow.clone(),
        host: host.clone(),
        status: refused.status,
        code: refused.code.clone(),
        message: refused.message.clone(),
        counter_offers: refused.offers.iter().enumerate().map(counter_offer).collect(),
    }
}

fn others_report(plan: &Plan, act: &Act, played: &Played, stage: &Stage) -> OthersReport {
    let window = others_window(act, played);
    let rtt = window.map(|(from_ns, until_ns)| others_rtt(stage, from_ns, until_ns)).unwrap_or_default();
    let own = |name: &str| figure(&played.figures, &played.name, OTHERS, name);
    OthersReport {
        l3_bps: own("l3_bps"),
        class_rate_bps: window
            .filter(|_| plan.market.is_some())
            .map(|(from_ns, until_ns)| class_rate_bps(played, from_ns, until_ns)),
        floor_bps: own("floor_bps"),
        l3_over_floor: own("l3_over_floor"),
        floor_share_min: floor_share_min(act),
        rtt_p50_ms: rtt.p50_ms,
        rtt_p99_ms: rtt.p99_ms,
        rtt_loss: own("rtt_loss"),
    }
}
