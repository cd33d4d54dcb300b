//! Requests out: one of a session at a time, changes before checks, in the rhythm of their PCRF; and what is sent
//! again after a reconnection, a restart of the PCRF or one of ours.

use super::leg::Want;
use super::sessions::{Claim, Copies, Grant, Held, PcrfNo, Phase, Push, Session, SessionNo, Shape};
use super::{Machine, Stage, Timer};
use crate::fact::{AfSession, Closed, Fact, Output};
use crate::limits::{BACK_OFF_MS_MAX, BACK_OFF_MS_MIN, HOST_TRIES_MAX};
use crate::rates::{self, Rates};
use crate::write::{self, Envelope, RequestType, Service};
use tollway_diameter::machine::RequestId;
use tollway_model::{LegId, Timestamp};

/// A request without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    pub session: SessionNo,
    pub pcrf: PcrfNo,
    pub sent: Sent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    Service(Asked),
    End,
}

/// What an AAR said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub shape: Shape,
    /// The maximum, which a refusal is compared with.
    pub max: Rates,
    pub components: u8,
    pub grants: bool,
}

impl Machine {
    /// Sends what may be sent now.
    pub(super) fn pump(&mut self, now: Timestamp) {
        for pcrf in self.waiting.clone() {
            while self.sessions.pcrf(pcrf).next_push().is_some_and(|at| at <= now) {
                let Some((_, _, no)) = self.sessions.pcrf_mut(pcrf).queue.pop_first() else { break };
                self.sessions.get_mut(no).push = Push::Idle;
                self.push(now, no);
            }
            if self.sessions.pcrf(pcrf).queue.is_empty() {
                self.waiting.remove(&pcrf);
            }
        }
    }

    pub(super) fn enqueue(&mut self, now: Timestamp, no: SessionNo) {
        if self.stage == Stage::Restoring {
            return;
        }
        let session = self.sessions.get_mut(no);
        let (pcrf, urgency) = (session.pcrf, session.urgency());
        match session.push {
            Push::InFlight(_) | Push::Paused(_) => return,
            Push::Queued(queued, _) if queued <= urgency => return,
            Push::Queued(queued, at) => {
                self.sessions.pcrf_mut(pcrf).queue.remove(&(queued, at, no));
            }
            Push::Idle => {}
        }
        self.sessions.get_mut(no).push = Push::Queued(urgency, now);
        self.sessions.pcrf_mut(pcrf).queue.insert((urgency, now, no));
        self.waiting.insert(pcrf);
    }

    /// Looks again at a session whose way is free.
    pub(super) fn requeue(&mut self, now: Timestamp, no: SessionNo) {
        let Some(session) = self.sessions.find(no) else { return };
        let leg = session.leg();
        match session.phase {
            Phase::Ending => self.end_session(now, no),
            Phase::Serving => {}
        }
        if let Some(leg) = leg {
            self.attend(now, leg);
        }
    }

    fn push(&mut self, now: Timestamp, no: SessionNo) {
        let session = self.sessions.get(no);
        let (phase, leg) = (session.phase, session.leg());
        match (phase, leg) {
            (Phase::Ending, _) => {
                let bytes = write::end(&self.envelope(session));
                self.send(now, no, Sent::End, bytes.ok());
            }
            (Phase::Serving, Some(leg)) => self.push_service(now, no, leg),
            (Phase::Serving, None) => {}
        }
    }

    fn push_service(&mut self, now: Timestamp, no: SessionNo, id: LegId) {
        let session = self.sessions.get(no);
        let Some(leg) = self.legs.get(&id) else { return };
        let Want::Service(shape) = leg.want(now, &self.sessions.pcrf(session.pcrf).pcrf) else { return };
        let (Some(desired), Some(terms)) = (&leg.desired, &leg.terms) else { return };
        if !session.differs(shape) {
            return;
        }
        let components = u8::try_from(desired.flows.len()).unwrap_or(u8::MAX);
        let max = rates::max_rates(terms, shape.rates, desired.shape.borrow);
        let grants = session.held == Held::Unknown || session.grant == Grant::Due;
        let asked = Asked { shape, max, components, grants };
        let bytes = self.write_service(session, id, asked);
        if components > session.components {
            // What the PCRF may know must be known after a restart, or it could not be taken back.
            self.sessions.get_mut(no).components = components;
            self.changed(no);
        }
        if bytes.is_some() {
            return self.send(now, no, Sent::Service(asked), bytes);
        }
        self.counters.unwritable += 1;
        self.service_failed(now, id, "the session cannot be written".to_owned(), None);
        if self.sessions.get(no).held == Held::Nothing {
            self.close(now, no, Closed::Ended);
        }
        self.attend(now, id);
    }

    fn envelope<'a>(&'a self, session: &'a Session) -> Envelope<'a> {
        Envelope {
            origin: &self.settings.origin,
            session_id: &session.id,
            pcrf: &self.sessions.pcrf(session.pcrf).pcrf,
            answered_by: session.answered_by.as_ref(),
            is_to_host: session.tries < HOST_TRIES_MAX,
        }
    }

