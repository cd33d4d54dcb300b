//! A simulated enforcement point. It follows desired legs by its own clock, meters them, keeps its reports
//! until they are acknowledged; under faults it is slow, refuses, loses its port, its state or its mind.

use crate::actor::{Actor, Context, Link, Message, Shown};
use crate::lies;
use crate::options::Faults;
use crate::rule::{Rule, Stage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tollway_model::{LegId, SlotLength, Timestamp};
use tollway_policy::{DesiredLeg, PolicyCommand, PolicyReport, Report};

/// Unacknowledged batches are sent again after this.
const RESEND_MS: u64 = 3_000;

/// Batches sent at once; the rest follows acknowledgements.
const BURST: usize = 32;

/// No desired set so long after asking for a connection: ask again.
const CONNECT_MS: u64 = 4_000;

/// What was refused is tried again by the agent's own reconcile loop.
const RECONCILE_MS: u64 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Session {
    Away { retry: Timestamp },
    Asked { connection: u64, since: Timestamp },
    Up { connection: u64 },
}

pub struct Agent {
    name: String,
    slot: SlotLength,
    offset_ms: i64,
    /// Installs a leg at once, instead of at its start.
    eager: bool,
    session: Session,
    connections: u64,
    lives: u64,
    pub(crate) rules: BTreeMap<LegId, Rule>,
    pub(crate) fresh: Vec<Report>,
    batches: VecDeque<(u64, Vec<Report>)>,
    next_number: u64,
    sent_at: Timestamp,
    /// Highest number sent on this connection.
    sent: u64,
    carried: BTreeMap<LegId, u64>,
    has_lied: bool,
    has_stepped: bool,
    /// Legs whose meters lost something on the way.
    inexact: BTreeSet<LegId>,
}

impl Agent {
    pub fn new(name: &str, slot: SlotLength, offset_ms: i64, eager: bool) -> Agent {
        Agent {
            name: name.to_owned(),
            slot,
            offset_ms,
            eager,
            session: Session::Away { retry: Timestamp(0) },
            connections: 0,
            lives: 0,
            rules: BTreeMap::new(),
            fresh: Vec::new(),
            batches: VecDeque::new(),
            next_number: 1,
            sent_at: Timestamp(0),
            sent: 0,
            carried: BTreeMap::new(),
            has_lied: false,
            has_stepped: false,
            inexact: BTreeSet::new(),
        }
    }

    fn fault(&self, what: &str) -> String {
        format!("{} {what}", self.name)
    }

    /// The agent's own clock.
    fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.offset_ms))
    }

    fn true_time(&self, own: Timestamp) -> Timestamp {
        Timestamp(own.0.saturating_add_signed(-self.offset_ms))
    }

    fn delay(&self, context: &mut Context<'_>) -> u64 {
        if context.strikes(&self.fault("slow")) {
            context.rng.between(500, 14_000)
        } else {
            context.rng.between(1, 60)
        }
    }

    /// Brings meters up to now and closes slots that are over.
    fn account(&mut self, now: Timestamp) {
        let own = self.clock(now);
        for rule in self.rules.values_mut() {
            let carried = rule.carry(now, own);
            *self.carried.entry(rule.leg()).or_default() += carried;
            let slot = self.slot.slot_of(own);
            if slot != rule.slot {
                if rule.in_kernel {
                    self.fresh.push(rule.read(own, false));
                }
                rule.slot = slot;
            }
        }
    }

    fn report(&mut self, leg: LegId, attempt: u32, report: PolicyReport) {
        self.fresh.push(Report::Leg { leg, attempt, report });
    }

    fn desire(&mut self, context: &mut Context<'_>, desired: DesiredLeg) {
        let (now, own) = (context.now, self.clock(context.now));
        let leg = desired.leg;
        if desired.valid_until <= own && !self.rules.contains_key(&leg) {
            self.report(leg, desired.attempt, PolicyReport::Removed { at: own });
            return;
        }
        let due = now.plus_ms(self.delay(context));
        if let Some(rule) = self.rules.get_mut(&leg) {
            if rule.desired.attempt > desired.attempt {
                return;
            }
            if rule.desired.attempt < desired.attempt
                || !matches!(rule.stage, Stage::Installed | Stage::Down { .. })
            {
                rule.desired = desired;
                rule.stage = Stage::Installing { due };
            } else if rule.stage == Stage::Installed {
                let attempt = desired.attempt;
                self.report(leg, attempt, PolicyReport::Accepted);
                self.report(leg, attempt, PolicyReport::Active { at: own });
            }
            return;
        }
        if self.carried.contains_key(&leg) {
            self.inexact.insert(leg);
        }
        self.lives += 1;
        let demand = if context.rng.chance(150_000) { 0 } else { context.rng.between(10_000, 20_000_000) };
        let slot = self.slot.slot_of(own);
        self.rules.insert(leg, Rule::new(desired, self.lives, demand, slot, now, due));
    }

    fn remove(&mut self, now: Timestamp, leg: LegId, attempt: Option<u32>) {
        let own = self.clock(now);
        let Some(mut rule) = self.rules.remove(&leg) else {
            if let Some(attempt) = attempt {
                self.report(leg, attempt, PolicyReport::Removed { at: own });
            }
            return;
        };
        let carried = rule.carry(now, own);
        *self.carried.entry(leg).or_default() += carried;
        if rule.was_installed {
            self.fresh.push(rule.read(own, true));
        }
        let attempt = attempt.unwrap_or(rule.desired.attempt).max(rule.desired.attempt);
        self.report(leg, attempt, PolicyReport::Removed { at: own });
    }

    /// Stages that are due; legs that die by themselves.
    fn follow(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        let own = self.clock(now);
        let legs: Vec<LegId> = self.rules.keys().copied().collect();
        for leg in legs {
            let Some(rule) = self.rules.get(&leg) else { continue };
            if rule.desired.valid_until <= own {
                self.remove(now, leg, None);
                continue;
            }
            let (stage, attempt) = (rule.stage, rule.desired.attempt);
            match stage {
                Stage::Installing { due } if due <= now => self.install(context, leg, attempt),
                Stage::Accepted { due } if due <= now => {
                    self.set_stage(leg, Stage::Installed);
                    self.report(leg, attempt, PolicyReport::Active { at: own });
                }
                Stage::Refused { retry } if retry <= now => {
                    self.set_stage(leg, Stage::Installing { due: now })
                }
                Stage::Down { until } if until <= now => {
                    self.up_again(leg);
                    self.report(leg, attempt, PolicyReport::Active { at: own });
                }
                Stage::Installed if context.strikes(&self.fault("port down")) => {
                    let until = now.plus_ms(context.rng.between(1_000, 20_000));
                    if let Some(rule) = self.rules.get_mut(&leg) {
                        rule.in_kernel = false;
                        rule.stage = Stage::Down { until };
                    }
                    let reason = "the port is down".to_owned();
                    self.report(leg, attempt, PolicyReport::Lost { at: own, reason });
                }
                Stage::Installing { .. }
                | Stage::Accepted { .. }
                | Stage::Refused { .. }
                | Stage::Down { .. }
                | Stage::Installed => {}
            }
        }
    }

    fn up_again(&mut self, leg: LegId) {
        if let Some(rule) = self.rules.get_mut(&leg) {
            rule.in_kernel = true;
            rule.stage = Stage::Installed;
        }
    }

    fn set_stage(&mut self, leg: LegId, stage: Stage) {
        if let Some(rule) = self.rules.get_mut(&leg) {
            rule.stage = stage;
        }
    }

    fn install(&mut self, context: &mut Context<'_>, leg: LegId, attempt: u32) {
        if context.strikes(&self.fault("refuses")) {
            self.set_stage(leg, Stage::Refused { retry: context.now.plus_ms(RECONCILE_MS) });
            self.report(leg, attempt, PolicyReport::Refused { reason: "RTNETLINK: no buffer".to_owned() });
            return;
        }
        self.report(leg, attempt, PolicyReport::Accepted);
        let own = self.clock(context.now);
        let (eager, delay) = (self.eager, self.delay(context));
        let Some(rule) = self.rules.get_mut(&leg) else { return };
        let start = rule.desired.up.schedule.window().map_or(own, |window| window.from);
        let wait = if eager { 0 } else { start.ms_since(own) };
        rule.in_kernel = true;
        rule.was_installed = true;
        rule.stage = Stage::Accepted { due: context.now.plus_ms(wait + delay.min(500)) };
    }

    /// The whole set replaces what is here.
    fn desired_set(&mut self, context: &mut Context<'_>, legs: Vec<DesiredLeg>, acked: u64) {
        self.acknowledge(acked);
        self.next_number = self.next_number.max(acked + 1);
        let wanted: BTreeSet<LegId> = legs.iter().map(|desired| desired.leg).collect();
        let here: Vec<LegId> = self.rules.keys().copied().collect();
        for leg in here.into_iter().filter(|leg| !wanted.contains(leg)) {
            self.remove(context.now, leg, None);
        }
        for desired in legs {
            self.desire(context, desired);
        }
        self.sent = 0;
    }

    fn acknowledge(&mut self, number: u64) {
        while self.batches.front().is_some_and(|(n, _)| *n <= number) {
            self.batches.pop_front();
        }
    }

    /// In order, always: a batch that overtakes an older one makes that one a repeat.
    fn send(&mut self, context: &mut Context<'_>) {
        if !self.fresh.is_empty() {
            let reports = std::mem::take(&mut self.fresh);
            self.batches.push_back((self.next_number, reports));
            self.next_number += 1;
        }
        let again =
            context.now.ms_since(self.sent_at) >= RESEND_MS || context.strikes(&self.fault("resends"));
        if again {
            self.sent = 0;
        }
        if !matches!(self.session, Session::Up { .. }) {
            return;
        }
        let upto = self.sent;
        for (number, reports) in self.batches.iter().filter(|(number, _)| *number > upto).take(BURST) {
            self.sent_at = context.now;
            self.sent = *number;
            context.send(Message::Reports {
                enforcement_point: self.name.clone(),
                number: *number,
                reports: reports.clone(),
            });
        }
    }

    fn connect(&mut self, context: &mut Context<'_>) {
        let ask = match self.session {
            Session::Away { retry } => retry <= context.now,
            Session::Asked { since, .. } => context.now.ms_since(since) >= CONNECT_MS,
            Session::Up { .. } => false,
        };
        if ask {
            self.connections += 1;
            self.session = Session::Asked { connection: self.connections, since: context.now };
            let enforcement_point = self.name.clone();
            context.send(Message::Connect { enforcement_point, connection: self.connections });
        }
    }

    /// Faults of the machine itself.
    fn misfortunes(&mut self, context: &mut Context<'_>) {
        if context.strikes(&self.fault("clock steps")) {
            let step = i64::try_from(context.rng.between(0, 30_000)).unwrap_or(0) - 15_000;
            self.offset_ms = (self.offset_ms + step).clamp(-20_000, 20_000);
            self.has_stepped = true;
        }
        if context.strikes(&self.fault("reboots")) {
            self.reboot(context);
        }
        if context.strikes(&self.fault("lies")) {
            self.has_lied = true;
            let own = self.clock(context.now);
            let lies = lies::tell(context.rng, &self.rules, self.slot, own);
            self.fresh.extend(lies);
        }
    }

    /// The kernel's state is gone; the desired state and the unacknowledged reports may be, too.
    fn reboot(&mut self, context: &mut Context<'_>) {
        let loses_disk = context.rng.chance(400_000);
        self.inexact.extend(self.rules.keys().copied());
        self.fresh.clear();
        if loses_disk {
            // Readings of legs that are gone already may be among what is lost.
            self.inexact.extend(self.carried.keys().copied());
            self.batches.clear();
            self.next_number = 1;
            self.rules.clear();
        }
        let due = context.now.plus_ms(context.rng.between(100, 5_000));
        for rule in self.rules.values_mut() {
            self.lives += 1;
            rule.restart(self.lives, due);
        }
        self.session = Session::Away { retry: due };
    }

    fn next_wake(&self, now: Timestamp, faults_on: bool) -> Timestamp {
        let own = self.clock(now);
        let mut next = now.plus_ms(if faults_on { 60_000 } else { 3_600_000 });
        let mut at = |when: Timestamp| next = next.min(when);
        match self.session {
            Session::Away { retry } => at(retry),
            Session::Asked { since, .. } => at(since.plus_ms(CONNECT_MS)),
            Session::Up { .. } if !self.batches.is_empty() => at(self.sent_at.plus_ms(RESEND_MS)),
            Session::Up { .. } => {}
        }
        for rule in self.rules.values() {
            at(self.true_time(self.slot.window_of(self.slot.slot_of(own)).until));
            match rule.stage {
                Stage::Installing { due } | Stage::Accepted { due } => at(due),
                Stage::Refused { retry } => at(retry),
                Stage::Down { until } => at(until),
                Stage::Installed => {}
            }
            if let Some(change) = rule.desired.next_change(own) {
                at(self.true_time(change));
            }
        }
        next.max(now.plus_ms(1))
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        self.follow(context);
        self.connect(context);
        self.send(context);
        context.wake_at(self.next_wake(context.now, context.faults.are_on()));
    }
}

