//! Pushes: one RAR of a session at a time, in the order of their starts, in the rhythm of their gateway; and what
//! its RAA, or its absence, means.

use super::leg::{Held, Hold, Leg, Phase, Said, Want};
use super::sessions::{HostNo, Push, SessionNo};
use super::{Machine, Timer};
use crate::ccr::{self, RuleReport, Status};
use crate::fact::Closed;
use crate::limits::{BACK_OFF_MS_MAX, BACK_OFF_MS_MIN, RULES_PER_RAR_MAX};
use crate::profile::Profile;
use crate::rule::{Rule, RuleName, Shape};
use crate::settings::Reports;
use crate::write;
use tollway_diameter::avp::{IETF, TGPP, ietf};
use tollway_diameter::machine::{Failure, RequestId};
use tollway_diameter::{Message, Outcome, check, result};
use tollway_model::{LegId, Timestamp};
use tollway_policy::PolicyReport;

/// Experimental results that are about rules (TS 29.212 §5.5): PCC_BEARER_EVENT, PCC_RULE_EVENT,
/// BEARER_NOT_AUTHORIZED, TRAFFIC_MAPPING_INFO_REJECTED.
const ABOUT_RULES: [u32; 4] = [4141, 5142, 5143, 5144];

/// A RAR without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    session: SessionNo,
    host: HostNo,
    items: Vec<(LegId, Action)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Install(Shape),
    Remove,
}

fn doubled(ms: u64, tries: u8) -> u64 {
    ms.saturating_mul(1 << tries.min(16)).min(BACK_OFF_MS_MAX)
}

impl<P: Profile> Machine<P> {
    /// Sends what may be sent now.
    pub(super) fn pump(&mut self, now: Timestamp) {
        for host in self.waiting.clone() {
            while self.sessions.host(host).next_push().is_some_and(|at| at <= now) {
                let Some((_, session)) = self.sessions.host_mut(host).queue.pop_first() else { break };
                self.sessions.get_mut(session).push = Push::Idle;
                self.push(now, host, session);
            }
            if self.sessions.host(host).queue.is_empty() {
                self.waiting.remove(&host);
            }
        }
    }

    /// What differs between a session's legs and its gateway, as far as one RAR takes it.
    fn difference(&self, now: Timestamp, no: SessionNo) -> Vec<(LegId, Action)> {
        let session = self.sessions.get(no);
        let gateway = &self.sessions.host(session.host).gateway;
        let legs = self.legs_of(session.subscriber, session.apn).into_iter();
        legs.filter_map(|id| {
            let leg = self.legs.get(&id)?;
            let want = leg.want(now, Some(session), gateway);
            match want {
                Want::Rule(shape) => leg.differs(&want).then_some((id, Action::Install(shape))),
                Want::Absent => leg.differs(&want).then_some((id, Action::Remove)),
                Want::Unchanged | Want::Refused(_) => None,
            }
        })
        .take(RULES_PER_RAR_MAX)
        .collect()
    }

    fn push(&mut self, now: Timestamp, host: HostNo, no: SessionNo) {
        let items = self.difference(now, no);
        if items.is_empty() {
            return;
        }
        let Some(bytes) = self.write_push(no, &items) else {
            self.counters.unwritable += 1;
            for (id, _) in items {
                self.rule_failed(now, id, "the rule cannot be written".to_owned());
            }
            return;
        };
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.sessions.host_mut(host).pushed(now);
        self.sessions.get_mut(no).push = Push::InFlight(id);
        self.pending.insert(id, Pending { session: no, host, items });
        self.counters.pushes += 1;
        let timeout_ms = self.sessions.host(host).gateway.rar_timeout_ms;
        self.outputs.push_back(crate::fact::Output::Request { after: self.mark, id, bytes, timeout_ms });
    }

    fn write_push(&self, no: SessionNo, items: &[(LegId, Action)]) -> Option<Vec<u8>> {
        let session = self.sessions.get(no);
        let notify = self.sessions.host(session.host).gateway.reports == Reports::Full;
        let mut removals = Vec::new();
        let mut installs = Vec::new();
        for (id, action) in items {
            match action {
                Action::Remove => removals.push(RuleName(*id)),
                Action::Install(shape) => {
                    let Leg { desired: Some(desired), terms: Some(terms), .. } = self.legs.get(id)? else {
                        return None;
                    };
                    installs.push(Rule {
                        name: RuleName(*id),
                        terms,
                        flows: &desired.flows,
                        direction: desired.direction,
                        borrow: desired.shape.borrow,
                        shape: *shape,
                        deactivation: desired.valid_until,
                        notify,
                    });
                }
            }
        }
        write::push(&self.settings.origin, &self.sessions.name(session), &removals, &installs).ok()
    }

