//! What becomes of legs, for whoever watches the broker: a line for each that was refused, lost or came back, a
//! line for each promise that could not be kept, and counters. It looks at records on their way into the store
//! and speaks when they are durable.

use crate::api::instant;
use crate::public_id::PublicIds;
use std::collections::BTreeMap;
use std::fmt;
use tollway_core::record::Fact;
use tollway_core::reservation::{EndReason, Promise, Reservation};
use tollway_core::state::State;
use tollway_core::{Envelope, Record};
use tollway_model::{LegId, ReservationId, Timestamp};
use tollway_policy::PolicyReport;

/// Since this process started, by enforcement point.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LegCounts {
    pub lost: BTreeMap<String, u64>,
    pub refused: BTreeMap<String, u64>,
}

/// What happened to one leg.
#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Refused { reason: String },
    Lost { at: Timestamp, reason: String },
    InForce,
    Terminated { reason: String },
    Ended,
}

/// One thing to say, with everything that a reader needs to act: no address of a subscriber is among it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Note {
    leg: LegId,
    /// As customers know it.
    reservation: String,
    customer: String,
    enforcement_point: String,
    what: What,
}

/// Watches the legs of one market.
pub struct LegWatch {
    ids: PublicIds,
    counts: LegCounts,
    /// What was said last of a leg that is not in force: the same again is not worth a second line.
    said: BTreeMap<LegId, String>,
    waiting: Vec<Note>,
}

impl LegWatch {
    pub fn new(ids: PublicIds) -> LegWatch {
        LegWatch { ids, counts: LegCounts::default(), said: BTreeMap::new(), waiting: Vec::new() }
    }

