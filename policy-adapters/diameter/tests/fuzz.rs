//! 100,000 mutants of real and of our own messages, and the known killers: no panic, bounded memory, a
//! Result-Code for each. `examples/fuzz.rs` runs as many as one likes.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use support::judge::judge;
use support::{Random, capture, messages, mutants};

const MUTANTS: usize = 100_000;

#[test]
fn what_kills_others_is_answered() {
    for (what, bytes, code) in messages::killers() {
        assert_eq!(judge(&bytes), code, "{what}");
    }
    for head in [[1, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 2], [1, 0, 0, 3], [1, 0, 0, 19], [1, 255, 255, 255]] {
        assert_eq!(judge(&head), 5015, "{head:?}");
    }
    assert_eq!(judge(&[7, 0, 0, 20]), 5011);
}

#[test]
fn our_own_messages_are_good() {
    for bytes in messages::all() {
        assert_eq!(judge(&bytes), 2001);
    }
    let ccr = messages::ccr_initial();
    let message = tollway_diameter::Message::parse(&ccr).unwrap();
    assert_eq!(message.avps().count(), 25);
}

#[test]
fn mutants_are_judged_and_nothing_else_happens() {
    let seeds: Vec<Vec<u8>> = capture::all().into_iter().chain(messages::all()).collect();
    let mut random = Random::new(20_261_124);
    let mut codes: BTreeMap<u32, usize> = BTreeMap::new();
    for _ in 0..MUTANTS {
        let seed = &seeds[random.below(seeds.len())];
        let mutant = mutants::mutate(seed, &mut random);
        *codes.entry(judge(&mutant)).or_default() += 1;
    }
    // The mutants must reach every judgement, or they are worth nothing.
    for code in [2001, 3001, 3007, 3008, 3009, 5001, 5004, 5005, 5008, 5009, 5011, 5014, 5015] {
        assert!(codes.contains_key(&code), "no mutant got {code}: {codes:?}");
    }
}
