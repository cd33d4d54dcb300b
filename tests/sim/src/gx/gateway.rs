//! A scripted gateway (PCEF): subscribers attach and leave, rules are held, begin, fail and end, bytes are carried
//! and told. It asks one thing of a session at a time and asks again, in the same words, until it is answered.

use super::message::{self, Changes, Install, Kind, Word};
use crate::rng::Rng;
use std::collections::BTreeMap;
use tollway_diameter::avp::ietf::{CC_REQUEST_NUMBER, SESSION_ID};
use tollway_diameter::{Message, Origin, Outcome, answer};
use tollway_model::{LegId, Timestamp};

/// Asked again after this.
const RETRY_MS: u64 = 3_000;

/// Usage is told after so many bytes.
const USAGE_BYTES: u64 = 200_000;

/// And so long after the last time, however few they are.
const USAGE_MS: u64 = 10_000;

struct Rule {
    from: Timestamp,
    until: Option<Timestamp>,
    has_begun: bool,
    /// Usage is told, with the granted direction.
    is_down: Option<bool>,
    bps: u64,
    carried_at: Timestamp,
    told_at: Timestamp,
    untold: u64,
}

struct Asked {
    kind: Kind,
    number: u32,
    bytes: Vec<u8>,
    words: Vec<Word>,
    /// When it is sent again.
    again: Timestamp,
    is_repeat: bool,
}

struct Line {
    session: String,
    /// The CCR-I was answered with success.
    is_open: bool,
    is_home: bool,
    is_leaving: bool,
    next: u32,
    asked: Option<Asked>,
    words: Vec<Word>,
    rules: BTreeMap<LegId, Rule>,
}

pub struct Gateway {
    /// Rule-Activation-Time and Rule-Deactivation-Time are kept.
    pub is_kept: bool,
    /// What became of a rule is said.
    pub is_full: bool,
    pub state_id: u32,
    sessions: u64,
    lines: BTreeMap<u64, Line>,
    /// Bytes that were put into a request, each once.
    told: BTreeMap<LegId, u64>,
}

impl Gateway {
    pub fn new(is_kept: bool, is_full: bool) -> Gateway {
        Gateway { is_kept, is_full, state_id: 1, sessions: 0, lines: BTreeMap::new(), told: BTreeMap::new() }
    }

    pub fn told(&self) -> &BTreeMap<LegId, u64> {
        &self.told
    }

    pub fn held(&self) -> impl Iterator<Item = LegId> {
        self.lines.values().flat_map(|line| line.rules.keys().copied())
    }

    /// A rule of this leg is held, and nothing that would betray it is still to be said: a failure that is told late may
    /// have made the adapter believe that a newer install is gone, until it hears that it is not.
    pub fn holds_quietly(&self, leg: LegId) -> bool {
        let speaks = |words: &[Word]| {
            words.iter().any(|word| matches!(word, Word::Status { leg: of, .. } if *of == leg))
        };
        self.lines.values().filter(|line| line.rules.get(&leg).is_some_and(|rule| rule.has_begun)).any(
            |line| {
                let asked = line.asked.as_ref().is_some_and(|asked| speaks(&asked.words));
                !asked && !speaks(&line.words)
            },
        )
    }

    pub fn is_there(&self, subscriber: u64) -> bool {
        self.lines.contains_key(&subscriber)
    }

    /// Sessions that were answered and that this gateway has not said to be over.
    pub fn answered(&self) -> impl Iterator<Item = &str> {
        let is_over = |line: &Line| line.is_leaving;
        self.lines.values().filter(move |l| l.is_open && !is_over(l)).map(|line| line.session.as_str())
    }

    /// A new session; whatever the subscriber had is gone without a word.
    pub fn attach(&mut self, now: Timestamp, subscriber: u64, variant: u8) {
        self.sessions += 1;
        let session = format!("{};{};{}", message::HOST, self.state_id, self.sessions);
        let bytes = message::initial(&session, subscriber, variant);
        let line = Line {
            session,
            is_open: false,
            is_home: true,
            is_leaving: false,
            next: 1,
            asked: Some(Asked {
                kind: Kind::Initial,
                number: 0,
                bytes,
                words: Vec::new(),
                again: now,
                is_repeat: false,
            }),
            words: Vec::new(),
            rules: BTreeMap::new(),
        };
        self.lines.insert(subscriber, line);
    }

