//! Seeded disorder: gateways that lose messages, refuse, forget and restart, an engine that changes its mind, and
//! our own restarts. Then the faults stop, and what the gateway holds must be what is wanted, and nothing else.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::*;
use tollway_diameter::Message;
use tollway_diameter::avp::ietf::SESSION_ID;
use tollway_diameter::machine::Failure;
use tollway_gx::{Desire, Input, Known};
use tollway_policy::{PolicyReport, Report, Session, SessionReport};

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * end) >> 32
    }
}

const SUBSCRIBERS: u64 = 4;
const LEGS: u64 = 6;

/// Engine and gateway around the machine.
struct Lab {
    world: World,
    pcef: Pcef,
    /// The gateway's open sessions: subscriber to Session-Id and next request number.
    open: BTreeMap<u64, (String, u32)>,
    wanted: BTreeMap<u64, Desire>,
    /// Released, and not yet reported as removed.
    leaving: BTreeMap<u64, Desire>,
    records: BTreeMap<String, Session>,
    next_session: u64,
    next_leg: u64,
    read: usize,
}

impl Lab {
    fn new() -> Lab {
        Lab {
            world: World::new(settings()),
            pcef: Pcef::default(),
            open: BTreeMap::new(),
            wanted: BTreeMap::new(),
            leaving: BTreeMap::new(),
            records: BTreeMap::new(),
            next_session: 0,
            next_leg: 0,
            read: 0,
        }
    }

    fn attach(&mut self, n: u64) {
        if let Some((old, _)) = self.open.remove(&n) {
            self.pcef.rules.retain(|(session, _), _| *session != old);
        }
        self.next_session += 1;
        let id = format!("{GATEWAY};{n};{}", self.next_session);
        self.world.ask(attach(n, &id));
        self.open.insert(n, (id, 1));
    }

    fn update(&mut self, n: u64, kind: u32, fill: impl FnOnce(&mut tollway_diameter::Writer)) {
        let Some((id, number)) = self.open.get_mut(&n) else { return };
        let (bytes, id) = (ccr(kind, *number, id, fill), id.clone());
        *number += 1;
        let answer = self.world.ask_for(bytes);
        for name in rules(&answer).1 {
            self.pcef.rules.remove(&(id.clone(), name));
        }
        if kind == 3 {
            self.open.remove(&n);
            self.pcef.rules.retain(|(session, _), _| *session != id);
        }
    }

    /// The gateway takes one RAR, in one of several ways.
    fn serve(&mut self, how: u64) {
        let Some((id, rar)) = self.world.requests.pop_front() else { return };
        let session = Message::parse(&rar).unwrap().text(SESSION_ID).unwrap().to_owned();
        if !self.open.values().any(|(open, _)| *open == session) {
            return self.world.raa_to(id, &rar, base(5002), |_| ());
        }
        match how {
            0 => self.world.input(Input::Failed { id, failure: Failure::Timeout }),
            1 => {
                self.pcef.take(&rar);
                self.world.input(Input::Failed { id, failure: Failure::Timeout });
            }
            2 => self.world.raa_to(id, &rar, base(3004), |_| ()),
            3 => {
                let (installed, removed) = rules(&rar);
                if removed.is_empty() {
                    // All but the first are taken.
                    self.pcef.take(&rar);
                    self.pcef.rules.remove(&(session, installed[0].clone()));
                    let first = installed[0].clone();
                    self.world.raa_to(id, &rar, experimental(5142), |w| rule_report(w, &first, 1, Some(10)));
                } else {
                    self.world.raa_to(id, &rar, base(5012), |_| ());
                }
            }
            4 => self.world.input(Input::Failed { id, failure: Failure::NoRoute }),
            _ => {
                self.pcef.take(&rar);
                self.world.raa_to(id, &rar, OK, |_| ());
            }
        }
    }

    /// What the engine and the store do with facts.
    fn learn(&mut self) {
        let facts: Vec<Report> = self.world.facts[self.read..].to_vec();
        self.read = self.world.facts.len();
        for fact in facts {
            match fact {
                Report::Session(SessionReport::Open(session)) => {
                    self.records.insert(session.name.session_id.clone(), session);
                }
                Report::Session(SessionReport::Closed { name, .. }) => {
                    self.records.remove(&name.session_id);
                }
                Report::Leg { leg, report: PolicyReport::Removed { .. }, .. } => {
                    self.leaving.remove(&leg.reservation.0);
                    assert!(!self.wanted.contains_key(&leg.reservation.0), "{leg} was wanted");
                }
                Report::Leg { leg, attempt, report: PolicyReport::Refused { .. }, .. } => {
                    if let Some(desire) = self.wanted.get_mut(&leg.reservation.0)
                        && attempt == desire.desired.attempt
                    {
                        desire.desired.attempt += 1;
                    }
                }
                Report::Leg { .. } | Report::Usage(_) | Report::Port(_) => {}
            }
        }
    }

    fn desire_all(&mut self) {
        for desire in self.wanted.values().cloned().collect::<Vec<_>>() {
            self.world.input(Input::Desire(Box::new(desire)));
        }
    }

