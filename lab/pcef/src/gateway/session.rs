//! Sessions, the rules in them, their meters.

use super::{Gateway, Output, Timer};
use crate::command::{RuleReport, RuleStatus, Usage};
use crate::event::Event;
use crate::limits::RULES_MAX;
use crate::message::View;
use crate::rule::{Rule, Status};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Thresholds after which usage is to be reported (TS 29.212 §5.3.60).
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Grant {
    pub up: Option<u64>,
    pub down: Option<u64>,
    pub total: Option<u64>,
}

/// Usage of one monitoring key since it was last reported.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Meter {
    /// What is left of it, once monitoring was asked for.
    pub grant: Option<Grant>,
    pub up: u64,
    pub down: u64,
}

impl Meter {
    fn is_used_up(&self) -> bool {
        let Some(grant) = self.grant else { return false };
        let is_over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| limit > 0 && used >= limit);
        is_over(grant.up, self.up)
            || is_over(grant.down, self.down)
            || is_over(grant.total, self.up.saturating_add(self.down))
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub imsi: String,
    pub apn: String,
    pub address: Ipv4Addr,
    /// CC-Request-Number of the next CCR.
    pub number: u32,
    pub rules: BTreeMap<String, Rule>,
    pub meters: BTreeMap<String, Meter>,
    /// To be said in the next CCR-U.
    pub reports: Vec<RuleReport>,
    pub used_up: Vec<String>,
}

impl Session {
    /// Takes what a key has counted; its grant is over with that.
    pub fn take_usage(&mut self, key: &str) -> Option<Usage> {
        let meter = self.meters.get_mut(key)?;
        meter.grant?;
        let usage = Usage { key: key.to_owned(), up: meter.up, down: meter.down };
        *meter = Meter { grant: Some(Grant::default()), up: 0, down: 0 };
        Some(usage)
    }
}

impl Gateway {
    /// Usage-Monitoring-Information of a CCA or RAR.
    pub(super) fn grant(&mut self, id: &str, view: View<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        for monitoring in view.groups("Usage-Monitoring-Information") {
            let Some(key) = monitoring.text("Monitoring-Key") else { continue };
            let Some(granted) = monitoring.groups("Granted-Service-Unit").next() else { continue };
            let grant = Grant {
                up: granted.wide("CC-Input-Octets"),
                down: granted.wide("CC-Output-Octets"),
                total: granted.wide("CC-Total-Octets"),
            };
            let meter = session.meters.entry(key.clone()).or_default();
            meter.grant = Some(grant);
            // What was counted while the last report was on its way counts towards this threshold.
            if meter.is_used_up() && !session.used_up.contains(&key) {
                session.used_up.push(key);
                self.dirty.insert(id.to_owned());
            }
        }
    }

    /// Takes rules in; what of them holds at once is reported if that was asked for.
    pub(super) fn install(&mut self, now_ms: u64, id: &str, rules: Vec<Rule>) {
        for rule in rules {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let name = rule.name.clone();
            if session.rules.len() >= RULES_MAX && !session.rules.contains_key(&name) {
                // MAX_NR_BEARERS_REACHED (TS 29.212 §5.3.38).
                let failure = Some(6);
                session.reports.push(RuleReport { rule: name, status: RuleStatus::Inactive, failure });
                self.dirty.insert(id.to_owned());
                continue;
            }
            for due in [rule.from, rule.until].into_iter().flatten() {
                self.timers.insert((due.saturating_mul(1_000), Timer::Rule(id.to_owned(), name.clone())));
            }
            session.rules.insert(name.clone(), rule);
            self.rule_due(now_ms, id, &name);
        }
    }

    /// A rule's time may have come, or be over (TS 29.212 §4.5.13).
    pub(super) fn rule_due(&mut self, now_ms: u64, id: &str, name: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(rule) = session.rules.get_mut(name) else { return };
        if rule.until.is_some_and(|until| until.saturating_mul(1_000) <= now_ms) {
            self.lift(id, name, "its deactivation time");
            return;
        }
        if rule.status == Status::Active || rule.from.is_some_and(|from| from.saturating_mul(1_000) > now_ms)
        {
            return;
        }
        rule.status = Status::Active;
        let enforced = rule.clone();
        let address = session.address;
        if rule.wants_report && self.settings.has_reports {
            let report = RuleReport { rule: name.to_owned(), status: RuleStatus::Active, failure: None };
            session.reports.push(report);
            self.dirty.insert(id.to_owned());
        }
        let (max, guaranteed) = (enforced.max, enforced.guaranteed);
        self.outputs.push_back(Output::Enforce { session: id.to_owned(), address, rule: Box::new(enforced) });
        self.say(Event::Active { session: id.to_owned(), rule: name.to_owned(), max, guaranteed });
    }

    /// Takes a rule away; the usage of its key is reported with it (TS 29.212 §4.5.17.3).
    pub(super) fn lift(&mut self, id: &str, name: &str, why: &'static str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(rule) = session.rules.remove(name) else { return };
        if let Some(key) = rule.monitoring_key
            && self.settings.has_reports
            && session.meters.get(&key).is_some_and(|meter| meter.grant.is_some())
            && !session.rules.values().any(|other| other.monitoring_key.as_ref() == Some(&key))
        {
            session.used_up.push(key);
            self.dirty.insert(id.to_owned());
        }
        self.outputs.push_back(Output::Lift { session: id.to_owned(), rule: name.to_owned() });
        self.say(Event::Gone { session: id.to_owned(), rule: name.to_owned(), why });
    }

    /// A session ends here; nothing of it is reported any more.
    pub(super) fn forget(&mut self, id: &str, why: &'static str) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.dirty.remove(id);
        for name in session.rules.into_keys() {
            self.outputs.push_back(Output::Lift { session: id.to_owned(), rule: name.clone() });
            self.say(Event::Gone { session: id.to_owned(), rule: name, why });
        }
    }

    /// Bytes of a rule; what reaches its threshold is reported.
    pub(super) fn traffic(&mut self, id: &str, name: &str, up: u64, down: u64) {
        let session = self.sessions.get_mut(id);
        let rule = session.as_ref().and_then(|session| session.rules.get(name));
        let Some(rule) = rule.filter(|rule| rule.status == Status::Active) else {
            self.problem(format!("traffic: {id} has no active rule {name}"));
            return;
        };
        let (Some(key), Some(session)) = (rule.monitoring_key.clone(), session) else { return };
        let meter = session.meters.entry(key.clone()).or_default();
        meter.up = meter.up.saturating_add(up);
        meter.down = meter.down.saturating_add(down);
        if meter.is_used_up() && !session.used_up.contains(&key) {
            session.used_up.push(key);
            self.dirty.insert(id.to_owned());
        }
    }
}
