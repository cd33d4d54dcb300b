//! Invariants 1 and 4: what was said is in the journal, and what was confirmed is wanted until it ends.

use super::SKEW_MS;
use super::book::Book;
use super::capacity::{class_rate, return_path};
use crate::actor::Shown;
use std::collections::{BTreeMap, BTreeSet};
use tollway_core::record::{Fact, Held};
use tollway_core::reservation::{LegState, Promise};
use tollway_core::{Engine, Envelope, Output, Record, Reply};
use tollway_model::{AccessId, Flow, LegId, ReservationId, Schedule, Seq, Timestamp, Window};
use tollway_policy::{DesiredLeg, PolicyCommand, PolicyReport};

/// A device's clock may be ahead by this much when it says that a window is over.
const TOLERANCE_MS: u64 = 1_000;

/// An unconfirmed hold lives this long.
const HOLD_LIFE_MS: u64 = 120_000;

struct Promised {
    held_at: Timestamp,
    access: AccessId,
    point: String,
    window: Window,
    schedule: Schedule,
    flows: Vec<Flow>,
    confirmed: Option<Seq>,
    ended: Option<(Seq, Timestamp)>,
    /// By the journal no device can know of the leg.
    is_untold: bool,
    is_settled: bool,
    /// The device said that the leg is gone, at or after the window's end.
    is_removed: bool,
}

#[derive(Default)]
pub struct Promises {
    all: BTreeMap<ReservationId, Promised>,
    quotes: BTreeSet<tollway_model::QuoteId>,
    batches: BTreeMap<String, u64>,
    told: BTreeSet<ReservationId>,
}

impl Promises {
    pub fn fold(&mut self, envelope: &Envelope, book: &Book) -> Result<(), String> {
        let seq = envelope.seq;
        match &envelope.record {
            Record::Quoted(quote) => {
                self.quotes.insert(quote.id);
            }
            Record::Held(held) => self.held(envelope, held, book)?,
            Record::Confirmed { reservation, missing } => {
                let promised = self.known(*reservation, seq)?;
                if missing.as_ref().is_some_and(|point| *point != promised.point) {
                    return Err(format!("{reservation} is told to nobody at {missing:?}"));
                }
                promised.is_untold = missing.is_some();
                if promised.ended.is_some() || promised.confirmed.is_some() {
                    return Err(format!("{reservation} is confirmed and was not held"));
                }
                promised.confirmed = Some(seq);
            }
            Record::HoldExpired { reservation } => {
                let promised = self.known(*reservation, seq)?;
                if promised.confirmed.is_some() {
                    return Err(format!("invariant 4: {reservation} expires and was confirmed"));
                }
                promised.ended = Some((seq, envelope.at));
            }
            Record::Ended(ended) => self.known(ended.reservation, seq)?.ended = Some((seq, envelope.at)),
            Record::FlowsBound { reservation, flows } => {
                self.known(*reservation, seq)?.flows.clone_from(flows);
                self.check_flows(*reservation)?;
            }
            Record::Reported(reported) => {
                self.batches.insert(reported.enforcement_point.clone(), reported.number);
                for fact in &reported.facts {
                    if let Fact::Leg { leg, report: PolicyReport::Removed { at }, .. } = fact {
                        let promised = self.known(leg.reservation, seq)?;
                        let when = (*at).min(envelope.at).plus_ms(TOLERANCE_MS);
                        promised.is_removed |= when >= promised.window.until;
                    }
                }
            }
            Record::Settled { reservation, .. } => self.known(*reservation, seq)?.is_settled = true,
            Record::LegsTold(told) => {
                for leg in &told.legs {
                    self.known(leg.reservation, seq)?.is_untold = false;
                }
            }
            Record::MarketMade(_)
            | Record::Configured(_)
            | Record::Started { .. }
            | Record::LegRetried { .. }
            | Record::ToppedUp { .. }
            | Record::Answered(_) => {}
        }
        Ok(())
    }

    fn held(&mut self, envelope: &Envelope, held: &Held, book: &Book) -> Result<(), String> {
        if !self.quotes.contains(&held.quote) {
            return Err(format!("{} was made from no quote", held.reservation));
        }
        let promised = Promised {
            held_at: envelope.at,
            access: held.offer.access,
            point: book.point_of(held.offer.access).unwrap_or_default().to_owned(),
            window: held.offer.window,
            schedule: held.offer.schedule.clone(),
            flows: Vec::new(),
            confirmed: None,
            ended: None,
            is_untold: false,
            is_settled: false,
            is_removed: false,
        };
        match self.all.insert(held.reservation, promised) {
            Some(_) => Err(format!("{} is made twice", held.reservation)),
            None => Ok(()),
        }
    }

