//! What an enforcement point that has lost its mind reports. Nothing of it may panic the broker, oversell,
//! or charge more than the promise allows.

use crate::rng::Rng;
use crate::rule::Rule;
use std::collections::BTreeMap;
use tollway_model::{BitsPerSecond, Direction, LegId, ReservationId, Slot, SlotLength, Timestamp};
use tollway_policy::{PolicyReport, PortReading, Reading, Report, SlotReading};

/// One to three lies about the legs here, or about others'.
pub fn tell(rng: &mut Rng, rules: &BTreeMap<LegId, Rule>, slot: SlotLength, own: Timestamp) -> Vec<Report> {
    let legs: Vec<LegId> = rules.keys().copied().collect();
    (0..rng.between(1, 3))
        .map(|_| {
            let leg = match rng.pick(&legs) {
                Some(leg) if rng.chance(800_000) => *leg,
                _ => {
                    LegId { reservation: ReservationId(rng.skewed(8)), index: u32::from(rng.chance(100_000)) }
                }
            };
            match rng.below(8) {
                0..=4 => usage(rng, rules.get(&leg), leg, slot, own),
                5 | 6 => state(rng, rules.get(&leg), leg, own),
                _ => port(rng),
            }
        })
        .collect()
}

fn usage(rng: &mut Rng, rule: Option<&Rule>, leg: LegId, length: SlotLength, own: Timestamp) -> Report {
    let here = length.slot_of(own).0;
    let slot = match rng.below(6) {
        0 => rng.next(),
        1 => u64::MAX,
        2 => here + rng.below(20),
        3 => here.saturating_sub(rng.below(5)),
        _ => here,
    };
    let true_bytes = rule.map_or(0, Rule::sold_bytes);
    let bytes = match rng.below(4) {
        0 => true_bytes / 2,
        1 => rng.skewed(63),
        2 => u64::MAX,
        _ => true_bytes,
    };
    let incarnation = match (rule, rng.below(3)) {
        (Some(rule), 0 | 1) => rule.incarnation(),
        (_, 0) => 0,
        _ => rng.next(),
    };
    Report::Usage(SlotReading {
        leg,
        attempt: rule
            .map_or(1, |r| r.desired.attempt)
            .wrapping_add_signed(i32::try_from(rng.below(3)).unwrap_or(0) - 1),
        incarnation,
        seq: rule.map_or(1, Rule::last_seq) + rng.skewed(10),
        slot: Slot(slot),
        sold: Reading { bytes, packets: rng.next(), drops: rng.next() },
        reverse: Reading { bytes: rng.next(), packets: 0, drops: u64::MAX },
        active_ms: if rng.chance(500_000) { u32::MAX } else { 5_000 },
        busy_ms: u32::MAX,
        gap_ms_max: u32::MAX,
        seen: rng.chance(800_000),
        last: rng.chance(50_000),
        at: if rng.chance(200_000) { Timestamp(rng.next()) } else { own },
        unconfirmed_ms: 0,
    })
}

fn state(rng: &mut Rng, rule: Option<&Rule>, leg: LegId, own: Timestamp) -> Report {
    let attempt = rule.map_or(1, |r| r.desired.attempt);
    let attempt = match rng.below(4) {
        0 => attempt.wrapping_sub(1),
        1 => attempt.wrapping_add(1),
        _ => attempt,
    };
    let at = match rng.below(4) {
        0 => Timestamp(u64::MAX),
        1 => Timestamp(0),
        _ => own,
    };
    let reason = "é".repeat(usize::try_from(rng.below(400)).unwrap_or(0));
    let report = match rng.below(5) {
        0 => PolicyReport::Accepted,
        1 => PolicyReport::Active { at },
        2 => PolicyReport::Refused { reason },
        3 => PolicyReport::Removed { at },
        _ => PolicyReport::Lost { at, reason },
    };
    Report::Leg { leg, attempt, report }
}

fn port(rng: &mut Rng) -> Report {
    Report::Port(PortReading {
        port: "nowhere".to_owned(),
        direction: Direction::Up,
        slot: Slot(rng.next()),
        incarnation: rng.next(),
        default_class: Reading { bytes: u64::MAX, packets: 0, drops: 0 },
        default_rate_min: BitsPerSecond(rng.next()),
        backlog_bytes: rng.next(),
        direct_packets: rng.next(),
        up: rng.chance(500_000),
        delivered_bytes: u64::MAX,
        busy_ms: u32::MAX,
    })
}
