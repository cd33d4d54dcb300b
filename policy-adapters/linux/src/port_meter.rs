//! The meter of one port's default class: the floor that everyone else keeps.

use crate::meter::{Raw, mix};
use minicbor::{Decode, Encode};
use tollway_model::{BitsPerSecond, Direction, Slot, SlotLength, Timestamp};
use tollway_netlink::tc::Stats;
use tollway_policy::PortReading;

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct PortMeter {
    #[n(0)]
    identity: u64,
    #[n(1)]
    life: u32,
    #[n(2)]
    base: Raw,
    #[n(3)]
    last: Raw,
    /// Counters at the start of the slot.
    #[n(4)]
    slot_base: Raw,
    /// Bytes of the slot in earlier lives.
    #[n(5)]
    delivered: u64,
    #[n(6)]
    at: Timestamp,
    #[n(7)]
    slot: Slot,
    #[n(8)]
    busy_ms: u32,
    #[n(9)]
    rate_min: Option<BitsPerSecond>,
    #[n(10)]
    up: bool,
    #[n(11)]
    backlog: bool,
}

/// What one look at a port said.
#[derive(Clone, Copy, Debug)]
pub struct PortSample {
    pub now: Timestamp,
    /// Counters and rate of the default class; `None`: there is none.
    pub class: Option<(Stats, BitsPerSecond)>,
    pub up: bool,
    pub direct_packets: u64,
}

impl PortMeter {
    pub fn start(identity: u64, now: Timestamp, slots: SlotLength) -> PortMeter {
        PortMeter {
            identity,
            life: 0,
            base: Raw::default(),
            last: Raw::default(),
            slot_base: Raw::default(),
            delivered: 0,
            at: now,
            slot: slots.slot_of(now),
            busy_ms: 0,
            rate_min: None,
            up: true,
            backlog: false,
        }
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }

    fn incarnation(&self) -> u64 {
        mix(&[&self.identity.to_ne_bytes(), &self.life.to_ne_bytes()])
    }

    /// Takes a look into account; gives the reading of the slot that ended. Slots in which nobody looked have
    /// none.
    pub fn sample(
        &mut self,
        sample: &PortSample,
        identity: u64,
        slots: SlotLength,
        name: &str,
        direction: Direction,
    ) -> Option<PortReading> {
        let stats = sample.class.map(|(stats, _)| stats);
        let fell = stats.is_some_and(|stats| Raw::from(stats).is_before(self.last));
        if identity != self.identity || fell {
            self.delivered = self.delivered.saturating_add(self.last.since(self.slot_base).bytes);
            self.identity = identity;
            self.life = self.life.wrapping_add(1);
            self.last = if fell { Raw::default() } else { self.last };
            self.base = self.last;
            self.slot_base = self.last;
            self.backlog = false;
        }
        let backlog_bytes = stats.map_or(0, |stats| u64::from(stats.backlog_bytes));
        if self.backlog && backlog_bytes > 0 {
            let ms = sample.now.ms_since(self.at).min(slots.ms());
            self.busy_ms = self.busy_ms.saturating_add(u32::try_from(ms).unwrap_or(u32::MAX));
        }
        if let Some((stats, rate)) = sample.class {
            self.last = Raw::from(stats);
            self.rate_min = Some(self.rate_min.map_or(rate, |min| min.min(rate)));
        }
        self.up &= sample.up;
        self.backlog = backlog_bytes > 0;
        self.at = sample.now;
        let slot = slots.slot_of(sample.now);
        if slot <= self.slot {
            return None;
        }
        let slot_ms = u32::try_from(slots.ms()).unwrap_or(u32::MAX);
        let reading = PortReading {
            port: name.to_owned(),
            direction,
            slot: self.slot,
            incarnation: self.incarnation(),
            default_class: self.last.since(self.base),
            default_rate_min: self.rate_min.unwrap_or_default(),
            backlog_bytes,
            direct_packets: sample.direct_packets,
            up: self.up,
            delivered_bytes: self.delivered.saturating_add(self.last.since(self.slot_base).bytes),
            busy_ms: self.busy_ms.min(slot_ms),
        };
        self.slot = slot;
        self.slot_base = self.last;
        self.delivered = 0;
        self.busy_ms = 0;
        self.rate_min = None;
        self.up = sample.up;
        Some(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_its_bytes_also_when_the_counters_restart() {
        let slots = SlotLength::from_secs(5).expect("divides a day");
        let mut meter = PortMeter::start(1, Timestamp(0), slots);
        let look = |ms, bytes, packets, rate| PortSample {
            now: Timestamp(ms),
            class: Some((
                Stats { bytes, packets, drops: 1, backlog_bytes: 9, backlog_packets: 1 },
                BitsPerSecond(rate),
            )),
            up: true,
            direct_packets: 0,
        };
        let mut take = |sample, identity| meter.sample(&sample, identity, slots, "wan0", Direction::Up);
        assert!(take(look(1000, 1014, 1, 30), 1).is_none());
        assert!(take(look(2000, 514, 1, 20), 1).is_none());
        let reading = take(look(5000, 2028, 2, 30), 1).expect("the slot ended");
        assert_eq!((reading.delivered_bytes, reading.default_class.bytes), (3000, 2000));
        assert_eq!((reading.default_rate_min.get(), reading.busy_ms, reading.up), (20, 3000, true));
        assert!(take(look(6000, 2028, 2, 30), 1).is_none());
        let reading = take(look(10_000, 3042, 3, 30), 1).expect("the slot ended");
        assert_eq!((reading.delivered_bytes, reading.default_class.bytes), (1000, 3000));
    }
}