    fn known(&mut self, id: ReservationId, seq: Seq) -> Result<&mut Promised, String> {
        self.all.get_mut(&id).ok_or_else(|| format!("record {seq} names {id}, which was never held"))
    }

    /// No two live reservations of overlapping windows at one access cover the same packet.
    fn check_flows(&self, id: ReservationId) -> Result<(), String> {
        let Some(own) = self.all.get(&id) else { return Ok(()) };
        for (other_id, other) in self.all.iter().filter(|(other, _)| **other != id) {
            let meet =
                other.ended.is_none() && other.access == own.access && other.window.overlaps(own.window);
            let clash = meet && own.flows.iter().any(|a| other.flows.iter().any(|b| same_packet(a, b)));
            if clash {
                return Err(format!("{id} and {other_id} cover the same packets"));
            }
        }
        Ok(())
    }

    /// Invariant 1 by content: what leaves rests on a durable record.
    pub fn left(&mut self, output: &Output) -> Result<(), String> {
        match output {
            Output::Reply { reply, .. } => self.reply_left(reply),
            Output::Policy { command: PolicyCommand::Desire(desired), .. } => self.desire_left(desired),
            Output::Policy { command: PolicyCommand::Release { leg, enforcement_point, .. }, .. } => {
                let promised = self.all.get(&leg.reservation).filter(|_| leg.index == 0);
                let stands = promised.is_some_and(|p| {
                    p.confirmed.is_some() && p.ended.is_none() && p.point == *enforcement_point
                });
                if stands {
                    return Err(format!("invariant 4: {leg} is released and its promise stands"));
                }
                Ok(())
            }
            Output::DesiredSet { after, legs, enforcement_point, .. } => {
                legs.iter().try_for_each(|desired| self.desire_left(desired))?;
                self.set_is_whole(*after, enforcement_point, legs)
            }
            Output::Ack { enforcement_point, number, .. } => {
                if self.batches.get(enforcement_point).copied().unwrap_or(0) < *number {
                    return Err(format!("invariant 1: batch {number} is acknowledged and not durable"));
                }
                Ok(())
            }
            Output::Repeat { .. } => Ok(()),
        }
    }

    fn reply_left(&mut self, reply: &Reply) -> Result<(), String> {
        match reply {
            Reply::Quote(quote) if !self.quotes.contains(&quote.id) => {
                Err(format!("invariant 1: {} is not durable", quote.id))
            }
            Reply::Reservation(reservation) => {
                let id = reservation.id;
                let Some(promised) = self.all.get(&id) else {
                    return Err(format!("invariant 1: {id} is told and not durable"));
                };
                let holds = match reservation.promise {
                    Promise::Held { .. } => true,
                    Promise::Booked | Promise::Running => promised.confirmed.is_some(),
                    Promise::Ended { .. } => promised.ended.is_some(),
                };
                if !holds || promised.schedule != reservation.schedule {
                    return Err(format!("invariant 1: {id} is told otherwise than the journal has it"));
                }
                if reservation.promise.is_confirmed() {
                    self.told.insert(id);
                }
                Ok(())
            }
            Reply::Quote(_) | Reply::Refused(_) | Reply::ToppedUp { .. } | Reply::Configured { .. } => Ok(()),
        }
    }

    fn desire_left(&self, desired: &DesiredLeg) -> Result<(), String> {
        let id = desired.leg.reservation;
        let promised = self.all.get(&id).filter(|p| p.confirmed.is_some());
        let Some(promised) = promised else {
            return Err(format!("invariant 1: {} is desired and not confirmed", desired.leg));
        };
        if promised.is_untold {
            return Err(format!("invariant 1: {} is desired and counts as told to nobody", desired.leg));
        }
        if desired.valid_until != promised.window.until {
            return Err(format!("{} would die at {:?}", desired.leg, desired.valid_until));
        }
        let packet = desired.shape.packet_bytes;
        for segment in promised.schedule.segments() {
            let sold = desired.class_rate_at(desired.direction, segment.window.from).0;
            let back = desired.class_rate_at(desired.direction.opposite(), segment.window.from).0;
            let wanted = [segment.rate.0, return_path(segment.rate.0)].map(|ip| class_rate(ip, packet));
            if [sold, back] != wanted {
                return Err(format!(
                    "{} asks for {sold} and {back} bit/s, promised are {wanted:?}",
                    desired.leg
                ));
            }
        }
        Ok(())
    }

