//! A leg: what is to hold, which session serves it, what was last said of it; and the step that brings them
//! together. One path for first request, change of rate, repair and restart.

use super::meter::Meter;
use super::sessions::{Claim, Confirmed, Copies, Held, PcrfNo, Phase, Push, Session, SessionNo, Shape};
use super::{Desire, Known, Machine, Stage, Timer};
use crate::fact::{Access, Closed, Fact};
use crate::limits::{LEGS_MAX, REPAIR_MS_MAX, REPAIR_MS_MIN};
use crate::rates::{self, Rates};
use crate::settings::Pcrf;
use crate::terms::Terms;
use tollway_model::{Direction, LegId, Timestamp};
use tollway_policy::{DesiredLeg, PolicyReport};

/// What was last reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Nothing,
    Accepted,
    Active,
    Refused(String),
    Lost(String),
}

/// Whether the leg may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    Free,
    /// The PCRF said no: only a new attempt of the engine asks again.
    Refused,
    /// The PCRF took it away: asked again then.
    Until(Timestamp),
}

#[derive(Debug)]
pub(super) struct Leg {
    /// `None`: released without ever having been desired in this life, or taken back by the engine.
    pub desired: Option<DesiredLeg>,
    pub terms: Option<Terms>,
    pub access: Access,
    pub attempt: u32,
    /// The one that serves it; older ones may still be ending.
    pub session: Option<SessionNo>,
    pub said: Said,
    pub hold: Hold,
    pub repairs: u8,
    pub meter: Meter,
    pub due: Option<Timestamp>,
}

/// What should be at the PCRF now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Want {
    Absent,
    Service(Shape),
    Unchanged,
    Refused(String),
}

impl Leg {
    fn rates_at(desired: &DesiredLeg, at: Timestamp) -> Rates {
        let packet = desired.shape.packet_bytes;
        let ip = |direction| desired.class_rate_at(direction, at).ip_rate(packet).get();
        Rates { up_bps: ip(Direction::Up), down_bps: ip(Direction::Down) }
    }

    pub fn is_wanted_at(&self, now: Timestamp) -> bool {
        self.desired.as_ref().is_some_and(|desired| now < desired.valid_until)
    }

    pub fn want(&self, now: Timestamp, pcrf: &Pcrf) -> Want {
        let (Some(desired), Some(terms)) = (&self.desired, &self.terms) else { return Want::Absent };
        let rates = Leg::rates_at(desired, now);
        // A PCRF has no timed rules: before the start and in a gap of the schedule there is no session.
        if !self.is_wanted_at(now) || rates.is_zero() {
            return Want::Absent;
        }
        match self.hold {
            Hold::Refused => return Want::Unchanged,
            Hold::Until(at) if at > now => return Want::Unchanged,
            Hold::Until(_) | Hold::Free => {}
        }
        match self.access.fault().map(str::to_owned).or_else(|| refusal(desired, terms, rates, pcrf)) {
            None => Want::Service(Shape { attempt: self.attempt, rates }),
            Some(why) => Want::Refused(why),
        }
    }

    /// When the leg must be looked at again.
    fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let desired = self.desired.as_ref()?;
        let hold = match self.hold {
            Hold::Until(at) => Some(at),
            Hold::Free | Hold::Refused => None,
        };
        [desired.next_change(now), hold].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Every component of the flows, a bit each.
    pub fn all_components(&self) -> u8 {
        let flows = self.desired.as_ref().map_or(0, |desired| desired.flows.len());
        u8::try_from((1u32 << flows.min(8)) - 1).unwrap_or(u8::MAX)
    }

    /// What a failure means for the engine: lost, if the leg was ever active, else refused.
    fn failure(&self, now: Timestamp, reason: String) -> PolicyReport {
        if self.meter.was_active {
            PolicyReport::Lost { at: now, reason }
        } else {
            PolicyReport::Refused { reason }
        }
    }