    /// Looks at records that are about to be appended; nothing is said before [`LegWatch::committed`].
    pub fn look(&mut self, state: &State, batch: &[Envelope]) {
        for envelope in batch {
            match &envelope.record {
                Record::Reported(reported) => {
                    for fact in &reported.facts {
                        self.look_at_fact(state, envelope.at, fact);
                    }
                }
                Record::Ended(ended) => {
                    let what = match ended.reason {
                        EndReason::Terminated => {
                            let never = || "it was not in force within the grace of its start".to_owned();
                            What::Terminated { reason: ended.detail.clone().unwrap_or_else(never) }
                        }
                        EndReason::Completed | EndReason::Cancelled | EndReason::Expired => What::Ended,
                    };
                    self.note(state, ended.reservation, what);
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
                | Record::Settled { .. }
                | Record::ToppedUp { .. }
                | Record::Answered(_)
                | Record::LegsTold(_) => {}
            }
        }
    }

    fn look_at_fact(&mut self, state: &State, at: Timestamp, fact: &Fact) {
        let Fact::Leg { leg, report, .. } = fact else { return };
        let Some(reservation) = state.reservation(leg.reservation) else { return };
        // What is reported of a leg whose reservation is over is its way out.
        if was_over(reservation, at) {
            return;
        }
        let what = match report {
            PolicyReport::Accepted => return,
            PolicyReport::Active { .. } | PolicyReport::Unconfirmed { .. } => What::InForce,
            PolicyReport::Refused { reason } => What::Refused { reason: reason.clone() },
            PolicyReport::Lost { at: when, reason } | PolicyReport::Withdrawn { at: when, reason } => {
                What::Lost { at: (*when).min(at), reason: reason.clone() }
            }
            PolicyReport::Removed { at: when } => {
                let when = (*when).min(at);
                if when.plus_ms(tollway_core::limits::CLOCK_TOLERANCE_MS) >= reservation.window.until {
                    return;
                }
                What::Lost { at: when, reason: "removed by the enforcement point".to_owned() }
            }
        };
        self.note(state, leg.reservation, what);
    }

    fn note(&mut self, state: &State, id: ReservationId, what: What) {
        let Some(reservation) = state.reservation(id) else { return };
        let access = state.config.accesses.get(&reservation.access);
        let customer = state.config.customers.get(&reservation.customer);
        self.waiting.push(Note {
            leg: reservation.leg_id(),
            reservation: self.ids.reservation(id),
            customer: customer.map_or_else(String::new, |def| def.name.clone()),
            enforcement_point: access.map_or_else(String::new, |def| def.enforcement_point.clone()),
            what,
        });
    }

    /// What was looked at is durable: it is counted and said.
    pub fn committed(&mut self) {
        for note in std::mem::take(&mut self.waiting) {
            self.count(&note);
            let is_news = self.is_news(&note);
            say(&note, is_news);
        }
    }

    /// What was looked at did not become durable, or nobody knows: whoever reported it does so again.
    pub fn dropped(&mut self) {
        self.waiting.clear();
    }

    pub fn counts(&self) -> &LegCounts {
        &self.counts
    }

    fn count(&mut self, note: &Note) {
        let counts = match note.what {
            What::Lost { .. } => &mut self.counts.lost,
            What::Refused { .. } => &mut self.counts.refused,
            What::InForce | What::Terminated { .. } | What::Ended => return,
        };
        *counts.entry(note.enforcement_point.clone()).or_default() += 1;
    }

    /// A leg is asked for again every second at first: the same refusal is said once.
    fn is_news(&mut self, note: &Note) -> bool {
        match &note.what {
            What::Refused { reason } => self.said.insert(note.leg, reason.clone()).as_ref() != Some(reason),
            What::Lost { reason, .. } => {
                self.said.insert(note.leg, reason.clone());
                true
            }
            What::InForce => self.said.remove(&note.leg).is_some(),
            What::Terminated { .. } => {
                self.said.remove(&note.leg);
                true
            }
            What::Ended => {
                self.said.remove(&note.leg);
                false
            }
        }
    }
}

/// Whether the reservation had ended when something was decided; the state may be further than that.
fn was_over(reservation: &Reservation, at: Timestamp) -> bool {
    match reservation.promise {
        Promise::Held { .. } | Promise::Booked | Promise::Running => false,
        Promise::Ended { at: ended, .. } => ended <= at,
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { leg, reservation, customer, enforcement_point, what } = self;
        match what {
            What::Refused { .. } => f.write_str("a leg was refused")?,
            What::Lost { .. } => f.write_str("a leg is lost: the promise is not being kept")?,
            What::InForce => f.write_str("a leg is in force again")?,
            What::Terminated { .. } => f.write_str("a reservation was terminated: it could not be kept")?,
            What::Ended => f.write_str("a reservation ended")?,
        }
        write!(f, " reservation={reservation} leg={leg} customer={customer} ")?;
        write!(f, "enforcement_point={enforcement_point}")?;
        match what {
            // From outside: quoted, so that it cannot look like another line.
            What::Refused { reason } | What::Terminated { reason } => write!(f, " reason={reason:?}"),
            What::Lost { at, reason } => write!(f, " since={} reason={reason:?}", instant::format(*at)),
            What::InForce | What::Ended => Ok(()),
        }
    }
}

fn say(note: &Note, is_news: bool) {
    match &note.what {
        What::Refused { .. } | What::Lost { .. } | What::Terminated { .. } if is_news => {
            tracing::warn!("{note}");
        }
        What::InForce if is_news => tracing::info!("{note}"),
        What::Refused { .. } | What::Lost { .. } | What::Terminated { .. } | What::InForce | What::Ended => {
            tracing::debug!("{note}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use tollway_core::offer::{Need, QuoteRequest, When};
    use tollway_core::{Command, Engine, Input, RequestId};
    use tollway_model::{
        AccessId, Amount, BitsPerSecond, Currency, CustomerId, Direction, OfferId, QuoteId, SlotLength,
    };
    use tollway_policy::Report;

    struct Told {
        engine: Engine,
        watch: LegWatch,
        /// What was said, the public id as `ID`.
        lines: Vec<String>,
    }

    impl Told {
        fn at(&mut self, ms: u64, input: Input) {
            self.engine.handle(Timestamp(ms), input);
            let batch = self.engine.take_records();
            while self.engine.poll_output().is_some() {}
            self.watch.look(self.engine.state(), &batch);
            let id = self.watch.ids.reservation(ReservationId(1));
            for note in std::mem::take(&mut self.watch.waiting) {
                self.watch.count(&note);
                if self.watch.is_news(&note) {
                    self.lines.push(note.to_string().replace(&id, "ID"));
                }
            }
        }

        fn client(&mut self, ms: u64, command: Command) {
            self.at(ms, Input::Client { request: RequestId(1), customer: CustomerId(1), key: None, command });
        }

        fn report(&mut self, ms: u64, number: u64, attempt: u32, report: PolicyReport) {
            let leg = LegId { reservation: ReservationId(1), index: 0 };
            let reports = vec![Report::Leg { leg, attempt, report }];
            self.at(ms, Input::Reports { enforcement_point: "router1".to_owned(), number, reports });
        }
    }

    /// A confirmed reservation from second 1,000 to 1,600.
    fn booked() -> Told {
        let text = include_str!("../../tests/support/broker.toml");
        let text = text.replace("{shop}", &"0".repeat(64)).replace("{noc}", &"1".repeat(64));
        let text = text.replace("{agent}", &"2".repeat(64));
        let settings = crate::config::parse("broker.toml", &text).unwrap();
        let watch = LegWatch::new(PublicIds::new([7; 32]));
        let mut told = Told { engine: Engine::new(), watch, lines: Vec::new() };
        let now = 1_000_000;
        let slot_length = SlotLength::from_secs(5).unwrap();
        told.at(now, Input::MakeMarket { name: "lab".to_owned(), slot_length });
        told.at(now, Input::Configure { request: RequestId(1), base: 0, config: settings.def });
        let amount = Amount::new(9_000_000, Currency::EUR);
        let (actor, reason) = ("test".to_owned(), "test".to_owned());
        let top_up =
            Input::TopUp { request: RequestId(1), key: None, customer: CustomerId(1), amount, actor, reason };
        told.at(now, top_up);
        let request = QuoteRequest {
            subscriber: None,
            access: AccessId(1),
            direction: Direction::Up,
            tier: None,
            need: Need::Rate(BitsPerSecond(1_000_000)),
            start: None,
            end: When::In(600_000),
        };
        told.client(now, Command::Quote(request));
        told.client(now, Command::Take { offer: OfferId { quote: QuoteId(1), index: 0 } });
        told.client(now, Command::Confirm { reservation: ReservationId(1), flows: None });
        assert!(told.lines.is_empty(), "nothing is wrong yet: {:?}", told.lines);
        told
    }

    #[test]
    fn what_becomes_of_a_leg_is_said_once_and_counted_each_time() {
        let refused = || PolicyReport::Refused { reason: "device_missing:\nport wan0".to_owned() };
        let at = |ms| Timestamp(ms);
        let mut told = booked();
        told.report(1_000_100, 1, 1, refused());
        told.at(1_001_200, Input::Tick);
        told.report(1_001_300, 2, 2, refused());
        told.at(1_002_400, Input::Tick);
        told.report(1_002_500, 3, 3, PolicyReport::Active { at: at(1_002_450) });
        told.report(
            1_010_000,
            4,
            3,
            PolicyReport::Lost { at: at(1_009_900), reason: "port_down: wan0".into() },
        );
        told.report(1_011_000, 5, 3, PolicyReport::Active { at: at(1_010_900) });
        told.report(1_020_000, 6, 3, PolicyReport::Removed { at: at(1_019_000) });
        told.client(1_030_000, Command::Cancel { reservation: ReservationId(1) });
        told.report(1_031_000, 7, 3, PolicyReport::Removed { at: at(1_030_500) });
        expect![[r#"
            a leg was refused reservation=ID leg=r1.0 customer=shop-pos enforcement_point=router1 reason="device_missing:\nport wan0"
            a leg is in force again reservation=ID leg=r1.0 customer=shop-pos enforcement_point=router1
            a leg is lost: the promise is not being kept reservation=ID leg=r1.0 customer=shop-pos enforcement_point=router1 since=1970-01-01T00:16:49.900Z reason="port_down: wan0"
            a leg is in force again reservation=ID leg=r1.0 customer=shop-pos enforcement_point=router1
            a leg is lost: the promise is not being kept reservation=ID leg=r1.0 customer=shop-pos enforcement_point=router1 since=1970-01-01T00:16:59.000Z reason="removed by the enforcement point""#]]
        .assert_eq(&told.lines.join("\n"));
        let one = |count| BTreeMap::from([("router1".to_owned(), count)]);
        assert_eq!(told.watch.counts(), &LegCounts { lost: one(2), refused: one(2) });
        assert!(told.watch.said.is_empty(), "what is over is not remembered");
    }

    #[test]
    fn a_promise_that_could_not_be_kept_is_said() {
        let mut told = booked();
        told.report(1_000_100, 1, 1, PolicyReport::Refused { reason: "root_missing".to_owned() });
        for ms in (1_001_000..1_030_000).step_by(1_000) {
            told.at(ms, Input::Tick);
        }
        let last = told.lines.last().unwrap();
        assert!(
            last.starts_with("a reservation was terminated: it could not be kept reservation=ID"),
            "{last}"
        );
        assert!(last.contains("customer=shop-pos") && last.contains("reason="), "{last}");
    }

    #[test]
    fn what_did_not_become_durable_is_neither_said_nor_counted() {
        let mut told = booked();
        let leg = LegId { reservation: ReservationId(1), index: 0 };
        let report = PolicyReport::Refused { reason: "no".to_owned() };
        let reports = vec![Report::Leg { leg, attempt: 1, report }];
        told.engine.handle(
            Timestamp(1_000_200),
            Input::Reports { enforcement_point: "router1".to_owned(), number: 1, reports },
        );
        let batch = told.engine.take_records();
        told.watch.look(told.engine.state(), &batch);
        assert_eq!(told.watch.waiting.len(), 1);
        told.watch.dropped();
        told.watch.committed();
        assert_eq!(told.watch.counts(), &LegCounts::default());
    }
}
