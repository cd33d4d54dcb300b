//! What one session and its leg cost.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_diameter::machine::RequestId;

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4_096
}

#[test]
fn a_served_leg_costs_less_than_three_kilobytes() {
    const LEGS: u64 = 20_000;
    let mut world = World::new(settings());
    let mut serve = |range: std::ops::Range<u64>| {
        for n in range {
            world.desire(desire(n, n, START));
            world.until(world.now.plus_ms(10));
            let (id, bytes): (RequestId, Vec<u8>) = world.requests.pop_front().unwrap();
            world.answer_to(id, &bytes, OK, features);
            world.facts.clear();
        }
    };
    serve(1..1_000);
    let before = resident();
    serve(1_000..1_000 + LEGS);
    let bytes = (resident() - before) / LEGS as usize;
    println!("{bytes} bytes a leg");
    assert!(bytes <= 3 * 1_024, "{bytes}");
}
