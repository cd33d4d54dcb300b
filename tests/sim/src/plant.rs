//! The engine as the driver of the simulation holds it, with at most one planted bug around it. The bugs
//! live here, by rewriting inputs, records or what is replayed; production code has no switch for them.

use crate::options::Bug;
use std::collections::{BTreeMap, BTreeSet};
use tollway_core::{Code, Command, Engine, Envelope, Input, Output, Record, Reply};
use tollway_model::{Amount, BitsPerSecond, Direction, ReservationId, Schedule, Timestamp};
use tollway_policy::{DesiredLeg, PolicyCommand, Report};

/// Far enough for a hold that never expires.
const NEVER_MS: u64 = 10 * 365 * 86_400_000;

#[derive(Default)]
pub struct Plant {
    engine: Engine,
    bug: Option<Bug>,
    /// Every record made, for the bugs that rebuild the engine from a changed past.
    history: Vec<Envelope>,
    /// Reservations that a broken admission does not count.
    uncounted: BTreeSet<ReservationId>,
    /// Per enforcement point: highest number seen, numbers added, mask of counter lives.
    resent: BTreeMap<String, Resent>,
}

#[derive(Clone, Copy, Default)]
struct Resent {
    seen: u64,
    added: u64,
}

impl Plant {
    /// An engine rebuilt from the journal, as the bug has it.
    pub fn rebuild(journal: Vec<Envelope>, bug: Option<Bug>, uncounted: &BTreeSet<ReservationId>) -> Plant {
        let last_top_up = journal.iter().rposition(|e| matches!(e.record, Record::ToppedUp { .. }));
        let mut engine = Engine::new();
        for (index, envelope) in journal.iter().enumerate() {
            if bug == Some(Bug::ReplayDiffers) && Some(index) == last_top_up {
                engine.replay(&one_short(envelope));
            } else {
                engine.replay(&understated(envelope, uncounted));
            }
        }
        let history = if keeps_history(bug) { journal } else { Vec::new() };
        Plant { engine, bug, history, uncounted: uncounted.clone(), resent: BTreeMap::new() }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn uncounted(&self) -> &BTreeSet<ReservationId> {
        &self.uncounted
    }

    /// Whether the gate ignores what an output waits for.
    pub fn gate_is_open(&self) -> bool {
        self.bug == Some(Bug::ReplyBeforeCommit)
    }

    pub fn handle(&mut self, now: Timestamp, input: Input) -> (Vec<Envelope>, Vec<Output>) {
        let input = match self.bug {
            Some(Bug::DuplicateUsage) => self.count_again(input),
            Some(Bug::EqualStart) => {
                self.forget_equal_starts(now, &input);
                input
            }
            Some(
                Bug::ReplyBeforeCommit
                | Bug::HoldNeverVoided
                | Bug::ReplayDiffers
                | Bug::GxAnswerBeforeCommit
                | Bug::GxReleaseCrosses
                | Bug::GxUsageTwice,
            )
            | None => input,
        };
        self.engine.handle(now, input);
        let mut records = self.engine.take_records();
        let mut outputs = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            outputs.push(output);
        }
        records.iter_mut().for_each(|envelope| {
            if let Record::Answered(answered) = &mut envelope.record {
                self.tell_as_sold(&mut answered.reply);
            }
        });
        outputs.iter_mut().for_each(|output| match output {
            Output::Reply { reply, .. } => self.tell_as_sold(reply),
            Output::Policy { command: PolicyCommand::Desire(desired), .. } => self.desire_as_sold(desired),
            Output::DesiredSet { legs, .. } => {
                legs.iter_mut().for_each(|desired| self.desire_as_sold(desired))
            }
            Output::Repeat { .. } | Output::Policy { .. } | Output::Ack { .. } => {}
        });
        if keeps_history(self.bug) {
            self.history.extend(records.iter().cloned());
        }
        if self.bug == Some(Bug::HoldNeverVoided) {
            self.keep_for_ever(&mut records);
        }
        if self.bug == Some(Bug::DuplicateUsage) {
            outputs.iter_mut().for_each(|output| self.own_numbers(output));
        }
        (records, outputs)
    }

    fn replayed(&self, uncounted: &BTreeSet<ReservationId>) -> Engine {
        let mut engine = Engine::new();
        self.history.iter().for_each(|envelope| engine.replay(&understated(envelope, uncounted)));
        engine
    }

    /// A batch that comes again gets a new number and a new counter life.
    fn count_again(&mut self, input: Input) -> Input {
        let Input::Reports { enforcement_point, number, reports } = input else { return input };
        let resent = self.resent.entry(enforcement_point.clone()).or_default();
        let is_repeat = number <= resent.seen;
        if is_repeat {
            resent.added += 1;
        } else {
            resent.seen = number;
        }
        let mask = resent.added << 32;
        let number = resent.seen + resent.added;
        let rewrite = |report: Report| match report {
            Report::Usage(mut reading) => {
                reading.incarnation ^= mask;
                Some(Report::Usage(reading))
            }
            Report::Leg { .. } | Report::Port(_) | Report::Session(_) if is_repeat => None,
            Report::Leg { .. } | Report::Port(_) | Report::Session(_) => Some(report),
        };
        Input::Reports {
            enforcement_point,
            number,
            reports: reports.into_iter().filter_map(rewrite).collect(),
        }
    }

