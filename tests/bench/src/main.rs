//! `make bench`: rows of what the engine does, each beside its peer in the same run, as a table and as
//! `target/bench/results.json`.
#![allow(clippy::cast_precision_loss)]

mod gx;
mod rows;
mod sweep;
mod world;

use rows::{Random, Row, nanos};
use std::hint::black_box;
use sweep::Sweep;
use tollway_core::calendar::Calendar;
use tollway_core::offer::{Need, QuoteRequest, When};
use tollway_core::{Command, Engine, Input, Reply, RequestId};
use tollway_model::{
    AccessId, BitsPerSecond, Direction, OfferId, ReservationId, Slot, SlotLength, Timestamp,
};
use tollway_policy::{PolicyReport, Reading, Report, SlotReading};
use world::{BUYER, T0, drain};

const RESERVATIONS: u64 = 20_000;
const CAPACITY: u64 = 1_000_000_000_000;
const DAYS: u64 = 30;
const WINDOW_SLOTS: u64 = 15;

fn main() -> std::io::Result<()> {
    let mut rows = admission();
    rows.push(bytes_by_deadline());
    rows.push(steps());
    rows.push(lives());
    rows.extend(gx::rows());
    print(&rows);
    std::fs::create_dir_all("target/bench")?;
    let text = serde_json::to_string_pretty(&rows).map_err(std::io::Error::other)?;
    std::fs::write("target/bench/results.json", text + "\n")
}

/// Admit and commit a 15-minute window on a full 30-day calendar, without and with its price, beside a sweep
/// over the same 20,000 reservations.
fn admission() -> Vec<Row> {
    let length = SlotLength::from_secs(60).expect("60 divides a day");
    let slots = DAYS * length.slots_per_day();
    let mut random = Random(1);
    let mut calendar = Calendar::new(length, CAPACITY);
    let mut peer = Sweep::new(CAPACITY);
    for _ in 0..RESERVATIONS {
        let from = random.below(slots - WINDOW_SLOTS);
        let bps = 1_000_000 + random.below(50_000_000);
        calendar.commit(from..from + WINDOW_SLOTS, bps);
        peer.add(from, from + WINDOW_SLOTS, bps);
    }
    let starts: Vec<u64> = (0..4096).map(|_| random.below(slots - WINDOW_SLOTS)).collect();
    // Commit and release are one pair; half of it is one of the two.
    let admit = nanos(200_000, |count| {
        for k in 0..count {
            let from = starts[k as usize % starts.len()];
            let window = from..from + WINDOW_SLOTS;
            if black_box(calendar.fits(window.clone(), 1_000_000)) {
                calendar.commit(window, 1_000_000);
            }
        }
    });
    let curve = world::curve();
    let priced = nanos(50_000, |count| {
        for k in 0..count {
            let from = starts[k as usize % starts.len()];
            let window = from..from + WINDOW_SLOTS;
            let mut sum = 0u64;
            if calendar.fits(window.clone(), 1_000_000) {
                for slot in window.clone() {
                    let before = calendar.committed(slot);
                    sum += u64::from(curve.mean_ppm(before, before + 1_000_000, CAPACITY));
                }
                calendar.commit(window, 1_000_000);
            }
            black_box(sum);
        }
    });
    let swept = nanos(500, |count| {
        for k in 0..count {
            let from = starts[k as usize % starts.len()];
            if black_box(peer.admit(from, from + WINDOW_SLOTS, 1_000_000)) {
                peer.drop_last();
            }
        }
    });
    vec![
        Row {
            name: "admit and commit, 15 min on 30 full days",
            value: admit,
            unit: "ns",
            peer: Some("sweep over 20,000 reservations, as OSCARS does"),
            peer_value: Some(swept),
            ratio: Some(swept / admit),
            aim: "<= 500 ns, >= 50x".into(),
            reached: admit <= 500.0 && swept / admit >= 50.0,
            bound_by: "memory: 15 slots of one page read, then written",
        },
        Row {
            name: "the same with its price",
            value: priced,
            unit: "ns",
            peer: None,
            peer_value: None,
            ratio: None,
            aim: "<= 1000 ns".into(),
            reached: priced <= 1_000.0,
            bound_by: "the curve's 128-bit divisions, one mean for each slot",
        },
    ]
}

fn quote(need: Need, seconds: u64) -> Command {
    Command::Quote(QuoteRequest {
        access: AccessId(1),
        direction: Direction::Up,
        tier: None,
        need,
        start: None,
        end: When::In(seconds * 1000),
        subscriber: None,
    })
}

fn command(engine: &mut Engine, now: Timestamp, command: Command) -> Reply {
    engine.handle(now, Input::Client { request: RequestId(1), customer: BUYER, key: None, command });
    drain(engine).expect("a command is answered")
}