    pub fn detach(&mut self, now: Timestamp, subscriber: u64) {
        self.carry(now);
        let Some(line) = self.lines.get_mut(&subscriber).filter(|line| line.is_open) else { return };
        line.is_leaving = true;
        let legs: Vec<LegId> = line.rules.keys().copied().collect();
        legs.into_iter().for_each(|leg| line.remove(leg));
    }

    /// To another network, or back.
    pub fn travel(&mut self, subscriber: u64) {
        if let Some(line) = self.lines.get_mut(&subscriber).filter(|line| line.is_open && !line.is_leaving) {
            line.is_home = !line.is_home;
            let is_home = line.is_home;
            line.words.push(Word::Place { is_home });
        }
    }

    /// A rule fails by itself.
    pub fn fail(&mut self, now: Timestamp, rng: &mut Rng) {
        self.carry(now);
        let is_full = self.is_full;
        let all: Vec<(u64, LegId)> =
            self.lines.iter().flat_map(|(n, line)| line.rules.keys().map(|leg| (*n, *leg))).collect();
        let Some((subscriber, leg)) = rng.pick(&all).copied().filter(|_| is_full) else { return };
        if let Some(line) = self.lines.get_mut(&subscriber) {
            line.remove(leg);
            line.words.push(Word::Status { leg, is_active: false });
        }
    }

    /// All sessions and rules are gone, and what was asked with them.
    pub fn restart(&mut self) {
        self.state_id += 1;
        self.lines.clear();
    }

    /// Brings rules up to now: they begin, carry, tell, end.
    pub fn follow(&mut self, now: Timestamp) {
        self.carry(now);
        let (is_kept, is_full) = (self.is_kept, self.is_full);
        for line in self.lines.values_mut() {
            let mut over = Vec::new();
            for (leg, rule) in &mut line.rules {
                if is_kept && rule.until.is_some_and(|until| until <= now) {
                    over.push(*leg);
                } else if !rule.has_begun && (!is_kept || rule.from <= now) {
                    rule.has_begun = true;
                    (rule.carried_at, rule.told_at) = (now, now);
                    line.words.extend(is_full.then_some(Word::Status { leg: *leg, is_active: true }));
                } else if rule.untold >= USAGE_BYTES || now.ms_since(rule.told_at) >= USAGE_MS {
                    line.words.extend(rule.tell(*leg));
                    rule.told_at = now;
                }
            }
            over.into_iter().for_each(|leg| line.remove(leg));
        }
    }

    fn carry(&mut self, now: Timestamp) {
        let rules = self.lines.values_mut().flat_map(|line| line.rules.values_mut());
        for rule in rules.filter(|rule| rule.has_begun) {
            let end = rule.until.filter(|_| self.is_kept).map_or(now, |until| until.min(now));
            rule.untold += rule.bps * end.ms_since(rule.carried_at) / 8_000;
            rule.carried_at = rule.carried_at.max(end);
        }
    }

    /// What is to be sent now. What was not answered goes again as it was.
    pub fn due(&mut self, now: Timestamp) -> Vec<(Vec<u8>, bool)> {
        let mut frames = Vec::new();
        for line in self.lines.values_mut() {
            line.ask(now, &mut self.told);
            if let Some(asked) = line.asked.as_mut().filter(|asked| asked.again <= now) {
                asked.again = now.plus_ms(RETRY_MS);
                frames.push((asked.bytes.clone(), std::mem::replace(&mut asked.is_repeat, true)));
            }
        }
        frames
    }

    pub fn next_due(&self, now: Timestamp) -> Timestamp {
        let mut next = now.plus_ms(3_600_000);
        for line in self.lines.values() {
            let is_silent = line.asked.is_none() && (line.is_leaving || !line.words.is_empty());
            let again = line.asked.as_ref().map(|asked| asked.again);
            next = again.into_iter().chain(is_silent.then_some(now)).fold(next, Timestamp::min);
            for rule in line.rules.values() {
                let begins = (!rule.has_begun).then_some(if self.is_kept { rule.from } else { now });
                let tells =
                    (rule.has_begun && rule.is_down.is_some()).then(|| rule.told_at.plus_ms(USAGE_MS));
                let ends = rule.until.filter(|_| self.is_kept);
                next = [begins, tells, ends].into_iter().flatten().fold(next, Timestamp::min);
            }
        }
        next.max(now.plus_ms(1))
    }

