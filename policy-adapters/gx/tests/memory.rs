//! What one open session costs.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4_096
}

#[test]
fn a_session_costs_less_than_a_kilobyte() {
    const SESSIONS: u64 = 50_000;
    let mut world = World::new(settings());
    let open = |world: &mut World, range: std::ops::Range<u64>| {
        for n in range {
            // A Session-Id as long as a real gateway's.
            let id = format!("smf.epc.mnc070.mcc999.3gppnetwork.org;1790000000;{n};app_gx");
            assert_eq!(world.ask(attach(n, &id)), 2001);
            world.facts.clear();
            world.answers.clear();
        }
    };
    open(&mut world, 1..1_000);
    let before = resident();
    open(&mut world, 1_000..1_000 + SESSIONS);
    let bytes = (resident() - before) / SESSIONS as usize;
    println!("{bytes} bytes a session");
    assert!(bytes <= 1_024, "{bytes}");
}
