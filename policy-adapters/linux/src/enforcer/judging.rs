//! What is reported of each leg after the kernel was read back.

use super::Enforcer;
use crate::error::Error;
use crate::observe::View;
use crate::state::{Life, Told};
use crate::status::{self, Missing, Need};
use tollway_model::{LegId, Timestamp};
use tollway_policy::PolicyReport;

impl Enforcer {
    pub(super) fn judge(&mut self, view: &View, now: Timestamp) {
        let ids: Vec<LegId> = self.state.legs.keys().copied().collect();
        for id in ids {
            let Some(leg) = self.state.legs.get(&id) else { continue };
            if leg.life != Life::Open {
                if let Some(meter) = self.state.legs.get_mut(&id).and_then(|leg| leg.meter.as_mut()) {
                    meter.set_in_force(false);
                }
                continue;
            }
            if leg.told == Told::Nothing && matches!(self.trouble, Some(Error::Persist { .. })) {
                // Not yet tried: it is built once its record is durable.
                continue;
            }
            let need = Need::at(leg, now);
            let outcome = match self.conflicts.get(&id) {
                _ if need.is_empty() => Ok(()),
                Some(with) => Err(Missing::Conflict { with: with.to_string() }),
                None => status::check(leg, &need, view, &self.elements, &self.refusals),
            };
            self.tell(id, need, outcome, now);
        }
    }

    pub(super) fn tell(
        &mut self,
        id: LegId,
        need: Need,
        outcome: std::result::Result<(), Missing>,
        now: Timestamp,
    ) {
        let Some(leg) = self.state.legs.get_mut(&id) else { return };
        let (attempt, told) = (leg.attempt, leg.told);
        let in_force = outcome.is_ok() && !need.is_empty();
        if let Some(meter) = &mut leg.meter {
            meter.set_in_force(in_force);
        }
        let (next, reports) = match (told, &outcome) {
            (Told::Nothing, Ok(())) if !in_force => (Told::Accepted, vec![PolicyReport::Accepted]),
            (Told::Nothing, Ok(())) => {
                (Told::Active { at: now }, vec![PolicyReport::Accepted, PolicyReport::Active { at: now }])
            }
            (Told::Nothing, Err(why)) if why.is_only_down() => (Told::Accepted, vec![PolicyReport::Accepted]),
            (Told::Nothing | Told::Accepted, Err(why)) if !why.is_only_down() => {
                (Told::Refused, vec![PolicyReport::Refused { reason: why.to_string() }])
            }
            (Told::Accepted | Told::Lost | Told::Refused, Ok(())) if in_force => {
                (Told::Active { at: now }, vec![PolicyReport::Active { at: now }])
            }
            (Told::Active { .. }, Err(why)) => {
                (Told::Lost, vec![PolicyReport::Lost { at: now, reason: why.to_string() }])
            }
            _ => (told, Vec::new()),
        };
        if next != told {
            tracing::info!(leg = %id, attempt, state = next.as_str(), reason = outcome.err().map(|why| why.to_string()), "leg");
        }
        leg.told = next;
        if in_force {
            self.installed.insert(id, need);
        } else {
            self.installed.remove(&id);
        }
        for report in reports {
            self.report(id, attempt, report);
        }
    }
}