    /// A CCA.
    pub fn answered_with(&mut self, now: Timestamp, rng: &mut Rng, cca: &Message<'_>) {
        let (session, number) = (cca.text(SESSION_ID), cca.u32(CC_REQUEST_NUMBER));
        let found = self.lines.iter_mut().find(|(_, line)| Some(line.session.as_str()) == session);
        let Some((subscriber, line)) = found else { return };
        let Some(asked) = line.asked.take_if(|asked| Some(asked.number) == number) else { return };
        let is_success = cca.result().is_some_and(|outcome| outcome.code == 2001);
        match asked.kind {
            Kind::Initial | Kind::Update if is_success => {
                line.is_open = true;
                let changes = in_time(message::changes(cca), self.is_kept, now);
                line.take(now, rng, &changes);
            }
            Kind::Initial | Kind::Update | Kind::Termination => {
                let subscriber = *subscriber;
                self.lines.remove(&subscriber);
            }
        }
    }

    /// A RAR; gives back the RAA. `refused`: its installs fail.
    pub fn told_to(&mut self, now: Timestamp, rng: &mut Rng, rar: &Message<'_>, refused: bool) -> Vec<u8> {
        self.carry(now);
        let origin =
            Origin { host: message::HOST.into(), realm: message::REALM.into(), state_id: self.state_id };
        let session = rar.text(SESSION_ID);
        let line = self.lines.values_mut().find(|line| Some(line.session.as_str()) == session);
        let code = match line.filter(|line| !line.is_leaving) {
            Some(line) => {
                let mut changes = in_time(message::changes(rar), self.is_kept, now);
                if refused && self.is_full {
                    for install in changes.installed.drain(..) {
                        line.remove(install.leg);
                        line.words.push(Word::Status { leg: install.leg, is_active: false });
                    }
                }
                line.take(now, rng, &changes);
                2001
            }
            // DIAMETER_UNKNOWN_SESSION_ID (RFC 6733 §7.1.5).
            None => 5002,
        };
        let raa = answer::answer(rar, &origin, Outcome { vendor: 0, code });
        raa.finish().expect("an answer of few AVPs is short")
    }
}

/// What is over by its own time is not held at all.
fn in_time(mut changes: Changes, is_kept: bool, now: Timestamp) -> Changes {
    changes.installed.retain(|install| !is_kept || install.until.is_none_or(|until| until > now));
    changes
}

impl Line {
    fn take(&mut self, now: Timestamp, rng: &mut Rng, changes: &Changes) {
        changes.removed.iter().for_each(|leg| self.remove(*leg));
        for Install { leg, from, until } in &changes.installed {
            let bps = rng.between(10_000, 4_000_000);
            let rule = self.rules.entry(*leg).or_insert(Rule {
                from: *from,
                until: *until,
                has_begun: false,
                is_down: None,
                bps,
                carried_at: now,
                told_at: now,
                untold: 0,
            });
            (rule.from, rule.until, rule.has_begun) = (*from, *until, false);
        }
        for (leg, is_down) in &changes.metered {
            if let Some(rule) = self.rules.get_mut(leg) {
                rule.is_down = Some(*is_down);
            }
        }
    }

    /// Its last usage is told.
    fn remove(&mut self, leg: LegId) {
        if let Some(mut rule) = self.rules.remove(&leg) {
            self.words.extend(rule.tell(leg));
        }
    }

    fn ask(&mut self, now: Timestamp, told: &mut BTreeMap<LegId, u64>) {
        if self.asked.is_some() || !self.is_open || (self.words.is_empty() && !self.is_leaving) {
            return;
        }
        let kind = if self.is_leaving { Kind::Termination } else { Kind::Update };
        let words = std::mem::take(&mut self.words);
        for word in &words {
            if let Word::Usage { leg, bytes, .. } = word {
                *told.entry(*leg).or_default() += bytes;
            }
        }
        let bytes = message::further(kind, &self.session, self.next, &words);
        self.asked = Some(Asked { kind, number: self.next, bytes, words, again: now, is_repeat: false });
        self.next += 1;
    }
}

impl Rule {
    fn tell(&mut self, leg: LegId) -> Option<Word> {
        let bytes = std::mem::take(&mut self.untold);
        let is_down = self.is_down?;
        (bytes > 0).then_some(Word::Usage { leg, bytes, is_down })
    }
}
