//! Counters and times of every leg and port, from each look at the kernel.

use super::Enforcer;
use crate::meter::{Draft, Meter, Sample, mix};
use crate::observe::View;
use crate::port_meter::{PortMeter, PortSample};
use crate::state::{LegRecord, Life, Told};
use crate::status::{self, Missing};
use std::collections::BTreeMap;
use tollway_model::{BitsPerSecond, Direction, LegId, Timestamp};
use tollway_netlink::layout::CLASS_DEFAULT;
use tollway_netlink::tc::Stats;
use tollway_policy::{PolicyReport, Report};

impl Enforcer {
    /// What the counters of a leg hang on.
    pub(super) fn identity(&self, leg: &LegRecord) -> u64 {
        let port = |direction| {
            let record = self.state.ports.get(&leg.desired.side(direction).port);
            record.map_or((0, 0), |record| (record.ifindex, record.nonce))
        };
        let (up, down) = (port(Direction::Up), port(Direction::Down));
        let id = leg.desired.leg;
        mix(&[
            self.kernel.boot_id().as_bytes(),
            &up.0.to_ne_bytes(),
            &up.1.to_ne_bytes(),
            &down.0.to_ne_bytes(),
            &down.1.to_ne_bytes(),
            &leg.minor.to_ne_bytes(),
            &id.reservation.0.to_ne_bytes(),
            &id.index.to_ne_bytes(),
        ])
    }

    pub(super) fn sides(leg: &LegRecord, view: &View) -> [Option<Stats>; 2] {
        let sold = leg.desired.direction;
        [sold, sold.opposite()].map(|direction| {
            view.get(&leg.desired.side(direction).port).and_then(|port| port.stats(leg.minor))
        })
    }

    pub(super) fn sample(&mut self, view: &View, now: Timestamp) {
        let slots = self.state.slots();
        let ids: Vec<LegId> = self.state.legs.keys().copied().collect();
        for id in ids {
            let Some(leg) = self.state.legs.get(&id) else { continue };
            let identity = self.identity(leg);
            let starts = leg.desired.up.schedule.window().map(|w| w.from);
            let starts = starts.into_iter().chain(leg.desired.down.schedule.window().map(|w| w.from)).min();
            let installed = self.installed.get(&id);
            let missing = installed
                .filter(|need| !need.is_empty())
                .map(|need| status::check(leg, need, view, &self.elements, &BTreeMap::new()));
            let until = leg.desired.valid_until;
            let slot_last = match leg.life {
                Life::Open => None,
                Life::Closing { since } => {
                    let end = since.min(until).ms().saturating_sub(1);
                    Some(slots.slot_of(Timestamp(end)))
                }
            };
            let sample = Sample {
                now,
                sides: Self::sides(leg, view),
                still: matches!(missing, Some(Ok(()))),
                active_until: until,
                slot_last,
            };
            let Some(leg) = self.state.legs.get_mut(&id) else { continue };
            let (attempt, told, life) = (leg.attempt, leg.told, leg.life);
            let mut drafts = Vec::new();
            match &mut leg.meter {
                Some(meter) => meter.sample(&sample, identity, slots, &mut drafts),
                None if starts.is_some_and(|from| from <= now) => {
                    leg.meter = Some(Meter::start(identity, now, slots));
                    self.dirty = true;
                }
                None => {}
            }
            self.emit(id, attempt, drafts);
            if let (Some(Err(missing)), Told::Active { .. }, Life::Open) = (missing, told, life) {
                self.lose(id, attempt, now, &missing);
            }
        }
        self.sample_ports(view, now);
    }

    pub(super) fn emit(&mut self, id: LegId, attempt: u32, drafts: Vec<Draft>) {
        if !drafts.is_empty() {
            self.dirty = true;
        }
        self.state
            .pending
            .extend(drafts.into_iter().map(|draft| Report::Usage(draft.of(id, attempt, false))));
    }

    pub(super) fn lose(&mut self, id: LegId, attempt: u32, at: Timestamp, missing: &Missing) {
        tracing::warn!(leg = %id, reason = %missing, "lost");
        if let Some(leg) = self.state.legs.get_mut(&id) {
            leg.told = Told::Lost;
            if let Some(meter) = &mut leg.meter {
                meter.set_in_force(false);
            }
        }
        self.report(id, attempt, PolicyReport::Lost { at, reason: missing.to_string() });
    }

    pub(super) fn sample_ports(&mut self, view: &View, now: Timestamp) {
        let slots = self.state.slots();
        for config in &self.ports {
            let Some(port) = view.get(&config.name) else { continue };
            let record = self.state.ports.entry(config.name.clone()).or_default();
            let identity = mix(&[
                self.kernel.boot_id().as_bytes(),
                config.name.as_bytes(),
                &record.ifindex.to_ne_bytes(),
                &record.nonce.to_ne_bytes(),
            ]);
            let class = port.actual.classes.get(&CLASS_DEFAULT);
            let sample = PortSample {
                now,
                class: class.map(|c| (c.stats, BitsPerSecond(c.params.rate.saturating_mul(8)))),
                up: port.up(),
                direct_packets: match class {
                    Some(_) => {
                        let direct = port.direct_packets();
                        direct.saturating_sub(*record.direct_base.get_or_insert(direct))
                    }
                    None => 0,
                },
            };
            if sample.direct_packets > 0 {
                tracing::debug!(port = %config.name, packets = sample.direct_packets, "packets bypass all classes");
            }
            let learnt = || {
                let uses = |direction: Direction| {
                    self.state.legs.values().any(|leg| leg.desired.side(direction).port == config.name)
                };
                if uses(Direction::Down) && !uses(Direction::Up) { Direction::Down } else { Direction::Up }
            };
            let direction = config.direction.unwrap_or_else(learnt);
            let meter = record.meter.get_or_insert_with(|| PortMeter::start(identity, now, slots));
            if let Some(reading) = meter.sample(&sample, identity, slots, &config.name, direction) {
                self.dirty = true;
                self.state.pending.push(Report::Port(reading));
            }
        }
    }
}