/// Whole engine step of a quote for bytes over 24 h on a calendar with 2,000 other reservations.
fn bytes_by_deadline() -> Row {
    let mut engine = world::engine();
    let mut random = Random(2);
    let mut now = T0;
    for _ in 0..2_000 {
        now = now.plus_ms(2_000);
        let rate = BitsPerSecond(1_000_000 + random.below(100_000_000));
        let Reply::Quote(made) =
            command(&mut engine, now, quote(Need::Rate(rate), 600 + random.below(80_000)))
        else {
            continue;
        };
        let offer = OfferId { quote: made.id, index: 0 };
        let Reply::Reservation(held) = command(&mut engine, now, Command::Take { offer }) else { continue };
        command(&mut engine, now, Command::Confirm { reservation: held.id, flows: None });
    }
    let value = nanos(2_000, |count| {
        for _ in 0..count {
            // Two seconds a quote keep the customer within its open quotes.
            now = now.plus_ms(2_000);
            black_box(command(&mut engine, now, quote(Need::Bytes(40_000_000_000), 86_400)));
        }
    }) / 1000.0;
    Row {
        name: "quote for 40 GB by a deadline 24 h ahead",
        value,
        unit: "us",
        peer: None,
        peer_value: None,
        ratio: None,
        aim: "<= 100 us".into(),
        reached: value <= 100.0,
        bound_by: "the search of the level: 64 groups, 64 halvings, 128-bit products",
    }
}

/// Engine steps: a mix of quotes, holds, confirms, cancels and reports.
fn steps() -> Row {
    let mut done = 0u64;
    let nanos_each = life_nanos(3_000, &mut done);
    let value = 1e9 / (nanos_each / STEPS_PER_LIFE as f64);
    Row {
        name: "engine steps",
        value,
        unit: "1/s",
        peer: None,
        peer_value: None,
        ratio: None,
        aim: ">= 200000 /s".into(),
        reached: value >= 200_000.0,
        bound_by: "one core; allocation of views and records",
    }
}

fn lives() -> Row {
    let mut done = 0u64;
    let value = 1e9 / life_nanos(3_000, &mut done);
    assert!(done > 0, "lives were settled");
    Row {
        name: "whole lives: quote, hold, confirm, active, two readings, end, settle",
        value,
        unit: "1/s",
        peer: None,
        peer_value: None,
        ratio: None,
        aim: ">= 30000 /s".into(),
        reached: value >= 30_000.0,
        bound_by: "one core; allocation of views and records",
    }
}

const STEPS_PER_LIFE: u32 = 7;

/// Nanoseconds of one whole life in seven steps.
fn life_nanos(count: u32, settled: &mut u64) -> f64 {
    let mut engine = world::engine();
    let mut now = T0;
    let mut number = 0u64;
    nanos(count, |count| {
        for _ in 0..count {
            if live(&mut engine, &mut now, &mut number) {
                *settled += 1;
            }
        }
    })
}

fn live(engine: &mut Engine, now: &mut Timestamp, number: &mut u64) -> bool {
    let Reply::Quote(made) = command(engine, *now, quote(Need::Rate(BitsPerSecond(10_000_000)), 60)) else {
        return false;
    };
    let offer = OfferId { quote: made.id, index: 0 };
    let Reply::Reservation(held) = command(engine, *now, Command::Take { offer }) else { return false };
    let id = held.id;
    command(engine, *now, Command::Confirm { reservation: id, flows: None });
    let leg = held.leg_id();
    let mut report = |engine: &mut Engine, at: Timestamp, reports: Vec<Report>| {
        *number += 1;
        engine.handle(at, Input::Reports { enforcement_point: "router".into(), number: *number, reports });
        drain(engine);
    };
    report(
        engine,
        *now,
        vec![
            Report::Leg { leg, attempt: 1, report: PolicyReport::Accepted },
            Report::Leg { leg, attempt: 1, report: PolicyReport::Active { at: *now } },
        ],
    );
    let slot = now.ms() / 60_000;
    report(engine, *now, vec![reading(id, 1, slot, 50_000_000, false)]);
    *now = now.plus_ms(60_000);
    engine.handle(*now, Input::Tick);
    drain(engine);
    report(
        engine,
        *now,
        vec![
            reading(id, 2, slot + 1, 75_000_000, true),
            Report::Leg { leg, attempt: 1, report: PolicyReport::Removed { at: *now } },
        ],
    );
    engine.state().reservation(id).is_some_and(|r| r.settled)
}

fn reading(id: ReservationId, seq: u64, slot: u64, bytes: u64, last: bool) -> Report {
    Report::Usage(SlotReading {
        leg: tollway_model::LegId { reservation: id, index: 0 },
        attempt: 1,
        incarnation: 1,
        seq,
        slot: Slot(slot),
        sold: Reading { bytes, packets: bytes / 1500, drops: 0 },
        reverse: Reading::default(),
        active_ms: 60_000,
        busy_ms: 0,
        gap_ms_max: 0,
        seen: true,
        last,
        at: Timestamp((slot + 1) * 60_000),
        unconfirmed_ms: 0,
    })
}

#[allow(clippy::print_stdout)]
fn print(rows: &[Row]) {
    println!("{:<72} {:>12} {:<4} {:>10}  aim", "", "value", "unit", "ratio");
    for row in rows {
        let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.0}x"));
        let mark = if row.reached { "reached" } else { "NOT reached" };
        println!("{:<72} {:>12.1} {:<4} {:>10}  {} {mark}", row.name, row.value, row.unit, ratio, row.aim);
        if let (Some(peer), Some(value)) = (row.peer, row.peer_value) {
            println!("{:<72} {value:>12.1} {}", format!("  beside: {peer}"), row.unit);
        }
        println!("  bound by {}", row.bound_by);
    }
}