    fn back_off(&mut self, now: Timestamp) {
        let pause = REPAIR_MS_MIN.saturating_mul(1 << self.repairs.min(16)).min(REPAIR_MS_MAX);
        self.repairs = self.repairs.saturating_add(1);
        self.hold = Hold::Until(now.plus_ms(pause));
    }

    /// What a session of this leg must be for.
    pub fn claim(&self, leg: LegId) -> Option<Claim> {
        let address = self.desired.as_ref()?.flows.first()?.device;
        Some(Claim { leg, access: self.access.clone(), address })
    }
}

/// Why this service cannot be asked for.
fn refusal(desired: &DesiredLeg, terms: &Terms, rates: Rates, pcrf: &Pcrf) -> Option<String> {
    if let Some(fault) = terms.fault() {
        return Some(fault.to_owned());
    }
    let Some(first) = desired.flows.first() else {
        return Some("no flow is bound yet: a session on Rx needs one".to_owned());
    };
    if desired.flows.len() > usize::from(pcrf.flows_max) {
        return Some(format!("{} flows; the PCRF takes {}", desired.flows.len(), pcrf.flows_max));
    }
    if let Some(flow) = desired.flows.iter().find(|flow| flow.device != first.device) {
        return Some(format!("{} and {}: a session on Rx is of one address", first.device, flow.device));
    }
    if let Some(flow) = desired.flows.iter().find(|flow| !flow.is_one_family()) {
        return Some(format!("{} and {} are not of one family", flow.device, flow.remote));
    }
    if !rates::max_rates(terms, rates, desired.shape.borrow).fits(pcrf.takes_extended_bw) {
        return Some("above 4,294,967,295 bit/s, which this PCRF does not take".to_owned());
    }
    None
}

impl Machine {
    pub(super) fn pcrf_of(&self, leg: &Leg) -> Option<PcrfNo> {
        self.sessions.find_pcrf(&leg.access.pcrf)
    }

    pub(super) fn desire(&mut self, now: Timestamp, desire: Desire) {
        let Desire { desired, access, terms, known } = desire;
        let (id, attempt) = (desired.leg, desired.attempt);
        let is_new = !self.legs.contains_key(&id);
        if self.sessions.find_pcrf(&access.pcrf).is_none() || (is_new && self.legs.len() >= LEGS_MAX) {
            let reason = match self.sessions.find_pcrf(&access.pcrf) {
                None => format!("{:?} is none of our PCRFs", access.pcrf),
                Some(_) => format!("{LEGS_MAX} legs are the most"),
            };
            let (certainty, acceptable_bps) = (self.certainty(&access), None);
            let report = PolicyReport::Refused { reason };
            return self.fact(Fact::Leg { leg: id, attempt, report, certainty, acceptable_bps });
        }
        if is_new {
            self.insert_leg(now, id, Leg::new(Some(desired.clone()), access.clone(), attempt), known);
        }
        let leg = self.legs.get_mut(&id).expect("it was there or was just made");
        if attempt < leg.attempt {
            return;
        }
        let is_same = leg.attempt == attempt && leg.terms.is_some() && leg.desired.is_some();
        let is_repeated = is_same
            && leg.desired.as_ref() == Some(&desired)
            && leg.terms.as_ref() == Some(&terms)
            && leg.access == access;
        leg.attempt = attempt;
        leg.meter.direction = desired.direction;
        (leg.desired, leg.terms, leg.access) = (Some(desired), Some(terms), access);
        let session = leg.session;
        if is_repeated && leg.said != Said::Nothing {
            self.say_again(now, id);
        } else {
            leg.hold = Hold::Free;
            if let Some(no) = session.filter(|_| is_same && !is_repeated) {
                // Changed without a new attempt: told to the PCRF all the same.
                self.doubt(no);
            }
        }
        self.attend(now, id);
    }