    /// Maps numbers back to the agent's own.
    fn own_numbers(&self, output: &mut Output) {
        let added = |point: &str| self.resent.get(point).map_or(0, |resent| resent.added);
        match output {
            Output::Ack { enforcement_point, number, .. } => {
                *number = number.saturating_sub(added(enforcement_point))
            }
            Output::DesiredSet { enforcement_point, acked, .. } => {
                *acked = acked.saturating_sub(added(enforcement_point));
            }
            Output::Reply { .. } | Output::Repeat { .. } | Output::Policy { .. } => {}
        }
    }

    /// The schedule that was sold to a reservation that admission no longer counts.
    fn sold(&self, id: ReservationId) -> Option<&Schedule> {
        let of =
            |envelope: &'_ Envelope| matches!(&envelope.record, Record::Held(held) if held.reservation == id);
        let held =
            self.history.iter().filter(|_| self.uncounted.contains(&id)).find(|envelope| of(envelope))?;
        let Record::Held(held) = &held.record else { return None };
        Some(&held.offer.schedule)
    }

    /// A reservation that admission no longer counts is still told as it was sold.
    fn tell_as_sold(&self, reply: &mut Reply) {
        let Reply::Reservation(reservation) = reply else { return };
        if let Some(sold) = self.sold(reservation.id) {
            reservation.schedule.clone_from(sold);
        }
    }

    fn desire_as_sold(&self, desired: &mut DesiredLeg) {
        let Some(schedule) = self.sold(desired.leg.reservation) else { return };
        let packet = desired.shape.packet_bytes;
        let sold = schedule.map_rates(|rate| rate.class_rate(packet));
        let back = schedule.map_rates(|rate| rate.return_path().class_rate(packet));
        (desired.up.schedule, desired.down.schedule) = match desired.direction {
            Direction::Up => (sold, back),
            Direction::Down => (back, sold),
        };
    }

    fn keep_for_ever(&mut self, records: &mut [Envelope]) {
        let mut is_changed = false;
        let all = records.iter_mut().chain(self.history.iter_mut().rev().take(16));
        for envelope in all {
            if let Record::Held(held) = &mut envelope.record
                && held.expires.ms_since(envelope.at) < NEVER_MS
            {
                held.expires = envelope.at.plus_ms(NEVER_MS);
                is_changed = true;
            }
        }
        if is_changed {
            self.engine = self.replayed(&BTreeSet::new());
        }
    }

    /// When capacity is what a request fails on: other reservations that start at the same instant are no
    /// longer counted (what ESnet's OSCARS does).
    fn forget_equal_starts(&mut self, now: Timestamp, input: &Input) {
        let Input::Client { command: Command::Take { offer }, .. } = input else { return };
        let mut probe = self.replayed(&self.uncounted);
        probe.handle(now, input.clone());
        let is_full = std::iter::from_fn(|| probe.poll_output()).any(|output| {
            matches!(output, Output::Reply { reply: Reply::Refused(refusal), .. }
                if refusal.code == Code::CapacityExhausted)
        });
        let wanted = self.history.iter().rev().find_map(|envelope| {
            let Record::Quoted(quote) = &envelope.record else { return None };
            let offers = quote.offers.iter().filter(|_| quote.id == offer.quote);
            offers.into_iter().find(|o| o.index == offer.index).map(|o| o.window.from)
        });
        let (true, Some(from)) = (is_full, wanted) else { return };
        let equal: BTreeSet<ReservationId> = self
            .engine
            .state()
            .reservations()
            .filter(|r| r.promise.is_live() && r.window.from == from)
            .map(|r| r.id)
            .collect();
        if !equal.is_empty() {
            self.uncounted.extend(equal);
            self.engine = self.replayed(&self.uncounted);
        }
    }
}

const fn keeps_history(bug: Option<Bug>) -> bool {
    matches!(bug, Some(Bug::EqualStart | Bug::HoldNeverVoided))
}

fn understated(envelope: &Envelope, uncounted: &BTreeSet<ReservationId>) -> Envelope {
    let mut envelope = envelope.clone();
    if let Record::Held(held) = &mut envelope.record
        && uncounted.contains(&held.reservation)
    {
        held.offer.schedule = held.offer.schedule.map_rates(|_| BitsPerSecond(1));
    }
    envelope
}

fn one_short(envelope: &Envelope) -> Envelope {
    let mut envelope = envelope.clone();
    if let Record::ToppedUp { amount, .. } = &mut envelope.record {
        *amount = Amount::new(amount.micros.0 - 1, amount.currency);
    }
    envelope
}