    /// A RAA.
    pub(super) fn answered(&mut self, now: Timestamp, id: RequestId, message: &Message<'_>) {
        let Some(pending) = self.take_pending(id) else { return };
        let no = pending.session;
        let session = self.sessions.get(no);
        let is_ours = message.text(ietf::SESSION_ID).is_none_or(|name| name == &*session.id);
        let reports = match (check::avps(message), ccr::rule_reports(message)) {
            (Ok(()), Ok(reports)) if is_ours => reports,
            _ => {
                self.counters.malformed += 1;
                return self.unanswered(now, &pending);
            }
        };
        let host = session.host;
        match message.result() {
            Some(outcome) if outcome.is_success() => {
                self.counters.push_accepted += 1;
                self.sessions.host_mut(host).busy_ms = 0;
                self.sessions.get_mut(no).tries = 0;
                self.settle(now, &pending, &reports);
            }
            Some(Outcome { vendor: IETF, code: result::UNKNOWN_SESSION_ID }) => {
                self.counters.push_session_unknown += 1;
                return self.close(now, no, Closed::Unknown);
            }
            Some(Outcome { vendor: IETF, code: result::TOO_BUSY }) => {
                self.counters.push_busy += 1;
                self.busy(now, host);
            }
            Some(Outcome { vendor: IETF, code }) if result::is_protocol_error(code) => {
                self.counters.push_unanswered += 1;
                return self.unanswered(now, &pending);
            }
            Some(outcome) => {
                self.counters.push_refused += 1;
                let is_told =
                    outcome.vendor == TGPP && ABOUT_RULES.contains(&outcome.code) && !reports.is_empty();
                if is_told {
                    self.settle(now, &pending, &reports);
                } else {
                    self.refused(now, &pending, outcome);
                }
            }
            None => {
                self.counters.malformed += 1;
                return self.unanswered(now, &pending);
            }
        }
        self.attend_session(now, no);
    }

    /// No RAA came, or none could.
    pub(super) fn failed(&mut self, now: Timestamp, id: RequestId, failure: Failure) {
        let Some(pending) = self.take_pending(id) else { return };
        self.counters.push_unanswered += 1;
        match failure {
            // It never left: what the gateway holds is as it was.
            Failure::Message | Failure::NoRoute | Failure::Busy => {
                for (id, action) in &pending.items {
                    if let (Some(leg), Action::Install(shape)) = (self.legs.get_mut(id), action)
                        && leg.held == Held::Rule(*shape)
                    {
                        // Reported all the same.
                        leg.held = Held::Unknown;
                    }
                }
                self.pause(now, pending.session);
            }
            Failure::Timeout | Failure::BadAnswer => self.unanswered(now, &pending),
        }
    }

    /// Takes up a RAR that still counts: given up once, or of a session that ended, it does not.
    fn take_pending(&mut self, id: RequestId) -> Option<Pending> {
        let Some(pending) = self.pending.remove(&id) else {
            self.counters.push_late += 1;
            return None;
        };
        let host = self.sessions.host_mut(pending.host);
        host.in_flight -= 1;
        if !host.queue.is_empty() {
            self.waiting.insert(pending.host);
        }
        if self.sessions.find_open(pending.session).is_none() {
            self.counters.push_late += 1;
            return None;
        }
        self.sessions.get_mut(pending.session).push = Push::Idle;
        Some(pending)
    }

    /// Accepted, except for what the reports name.
    fn settle(&mut self, now: Timestamp, pending: &Pending, reports: &[RuleReport]) {
        for (id, action) in &pending.items {
            let report = reports.iter().find(|report| report.name == RuleName(*id));
            match (action, report) {
                // Whatever a gateway says of a removal, the rule is not there after it.
                (Action::Remove, _) => self.gone(now, *id),
                (Action::Install(_), Some(report)) if report.status == Status::Inactive => {
                    self.rule_failed(now, *id, report.reason());
                }
                (Action::Install(shape), _) => self.accepted(now, *id, *shape),
            }
        }
        // The rest: other rules of the session, and `ACTIVE` of a gateway that answers after its radio.
        let failed = |report: &&RuleReport| {
            let is_item = pending.items.iter().any(|(id, _)| RuleName(*id) == report.name);
            !(is_item && report.status == Status::Inactive)
        };
        let rest: Vec<RuleReport> = reports.iter().filter(failed).copied().collect();
        self.report_rules(now, pending.session, &rest);
    }

    /// Nothing of it was taken.
    fn refused(&mut self, now: Timestamp, pending: &Pending, outcome: Outcome) {
        let is_about_rules = outcome.vendor == TGPP && ABOUT_RULES.contains(&outcome.code);
        let is_about_removals = is_about_rules && pending.items.iter().all(|(_, a)| *a == Action::Remove);
        let mut is_left = false;
        for (id, action) in &pending.items {
            match action {
                Action::Install(_) => {
                    self.rule_failed(now, *id, format!("the gateway answered {}", outcome.code))
                }
                // An error about rules in answer to removals alone: they are unknown there.
                Action::Remove if is_about_removals => self.gone(now, *id),
                Action::Remove => is_left = true,
            }
        }
        if is_left {
            self.pause(now, pending.session);
        }
    }

