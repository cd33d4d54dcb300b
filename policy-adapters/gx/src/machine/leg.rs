//! A leg: what is to hold, what the gateway is believed to hold, what was last said of it; and the step that
//! brings them together. One path for first install, change, repair and restart.

use super::meter::Meter;
use super::sessions::{Push, Session, SessionNo};
use super::{Desire, Known, Machine};
use crate::limits::{
    AHEAD_MS, BACK_OFF_MS_MIN, DEACTIVATION_SLACK_MS, LEGS_PER_SESSION_MAX, REPAIR_MS_MAX, REPAIR_MS_MIN,
};
use crate::profile::Profile;
use crate::qos::Rates;
use crate::rule::{self, Shape, Terms};
use crate::settings::{Gateway, Reports, RuleTimes};
use tollway_model::{Direction, LegId, Timestamp};
use tollway_policy::{DesiredLeg, MobileAccess, PolicyReport, SubscriberRef};

/// What a subscriber who left our networks is told, and the engine with him.
pub(super) const MOVED_OUT: &str = "MOVED_OUT";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Wanted,
    /// The engine took it back.
    Released,
    /// Its rule is gone; its last usage may still come until then.
    Leaving {
        until: Timestamp,
    },
}

/// What the gateway is believed to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    Nothing,
    Unknown,
    Rule(Shape),
}

/// What was last reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Nothing,
    Accepted,
    /// As much as will ever be known.
    Unconfirmed,
    Active,
    Refused(String),
    Lost(String),
}

/// Whether the leg may be pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    Free,
    /// The gateway said no: only a new attempt of the engine asks again.
    Refused,
    /// The gateway took it away: asked again then.
    Until(Timestamp),
}

#[derive(Debug)]
pub(super) struct Leg {
    pub desired: Option<DesiredLeg>,
    pub terms: Option<Terms>,
    pub attempt: u32,
    pub subscriber: SubscriberRef,
    pub apn: u16,
    pub phase: Phase,
    pub held: Held,
    pub said: Said,
    pub hold: Hold,
    pub repairs: u8,
    pub meter: Meter,
    pub due: Option<Timestamp>,
}

/// What should be at the gateway now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Want {
    Absent,
    Rule(Shape),
    Unchanged,
    Refused(String),
}

impl Leg {
    fn rates_at(&self, desired: &DesiredLeg, at: Timestamp) -> Rates {
        let packet = desired.shape.packet_bytes;
        let ip = |direction| desired.class_rate_at(direction, at).ip_rate(packet).get();
        Rates { up_bps: ip(Direction::Up), down_bps: ip(Direction::Down) }
    }

    /// The next instant from which a rate holds, if none holds now.
    fn next_start(&self, desired: &DesiredLeg, now: Timestamp) -> Option<Timestamp> {
        let segments = desired.up.schedule.segments().iter().chain(desired.down.schedule.segments());
        segments.map(|s| s.window.from).filter(|from| *from > now && *from < desired.valid_until).min()
    }

    /// Whether it holds without a rate, or before its start.
    fn lead_ms(gateway: &Gateway) -> u64 {
        match gateway.rule_times {
            RuleTimes::Kept => AHEAD_MS,
            RuleTimes::Ignored => 0,
        }
    }

    pub fn is_wanted_at(&self, now: Timestamp) -> bool {
        self.phase == Phase::Wanted && self.desired.as_ref().is_some_and(|desired| now < desired.valid_until)
    }

    pub fn want(&self, now: Timestamp, session: Option<&Session>, gateway: &Gateway) -> Want {
        let (Some(desired), Some(terms)) = (&self.desired, &self.terms) else { return Want::Absent };
        if !self.is_wanted_at(now) {
            return Want::Absent;
        }
        // Out of our networks nothing may stay.
        if self.held != Held::Nothing && session.is_some_and(|session| session.is_away) {
            return Want::Absent;
        }
        match self.hold {
            Hold::Refused => return Want::Unchanged,
            Hold::Until(at) if at > now => return Want::Unchanged,
            Hold::Until(_) | Hold::Free => {}
        }
        let (rates, activation) = match self.rates_at(desired, now) {
            rates if !rates.is_zero() => (rates, None),
            _ => {
                let lead = Leg::lead_ms(gateway);
                let Some(start) = self.next_start(desired, now).filter(|at| at.ms_since(now) <= lead) else {
                    return Want::Absent;
                };
                // A rule that is on is taken off first; only then the next one is laid ready.
                if matches!(self.held, Held::Rule(shape) if shape.activation != Some(start)) {
                    return Want::Absent;
                }
                (self.rates_at(desired, start), Some(start))
            }
        };
        match refusal(desired, terms, rates, session, gateway) {
            None => Want::Rule(Shape { attempt: self.attempt, rates, activation }),
            // Until its start it may still come right.
            Some(_) if activation.is_some() => Want::Absent,
            Some(why) => Want::Refused(why),
        }
    }

