//! RAR and ASR: what a PCRF says of resources, of usage, and that a session must end (TS 29.214 §4.4.6).

use super::Machine;
use super::Stage;
use super::leg::Said;
use super::push::Sent;
use super::sessions::{Grant, Held, Phase, Push, Session, SessionNo};
use crate::fact::{Host, Token};
use crate::heard::{Action, Heard, Used};
use crate::settings::Reports;
use crate::{reason, write};
use tollway_diameter::avp::ietf::{ORIGIN_HOST, ORIGIN_REALM, SESSION_ID};
use tollway_diameter::avp::tgpp::ABORT_CAUSE;
use tollway_diameter::{Message, answer, application, check, command, result};
use tollway_model::{LegId, Timestamp};
use tollway_policy::PolicyReport;

impl Machine {
    pub(super) fn request(&mut self, now: Timestamp, token: Token, message: &Message<'_>) {
        let refuse =
            |machine: &Machine, code, why| answer::refuse_with(message, &machine.settings.origin, code, why);
        let bytes = match (check::request(message, &[application::RX]), Heard::read(message)) {
            (Err(error), _) | (Ok(_), Err(error)) => {
                self.counters.malformed += 1;
                answer::refuse(message, &self.settings.origin, &error)
            }
            (Ok(_), Ok(_)) if self.stage == Stage::Restoring => {
                refuse(self, result::TOO_BUSY, "starting: which sessions there are is not known yet")
            }
            (Ok(found), Ok(heard)) => {
                let no = message.text(SESSION_ID).and_then(|id| self.sessions.find_id(id));
                // A stray that is being ended is nobody's either.
                let no = no.filter(|no| self.sessions.get(*no).claim.is_some());
                match (found.code, no) {
                    (command::RE_AUTH | command::ABORT_SESSION, None) => {
                        self.counters.reported_unknown += 1;
                        self.stray(now, message);
                        refuse(self, result::UNKNOWN_SESSION_ID, "no such session")
                    }
                    (command::RE_AUTH, Some(no)) => {
                        self.counters.reported += 1;
                        self.report(now, no, message.header.end_to_end, &heard);
                        self.taken(message)
                    }
                    (command::ABORT_SESSION, Some(no)) => {
                        self.counters.aborted += 1;
                        self.abort(now, no, message.u32(ABORT_CAUSE));
                        self.taken(message)
                    }
                    (_, _) => {
                        self.counters.malformed += 1;
                        refuse(self, result::COMMAND_UNSUPPORTED, "an AF takes RAR and ASR")
                    }
                }
            }
        };
        self.answer(token, bytes);
    }

    fn taken(&mut self, message: &Message<'_>) -> Vec<u8> {
        let origin = &self.settings.origin;
        write::taken(message, origin).unwrap_or_else(|_| {
            self.counters.unwritable += 1;
            answer::refuse_with(message, origin, result::UNABLE_TO_COMPLY, "the answer does not fit")
        })
    }

    /// A session named like ours that nobody has, such as one of an AAR that came late: it is ended, never adopted.
    fn stray(&mut self, now: Timestamp, message: &Message<'_>) {
        let (Some(id), Some(host), Some(realm)) =
            (message.text(SESSION_ID), message.text(ORIGIN_HOST), message.text(ORIGIN_REALM))
        else {
            return;
        };
        if !self.ids.is_ours(id) || self.sessions.find_id(id).is_some() || self.sessions.is_full() {
            return;
        }
        self.counters.strays += 1;
        let host = Host { host: host.to_owned(), realm: realm.to_owned() };
        let mut session = Session::new(id.to_owned(), self.sessions.pcrf_of(&host), None);
        session.answered_by = Some(host);
        session.held = Held::Unknown;
        let no = self.sessions.open(session);
        self.end_session(now, no);
    }