    fn write_service(&self, session: &Session, id: LegId, asked: Asked) -> Option<Vec<u8>> {
        let (leg, claim) = (self.legs.get(&id)?, session.claim.as_ref()?);
        let (desired, terms) = (leg.desired.as_ref()?, leg.terms.as_ref()?);
        // Until somebody answered, the session may not be there: said as the first time, under the same id.
        let kind = if session.answered_by.is_none() { RequestType::Initial } else { RequestType::Update };
        let service = Service {
            leg: id,
            access: &claim.access,
            address: claim.address,
            terms,
            flows: &desired.flows,
            direction: desired.direction,
            rates: asked.shape.rates,
            borrow: desired.shape.borrow,
            components: if session.held == Held::Nothing { 0 } else { session.components },
            grants: asked.grants,
        };
        write::service(&self.envelope(session), kind, &service).ok()
    }

    fn send(&mut self, now: Timestamp, no: SessionNo, sent: Sent, bytes: Option<Vec<u8>>) {
        let Some(bytes) = bytes else {
            // An STR has nothing but names that fitted before.
            self.counters.unwritable += 1;
            return self.pause(now, no);
        };
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let session = self.sessions.get_mut(no);
        session.push = Push::InFlight(id);
        let pcrf = session.pcrf;
        self.pending.insert(id, Pending { session: no, pcrf, sent });
        let waiting = self.sessions.pcrf_mut(pcrf);
        waiting.pushed(now);
        let timeout_ms = waiting.pcrf.timeout_ms;
        self.counters.requests += 1;
        self.outputs.push_back(Output::Request { after: self.mark, id, bytes, timeout_ms });
    }

    pub(super) fn changed(&mut self, no: SessionNo) {
        if let Some(record) = self.sessions.get(no).record() {
            self.fact(Fact::Changed(record));
        }
    }

    pub(super) fn pause(&mut self, now: Timestamp, no: SessionNo) {
        let session = self.sessions.get_mut(no);
        let ms = BACK_OFF_MS_MIN.saturating_mul(1 << session.tries.min(16)).min(BACK_OFF_MS_MAX);
        let until = now.plus_ms(ms);
        session.tries = session.tries.saturating_add(1);
        session.push = Push::Paused(until);
        self.timers.insert((until, Timer::Session(no)));
    }

    pub(super) fn resume(&mut self, now: Timestamp, no: SessionNo) {
        let Some(session) = self.sessions.find(no) else { return };
        if matches!(session.push, Push::Paused(until) if until <= now) {
            self.sessions.get_mut(no).push = Push::Idle;
            self.requeue(now, no);
        }
    }

    /// No copy of an older AAR can come any more; what one may have done is put right.
    pub(super) fn outlived_copies(&mut self, now: Timestamp, no: SessionNo, due: Timestamp) {
        let Some(session) = self.sessions.find(no) else { return };
        if session.copies == Copies::Until(due) {
            self.sessions.get_mut(no).copies = Copies::None;
            self.doubt(no);
            self.requeue(now, no);
        }
    }

    /// After a reconnection or a restart of ours: every session is told again in full, and so found out about.
    fn redrive(&mut self, now: Timestamp, host: Option<&str>) {
        let sessions = host.map_or_else(|| self.sessions.all(), |host| self.sessions.answerable_by(host));
        for no in sessions {
            let session = self.sessions.get_mut(no);
            if let Push::Paused(until) = session.push {
                session.push = Push::Idle;
                self.timers.remove(&(until, Timer::Session(no)));
            }
            self.doubt(no);
            self.requeue(now, no);
        }
        if host.is_none() {
            // Those without a session too.
            for id in self.legs.keys().copied().collect::<Vec<_>>() {
                self.attend(now, id);
            }
        }
    }

    pub(super) fn peer_up(&mut self, now: Timestamp, host: Option<&str>) {
        if self.stage == Stage::Running {
            self.redrive(now, host);
        }
    }

    pub(super) fn ready(&mut self, now: Timestamp) {
        self.stage = Stage::Running;
        for no in self.sessions.all() {
            let session = self.sessions.get(no);
            let leg = session.leg().and_then(|leg| self.legs.get(&leg));
            if leg.is_none_or(|leg| leg.session != Some(no)) {
                self.end_session(now, no);
            }
        }
        self.redrive(now, None);
    }

    /// The PCRF forgot its sessions. One with a request on its way stays: that may be answered by the restarted
    /// PCRF, and then it has the session.
    pub(super) fn restarted(&mut self, now: Timestamp, host: &str) {
        for no in self.sessions.held_by(host) {
            let session = self.sessions.get(no);
            let (leg, push) = (session.leg(), session.push);
            if let Some(leg) = leg.filter(|leg| session.serves(*leg)) {
                self.lose(now, leg, Closed::Restarted.as_str());
            }
            match push {
                Push::InFlight(_) => self.doubt(no),
                Push::Idle | Push::Queued(_, _) | Push::Paused(_) => {
                    self.close(now, no, Closed::Restarted);
                    if let Some(leg) = leg {
                        self.attend(now, leg);
                    }
                }
            }
        }
    }

    /// A session out of the records. One of a PCRF that is no longer in the settings is passed over: nobody is
    /// there to tell.
    pub(super) fn restore(&mut self, record: AfSession) {
        let Some(pcrf) = self.sessions.find_pcrf(&record.access.pcrf) else { return };
        if self.sessions.find_id(&record.session_id).is_some() || self.sessions.is_full() {
            return;
        }
        let claim = Claim { leg: record.leg, access: record.access, address: record.address };
        let mut session = Session::new(record.session_id, pcrf, Some(claim));
        session.answered_by = record.answered_by;
        session.components = record.components;
        session.usage_seen = record.usage_seen.into();
        (session.held, session.copies) = (Held::Unknown, Copies::Possible);
        self.sessions.open(session);
    }
}