    /// Whether the gateway must be told.
    pub fn differs(&self, want: &Want) -> bool {
        match (want, self.held) {
            (Want::Unchanged | Want::Refused(_), _) | (Want::Absent, Held::Nothing) => false,
            (_, Held::Unknown) | (Want::Rule(_), Held::Nothing) | (Want::Absent, Held::Rule(_)) => true,
            (Want::Rule(want), Held::Rule(held)) => {
                let is_due = want.activation.is_some() && want.activation != held.activation;
                want.attempt != held.attempt || want.rates != held.rates || is_due
            }
        }
    }

    /// When the leg must be looked at again.
    fn next_due(&self, now: Timestamp, gateway: &Gateway) -> Option<Timestamp> {
        if let Phase::Leaving { until } = self.phase {
            // Past it, only an answer that is on its way is waited for.
            return Some(if until > now { until } else { now.plus_ms(BACK_OFF_MS_MIN) });
        }
        let desired = self.desired.as_ref()?;
        let hold = match self.hold {
            Hold::Until(at) => Some(at),
            Hold::Free | Hold::Refused => None,
        };
        let start = self.next_start(desired, now);
        let ahead = start.map(|at| Timestamp(at.ms().saturating_sub(Leg::lead_ms(gateway))));
        let slack = desired.valid_until.plus_ms(DEACTIVATION_SLACK_MS);
        [desired.next_change(now), hold, start, ahead, Some(slack)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// What a failure means for the engine: lost, if the leg was ever active, else refused.
    pub fn failure(&self, now: Timestamp, reason: String) -> PolicyReport {
        if self.meter.was_active {
            PolicyReport::Lost { at: now, reason }
        } else {
            PolicyReport::Refused { reason }
        }
    }

    /// When the start comes, for the order of the queue.
    pub fn start(&self, now: Timestamp) -> Timestamp {
        let Some(desired) = &self.desired else { return now };
        let is_on = !self.rates_at(desired, now).is_zero() || matches!(self.held, Held::Rule(_));
        if is_on { now } else { self.next_start(desired, now).unwrap_or(now) }
    }

    /// The gateway holds it, or may: whoever was leaving is not gone yet.
    pub fn hold_at_gateway(&mut self, held: Held) {
        self.held = held;
        if let Phase::Leaving { .. } = self.phase {
            self.phase = Phase::Released;
        }
    }

    pub fn back_off(&mut self, now: Timestamp) {
        let pause = REPAIR_MS_MIN.saturating_mul(1 << self.repairs.min(16)).min(REPAIR_MS_MAX);
        self.repairs = self.repairs.saturating_add(1);
        self.hold = Hold::Until(now.plus_ms(pause));
    }
}

/// Why this rule cannot be asked for.
fn refusal(
    desired: &DesiredLeg,
    terms: &Terms,
    rates: Rates,
    session: Option<&Session>,
    gateway: &Gateway,
) -> Option<String> {
    let Some(session) = session else { return Some("the subscriber has no session at this APN".to_owned()) };
    if session.is_away {
        return Some(MOVED_OUT.to_owned());
    }
    if desired.flows.is_empty() {
        return Some("no flow is bound yet: a rule on Gx needs one".to_owned());
    }
    let filters = desired.flows.len() * 2;
    if filters > usize::from(gateway.filters_max) {
        return Some(format!("{filters} packet filters; the gateway takes {}", gateway.filters_max));
    }
    if let Some(flow) = desired.flows.iter().find(|flow| !session.address.contains(flow.device)) {
        return Some(format!("{} is not the address of the session", flow.device));
    }
    if !rule::max_rates(terms, rates, desired.shape.borrow).fits(session.has_extended) {
        return Some("above 4,294,967,295 bit/s, which this gateway did not negotiate".to_owned());
    }
    None
}

impl<P: Profile> Machine<P> {
    pub(super) fn session_of(&self, leg: &Leg) -> Option<SessionNo> {
        self.sessions.of_subscriber(leg.subscriber, leg.apn)
    }

    fn gateway_of(&self, session: Option<SessionNo>) -> &Gateway {
        let host = session.map(|no| self.sessions.host(self.sessions.get(no).host));
        host.map_or(&self.settings.gateway, |host| &host.gateway)
    }

    pub(super) fn desire(&mut self, now: Timestamp, desire: Desire) {
        let Desire { desired, access, terms, known } = desire;
        let (id, attempt) = (desired.leg, desired.attempt);
        let Some(apn) = self.apn_no(&access.apn) else {
            let reason = format!("{} is none of our APNs", access.apn);
            return self.say(id, attempt, PolicyReport::Refused { reason });
        };
        if !self.legs.contains_key(&id) {
            if self.legs_of(access.subscriber, apn).len() >= LEGS_PER_SESSION_MAX {
                let reason = format!("{LEGS_PER_SESSION_MAX} legs at one access are the most");
                return self.say(id, attempt, PolicyReport::Refused { reason });
            }
            let session = self.sessions.of_subscriber(access.subscriber, apn);
            let leg = self.new_leg(now, &desired, session, (access.subscriber, apn));
            self.insert_leg(now, id, leg, known);
        }
        let leg = self.legs.get_mut(&id).expect("it was there or was just made");
        if attempt < leg.attempt || (leg.subscriber, leg.apn) != (access.subscriber, apn) {
            return;
        }
        let is_same = leg.attempt == attempt && leg.terms.is_some();
        let is_repeated = is_same && leg.desired.as_ref() == Some(&desired) && leg.terms == Some(terms);
        if is_same && !is_repeated && leg.held != Held::Nothing {
            // Changed without a new attempt: told to the gateway all the same.
            leg.held = Held::Unknown;
        }
        leg.attempt = attempt;
        leg.desired = Some(desired);
        leg.terms = Some(terms);
        leg.meter.follow(attempt, leg.desired.as_ref().map_or(Direction::Down, |d| d.direction));
        if is_repeated && leg.said != Said::Nothing {
            self.say_again(now, id);
        } else {
            leg.phase = Phase::Wanted;
            leg.hold = Hold::Free;
        }
        self.attend(now, id);
    }

    fn new_leg(
        &self,
        now: Timestamp,
        desired: &DesiredLeg,
        session: Option<SessionNo>,
        (subscriber, apn): (SubscriberRef, u16),
    ) -> Leg {
        // A session out of the records may hold rules of a leg that was sent, ahead of its start too.
        let may_be_held = session.is_some_and(|no| self.sessions.get(no).is_restored);
        let sent = now.plus_ms(Leg::lead_ms(self.gateway_of(session)));
        let is_sent = [&desired.up, &desired.down]
            .into_iter()
            .any(|side| side.schedule.window().is_some_and(|window| window.from <= sent));
        Leg {
            desired: Some(desired.clone()),
            terms: None,
            attempt: desired.attempt,
            subscriber,
            apn,
            phase: Phase::Wanted,
            held: if may_be_held && is_sent { Held::Unknown } else { Held::Nothing },
            said: Said::Nothing,
            hold: Hold::Free,
            repairs: 0,
            meter: Meter::new(self.settings.incarnation, desired.attempt, desired.direction),
            due: None,
        }
    }

    fn insert_leg(&mut self, now: Timestamp, id: LegId, leg: Leg, known: Known) {
        self.by_access.insert((leg.subscriber, leg.apn, id));
        let has_session = self.session_of(&leg).is_some();
        self.legs.insert(id, leg);
        if known == Known::Active {
            let said = match self.reports_of(self.legs.get(&id).and_then(|leg| self.session_of(leg))) {
                Reports::Full => Said::Active,
                Reports::None => Said::Unconfirmed,
            };
            let leg = self.legs.get_mut(&id).expect("it was just put there");
            leg.said = said;
            leg.meter.was_active = true;
            if has_session {
                self.start_meter(now, id);
            } else {
                self.lose(now, id, "the session ended while nobody watched");
            }
        }
    }

    pub(super) fn release(&mut self, now: Timestamp, id: LegId, attempt: u32, access: &MobileAccess) {
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.attempt = leg.attempt.max(attempt);
            leg.meter.attempt = leg.attempt;
            if leg.phase == Phase::Wanted {
                leg.phase = Phase::Released;
            }
            return self.attend(now, id);
        }
        // Unknown: it ended before, or in an earlier life. What a restored session may hold is taken away.
        let session =
            self.apn_no(&access.apn).and_then(|apn| self.sessions.of_subscriber(access.subscriber, apn));
        let held = match session {
            Some(no) if self.sessions.get(no).is_restored => Held::Unknown,
            Some(_) | None => Held::Nothing,
        };
        let leg = Leg {
            desired: None,
            terms: None,
            attempt,
            subscriber: access.subscriber,
            apn: self.apn_no(&access.apn).unwrap_or(u16::MAX),
            phase: Phase::Released,
            held,
            said: Said::Nothing,
            hold: Hold::Free,
            repairs: 0,
            meter: Meter::new(self.settings.incarnation, attempt, Direction::Down),
            due: None,
        };
        self.insert_leg(now, id, leg, Known::New);
        self.attend(now, id);
    }

    /// Compares a leg with what holds, says what cannot be, queues a push, and sets when to look again.
    pub(super) fn attend(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let session = self.session_of(leg);
        let gateway = self.gateway_of(session);
        let is_dead = leg.desired.as_ref().is_some_and(|desired| {
            gateway.rule_times == RuleTimes::Kept
                && desired.valid_until.plus_ms(DEACTIVATION_SLACK_MS) <= now
                && !matches!(leg.held, Held::Nothing)
        });
        if is_dead || (session.is_none() && leg.held != Held::Nothing) {
            // The gateway ended it by its own clock, or the rule went with its session.
            self.gone(now, id);
        }
        self.presume(now, id);
        let Some(leg) = self.legs.get(&id) else { return };
        let gateway = self.gateway_of(session);
        let want = leg.want(now, session.map(|no| self.sessions.get(no)), gateway);
        let due = leg.next_due(now, gateway);
        if leg.held == Held::Nothing && !leg.is_wanted_at(now) {
            match leg.phase {
                // Its install is on its way: what comes of it decides.
                _ if self.in_flight(session, id).is_some() => {}
                Phase::Leaving { until } if until > now => {}
                Phase::Wanted | Phase::Released | Phase::Leaving { .. } => return self.finish(now, id),
            }
        }
        let (differs, start) = (leg.differs(&want), leg.start(now));
        self.set_due(id, due);
        match want {
            Want::Refused(reason) if self.stage == super::Stage::Running => self.cannot(now, id, reason),
            Want::Refused(_) | Want::Absent | Want::Rule(_) | Want::Unchanged => {}
        }
        if let Some(session) = session.filter(|_| differs) {
            self.enqueue(session, start);
        }
    }

    /// A rule that cannot be asked for. What the gateway holds of an older attempt stays: it is never taken away
    /// before something better is there.
    fn cannot(&mut self, now: Timestamp, id: LegId, reason: String) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        match &leg.said {
            Said::Lost(_) => return,
            Said::Refused(said) if *said == reason && leg.hold == Hold::Refused => return,
            Said::Refused(_) | Said::Nothing | Said::Accepted | Said::Unconfirmed | Said::Active => {}
        }
        leg.hold = Hold::Refused;
        let report = leg.failure(now, reason);
        self.report_failure(now, id, report);
    }

