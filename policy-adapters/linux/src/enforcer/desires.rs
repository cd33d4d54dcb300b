//! What the broker wants: legs taken in, replaced and released. Only the state changes here.

use super::{Enforcer, share_of};
use crate::error::{Error, Result};
use crate::limits;
use crate::state::{LegRecord, Life, Told};
use crate::status::Need;
use std::collections::BTreeSet;
use tollway_model::{Direction, LegId, Timestamp};
use tollway_policy::{DesiredLeg, PolicyReport};

impl Enforcer {
    /// Replaces everything: what is not named is released. A leg that is named and could not be read (it is
    /// not in `legs`) stays as it is.
    pub fn replace_all(&mut self, named: &BTreeSet<LegId>, legs: Vec<DesiredLeg>, now: Timestamp) {
        let before = self.live(now);
        if std::mem::take(&mut self.state.awaits_set) {
            self.dirty = true;
            self.nft_stale = true;
        }
        let gone: Vec<(LegId, u32)> = self
            .state
            .legs
            .iter()
            .filter(|(id, _)| !named.contains(id))
            .map(|(id, leg)| (*id, leg.attempt))
            .collect();
        for (id, attempt) in gone {
            self.release(id, attempt, now);
        }
        for leg in legs {
            self.take(leg, now);
        }
        self.say_dropped(&before, now);
    }

    /// Legs that are live by their own schedule.
    fn live(&self, now: Timestamp) -> BTreeSet<LegId> {
        let live = self.state.legs.iter().filter(|(_, leg)| is_live(leg, now));
        live.map(|(id, _)| *id).collect()
    }

    /// Whoever restored an old backup, or points an agent to the wrong broker, reads here what it costs.
    fn say_dropped(&self, before: &BTreeSet<LegId>, now: Timestamp) {
        let after = self.live(now);
        let dropped: Vec<String> = before.difference(&after).map(LegId::to_string).collect();
        if !dropped.is_empty() {
            let (legs, which) = (dropped.len(), dropped.join(" "));
            tracing::warn!(legs, which, "the broker drops legs that are live by their own schedule");
        }
    }

    /// Adds or replaces one leg. What cannot be is reported as refused, and an older version of the leg
    /// stays. Only the state changes here; [`Enforcer::save`] and [`Enforcer::step`] do the rest.
    pub fn upsert(&mut self, desired: DesiredLeg, now: Timestamp) {
        let id = desired.leg;
        let live = self.state.legs.get(&id).is_some_and(|leg| is_live(leg, now));
        self.take(desired, now);
        if live {
            self.say_dropped(&BTreeSet::from([id]), now);
        }
    }

    fn take(&mut self, desired: DesiredLeg, now: Timestamp) {
        let now = self.advance(now);
        let (id, attempt) = (desired.leg, desired.attempt);
        if let Some(held) = self.state.legs.get(&id) {
            if held.attempt > attempt {
                tracing::debug!(leg = %id, attempt, held = held.attempt, "an older attempt is ignored");
                return;
            }
            if held.desired == desired && held.life == Life::Open {
                self.repeat(id);
                return;
            }
        } else if desired.valid_until <= now {
            self.report(id, attempt, PolicyReport::Removed { at: now });
            return;
        }
        if let Err(error) = self.admissible(&desired) {
            self.report(id, attempt, PolicyReport::Refused { reason: error.to_string() });
            return;
        }
        self.dirty = true;
        if let Some(held) = self.state.legs.get_mut(&id) {
            if held.desired.flows != desired.flows
                && let Some(meter) = &mut held.meter
            {
                meter.rebind();
            }
            *held = LegRecord {
                desired,
                minor: held.minor,
                life: Life::Open,
                told: Told::Nothing,
                attempt,
                meter: held.meter.take(),
            };
            return;
        }
        let taken = self.view.values().flat_map(|port| port.actual.classes.keys().copied()).collect();
        let minor = self.state.take_minor(&taken);
        let record =
            LegRecord { desired, minor, life: Life::Open, told: Told::Nothing, attempt, meter: None };
        self.state.legs.insert(id, record);
    }

    /// Says again what was said: the broker asked for what already is.
    pub(super) fn repeat(&mut self, id: LegId) {
        let Some(leg) = self.state.legs.get(&id) else { return };
        let attempt = leg.attempt;
        match leg.told {
            Told::Accepted => self.report(id, attempt, PolicyReport::Accepted),
            Told::Active { at } => {
                self.report(id, attempt, PolicyReport::Accepted);
                self.report(id, attempt, PolicyReport::Active { at });
            }
            Told::Refused | Told::Lost => {
                if let Some(leg) = self.state.legs.get_mut(&id) {
                    leg.told = Told::Nothing;
                    self.dirty = true;
                }
            }
            Told::Nothing => {}
        }
    }

    pub(super) fn admissible(&self, desired: &DesiredLeg) -> Result<()> {
        let bad = |reason: String| Err(Error::BadLeg { leg: desired.leg, reason });
        if !self.state.legs.contains_key(&desired.leg) && self.state.legs.len() >= limits::LEGS_MAX {
            return Err(Error::TooManyLegs { max: limits::LEGS_MAX });
        }
        if desired.flows.len() > limits::FLOWS_MAX {
            return bad(format!("{} flows; at most {} are taken", desired.flows.len(), limits::FLOWS_MAX));
        }
        // By its place: this is logged, and an address is a subscriber's.
        if let Some(index) = desired.flows.iter().position(|flow| !flow.is_one_family()) {
            return bad(format!("flow {index} has ends of two address families"));
        }
        if let Some(held) = self.state.legs.get(&desired.leg) {
            let moved = |direction| held.desired.side(direction).port != desired.side(direction).port;
            if held.desired.direction != desired.direction || Direction::BOTH.into_iter().any(moved) {
                return bad("its direction and ports cannot change; release it and make another".into());
            }
        }
        if desired.up.port == desired.down.port {
            return bad(format!("both directions leave at port {}; it needs two ports", desired.up.port));
        }
        for direction in Direction::BOTH {
            let side = desired.side(direction);
            let Some(port) = self.ports.iter().find(|port| port.name == side.port) else {
                return bad(format!("unknown port {:?}", side.port));
            };
            let (rate, share) = (side.schedule.rate_max(), share_of(port));
            if rate > share {
                return bad(format!("{rate} is more than port {} shares ({share})", port.name));
            }
        }
        Ok(())
    }

    /// Ends one leg. A leg that is not here is reported as removed.
    pub fn release(&mut self, id: LegId, attempt: u32, now: Timestamp) {
        let now = self.advance(now);
        self.dirty = true;
        match self.state.legs.get_mut(&id) {
            None => self.report(id, attempt, PolicyReport::Removed { at: now }),
            Some(leg) if attempt < leg.attempt => {
                tracing::debug!(leg = %id, attempt, held = leg.attempt, "an older release is ignored");
            }
            Some(leg) => {
                leg.attempt = attempt;
                if leg.life == Life::Open {
                    leg.life = Life::Closing { since: now };
                }
            }
        }
    }
}

fn is_live(leg: &LegRecord, now: Timestamp) -> bool {
    leg.life == Life::Open && leg.desired.valid_until > now && !Need::at(leg, now).is_empty()
}
