//! The report of a tiny fixed run, byte for byte. `UPDATE_EXPECT=1 cargo test -p tollway-lab` blesses it.

use expect_test::expect_file;
use serde_json::json;
use std::collections::BTreeMap;
use tollway_lab::report::html;
use tollway_lab::report::model::{
    ActReport, BillReport, CounterOfferReport, Expectation, FlowReport, Honesty, LinkReport, MarkReport,
    OthersReport, PurchaseReport, RefusalReport, Report, RttReport, ScheduleReport, SeriesKind, SeriesReport,
    VERSION, Verdict,
};

fn series(name: &str, host: &str, bought: bool, level: f64, wobble: f64) -> SeriesReport {
    let mbps = (0..60)
        .map(|bin| if bin < 10 && bought { 0.0 } else { level + wobble * f64::from((bin * 7) % 5 - 2) })
        .collect();
    let kind = match name {
        "upload" => SeriesKind::Flow,
        "competitors" => SeriesKind::TcpLoad,
        _ => SeriesKind::UdpLoad,
    };
    SeriesReport { name: name.into(), kind, host: host.into(), bought, from_s: -1.0, bin_s: 0.1, mbps }
}

fn refusals(act: &str) -> Vec<RefusalReport> {
    let offer = |variant: &str, rate_bps: u64, starts_in_ms: u64| CounterOfferReport {
        variant: variant.into(),
        rate_bps,
        bytes: None,
        from: "2026-11-24T13:00:01Z".into(),
        until: "2026-11-24T13:00:13Z".into(),
        starts_in_ms,
        price_micros: 6_888,
        currency: "EUR".into(),
        taken: starts_in_ms == 0,
        text: "as shown".into(),
    };
    vec![RefusalReport {
        act: act.into(),
        flow: "upload".into(),
        host: "shop".into(),
        status: 409,
        code: "QOS_TRANSFERS.CAPACITY_EXHAUSTED".into(),
        message: "10 Mbit/s < what is left & <more>".into(),
        counter_offers: vec![offer("slower", 1_940_000, 0), offer("later", 10_000_000, 16_500)],
    }]
}