    fn report(&mut self, now: Timestamp, no: SessionNo, end_to_end: u32, heard: &Heard) {
        if let Some(used) = heard.used {
            self.count_usage(now, no, Some(end_to_end), used);
        }
        let other = heard.actions.iter().filter(|action| **action == Action::Other).count();
        self.counters.actions_other += other as u64;
        for action in &heard.actions {
            let Some(id) = self.leg_served_by(no) else { break };
            match action {
                Action::Succeeded | Action::Recovered => self.allocated(now, no, id, heard.components),
                Action::Lost => self.suspended(now, no, id, heard.components, "loss of bearer"),
                Action::OutOfCredit => self.suspended(now, no, id, heard.components, "out of credit"),
                Action::Released => self.broken(now, no, id, heard.components, "release of bearer"),
                Action::Failed => {
                    self.broken(now, no, id, heard.components, "failed allocation of resources");
                }
                Action::Usage | Action::Other => {}
            }
        }
        if let Some(leg) = self.sessions.find(no).and_then(Session::leg) {
            self.attend(now, leg);
        }
    }

    fn leg_served_by(&self, no: SessionNo) -> Option<LegId> {
        let id = self.sessions.find(no)?.leg()?;
        (self.legs.get(&id)?.session == Some(no)).then_some(id)
    }

    /// Resources are there (again).
    fn allocated(&mut self, now: Timestamp, no: SessionNo, id: LegId, components: u8) {
        let session = self.sessions.get(no);
        let reports = self.sessions.pcrf(session.pcrf).pcrf.reports;
        if let (Held::Nothing, Push::InFlight(request)) = (session.held, session.push)
            && let Some(Sent::Service(asked)) = self.pending.get(&request).map(|pending| pending.sent)
        {
            // The report overtook the AAA.
            self.accept(no, asked);
            self.service_accepted(id, asked.shape);
        }
        let session = self.sessions.get_mut(no);
        session.confirmed.components |= components;
        let confirmed = session.confirmed;
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let all = leg.all_components();
        if confirmed.components & all != all {
            return;
        }
        match (reports, &leg.said) {
            (Reports::Full, _) => self.service_active(now, id, confirmed.attempt),
            (Reports::None, Said::Lost(_)) => {
                leg.said = Said::Accepted;
                self.say(id, PolicyReport::Accepted, None);
            }
            (Reports::None, Said::Nothing | Said::Accepted | Said::Active | Said::Refused(_)) => {}
        }
    }

    /// Resources are not there now; the session stays, and the PCRF says when they are back.
    fn suspended(&mut self, now: Timestamp, no: SessionNo, id: LegId, components: u8, reason: &str) {
        self.sessions.get_mut(no).confirmed.components &= !components;
        if self.concerns(id, components) {
            self.interrupted(now, id, reason);
        }
    }

    /// Resources are gone. Where nothing is left, the session is ended, and a new one is asked for later; where
    /// something is, the same is told again in full.
    fn broken(&mut self, now: Timestamp, no: SessionNo, id: LegId, components: u8, reason: &str) {
        let all = self.legs.get(&id).map_or(0, |leg| leg.all_components());
        let confirmed = &mut self.sessions.get_mut(no).confirmed.components;
        *confirmed &= all & !components;
        let is_left = *confirmed != 0;
        if !self.concerns(id, components) {
            return;
        }
        self.service_failed(now, id, reason.to_owned(), None);
        if is_left {
            self.doubt(no);
        } else {
            self.end_current(now, id);
        }
    }

    fn concerns(&self, id: LegId, components: u8) -> bool {
        self.legs.get(&id).is_some_and(|leg| leg.all_components() & components != 0)
    }

    fn abort(&mut self, now: Timestamp, no: SessionNo, cause: Option<u32>) {
        if let Some(id) = self.leg_served_by(no) {
            self.service_failed(now, id, reason::of_abort(cause), None);
            self.end_current(now, id);
            self.attend(now, id);
        }
    }

    /// Adds usage and says the new reading. A threshold that was reached is given again.
    pub(super) fn count_usage(&mut self, now: Timestamp, no: SessionNo, end_to_end: Option<u32>, used: Used) {
        let session = self.sessions.get_mut(no);
        if end_to_end.is_some_and(|id| !session.see_usage(id)) {
            self.counters.duplicates += 1;
            return;
        }
        if end_to_end.is_some() {
            session.grant = Grant::Due;
        }
        let is_serving = session.phase == Phase::Serving;
        if used.total > 0 {
            self.counters.usage_undirected += 1;
        }
        let Some(id) = session.leg() else { return };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.meter.add(used);
        self.read_meter(now, id, false);
        // After a restart the records say that this usage was counted.
        if end_to_end.is_some() && is_serving {
            self.changed(no);
        }
    }
}
