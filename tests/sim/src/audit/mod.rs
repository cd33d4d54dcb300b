//! The auditor: models of its own, built only from what left the process and from the durable journal, held
//! against the engine after every step. It shares no code with the engine but the records' types.

mod answers;
mod book;
mod capacity;
mod money;
mod promises;

use crate::actor::Shown;
use crate::gx;
use crate::store::Store;
use answers::Answers;
use book::Book;
use capacity::Capacity;
use money::Money;
use promises::Promises;
use std::collections::BTreeMap;
use tollway_core::record::{Fact, SessionFact};
use tollway_core::{Engine, Envelope, IdempotencyKey, Output, Record, Reply};
use tollway_model::{LegId, ReservationId, Timestamp};
use tollway_policy::{PolicyReport, SessionReport};

/// Agents' clocks differ from the broker's by less than this, in either direction.
pub const SKEW_MS: u64 = 45_000;

#[derive(Default)]
pub struct Auditor {
    seen: usize,
    book: Book,
    capacity: Capacity,
    money: Money,
    promises: Promises,
    answers: Answers,
    /// True bytes of legs at agents that never lied.
    carried: BTreeMap<LegId, u64>,
    /// A clock stepped: readings outside the engine's tolerance are dropped, and none need be exact.
    clocks_parted: bool,
    /// What the run came across, counted: record kinds, refusal codes, ends, deficits.
    seen_kinds: BTreeMap<String, u64>,
    broken: Option<String>,
}