    fn release(&mut self, n: u64) {
        let Some(desire) = self.wanted.remove(&n) else { return };
        let (leg, attempt) = (desire.desired.leg, desire.desired.attempt);
        let access = desire.access.clone();
        self.leaving.insert(n, desire);
        self.world.input(Input::Release { leg, attempt, access });
    }

    /// Kill -9: nothing but the records and what the engine wants is left.
    fn restart(&mut self) {
        let now = self.world.now;
        self.learn();
        self.world = World::of(settings(), Everybody);
        (self.world.now, self.read) = (now, 0);
        for learnt in self.records.values() {
            self.world.input(Input::Restore(Box::new(learnt.clone())));
        }
        for desire in self.wanted.values() {
            self.world.input(Input::Desire(Box::new(Desire { known: Known::New, ..desire.clone() })));
        }
        for desire in self.leaving.values().cloned().collect::<Vec<_>>() {
            let (leg, attempt) = (desire.desired.leg, desire.desired.attempt);
            self.world.input(Input::Release { leg, attempt, access: desire.access });
        }
        self.world.input(Input::Ready);
    }

    fn step(&mut self, random: &mut Random) {
        let n = 1 + random.below(SUBSCRIBERS);
        match random.below(24) {
            0 => self.attach(n),
            1 if random.below(3) == 0 => self.update(n, 3, |_| ()),
            2 if (self.wanted.len() as u64) < LEGS => {
                self.next_leg += 1;
                let start = self.world.now.plus_ms(random.below(3) * 60_000);
                let mut wanted = desire(self.next_leg, n, start);
                wanted.terms.usage_bytes = (random.below(2) == 0).then_some(1_000_000);
                self.world.input(Input::Desire(Box::new(wanted.clone())));
                self.wanted.insert(self.next_leg, wanted);
            }
            3 => {
                let nth = random.below(self.wanted.len().max(1) as u64) as usize;
                if let Some(leg) = self.wanted.keys().nth(nth).copied() {
                    self.release(leg);
                }
            }
            4 => {
                // New flows.
                let nth = random.below(self.wanted.len().max(1) as u64) as usize;
                if let Some(desire) = self.wanted.values_mut().nth(nth) {
                    desire.desired.attempt += 1;
                    desire.desired.flows[0].device_port = Some(1_000 + random.below(9) as u16);
                    let desire = desire.clone();
                    self.world.input(Input::Desire(Box::new(desire)));
                }
            }
            5 | 6 => {
                let held: Vec<_> = self.pcef.rules.keys().cloned().collect();
                if let Some((session, name)) =
                    held.get(random.below(held.len().max(1) as u64) as usize).cloned()
                {
                    let owner = self.open.iter().find(|(_, (id, _))| *id == session).map(|(n, _)| *n);
                    let status = random.below(3) as u32;
                    if status == 1 {
                        self.pcef.rules.remove(&(session, name.clone()));
                    }
                    self.update(owner.unwrap(), 2, |w| rule_report(w, &name, status, None));
                }
            }
            7 => self.world.input(Input::PeerUp { origin_host: Some(GATEWAY.into()) }),
            8 if random.below(8) == 0 => self.restart(),
            9 if random.below(8) == 0 => {
                self.open.clear();
                self.pcef.rules.clear();
                self.world.input(Input::Restarted { origin_host: GATEWAY.into() });
            }
            10 => self.desire_all(),
            11..=17 => self.serve(random.below(12)),
            _ => self.world.until(self.world.now.plus_ms(random.below(3_000))),
        }
        self.learn();
    }

    /// The faults are over.
    fn settle(&mut self) {
        for n in 1..=SUBSCRIBERS {
            if !self.open.contains_key(&n) {
                self.attach(n);
            }
        }
        for _ in 0..500 {
            self.world.until(self.world.now.plus_ms(1_000));
            while !self.world.requests.is_empty() {
                self.serve(9);
            }
            let before: Vec<u32> = self.wanted.values().map(|d| d.desired.attempt).collect();
            self.learn();
            if before != self.wanted.values().map(|d| d.desired.attempt).collect::<Vec<_>>() {
                self.desire_all();
            }
        }
    }
}

#[test]
fn disorder_ends_in_what_is_wanted() {
    for seed in 1..=500u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut lab = Lab::new();
        for _ in 0..400 {
            lab.step(&mut random);
        }
        // A refusal may have been the last word of the disorder: the engine asks again.
        lab.desire_all();
        lab.settle();
        let expected: BTreeSet<(String, String)> = lab
            .wanted
            .iter()
            .filter(|(_, desire)| desire.desired.valid_until > lab.world.now)
            .map(|(n, desire)| (lab.open[&desire.access.subscriber.0].0.clone(), format!("tw-{n}-0")))
            .collect();
        let held: BTreeSet<_> = lab.pcef.rules.keys().cloned().collect();
        assert_eq!(held, expected, "seed {seed}");
        assert_eq!(lab.leaving.len(), 0, "seed {seed}: all that was released is reported as removed");
        for ((_, name), rule) in &lab.pcef.rules {
            let n: u64 = name[3..name.len() - 2].parse().unwrap();
            let port = lab.wanted[&n].desired.flows[0].device_port.unwrap().to_string();
            assert!(
                String::from_utf8_lossy(rule).contains(&format!(" {port}")),
                "seed {seed}: the last flows"
            );
        }
    }
}