    /// What the PCRF holds of a session is not known.
    pub(super) fn doubt(&mut self, no: SessionNo) {
        let session = self.sessions.get_mut(no);
        session.held = match session.held {
            Held::Nothing => Held::Nothing,
            Held::Unknown | Held::Service(_) => Held::Unknown,
        };
    }

    fn insert_leg(&mut self, now: Timestamp, id: LegId, mut leg: Leg, known: Known) {
        let claim = leg.claim(id);
        let fits = |no: &SessionNo| {
            let session = self.sessions.get(*no);
            session.phase == Phase::Serving && session.claim == claim
        };
        leg.session = self.sessions.of_leg(id).find(fits);
        let (session, attempt, all) = (leg.session, leg.attempt, leg.all_components());
        self.legs.insert(id, leg);
        if known == Known::Active {
            let leg = self.legs.get_mut(&id).expect("it was just put there");
            leg.said = Said::Active;
            leg.meter.was_active = true;
            match session {
                Some(no) => {
                    self.sessions.get_mut(no).confirmed = Confirmed { attempt, components: all };
                    self.start_meter(now, id);
                }
                None => self.lose(now, id, "the session ended while nobody watched"),
            }
        }
    }

    pub(super) fn release(&mut self, now: Timestamp, id: LegId, attempt: u32) {
        if !self.legs.contains_key(&id) {
            // Unknown: it ended before, or in an earlier life. What a restored session may hold is taken away.
            let access =
                self.sessions.of_leg(id).find_map(|no| Some(self.sessions.get(no).claim.clone()?.access));
            let unknown = || Access { pcrf: String::new(), apn: None, ip_domain: None };
            let leg = Leg::new(None, access.unwrap_or_else(unknown), attempt);
            self.insert_leg(now, id, leg, Known::New);
            for no in self.sessions.of_leg(id).collect::<Vec<_>>() {
                self.end_session(now, no);
            }
        }
        let leg = self.legs.get_mut(&id).expect("it was there or was just made");
        leg.attempt = leg.attempt.max(attempt);
        leg.desired = None;
        self.attend(now, id);
    }

    /// Compares a leg with what holds, says what cannot be, opens, ends or queues its session, and sets when to look
    /// again.
    pub(super) fn attend(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let want = match self.pcrf_of(leg) {
            Some(pcrf) => leg.want(now, &self.sessions.pcrf(pcrf).pcrf),
            None => Want::Absent,
        };
        let due = leg.next_due(now);
        self.set_due(id, due);
        match want {
            Want::Refused(reason) if self.stage == Stage::Running => self.cannot(now, id, reason),
            Want::Refused(_) | Want::Unchanged => {}
            Want::Absent => self.end_current(now, id),
            Want::Service(shape) => self.serve(now, id, shape),
        }
        let is_wanted = self.legs.get(&id).is_some_and(|leg| leg.is_wanted_at(now));
        if !is_wanted && self.sessions.of_leg(id).next().is_none() {
            self.finish(now, id);
        }
    }

    fn serve(&mut self, now: Timestamp, id: LegId, shape: Shape) {
        if self.stage == Stage::Restoring {
            return;
        }
        let Some(claim) = self.legs.get(&id).and_then(|leg| leg.claim(id)) else { return };
        let current = self.legs.get(&id).and_then(|leg| leg.session);
        let is_moved = current.is_some_and(|no| self.sessions.get(no).claim.as_ref() != Some(&claim));
        if is_moved {
            // Another address is another session; the PCRF binds each by its address once.
            self.lose(now, id, "the device has another address");
            self.end_current(now, id);
        }
        let Some(no) = self.legs.get(&id).and_then(|leg| leg.session).or_else(|| self.open(id, claim)) else {
            return self.cannot(now, id, "no place for another session".to_owned());
        };
        if self.sessions.get(no).differs(shape) {
            self.enqueue(now, no);
        }
    }