impl Auditor {
    pub fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn keep(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(what);
        }
    }

    /// What agents truly carried, before their readings are judged.
    pub fn note_carried(&mut self, carried: BTreeMap<LegId, u64>) {
        self.carried = carried;
    }

    pub fn clocks_part(&mut self) {
        self.clocks_parted = true;
    }

    /// The journal has grown, or not.
    pub fn durable(&mut self, journal: &[Envelope]) {
        let fresh = journal.get(self.seen..).unwrap_or_default();
        self.seen = journal.len();
        for envelope in fresh {
            let result = self.fold(envelope);
            self.keep(result);
        }
    }

    pub fn count(&mut self, what: &str) {
        *self.seen_kinds.entry(what.to_owned()).or_default() += 1;
    }

    pub fn counted(&self) -> &BTreeMap<String, u64> {
        &self.seen_kinds
    }

    fn count_record(&mut self, record: &Record) {
        self.count(&format!("record {}", record.kind().1));
        match record {
            Record::Ended(ended) => {
                self.count(&format!("ended {}", ended.reason.as_str()));
                if ended.detail.as_deref().is_some_and(|detail| detail.contains("no agent")) {
                    self.count("ended without an agent");
                }
            }
            Record::Configured(configured) if !configured.deficits.is_empty() => self.count("deficit"),
            Record::Settled { timed_out: true, .. } => self.count("settled by the timeout"),
            Record::Answered(answered) => {
                if let Reply::Refused(refusal) = &answered.reply {
                    self.count(&format!("stored {}", refusal.code.as_str()));
                }
            }
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Quoted(_)
            | Record::Held(_)
            | Record::HoldExpired { .. }
            | Record::Confirmed { .. }
            | Record::FlowsBound { .. }
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::LegsTold(_)
            | Record::Settled { .. }
            | Record::ToppedUp { .. } => {}
            Record::Reported(reported) if reported.enforcement_point == gx::POINT => {
                reported.facts.iter().for_each(|fact| self.count(&format!("gx {}", word(fact))));
            }
            Record::Reported(_) => {}
        }
    }

    fn fold(&mut self, envelope: &Envelope) -> Result<(), String> {
        self.count_record(&envelope.record);
        self.book.fold(envelope);
        self.promises.fold(envelope, &self.book)?;
        self.capacity.fold(envelope, &self.book)?;
        self.answers.fold(envelope)?;
        self.money.fold(envelope, &self.carried)
    }

    /// An output has left the process.
    pub fn left(&mut self, output: &Output, key: Option<IdempotencyKey>, store: &Store) {
        match output {
            Output::Reply { reply: Reply::Refused(refusal), .. } => {
                self.count(&format!("refused {}", refusal.code.as_str()));
            }
            Output::Repeat { .. } => self.count("repeated answer"),
            Output::Reply { .. } | Output::Policy { .. } | Output::DesiredSet { .. } | Output::Ack { .. } => {
            }
        }
        let (after, durable) = (output.after(), store.durable());
        self.expect(after <= durable, || {
            format!("invariant 1: {} left at {after}, durable is {durable}", kind_of(output))
        });
        let result = self.promises.left(output);
        self.keep(result);
        let result = self.answers.left(output, key, store);
        self.keep(result);
    }

    /// A process has rebuilt its engine from the store.
    pub fn rebuilt(&mut self, journal: &[Envelope], engine: Option<&Engine>) {
        self.durable(journal);
        let Some(engine) = engine else { return };
        let result = self.promises.survive(engine);
        self.keep(result);
        let result = self.money.agrees(engine);
        self.keep(result);
    }

    /// Whatever the engine knows is durable: the models must agree with it.
    pub fn settled(&mut self, engine: &Engine, clock: Timestamp) {
        let result = self.money.agrees(engine);
        self.keep(result);
        let result = self.promises.overdue(clock);
        self.keep(result);
    }

    /// After the faults: every live reservation is carried, or will be at its start.
    pub fn calm(&mut self, engine: &Engine, shown: &BTreeMap<String, Shown>, clock: Timestamp) {
        let result = self.promises.carried(engine, shown, clock);
        self.keep(result);
        let result = self.promises.left_behind(shown, clock);
        self.keep(result);
        for (name, shown) in shown {
            self.expect(shown.unanswered == 0, || {
                format!("liveness: {} requests or batches of {name} have no answer", shown.unanswered)
            });
        }
    }

    /// After everything: nothing is left behind, and the money is final.
    pub fn over(&mut self, engine: &Engine, shown: &BTreeMap<String, Shown>) {
        for (name, shown) in shown {
            self.expect(shown.legs.is_empty(), || {
                format!("invariant 6: {name} still holds {:?}", shown.legs)
            });
            for (leg, bytes) in &shown.carried {
                let metered = self.money.metered(leg.reservation);
                let may_differ = self.clocks_parted
                    || shown.inexact.contains(leg)
                    || self.money.timed_out(leg.reservation);
                self.expect(may_differ || metered.is_none_or(|m| m == *bytes), || {
                    format!("{leg} carried {bytes} bytes, {metered:?} were metered")
                });
            }
        }
        let open: Vec<ReservationId> = engine.state().ledger.holds().map(|(id, _)| id.reservation).collect();
        self.expect(open.is_empty(), || format!("invariant 6: holds without an end: {open:?}"));
        let result = self.money.is_final();
        self.keep(result);
    }

    pub fn figures(&self) -> String {
        format!("{} {} {}", self.promises.figures(), self.money.figures(), self.capacity.figures())
    }
}

const fn word(fact: &Fact) -> &'static str {
    match fact {
        Fact::Session(SessionFact { report: SessionReport::Open(_), .. }) => "session open",
        Fact::Session(SessionFact { report: SessionReport::Closed { .. }, .. }) => "session closed",
        Fact::Usage(usage) if usage.unconfirmed_ms > 0 => "unconfirmed time",
        Fact::Usage(usage) if usage.delivered_bytes > 0 => "bytes",
        Fact::Usage(_) => "reading",
        Fact::Port(..) => "port",
        Fact::Leg { report, .. } => match report {
            PolicyReport::Accepted => "accepted",
            PolicyReport::Active { .. } => "active",
            PolicyReport::Refused { .. } => "refused",
            PolicyReport::Removed { .. } => "removed",
            PolicyReport::Lost { .. } => "lost",
            PolicyReport::Unconfirmed { .. } => "unconfirmed",
            PolicyReport::Withdrawn { .. } => "withdrawn",
        },
    }
}

const fn kind_of(output: &Output) -> &'static str {
    match output {
        Output::Reply { .. } => "a reply",
        Output::Repeat { .. } => "a repeated answer",
        Output::Policy { .. } => "a policy command",
        Output::DesiredSet { .. } => "a desired set",
        Output::Ack { .. } => "an acknowledgement",
    }
}