impl Actor for Agent {
    fn name(&self) -> &str {
        &self.name
    }

    fn link(&self) -> Link {
        Link::Stream
    }

    fn register(&self, faults: &mut Faults) {
        for (what, ppm_max) in [
            ("slow", 500_000),
            ("refuses", 500_000),
            ("port down", 60_000),
            ("resends", 300_000),
            ("clock steps", 20_000),
            ("reboots", 20_000),
            ("lies", 100_000),
        ] {
            faults.register(&self.fault(what), ppm_max);
        }
    }

    fn step(&mut self, context: &mut Context<'_>) {
        self.account(context.now);
        self.misfortunes(context);
        self.account(context.now);
        self.go_on(context);
    }

    fn on_message(&mut self, context: &mut Context<'_>, message: Message) {
        self.account(context.now);
        match message {
            Message::Desired { connection, legs, acked, .. } => {
                if matches!(self.session, Session::Asked { connection: asked, .. } | Session::Up { connection: asked } if asked == connection)
                {
                    self.session = Session::Up { connection };
                    self.desired_set(context, legs, acked);
                }
            }
            Message::Policy(PolicyCommand::Desire(desired)) => self.desire(context, desired),
            Message::Policy(PolicyCommand::Release { leg, attempt, .. }) => {
                self.remove(context.now, leg, Some(attempt));
            }
            Message::Ack { number } => self.acknowledge(number),
            Message::Broken { .. } => {
                let retry = context.now.plus_ms(context.rng.between(50, 2_000));
                self.session = Session::Away { retry };
            }
            Message::Request { .. }
            | Message::Connect { .. }
            | Message::Reports { .. }
            | Message::Reply { .. }
            | Message::Unavailable { .. } => {}
        }
        self.go_on(context);
    }

    fn check(&self) -> Result<(), String> {
        let mut last = 0;
        for (number, _) in &self.batches {
            if *number <= last {
                return Err(format!("{} numbers its batches wrongly", self.name));
            }
            last = *number;
        }
        Ok(())
    }

    fn show(&self) -> Shown {
        let carried = if self.has_lied { BTreeMap::new() } else { self.carried.clone() };
        Shown {
            legs: self.rules.keys().copied().collect(),
            active: self.rules.values().filter(|r| r.stage == Stage::Installed).map(Rule::leg).collect(),
            has_lied: self.has_lied,
            carried,
            inexact: if self.has_stepped {
                self.carried.keys().copied().collect()
            } else {
                self.inexact.clone()
            },
            // The last two may be on their way.
            unanswered: self.batches.len().saturating_sub(2),
        }
    }
}