    /// Reports `Lost` or `Refused` once, and stops the meter.
    pub(super) fn report_failure(&mut self, now: Timestamp, id: LegId, report: PolicyReport) {
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
        let attempt = leg.attempt;
        self.say(id, attempt, report);
    }

    /// The rule is gone without having been refused: what was accepted or active is lost.
    pub(super) fn lose(&mut self, now: Timestamp, id: LegId, reason: &str) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.held = Held::Nothing;
        match leg.said {
            Said::Accepted | Said::Unconfirmed | Said::Active if leg.is_wanted_at(now) => {
                self.report_failure(now, id, PolicyReport::Lost { at: now, reason: reason.to_owned() });
            }
            Said::Accepted
            | Said::Unconfirmed
            | Said::Active
            | Said::Nothing
            | Said::Refused(_)
            | Said::Lost(_) => {
                self.stop_meter(now, id);
            }
        }
    }

    /// Its subscriber left our networks: what was accepted is withdrawn for good, and its rule is taken away like
    /// one that is released.
    pub(super) fn withdraw(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        match leg.said {
            Said::Accepted | Said::Unconfirmed | Said::Active if leg.is_wanted_at(now) => {}
            Said::Accepted
            | Said::Unconfirmed
            | Said::Active
            | Said::Nothing
            | Said::Refused(_)
            | Said::Lost(_) => {
                return;
            }
        }
        self.stop_meter(now, id);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.phase = Phase::Released;
        let (attempt, reason) = (leg.attempt, MOVED_OUT.to_owned());
        self.say(id, attempt, PolicyReport::Withdrawn { at: now, reason });
    }

    /// Where a gateway says nothing of its rules, one that it accepted counts as in force from its activation on.
    pub(super) fn presume(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let is_in_force = matches!(leg.held, Held::Rule(shape)
            if shape.attempt == leg.attempt && shape.activation.is_none_or(|at| at <= now));
        let is_silent = self.reports_of(self.session_of(leg)) == Reports::None;
        if !is_in_force || !is_silent || !leg.is_wanted_at(now) {
            return;
        }
        let attempt = leg.attempt;
        match leg.said {
            Said::Accepted => {
                if let Some(leg) = self.legs.get_mut(&id) {
                    leg.said = Said::Unconfirmed;
                }
                self.start_meter(now, id);
                self.say(id, attempt, PolicyReport::Unconfirmed { at: now });
            }
            Said::Unconfirmed => self.start_meter(now, id),
            Said::Nothing | Said::Active | Said::Refused(_) | Said::Lost(_) => {}
        }
    }

    /// The gateway holds nothing of a leg that is not wanted any more.
    pub(super) fn gone(&mut self, now: Timestamp, id: LegId) {
        self.stop_meter(now, id);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.held = Held::Nothing;
        if !leg.is_wanted_at(now) && !matches!(leg.phase, Phase::Leaving { .. }) {
            let waits = leg.meter.was_active && leg.terms.is_some_and(|terms| terms.usage_bytes.is_some());
            let ms = if waits { crate::limits::LAST_USAGE_MS } else { 0 };
            leg.phase = Phase::Leaving { until: now.plus_ms(ms) };
        }
    }

    /// The end of a leg: its last reading, then its removal.
    pub(super) fn finish(&mut self, now: Timestamp, id: LegId) {
        self.stop_meter(now, id);
        self.read_meter(now, id, true);
        self.set_due(id, None);
        self.metered.remove(&id);
        self.set_slot_timer(now);
        let Some(leg) = self.legs.remove(&id) else { return };
        self.by_access.remove(&(leg.subscriber, leg.apn, id));
        self.say(id, leg.attempt, PolicyReport::Removed { at: now });
    }

    /// The whole set came again: the engine may have missed what was said.
    fn say_again(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let attempt = leg.attempt;
        let report = match &leg.said {
            Said::Nothing => return,
            Said::Accepted => PolicyReport::Accepted,
            Said::Unconfirmed => PolicyReport::Unconfirmed { at: now },
            Said::Active => PolicyReport::Active { at: now },
            Said::Refused(reason) => PolicyReport::Refused { reason: reason.clone() },
            Said::Lost(reason) => PolicyReport::Lost { at: now, reason: reason.clone() },
        };
        self.say(id, attempt, report);
    }

    fn enqueue(&mut self, no: SessionNo, start: Timestamp) {
        if self.stage == super::Stage::Restoring {
            return;
        }
        let session = self.sessions.get_mut(no);
        let (host, push) = (session.host, session.push);
        match push {
            Push::InFlight(_) | Push::Paused(_) => return,
            Push::Queued(at) if at <= start => return,
            Push::Queued(at) => {
                session.push = Push::Queued(start);
                self.sessions.host_mut(host).queue.remove(&(at, no));
            }
            Push::Idle => session.push = Push::Queued(start),
        }
        self.sessions.host_mut(host).queue.insert((start, no));
        self.waiting.insert(host);
    }
}