    /// Invariant 4: everything that is confirmed and not over at `after` is in the set.
    fn set_is_whole(&self, after: Seq, point: &str, legs: &[DesiredLeg]) -> Result<(), String> {
        let wanted: BTreeSet<ReservationId> = legs.iter().map(|d| d.leg.reservation).collect();
        for (id, promised) in &self.all {
            let confirmed = promised.confirmed.is_some_and(|seq| seq <= after);
            let over = promised.ended.is_some_and(|(seq, _)| seq <= after) || promised.is_removed;
            let here = promised.point == point;
            if confirmed && !over && here && !wanted.contains(id) {
                return Err(format!("invariant 4: {id} is confirmed and not desired of {point}"));
            }
        }
        Ok(())
    }

    /// After a rebuild: what was told is still promised, or over by a record.
    pub fn survive(&self, engine: &Engine) -> Result<(), String> {
        for id in &self.told {
            let is_over = self.all.get(id).is_some_and(|p| p.ended.is_some());
            let stands = engine.state().reservation(*id).is_some_and(|r| r.promise.is_confirmed());
            if !is_over && !stands {
                return Err(format!("invariant 4: {id} was told confirmed and is gone"));
            }
        }
        Ok(())
    }

    /// No hold outlives its time; no window its end; no money the end of what no device was told of.
    pub fn overdue(&self, clock: Timestamp) -> Result<(), String> {
        let waits = |p: &Promised| p.is_untold && p.ended.is_some() && !p.is_settled;
        if let Some((id, _)) = self.all.iter().find(|(_, p)| waits(p)) {
            return Err(format!("nobody was told of {id}, it is over, and its money is not final"));
        }
        for (id, promised) in self.all.iter().filter(|(_, p)| p.ended.is_none()) {
            let until = match promised.confirmed {
                None => promised.held_at.plus_ms(HOLD_LIFE_MS).min(promised.window.until),
                Some(_) => promised.window.until,
            };
            if clock > until {
                let what = if promised.confirmed.is_some() { "reservation" } else { "hold" };
                return Err(format!("the {what} {id} was over at {until:?} and still stands at {clock:?}"));
            }
        }
        Ok(())
    }

    /// Liveness: with the faults gone, every live leg is in its device.
    pub fn carried(
        &self,
        engine: &Engine,
        shown: &BTreeMap<String, Shown>,
        clock: Timestamp,
    ) -> Result<(), String> {
        let held: BTreeSet<LegId> = shown.values().flat_map(|s| s.legs.iter().copied()).collect();
        let active: BTreeSet<LegId> = shown.values().flat_map(|s| s.active.iter().copied()).collect();
        for reservation in engine.state().reservations().filter(|r| r.promise.is_confirmed()) {
            let (leg, window) = (reservation.leg_id(), reservation.window);
            let near_end = window.until.ms_since(clock) < SKEW_MS;
            let starts = reservation.schedule.window().map_or(window.from, |w| w.from);
            let running = clock.ms_since(starts) > SKEW_MS;
            // Whether a line can be carried is its subscriber's doing, and a gateway that failed is left alone for
            // minutes; what must not be there is looked at instead.
            if near_end || reservation.leg.state == LegState::Absent || reservation.subscriber.is_some() {
                continue;
            }
            if !held.contains(&leg) || (running && !active.contains(&leg)) {
                return Err(format!("liveness: {leg} is promised and not carried"));
            }
            let is_honest = shown.values().any(|s| s.legs.contains(&leg) && !s.has_lied);
            if running && is_honest && reservation.leg.state != LegState::Active {
                return Err(format!("liveness: {leg} is carried and counts as {:?}", reservation.leg.state));
            }
        }
        Ok(())
    }

    /// With the faults gone, a device holds nothing whose promise is long over.
    pub fn left_behind(&self, shown: &BTreeMap<String, Shown>, clock: Timestamp) -> Result<(), String> {
        for (name, shown) in shown {
            for leg in &shown.legs {
                let ended = self.all.get(&leg.reservation).and_then(|promised| promised.ended);
                if ended.is_some_and(|(_, at)| clock.ms_since(at) > SKEW_MS) {
                    return Err(format!("invariant 6: {name} still holds {leg}, which is over"));
                }
            }
        }
        Ok(())
    }

    pub fn figures(&self) -> String {
        let confirmed = self.all.values().filter(|p| p.confirmed.is_some()).count();
        format!("quotes={} held={} confirmed={confirmed}", self.quotes.len(), self.all.len())
    }
}

fn same_packet(a: &Flow, b: &Flow) -> bool {
    let ports = a.device_port.is_none() || b.device_port.is_none() || a.device_port == b.device_port;
    ports
        && (a.protocol, a.device, a.remote, a.remote_port) == (b.protocol, b.device, b.remote, b.remote_port)
}
