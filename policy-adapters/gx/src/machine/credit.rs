//! CCR: sessions open, change and end (TS 29.212 §4.5.1, §4.5.7, §4.5.9).

use super::Machine;
use super::leg::{Hold, Phase};
use super::sessions::{HostNo, SessionNo};
use crate::ccr::{self, Ccr, Fault, Initial, Kind, code};
use crate::fact::{Closed, Token};
use crate::plmn::Plmn;
use crate::profile::{Profile, SubscriberProfile};
use crate::settings::APNS_NEVER;
use crate::write;
use std::sync::Arc;
use tollway_diameter::avp::tgpp::TGPP_SGSN_MCC_MNC;
use tollway_diameter::{Message, WriteError, answer, application, check, command, result};
use tollway_model::Timestamp;
use tollway_policy::{MobileAccess, Report, Session, SessionName, SessionReport};

impl<P: Profile> Machine<P> {
    pub(super) fn request(&mut self, now: Timestamp, token: Token, message: &Message<'_>) {
        let origin = self.settings.origin.clone();
        let bytes = match check::request(message, &[application::GX]) {
            Err(error) => {
                self.counters.malformed += 1;
                answer::refuse(message, &origin, &error)
            }
            Ok(found) if found.code != command::CREDIT_CONTROL => {
                self.counters.malformed += 1;
                answer::refuse_with(message, &origin, result::COMMAND_UNSUPPORTED, "a PCRF takes CCR")
            }
            Ok(_) => match self.credit(now, message) {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(_)) => {
                    self.counters.unwritable += 1;
                    answer::refuse_with(message, &origin, result::UNABLE_TO_COMPLY, "the answer does not fit")
                }
                Err(fault) => self.refuse(message, &fault),
            },
        };
        self.answer(token, bytes);
    }

    fn refuse(&mut self, message: &Message<'_>, fault: &Fault) -> Vec<u8> {
        let origin = &self.settings.origin;
        let written = match Ccr::read(message) {
            Ok(ccr) => write::refusal(&ccr, origin, fault),
            Err(_) => {
                let mut w = answer::answer(message, origin, fault.outcome);
                write::write_fault(&mut w, fault.failed.and_then(|avp| message.find(avp)), fault);
                w.finish()
            }
        };
        written.unwrap_or_else(|_| answer::refuse_with(message, origin, result::UNABLE_TO_COMPLY, fault.why))
    }

    fn credit(
        &mut self,
        now: Timestamp,
        message: &Message<'_>,
    ) -> Result<Result<Vec<u8>, WriteError>, Fault> {
        let ccr = Ccr::read(message).inspect_err(|_| self.counters.malformed += 1)?;
        match ccr.kind {
            Kind::Initial => self.initial(now, &ccr),
            Kind::Update | Kind::Termination => self.update(now, &ccr),
        }
    }

    /// CCR-I. Everything is looked at before anything is changed.
    fn initial(&mut self, now: Timestamp, ccr: &Ccr<'_>) -> Result<Result<Vec<u8>, WriteError>, Fault> {
        let initial = Initial::read(&ccr.message).inspect_err(|_| self.counters.malformed += 1)?;
        let apn = self.admit(&initial)?;
        let profile = self.profiles.find(&initial.identities, &initial.apn).ok_or_else(|| {
            self.counters.subscriber_unknown += 1;
            Fault::base(code::USER_UNKNOWN, "no profile of this subscriber at this APN")
        })?;
        let is_known = self.sessions.find(ccr.host, ccr.session_id).is_some();
        if self.sessions.is_full() && !is_known {
            self.counters.sessions_full += 1;
            return Err(Fault::base(code::RESOURCES_EXCEEDED, "no place for another session"));
        }
        let Some(host) = self.sessions.host_no(&self.settings, ccr.host, ccr.realm) else {
            self.counters.sessions_full += 1;
            return Err(Fault::base(code::RESOURCES_EXCEEDED, "no place for another gateway"));
        };
        let gateway = &self.sessions.host(host).gateway;
        let answer = write::initial(ccr, &self.settings.origin, initial.features, gateway, &profile);
        if answer.is_err() {
            return Ok(answer);
        }
        if is_known {
            self.counters.duplicates += 1;
        } else {
            self.open(now, ccr, &initial, &profile, (host, apn));
        }
        Ok(answer)
    }

    /// Whether the APN is ours and the subscriber is at home.
    fn admit(&mut self, initial: &Initial<'_>) -> Result<u16, Fault> {
        // `sos` may come with more labels; emergency calls must never depend on us.
        let first = initial.apn.split('.').next().unwrap_or("");
        if APNS_NEVER.contains(&first) {
            self.counters.voice_apn_refused += 1;
            return Err(Fault::base(
                code::AUTHORIZATION_REJECTED,
                "voice and emergency APNs are not served here",
            ));
        }
        let apn = self.apn_no(&initial.apn).ok_or_else(|| {
            self.counters.apn_refused += 1;
            Fault::base(code::AUTHORIZATION_REJECTED, "this APN is not served here")
        })?;
        match self.is_away(initial.plmn) {
            Some(false) => Ok(apn),
            Some(true) => {
                self.counters.plmn_refused += 1;
                Err(Fault::base(code::AUTHORIZATION_REJECTED, "outside the home networks"))
            }
            None => {
                self.counters.plmn_refused += 1;
                Err(Fault::initial(TGPP_SGSN_MCC_MNC, "in which network?"))
            }
        }
    }

    /// Whether a network is none of ours; `None` when that matters and nothing was said.
    fn is_away(&self, plmn: Option<Plmn>) -> Option<bool> {
        let homes = &self.settings.home_plmns;
        if homes.is_empty() {
            return Some(false);
        }
        let plmn = plmn?;
        Some(!homes.iter().any(|home| Plmn::from_text(home) == Some(plmn)))
    }

    fn open(
        &mut self,
        now: Timestamp,
        ccr: &Ccr<'_>,
        initial: &Initial<'_>,
        profile: &Arc<SubscriberProfile>,
        (host, apn): (HostNo, u16),
    ) {
        let subscriber = profile.subscriber;
        for old in self.sessions.replaced_by(subscriber, apn, initial.address) {
            self.counters.superseded += 1;
            self.close(now, old, Closed::Superseded);
        }
        let extended_bw = self.sessions.host(host).gateway.extended_bw;
        let learnt = Session {
            name: SessionName {
                session_id: ccr.session_id.to_owned(),
                origin_host: ccr.host.to_owned(),
                origin_realm: ccr.realm.to_owned(),
            },
            access: MobileAccess { subscriber, apn: initial.apn.clone() },
            address: initial.address,
            number: ccr.number,
            has_extended: extended_bw.is_some_and(|feature| initial.features.has(feature)),
            is_away: false,
        };
        self.counters.opened += 1;
        let no = self.sessions.open(host, apn, &learnt, false);
        self.fact(Report::Session(SessionReport::Open(learnt)));
        self.free_legs(now, no);
    }

    /// A session in which the legs of its access may hold (again).
    fn free_legs(&mut self, now: Timestamp, no: SessionNo) {
        let session = self.sessions.get(no);
        for id in self.legs_of(session.subscriber, session.apn) {
            if let Some(leg) = self.legs.get_mut(&id) {
                leg.hold = Hold::Free;
            }
            self.attend(now, id);
        }
    }

    /// CCR-U and CCR-T.
    fn update(&mut self, now: Timestamp, ccr: &Ccr<'_>) -> Result<Result<Vec<u8>, WriteError>, Fault> {
        let reports = ccr::rule_reports(&ccr.message).inspect_err(|_| self.counters.malformed += 1)?;
        let used = ccr::usage_reports(&ccr.message).inspect_err(|_| self.counters.malformed += 1)?;
        ccr::check_triggers(&ccr.message).inspect_err(|_| self.counters.malformed += 1)?;
        let Some(no) = self.sessions.find(ccr.host, ccr.session_id) else {
            self.counters.session_unknown += 1;
            return Err(Fault::base(result::UNKNOWN_SESSION_ID, "no such session"));
        };
        let is_seen = self.sessions.get(no).numbers.is_seen(ccr.number);
        let mut strays = Vec::new();
        let mut grants;
        if is_seen {
            self.counters.duplicates += 1;
            grants = self.grants(now, no, &used);
        } else {
            self.sessions.get_mut(no).numbers.see(ccr.number);
            strays = self.report_rules(now, no, &reports);
            grants = self.report_usage(now, no, &used);
        }
        match ccr.kind {
            Kind::Termination => {
                self.close(now, no, Closed::Ended);
                (strays, grants) = (Vec::new(), Vec::new());
            }
            Kind::Initial | Kind::Update if !is_seen => {
                self.moved(now, no, Plmn::of(&ccr.message));
                // After a restart the number says that this usage was counted.
                if !used.is_empty() {
                    self.changed(no);
                }
            }
            Kind::Initial | Kind::Update => {}
        }
        Ok(write::update(ccr, &self.settings.origin, &strays, &grants))
    }

    /// The subscriber may have left our networks, or come back.
    fn moved(&mut self, now: Timestamp, no: SessionNo, plmn: Option<Plmn>) {
        let is_away = plmn.and_then(|plmn| self.is_away(Some(plmn)));
        let Some(is_away) = is_away.filter(|is_away| *is_away != self.sessions.get(no).is_away) else {
            return;
        };
        let session = self.sessions.get_mut(no);
        session.is_away = is_away;
        let (subscriber, apn) = (session.subscriber, session.apn);
        self.changed(no);
        if !is_away {
            return self.free_legs(now, no);
        }
        self.counters.moved_out += 1;
        for id in self.legs_of(subscriber, apn) {
            self.withdraw(now, id);
            self.attend(now, id);
        }
    }

    fn changed(&mut self, no: SessionNo) {
        let session = self.sessions.get(no);
        let apn = self.settings.apns[usize::from(session.apn)].clone();
        let learnt = Session {
            name: self.sessions.name(session),
            access: MobileAccess { subscriber: session.subscriber, apn },
            address: session.address,
            number: session.numbers.highest,
            has_extended: session.has_extended,
            is_away: session.is_away,
        };
        self.fact(Report::Session(SessionReport::Open(learnt)));
    }

    pub(super) fn close(&mut self, now: Timestamp, no: SessionNo, why: Closed) {
        let session = self.sessions.close(no);
        if let super::sessions::Push::Paused(until) = session.push {
            self.timers.remove(&(until, super::Timer::Session(no)));
        }
        for id in self.legs_of(session.subscriber, session.apn) {
            self.lose(now, id, why.as_str());
            let is_over = self.legs.get(&id).is_some_and(|leg| leg.phase != Phase::Wanted);
            if is_over {
                self.finish(now, id);
            } else {
                self.attend(now, id);
            }
        }
        let (name, reason) = (self.sessions.name(&session), why.as_str().to_owned());
        self.fact(Report::Session(SessionReport::Closed { name, reason }));
    }

    pub(super) fn restarted(&mut self, now: Timestamp, name: &str) {
        let Some(host) = self.sessions.find_host(name) else { return };
        for no in self.sessions.of_host(Some(host)) {
            self.close(now, no, Closed::Restarted);
        }
    }

    /// A session out of the records. One that cannot be any more is passed over: its APN was taken from us.
    pub(super) fn restore(&mut self, learnt: Session) {
        let Some(apn) = self.apn_no(&learnt.access.apn) else { return };
        let (host, id) = (&learnt.name.origin_host, &learnt.name.session_id);
        let is_twice = self.sessions.find(host, id).is_some()
            || !self.sessions.replaced_by(learnt.access.subscriber, apn, learnt.address).is_empty();
        if is_twice || self.sessions.is_full() {
            return;
        }
        if let Some(no) = self.sessions.host_no(&self.settings, host, &learnt.name.origin_realm) {
            self.sessions.open(no, apn, &learnt, true);
        }
    }
}