    /// Makes a session, and says so before anything of it leaves.
    fn open(&mut self, id: LegId, claim: Claim) -> Option<SessionNo> {
        let leg = self.legs.get(&id)?;
        let pcrf = self.pcrf_of(leg)?;
        if self.sessions.is_full() {
            return None;
        }
        let flows = leg.desired.as_ref().map_or(0, |desired| desired.flows.len());
        let mut session = Session::new(self.ids.make(), pcrf, Some(claim));
        session.components = u8::try_from(flows).unwrap_or(u8::MAX);
        let record = session.record();
        let no = self.sessions.open(session);
        self.legs.get_mut(&id)?.session = Some(no);
        self.counters.opened += 1;
        if let Some(record) = record {
            self.fact(Fact::Opened(record));
        }
        Some(no)
    }

    /// The leg is served no more; its session goes once the PCRF has said so.
    pub(super) fn end_current(&mut self, now: Timestamp, id: LegId) {
        let Some(no) = self.legs.get_mut(&id).and_then(|leg| leg.session.take()) else { return };
        self.stop_meter(now, id);
        self.end_session(now, no);
    }

    pub(super) fn end_session(&mut self, now: Timestamp, no: SessionNo) {
        let session = self.sessions.get_mut(no);
        session.phase = Phase::Ending;
        match (session.push, session.held) {
            (Push::InFlight(_), _) | (Push::Paused(_), Held::Unknown | Held::Service(_)) => {}
            // Nothing of it ever left.
            (Push::Idle | Push::Queued(_, _) | Push::Paused(_), Held::Nothing) => {
                self.close(now, no, Closed::Ended);
            }
            (Push::Idle | Push::Queued(_, _), Held::Unknown | Held::Service(_)) => self.enqueue(now, no),
        }
    }