    /// The shape in which a leg is being installed right now.
    pub(super) fn in_flight(&self, session: Option<SessionNo>, id: LegId) -> Option<Shape> {
        let Push::InFlight(request) = self.sessions.find_open(session?)?.push else { return None };
        let items = &self.pending.get(&request)?.items;
        items.iter().find_map(|(leg, action)| match action {
            Action::Install(shape) if *leg == id => Some(*shape),
            Action::Install(_) | Action::Remove => None,
        })
    }

    pub(super) fn accepted(&mut self, now: Timestamp, id: LegId, shape: Shape) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.hold_at_gateway(Held::Rule(shape));
        // The engine has changed its mind meanwhile: the next push says so.
        if shape.attempt != leg.attempt || !leg.is_wanted_at(now) {
            return;
        }
        let is_told = matches!(leg.said, Said::Active | Said::Accepted | Said::Unconfirmed)
            && leg.meter.accepted_attempt == shape.attempt;
        leg.meter.accepted_attempt = shape.attempt;
        if !is_told {
            let attempt = leg.attempt;
            if leg.said != Said::Active {
                leg.said = Said::Accepted;
            }
            self.say(id, attempt, PolicyReport::Accepted);
        }
        self.presume(now, id);
    }

    /// The gateway has not got this rule, or not any more.
    pub(super) fn rule_failed(&mut self, now: Timestamp, id: LegId, reason: String) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        // After a change that failed, the gateway may still have what was before.
        leg.held = if leg.held == Held::Nothing { Held::Nothing } else { Held::Unknown };
        if !leg.is_wanted_at(now) {
            if leg.held == Held::Nothing {
                self.gone(now, id);
            }
            return;
        }
        if leg.meter.was_active {
            leg.back_off(now);
        } else {
            leg.hold = Hold::Refused;
        }
        let is_said = matches!(&leg.said, Said::Lost(_)) && leg.meter.was_active;
        let report = leg.failure(now, reason);
        if !is_said {
            self.report_failure(now, id, report);
        }
    }

    /// What the gateway did with it is unknown: it is told again, after a pause.
    fn unanswered(&mut self, now: Timestamp, pending: &Pending) {
        for (id, action) in &pending.items {
            let Some(leg) = self.legs.get_mut(id) else { continue };
            match (action, leg.phase) {
                // Gone by its own clock meanwhile.
                (Action::Remove, Phase::Leaving { .. }) => {}
                (Action::Remove | Action::Install(_), _) => leg.hold_at_gateway(Held::Unknown),
            }
        }
        self.pause(now, pending.session);
    }

    fn pause(&mut self, now: Timestamp, no: SessionNo) {
        let session = self.sessions.get_mut(no);
        let until = now.plus_ms(doubled(BACK_OFF_MS_MIN, session.tries));
        session.tries = session.tries.saturating_add(1);
        session.push = Push::Paused(until);
        self.timers.insert((until, Timer::Session(no)));
    }

    pub(super) fn resume(&mut self, now: Timestamp, no: SessionNo) {
        let Some(session) = self.sessions.find_open(no) else { return };
        if matches!(session.push, Push::Paused(until) if until <= now) {
            self.sessions.get_mut(no).push = Push::Idle;
            self.attend_session(now, no);
        }
    }

    fn busy(&mut self, now: Timestamp, no: HostNo) {
        let host = self.sessions.host_mut(no);
        host.busy_ms =
            if host.busy_ms == 0 { BACK_OFF_MS_MIN } else { (host.busy_ms * 2).min(BACK_OFF_MS_MAX) };
        host.busy_until = host.busy_until.max(now.plus_ms(host.busy_ms));
    }

    pub(super) fn attend_session(&mut self, now: Timestamp, no: SessionNo) {
        let Some(session) = self.sessions.find_open(no) else { return };
        for id in self.legs_of(session.subscriber, session.apn) {
            self.attend(now, id);
        }
    }

    /// After a reconnection or a restart of ours: every leg of these sessions is told again in full.
    pub(super) fn redrive(&mut self, now: Timestamp, host: Option<HostNo>) {
        for no in self.sessions.of_host(host) {
            let session = self.sessions.get_mut(no);
            let of_session = (session.subscriber, session.apn);
            if let Push::Paused(until) = session.push {
                session.push = Push::Idle;
                self.timers.remove(&(until, Timer::Session(no)));
            }
            for id in self.legs_of(of_session.0, of_session.1) {
                if let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.held != Held::Nothing) {
                    leg.held = Held::Unknown;
                }
                self.attend(now, id);
            }
        }
        if host.is_none() {
            // Those without a session too.
            for id in self.legs.keys().copied().collect::<Vec<_>>() {
                self.attend(now, id);
            }
        }
    }

    pub(super) fn peer_up(&mut self, now: Timestamp, name: Option<&str>) {
        if self.stage == super::Stage::Restoring {
            return;
        }
        match name.map(|name| self.sessions.find_host(name)) {
            None => self.redrive(now, None),
            Some(Some(host)) => self.redrive(now, Some(host)),
            Some(None) => {}
        }
    }
}
