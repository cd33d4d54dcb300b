//! What AAA and STA mean, and what their absence does.

use super::push::{Asked, Pending, Sent};
use super::sessions::{Confirmed, Copies, Grant, Held, Phase, Push, SessionNo};
use super::{Machine, Timer};
use crate::fact::{Closed, Host};
use crate::limits::{COPY_MS, REFUSALS_MAX};
use crate::{heard, rates, reason, write};
use tollway_diameter::avp::{IETF, ietf};
use tollway_diameter::machine::{Failure, RequestId};
use tollway_diameter::{Message, Outcome, check, result};
use tollway_model::Timestamp;

impl Machine {
    /// An AAA or STA.
    pub(super) fn answered(&mut self, now: Timestamp, id: RequestId, message: &Message<'_>) {
        let Some(pending) = self.take_pending(id) else { return };
        let no = pending.session;
        let is_ours = message.text(ietf::SESSION_ID).is_none_or(|id| id == self.sessions.get(no).id);
        let outcome = match check::avps(message) {
            Ok(()) if is_ours => message.result(),
            Ok(()) | Err(_) => None,
        };
        match (outcome, pending.sent) {
            (None, _) => {
                self.counters.malformed += 1;
                self.unanswered(now, &pending);
            }
            (Some(outcome), Sent::Service(asked)) if outcome.is_success() => {
                self.settle(now, no, asked, message);
            }
            (Some(outcome), Sent::End) if outcome.is_success() => {
                if let Some(used) = heard::used(message) {
                    self.count_usage(now, no, None, used);
                }
                self.ended(now, no, Closed::Ended);
            }
            (Some(Outcome { vendor: IETF, code }), _) if is_busy(code) => self.busy(now, &pending),
            (Some(Outcome { vendor: IETF, code }), _) if result::is_protocol_error(code) => {
                self.counters.unanswered += 1;
                self.unanswered(now, &pending);
            }
            (Some(outcome), Sent::End) => self.end_refused(now, no, outcome),
            (Some(outcome), Sent::Service(asked)) => self.refused(now, no, asked, message, outcome),
        }
    }

    pub(super) fn failed(&mut self, now: Timestamp, id: RequestId, failure: Failure) {
        let Some(pending) = self.take_pending(id) else { return };
        self.counters.unanswered += 1;
        match failure {
            // It never left: what the PCRF holds is as it was.
            Failure::Message | Failure::NoRoute | Failure::Busy => self.rest(now, pending.session),
            Failure::Timeout | Failure::BadAnswer => self.unanswered(now, &pending),
        }
    }

    /// Takes up a request that still counts: of a session that was closed meanwhile, it does not.
    fn take_pending(&mut self, id: RequestId) -> Option<Pending> {
        let Some(pending) = self.pending.remove(&id) else {
            self.counters.late += 1;
            return None;
        };
        let waiting = self.sessions.pcrf_mut(pending.pcrf);
        waiting.in_flight -= 1;
        if !waiting.queue.is_empty() {
            self.waiting.insert(pending.pcrf);
        }
        if self.sessions.find(pending.session).is_none() {
            self.counters.late += 1;
            return None;
        }
        self.sessions.get_mut(pending.session).push = Push::Idle;
        Some(pending)
    }

    /// The PCRF has the service as it was asked for.
    fn settle(&mut self, now: Timestamp, no: SessionNo, asked: Asked, message: &Message<'_>) {
        self.counters.accepted += 1;
        let session = self.sessions.get_mut(no);
        let (pcrf, leg) = (session.pcrf, session.leg());
        let before = (session.answered_by.clone(), session.components);
        if let (Some(host), Some(realm)) = (message.text(ietf::ORIGIN_HOST), message.text(ietf::ORIGIN_REALM))
        {
            session.answered_by = Some(Host { host: host.to_owned(), realm: realm.to_owned() });
        }
        let again = now.plus_ms(COPY_MS);
        (session.components, session.copies) = match session.copies {
            Copies::None => (asked.components, Copies::None),
            Copies::Possible => (session.components.max(asked.components), Copies::Until(again)),
            Copies::Until(at) => (session.components.max(asked.components), Copies::Until(at)),
        };
        if session.copies == Copies::Until(again) {
            self.timers.insert((again, Timer::Copies(no)));
        }
        let session = self.sessions.get_mut(no);
        session.tries = 0;
        if asked.grants {
            session.grant = Grant::Given;
        }
        let is_changed = before != (session.answered_by.clone(), session.components);
        let is_serving = session.phase == Phase::Serving;
        self.sessions.pcrf_mut(pcrf).served();
        if is_changed {
            self.changed(no);
        }
        if before.0.is_none() {
            self.check_features(no, message);
        }
        self.accept(no, asked);
        if let Some(leg) = leg.filter(|_| is_serving) {
            self.service_accepted(leg, asked.shape);
        }
        self.requeue(now, no);
    }

