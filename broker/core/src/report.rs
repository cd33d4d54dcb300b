//! Reports of adapters: late, repeated and stale ones leave no fact; readings are judged one by one, each
//! seeing what the one before it changed.

use crate::floor;
use crate::learnt;
use crate::record::{Ended, Fact, Record, Reported};
use crate::reservation::{EndReason, LegState, Reservation, clip};
use crate::state::State;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use tollway_model::{LegId, Micros, ReservationId, Timestamp};
use tollway_policy::{PolicyReport, Report};

pub(crate) struct Judged {
    /// Absent when the batch was taken before.
    pub record: Option<Record>,
    /// Legs that the enforcement point holds and nobody wants, with their attempts: it is told to release them.
    pub strangers: BTreeMap<LegId, u32>,
}

pub(crate) fn decide(state: &State, now: Timestamp, point: &str, number: u64, reports: &[Report]) -> Judged {
    if number <= state.last_batch(point) {
        return Judged { record: None, strangers: BTreeMap::new() };
    }
    let mut scratch: BTreeMap<ReservationId, Reservation> = BTreeMap::new();
    let mut facts = Vec::with_capacity(reports.len());
    let mut strangers = BTreeMap::new();
    let mut sessions = learnt::Judge::new(state, point);
    let mut ports = floor::Judge::new(state, now, point);
    for report in reports {
        let leg = match report {
            Report::Port(reading) => {
                facts.extend(ports.judge(reading));
                continue;
            }
            Report::Session(session) => {
                facts.extend(sessions.judge(session));
                continue;
            }
            Report::Leg { leg, .. } => *leg,
            Report::Usage(reading) => reading.leg,
        };
        let id = leg.reservation;
        let reservation = match scratch.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => match known_leg(state, now, point, leg) {
                Some(reservation) => free.insert(reservation.clone()),
                None => {
                    note_stranger(&mut strangers, leg, report);
                    continue;
                }
            },
        };
        if let Some(fact) = judge(state, now, reservation, report) {
            reservation.fold_fact(now, &fact);
            facts.push(fact);
        }
        let is_over = !reservation.promise.is_live() && reservation.leg.state == LegState::Absent;
        if is_over {
            note_stranger(&mut strangers, leg, report);
        }
    }
    let reported = Reported { enforcement_point: point.to_owned(), number, facts };
    Judged { record: Some(Record::Reported(reported)), strangers }
}

/// What cannot be held any more ends at once: nothing is owed for a promise that nobody keeps.
pub(crate) fn withdrawn(state: &State, reported: &Reported) -> Vec<Record> {
    let mut ended = BTreeMap::new();
    for fact in &reported.facts {
        let Fact::Leg { leg, report: PolicyReport::Withdrawn { reason, .. }, .. } = fact else { continue };
        let id = leg.reservation;
        let Some(reservation) = state.reservations.get(&id) else { continue };
        if reservation.promise.is_confirmed() && reservation.leg.state == LegState::Lost {
            let detail = Some(clip(reason));
            let reason = EndReason::Terminated;
            ended.insert(id, Record::Ended(Ended { reservation: id, reason, fee: Micros::ZERO, detail }));
        }
    }
    ended.into_values().collect()
}

/// Whether a report says that a leg lives which is over here, or that it is gone.
fn note_stranger(strangers: &mut BTreeMap<LegId, u32>, leg: LegId, report: &Report) {
    match report {
        Report::Leg { attempt, report, .. } => match report {
            PolicyReport::Accepted | PolicyReport::Active { .. } | PolicyReport::Unconfirmed { .. } => {
                strangers.insert(leg, *attempt);
            }
            PolicyReport::Removed { .. } => {
                strangers.remove(&leg);
            }
            PolicyReport::Refused { .. } | PolicyReport::Lost { .. } | PolicyReport::Withdrawn { .. } => {}
        },
        Report::Usage(reading) if reading.last => {
            strangers.remove(&leg);
        }
        Report::Usage(reading) => {
            strangers.insert(leg, reading.attempt);
        }
        Report::Port(_) | Report::Session(_) => {}
    }
}

/// The reservation of a leg that this enforcement point may speak about. One that the record of this very
/// batch will forget is not known any more.
fn known_leg<'a>(state: &'a State, now: Timestamp, point: &str, leg: LegId) -> Option<&'a Reservation> {
    state.reservations.get(&leg.reservation).filter(|reservation| {
        let access = state.config.accesses.get(&reservation.access);
        leg.index == 0
            && access.is_some_and(|access| access.enforcement_point == point)
            && !(reservation.settled && state.is_forgotten_at(now, reservation.id))
    })
}

fn judge(state: &State, now: Timestamp, reservation: &Reservation, report: &Report) -> Option<Fact> {
    match report {
        // Judged by its port or its line, which no reservation owns.
        Report::Port(_) | Report::Session(_) => None,
        Report::Usage(reading) => reservation.judge(now, reading, state.slot_length()).map(Fact::Usage),
        Report::Leg { leg, attempt, report } => {
            let stale =
                *attempt != reservation.leg.attempt && !matches!(report, PolicyReport::Removed { .. });
            // A removal of an older attempt says nothing about the one that was asked for after it.
            let old_removal = matches!(report, PolicyReport::Removed { .. })
                && *attempt < reservation.leg.attempt
                && reservation.promise.is_live();
            let settled = reservation.settled && reservation.leg.state == LegState::Absent;
            if stale || old_removal || settled || *attempt > reservation.leg.attempt {
                return None;
            }
            Some(Fact::Leg { leg: *leg, attempt: *attempt, report: report.clone() })
        }
    }
}
