//! What a gateway reports of rules and of usage, in CCR-U, CCR-T and RAA.

use super::Machine;
use super::leg::{Held, Hold, Phase, Said};
use super::sessions::SessionNo;
use crate::ccr::{RuleReport, Status, Used};
use crate::profile::Profile;
use crate::rule::RuleName;
use crate::settings::Reports;
use crate::write::Grant;
use tollway_model::{LegId, Timestamp};
use tollway_policy::PolicyReport;

impl<P: Profile> Machine<P> {
    /// Whether a name is of a leg on this very session.
    fn leg_on(&self, session: SessionNo, name: RuleName) -> Option<LegId> {
        let leg = self.legs.get(&name.0)?;
        let session = self.sessions.get(session);
        ((leg.subscriber, leg.apn) == (session.subscriber, session.apn)).then_some(name.0)
    }

    /// Applies reports of rules; gives back names that look like ours and that nobody wants on this session.
    pub(super) fn report_rules(
        &mut self,
        now: Timestamp,
        session: SessionNo,
        reports: &[RuleReport],
    ) -> Vec<RuleName> {
        let has_reports = {
            let host = self.sessions.get(session).host;
            self.sessions.host(host).gateway.reports == Reports::Full
        };
        let mut strays = Vec::new();
        for report in reports {
            match (self.leg_on(session, report.name), report.status) {
                (None, Status::Active | Status::TemporarilyInactive) => strays.push(report.name),
                (None, Status::Inactive) => {}
                (Some(id), Status::Active) if has_reports => self.rule_active(now, id),
                (Some(_), Status::Active) => {}
                (Some(id), Status::Inactive) => self.rule_inactive(now, id, report.reason()),
                (Some(id), Status::TemporarilyInactive) => self.rule_paused(now, id, report.reason()),
            }
        }
        if self.stage == super::Stage::Restoring {
            // The desired set is not known yet: nothing is judged a stray.
            strays.clear();
        }
        self.counters.strays += strays.len() as u64;
        strays
    }

    fn rule_active(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        if let Some(shape) = self.in_flight(self.session_of(leg), id)
            && leg.held == Held::Nothing
        {
            // The report overtook the RAA. Where something was held, it is about that.
            self.accepted(now, id, shape);
        }
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let attempt = match leg.held {
            Held::Rule(shape) => shape.attempt,
            Held::Unknown => leg.attempt,
            Held::Nothing => {
                // It was not to be there: looked at again, and taken away unless it is wanted.
                leg.hold_at_gateway(Held::Unknown);
                return self.attend(now, id);
            }
        };
        if !leg.is_wanted_at(now) {
            return;
        }
        (leg.said, leg.hold, leg.repairs) = (Said::Active, Hold::Free, 0);
        self.start_meter(now, id);
        self.say(id, attempt, PolicyReport::Active { at: now });
    }

    /// The rule is gone from the gateway.
    fn rule_inactive(&mut self, now: Timestamp, id: LegId, reason: String) {
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.held = Held::Nothing;
        }
        self.rule_failed(now, id, reason);
        self.attend(now, id);
    }

    /// The gateway keeps the rule and cannot serve it now; it says when it can.
    fn rule_paused(&mut self, now: Timestamp, id: LegId, reason: String) {
        let Some(leg) = self.legs.get(&id) else { return };
        let is_said = matches!(leg.said, Said::Lost(_) | Said::Refused(_));
        if leg.is_wanted_at(now) && !is_said {
            self.report_failure(now, id, PolicyReport::Lost { at: now, reason });
        }
    }

    /// Adds usage and says the new readings; gives back the thresholds to go on with.
    pub(super) fn report_usage(&mut self, now: Timestamp, session: SessionNo, used: &[Used]) -> Vec<Grant> {
        let grants = self.grants(now, session, used);
        for one in used {
            let Some(id) = self.leg_on(session, one.name) else { continue };
            let Some(leg) = self.legs.get_mut(&id) else { continue };
            let direction = leg.meter.direction;
            let (up, down) = match direction {
                tollway_model::Direction::Up => (one.up.saturating_add(one.total), one.down),
                tollway_model::Direction::Down => (one.up, one.down.saturating_add(one.total)),
            };
            leg.meter.add(up, down);
            let is_leaving = matches!(leg.phase, Phase::Leaving { .. });
            if one.total > 0 {
                self.counters.usage_undirected += 1;
            }
            if is_leaving {
                // What was waited for: the last reading says it.
                self.finish(now, id);
            } else {
                self.read_meter(now, id, false);
            }
        }
        grants
    }

    /// The thresholds to go on with; a repeated report gets them again.
    pub(super) fn grants(&self, now: Timestamp, session: SessionNo, used: &[Used]) -> Vec<Grant> {
        let grant = |one: &Used| {
            let leg = self.legs.get(&self.leg_on(session, one.name)?)?;
            let bytes = leg.terms?.usage_bytes?;
            let grant = Grant { name: one.name, direction: leg.meter.direction, bytes };
            leg.is_wanted_at(now).then_some(grant)
        };
        used.iter().filter_map(grant).collect()
    }
}
