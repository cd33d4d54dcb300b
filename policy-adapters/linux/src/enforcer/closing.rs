//! The end of a leg: its queues empty, its last reading is durable, its classes go.

use super::{Enforcer, Persist};
use crate::error::Result;
use crate::limits;
use crate::meter::Meter;
use crate::observe::View;
use crate::state::{LegRecord, Life};
use tollway_model::{LegId, Timestamp};
use tollway_netlink::layout::ROOT;
use tollway_netlink::tc::Handle;
use tollway_policy::{PolicyReport, Report};

impl Enforcer {
    /// Ends the legs whose queues are empty: last reading durable, class deleted, final counters reported.
    pub(super) fn close(&mut self, view: &View, now: Timestamp, persist: Persist<'_>) -> Result<()> {
        let closing: Vec<LegId> = self
            .state
            .legs
            .iter()
            .filter(|(_, leg)| self.is_drained(leg, view, now))
            .map(|(id, _)| *id)
            .collect();
        if closing.is_empty() {
            return Ok(());
        }
        // The counters of this moment are durable before the class that holds them goes.
        self.dirty = true;
        self.save(persist)?;
        for id in closing {
            let Some(leg) = self.state.legs.remove(&id) else { continue };
            self.installed.remove(&id);
            self.dirty = true;
            let sold = leg.desired.direction;
            let mut finals = [None; 2];
            for (index, direction) in [sold, sold.opposite()].into_iter().enumerate() {
                let Some(port) = view.get(&leg.desired.side(direction).port) else { continue };
                let (Some(ifindex), Some(_)) = (port.ifindex(), port.stats(leg.minor)) else { continue };
                match self.kernel.del_class(ifindex, leg.minor) {
                    Ok(stats) => finals[index] = stats,
                    Err(error) => tracing::warn!(leg = %id, %error, "class not removed; the next step will"),
                }
            }
            let identity = self.identity(&leg);
            let meter = leg.meter.unwrap_or_else(|| Meter::start(identity, now, self.state.slots()));
            let last = meter.finish(now, finals).of(id, leg.attempt, true);
            self.state.pending.push(Report::Usage(last));
            self.report(id, leg.attempt, PolicyReport::Removed { at: now });
        }
        // The default class takes back what they had.
        self.poll_next = now;
        Ok(())
    }

    pub(super) fn is_drained(&self, leg: &LegRecord, view: &View, now: Timestamp) -> bool {
        let Life::Closing { since } = leg.life else { return false };
        if self.trouble.is_some() {
            // The elements may still be there: what they bring must be counted.
            return false;
        }
        let id = Handle::new(ROOT.major(), leg.minor).0;
        if self.elements.values().any(|target| target.class == id) {
            return false;
        }
        let sides = Self::sides(leg, view);
        if sides.iter().all(Option::is_none) {
            return true;
        }
        let waited = now.ms_since(since);
        let empty = sides.iter().flatten().all(|stats| stats.backlog_bytes == 0);
        waited >= limits::DRAIN_MS_MAX || (empty && waited >= limits::DRAIN_MS_MIN)
    }
}