    /// What the PCRF holds from now on, and what of its reports still counts.
    pub(super) fn accept(&mut self, no: SessionNo, asked: Asked) {
        let session = self.sessions.get_mut(no);
        let leg = session.leg().and_then(|leg| self.legs.get(&leg));
        let is_active = leg.is_some_and(|leg| leg.said == super::leg::Said::Active);
        let attempt = asked.shape.attempt;
        if is_active {
            let components = leg.map_or(0, |leg| leg.all_components());
            session.confirmed = Confirmed { attempt, components };
        } else if session.confirmed.attempt != attempt {
            // Other flows under the same numbers: nothing was said of these.
            session.confirmed = Confirmed { attempt, components: 0 };
        }
        session.held = Held::Service(asked.shape);
    }

    fn check_features(&mut self, no: SessionNo, message: &Message<'_>) {
        let session = self.sessions.get(no);
        let reports = self.sessions.pcrf(session.pcrf).pcrf.reports;
        let terms = session.leg().and_then(|leg| self.legs.get(&leg)?.terms.as_ref());
        if terms.is_some_and(|terms| !write::has_features(message, terms, reports)) {
            self.counters.features_missing += 1;
        }
    }

    /// An AAR that was refused for good.
    fn refused(
        &mut self,
        now: Timestamp,
        no: SessionNo,
        asked: Asked,
        message: &Message<'_>,
        outcome: Outcome,
    ) {
        let session = self.sessions.get(no);
        let (phase, held, leg) = (session.phase, session.held, session.leg());
        let is_established = session.answered_by.is_some();
        let is_unknown = outcome == (Outcome { vendor: IETF, code: result::UNKNOWN_SESSION_ID });
        let Some(id) = leg else { return };
        let is_current = self.legs.get(&id).is_some_and(|leg| leg.attempt == asked.shape.attempt);
        if is_unknown && is_established {
            self.counters.session_unknown += 1;
            self.close(now, no, Closed::Unknown);
            if phase == Phase::Serving {
                self.lose(now, id, Closed::Unknown.as_str());
            }
            return self.attend(now, id);
        }
        self.counters.refused += 1;
        if held == Held::Nothing {
            self.close(now, no, Closed::Refused);
        } else {
            // After a change that was refused the PCRF may have what was before; an earlier copy of a first AAR may
            // have been taken.
            self.doubt(no);
        }
        if phase == Phase::Serving && is_current {
            let acceptable = rates::acceptable(message, asked.max);
            self.service_failed(now, id, reason::of_answer(message, outcome), acceptable);
            if held != Held::Nothing && !is_established {
                self.end_current(now, id);
            }
        }
        self.requeue(now, no);
        self.attend(now, id);
    }

    /// An STR that was refused for good.
    fn end_refused(&mut self, now: Timestamp, no: SessionNo, outcome: Outcome) {
        if outcome == (Outcome { vendor: IETF, code: result::UNKNOWN_SESSION_ID }) {
            return self.ended(now, no, Closed::Ended);
        }
        self.counters.refused += 1;
        let session = self.sessions.get_mut(no);
        session.refusals = session.refusals.saturating_add(1);
        if session.refusals >= REFUSALS_MAX {
            self.counters.given_up += 1;
            return self.ended(now, no, Closed::GivenUp);
        }
        self.rest(now, no);
    }

    fn ended(&mut self, now: Timestamp, no: SessionNo, why: Closed) {
        let session = self.sessions.get(no);
        let (pcrf, leg) = (session.pcrf, session.leg());
        self.sessions.pcrf_mut(pcrf).served();
        self.close(now, no, why);
        if let Some(leg) = leg {
            self.attend(now, leg);
        }
    }

    /// The PCRF, or the way to it, has too much to do: everything of it waits.
    fn busy(&mut self, now: Timestamp, pending: &Pending) {
        self.counters.busy += 1;
        self.sessions.pcrf_mut(pending.pcrf).back_off(now);
        self.unanswered(now, pending);
    }

    /// What the PCRF did with it is unknown: it is told again, after a pause.
    fn unanswered(&mut self, now: Timestamp, pending: &Pending) {
        let session = self.sessions.get_mut(pending.session);
        match pending.sent {
            Sent::Service(_) => (session.held, session.copies) = (Held::Unknown, Copies::Possible),
            Sent::End => {}
        }
        self.rest(now, pending.session);
    }

    /// A pause, unless nothing of the session is there or wanted.
    fn rest(&mut self, now: Timestamp, no: SessionNo) {
        let session = self.sessions.get(no);
        if session.phase == Phase::Ending && session.held == Held::Nothing {
            return self.ended(now, no, Closed::Ended);
        }
        self.pause(now, no);
    }
}

/// Answers of a hop that asks for patience (RFC 6733 §7.1.3).
const fn is_busy(code: u32) -> bool {
    matches!(code, result::TOO_BUSY | result::UNABLE_TO_DELIVER)
}
