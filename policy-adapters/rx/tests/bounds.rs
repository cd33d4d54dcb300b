//! Each bound is reached, and holds.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use support::*;
use tollway_rx::limits::{BURST_MS, IN_FLIGHT_MAX, LEGS_MAX, RATE_DEFAULT, SESSIONS_MAX, USAGE_SEEN_MAX};
use tollway_rx::{Input, Pcrf};

#[test]
fn changes_go_before_checks_in_the_rhythm_of_the_pcrf() {
    let mut world = World::new(settings());
    for n in 1..=400 {
        world.desire(desire(n, n, START));
        world.until(world.now.plus_ms(1_000));
        world.accept_one();
    }
    world.input(Input::PeerUp { origin_host: None });
    let burst = world.requests.len();
    let share = u64::from(RATE_DEFAULT) * BURST_MS / 1_000;
    assert!(burst as u64 <= share + 1, "{burst}");
    world.desire(desire(900, 900, START));
    world.until(world.now.plus_ms(100));
    let place = world.asks().iter().position(|ask| ask.starts_with("initial")).unwrap();
    assert!(place <= burst + 1, "{place}");
    world.until(world.now.plus_ms(900));
    let sent = world.requests.len() as u64;
    assert!((190..=230).contains(&sent), "{sent}");
    assert!(world.machine.queue_len("east") > 100);
}

#[test]
fn what_is_out_without_an_answer_is_bounded() {
    let pcrf = Pcrf { rate_max: None, ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    let wanted = IN_FLIGHT_MAX as u64 + 5;
    (1..=wanted).for_each(|n| world.desire(desire(n, n, START)));
    assert_eq!((world.requests.len(), world.machine.queue_len("east")), (IN_FLIGHT_MAX, 5));
    world.accept_one();
    assert_eq!((world.requests.len(), world.machine.queue_len("east")), (IN_FLIGHT_MAX, 4));
}

#[test]
fn legs_and_sessions_are_bounded() {
    let pcrf = Pcrf { rate_max: None, ..Pcrf::of_realm("example") };
    let mut world = World::new(settings_of(pcrf));
    for n in 1..=LEGS_MAX as u64 {
        world.desire(desire(n, n, at(1_000_000)));
    }
    world.facts.clear();
    world.desire(desire(LEGS_MAX as u64 + 1, 1, START));
    assert_eq!(world.take_words(), ["100001 refused: 100000 legs are the most"]);
    world.release(1);
    let restored = |n: usize| record(&format!("af.example;9;{n};rx"), n as u64, true);
    let mut world = World::of(settings());
    (0..=SESSIONS_MAX).for_each(|n| world.input(Input::Restore(Box::new(restored(n)))));
    assert_eq!(world.machine.sessions_len(), SESSIONS_MAX);
    world.desire(desire(1_000_000, 1, START));
    world.input(Input::Ready);
    assert_eq!(world.take_words(), ["1000000 refused: no place for another session"]);
    assert_eq!(world.ask(rar("af.example;8;1;rx", &[2], |_| ())), 5002);
    assert_eq!(world.counters().strays, 0, "a stray takes no place that is not there");
}

#[test]
fn remembered_usage_is_bounded() {
    let mut world = World::active_with(sponsored());
    for n in 0..USAGE_SEEN_MAX as u32 + 3 {
        world.ask(numbered(rar(ID, &[11], |w| usage(w, 0, 1)), n));
        world.until(world.now.plus_ms(100));
        world.accept_one();
    }
    let seen = world.record(ID).unwrap().usage_seen;
    assert_eq!((seen.len(), seen[0]), (USAGE_SEEN_MAX, 3));
}