    /// A session is no more; the caller looks after its leg.
    pub(super) fn close(&mut self, now: Timestamp, no: SessionNo, why: Closed) {
        let session = self.sessions.close(no);
        if let Push::Paused(until) = session.push {
            self.timers.remove(&(until, Timer::Session(no)));
        }
        if let Copies::Until(at) = session.copies {
            self.timers.remove(&(at, Timer::Copies(no)));
        }
        self.counters.closed += 1;
        if let Some(id) = session.leg() {
            if let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.session == Some(no)) {
                leg.session = None;
                self.stop_meter(now, id);
            }
            self.fact(Fact::Closed { session_id: session.id, why });
        }
    }

    /// A service that cannot be asked for. What the PCRF holds of an older attempt stays: it is never taken away
    /// before something better is there.
    fn cannot(&mut self, now: Timestamp, id: LegId, reason: String) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        match &leg.said {
            Said::Lost(_) => return,
            Said::Refused(said) if *said == reason && leg.hold == Hold::Refused => return,
            Said::Refused(_) | Said::Nothing | Said::Accepted | Said::Active => {}
        }
        leg.hold = Hold::Refused;
        let report = leg.failure(now, reason);
        self.report_failure(now, id, report, None);
    }

    /// The PCRF has not got this service, or not any more.
    pub(super) fn service_failed(
        &mut self,
        now: Timestamp,
        id: LegId,
        reason: String,
        acceptable_bps: Option<Rates>,
    ) {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.is_wanted_at(now)) else { return };
        if leg.meter.was_active {
            leg.back_off(now);
        } else {
            leg.hold = Hold::Refused;
        }
        let is_said = matches!(leg.said, Said::Lost(_)) && leg.meter.was_active;
        let report = leg.failure(now, reason);
        if !is_said {
            self.report_failure(now, id, report, acceptable_bps);
        }
    }

    /// The PCRF keeps the service and its gateway cannot serve it now; it says when it can.
    pub(super) fn interrupted(&mut self, now: Timestamp, id: LegId, reason: &str) {
        let Some(leg) = self.legs.get(&id) else { return };
        let is_said = matches!(leg.said, Said::Lost(_) | Said::Refused(_));
        if leg.is_wanted_at(now) && !is_said {
            self.report_failure(now, id, PolicyReport::Lost { at: now, reason: reason.to_owned() }, None);
        }
    }

    /// Reports `Lost` or `Refused` once, and stops the meter.
    fn report_failure(&mut self, now: Timestamp, id: LegId, report: PolicyReport, acceptable: Option<Rates>) {
        self.stop_meter(now, id);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.said = match &report {
            PolicyReport::Lost { reason, .. } => Said::Lost(reason.clone()),
            PolicyReport::Refused { reason } => Said::Refused(reason.clone()),
            PolicyReport::Accepted
            | PolicyReport::Active { .. }
            | PolicyReport::Unconfirmed { .. }
            | PolicyReport::Withdrawn { .. }
            | PolicyReport::Removed { .. } => return,
        };
        self.say(id, report, acceptable);
    }

    /// The service is gone without having been refused: what was accepted or active is lost.
    pub(super) fn lose(&mut self, now: Timestamp, id: LegId, reason: &str) {
        let Some(leg) = self.legs.get(&id) else { return };
        match leg.said {
            Said::Accepted | Said::Active if leg.is_wanted_at(now) => {
                self.report_failure(now, id, PolicyReport::Lost { at: now, reason: reason.to_owned() }, None);
            }
            Said::Accepted | Said::Active | Said::Nothing | Said::Refused(_) | Said::Lost(_) => {
                self.stop_meter(now, id);
            }
        }
    }

    pub(super) fn service_accepted(&mut self, id: LegId, shape: Shape) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        // The engine has changed its mind meanwhile: the next request says so.
        if shape.attempt != leg.attempt {
            return;
        }
        let is_told =
            matches!(leg.said, Said::Active | Said::Accepted) && leg.meter.accepted_attempt == shape.attempt;
        leg.meter.accepted_attempt = shape.attempt;
        if leg.said != Said::Active {
            leg.said = Said::Accepted;
        }
        if !is_told {
            self.say(id, PolicyReport::Accepted, None);
        }
    }

    /// The PCRF reported the resources of every flow, as they were asked for in this attempt.
    pub(super) fn service_active(&mut self, now: Timestamp, id: LegId, attempt: u32) {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.is_wanted_at(now)) else { return };
        (leg.said, leg.hold, leg.repairs) = (Said::Active, Hold::Free, 0);
        self.start_meter(now, id);
        self.say_of(id, attempt, PolicyReport::Active { at: now }, None);
    }

    /// The end of a leg: its last reading, then its removal.
    fn finish(&mut self, now: Timestamp, id: LegId) {
        self.stop_meter(now, id);
        self.read_meter(now, id, true);
        self.set_due(id, None);
        self.metered.remove(&id);
        self.set_slot_timer(now);
        self.say(id, PolicyReport::Removed { at: now }, None);
        self.legs.remove(&id);
    }

    /// The whole set came again: the engine may have missed what was said.
    fn say_again(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let report = match &leg.said {
            Said::Nothing => return,
            Said::Accepted => PolicyReport::Accepted,
            Said::Active => PolicyReport::Active { at: now },
            Said::Refused(reason) => PolicyReport::Refused { reason: reason.clone() },
            Said::Lost(reason) => PolicyReport::Lost { at: now, reason: reason.clone() },
        };
        self.say(id, report, None);
    }
}

impl Leg {
    fn new(desired: Option<DesiredLeg>, access: Access, attempt: u32) -> Leg {
        let direction = desired.as_ref().map_or(Direction::Down, |desired| desired.direction);
        Leg {
            desired,
            terms: None,
            access,
            attempt,
            session: None,
            said: Said::Nothing,
            hold: Hold::Free,
            repairs: 0,
            meter: Meter::new(direction),
            due: None,
        }
    }
}