fn act(name: &str, role: &str, bought: bool) -> ActReport {
    let purchase = bought.then(|| PurchaseReport {
        reservation_id: "0b9f8a52-0000-4000-8000-000000000001".into(),
        promised_bps: Some(17_280_000.0),
        active_after_ms: 180.0,
        held_micros: 43_200,
        charged_micros: Some(41_468),
        metered_bytes: Some(41_468_132),
        currency: "EUR".into(),
        price_lines: vec!["up to 43.2 MB delivered at 1.00 EUR per GB".into()],
        evidence: json!({
            "intervals": [
                { "from": "2026-11-24T13:00:01.000Z", "until": "2026-11-24T13:00:03.000Z", "state": "active" },
                { "from": "2026-11-24T13:00:03.000Z", "until": "2026-11-24T13:00:04.000Z", "state": "lost",
                  "reason": "port wan0 is down" },
            ],
            "readings": [{
                "slot_from": "2026-11-24T13:00:00.000Z", "promised_bytes": 10_800_000, "delivered_bytes": 10_500_000,
                "active_ms": 5000, "gap_ms_max": 12, "kept_ms": 5000, "excused": null,
            }],
        }),
        bill: Some(BillReport {
            recomputed_micros: Some(41_468),
            text: "recomputed_micros 41468\nthe bill is right".into(),
        }),
    });
    ActReport {
        name: name.into(),
        title: format!("The act {name}"),
        role: Some(role.into()),
        sentence: "Shop's 40 MB arrive in time.".into(),
        passed: bought,
        problems: if bought { vec![] } else { vec!["upload: 8 rules are left in the <kernel>".into()] },
        refusals: if bought { refusals(name) } else { vec![] },
        from_s: -1.0,
        until_s: 5.0,
        series: vec![
            series("upload", "shop", bought, if bought { 16.7 } else { 1.0 }, 0.2),
            series("competitors", "neighbour", false, 9.0, 1.0),
            series("flood", "rival", false, 14.0, 0.4),
            series("claims-ef", "neighbour", false, 0.6, 0.1),
            series("unmarked", "neighbour", false, 0.6, 0.1),
        ],
        schedules: if bought {
            vec![ScheduleReport {
                flow: "upload".into(),
                segments: vec![(0.0, 3.0, 17.28), (3.0, 5.0, 12.0)],
            }]
        } else {
            vec![]
        },
        rtt: vec![RttReport {
            host: "neighbour".into(),
            samples: (0..60)
                .map(|n| (f64::from(n) / 10.0 - 1.0, (n % 9 != 0).then_some(100.0 + f64::from(n % 5))))
                .collect(),
        }],
        flows: vec![FlowReport {
            name: "upload".into(),
            host: "shop".into(),
            bytes: Some(40_000_000),
            deadline_s: Some(20.0),
            completed_s: bought.then_some(19.4),
            mean_bps: 16_700_000.0,
            mss_over_mtu: Some(0.9653),
            receiver_bytes: 41_468_132,
            dropped_bytes: Some(0),
            gap_ms_max: bought.then_some(12.4),
            purchase,
        }],
        others: OthersReport {
            l3_bps: bought.then_some(21_200_000.0),
            class_rate_bps: bought.then_some(17_441_280.0),
            floor_bps: bought.then_some(21_358_720.0),
            l3_over_floor: bought.then_some(0.9926),
            floor_share_min: 0.95,
            rtt_p50_ms: Some(102.0),
            rtt_p99_ms: Some(104.0),
            rtt_loss: Some(0.1),
        },
        marks: vec![
            MarkReport { at_s: 0.2, text: "shop's promise is active".into() },
            MarkReport { at_s: 0.3, text: "kill -9 of the broker".into() },
            MarkReport { at_s: 4.4, text: "the broker serves again".into() },
        ],
        expectations: vec![
            Expectation { text: "upload.deadline_met is true".into(), found: Some(1.0), holds: true },
            Expectation { text: "others.l3_over_floor ≥ 0.95".into(), found: None, holds: false },
        ],
        figures: BTreeMap::from([("upload.goodput_bps".into(), 16_700_000.0)]),
    }
}

fn report() -> Report {
    Report {
        version: VERSION,
        name: "tiny".into(),
        title: "A tiny <fixed> run".into(),
        seed: 7,
        backend: "user".into(),
        tcp: "cubic".into(),
        kernel: "6.18.0".into(),
        started: "2026-11-24T13:00:00.000Z".into(),
        took_s: 140.0,
        verdict: Verdict::Failed,
        aborted: None,
        link: LinkReport {
            up_bps: 40_000_000,
            down_bps: 40_000_000,
            delay_up_ms: 10.0,
            delay_down_ms: 10.0,
            buffer_up_bytes: 500_000,
            buffer_down_bytes: 500_000,
            shaped_bps: Some(38_800_000),
        },
        honesty: Honesty {
            degraded: false,
            frames: 1_234_567,
            p50_ms: Some(0.05),
            p99_ms: Some(0.21),
            p99_allowed_ms: 1.0,
            max_ms: Some(3.2),
            late_acts: vec![],
            stalls: vec![],
            kernel_drops: 0,
        },
        rules_left: Some(0),
        acts: vec![act("unpaid", "baseline", false), act("paid", "paid", true)],
    }
}

#[test]
fn the_page_of_a_fixed_run() {
    let page = html::page(&report());
    assert_eq!(page, html::page(&report()), "the same figures give the same bytes");
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing is fetched");
    expect_file!["golden/report.html"].assert_eq(&page);
}

#[test]
fn the_data_of_a_fixed_run() {
    let text = serde_json::to_string_pretty(&report()).expect("serialises") + "\n";
    expect_file!["golden/report.json"].assert_eq(&text);
}
