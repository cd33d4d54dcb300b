//! As many mutants as one likes: `cargo run --release -p tollway-diameter --example fuzz -- 10000000 [seed]`.
//! Prints the codes given and how much memory grew; fails when it grew by 16 MiB.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Instant;
use support::rig::{PCEF, Rig, address};
use support::{Random, capture, judge::judge, messages, mutants};
use tollway_diameter::application;
use tollway_diameter::machine::{Event, Input};

const GROWTH_KIB_MAX: u64 = 16 * 1_024;

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Every tenth mutant goes through the whole node, as an open peer's and as a stranger's.
fn disturb(rig: &mut Rig, mutant: Vec<u8>) {
    let stranger = rig.accept(address());
    rig.receive(stranger, mutant.clone());
    rig.give(Input::Closed { conn: stranger });
    let open = rig.machine.peer(0).and_then(|peer| peer.open_on());
    match open {
        Some(conn) => rig.receive(conn, mutant),
        None => drop(rig.cer(PCEF, 7, &[application::GX], address())),
    }
    drop(rig.transmits());
    for event in rig.events() {
        if let Event::Request { token, .. } = event {
            rig.give(Input::Abandon { token, code: 5012 });
        }
    }
    drop(rig.transmits());
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let mutants = arguments.next().unwrap_or(1_000_000);
    let mut random = Random::new(arguments.next().unwrap_or(1));
    let seeds: Vec<Vec<u8>> = capture::all()
        .into_iter()
        .chain(messages::all())
        .chain(messages::killers().into_iter().map(|(_, bytes, _)| bytes))
        .collect();
    let (mut rig, _, _) = Rig::with_relay();
    let mut codes: BTreeMap<u32, u64> = BTreeMap::new();
    let started = Instant::now();
    let mut before = 0;
    for number in 0..mutants {
        let mutant = mutants::mutate(&seeds[random.below(seeds.len())], &mut random);
        *codes.entry(judge(&mutant)).or_default() += 1;
        if number % 10 == 0 {
            disturb(&mut rig, mutant);
        }
        if number == mutants / 100 {
            before = rss_kib();
        }
    }
    let grown = rss_kib().saturating_sub(before);
    println!("{mutants} mutants in {:.1} s, memory grew by {grown} KiB", started.elapsed().as_secs_f64());
    codes.iter().for_each(|(code, count)| println!("{code}: {count}"));
    assert!(grown < GROWTH_KIB_MAX, "memory grew by {grown} KiB");
}
