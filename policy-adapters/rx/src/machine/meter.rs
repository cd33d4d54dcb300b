//! Usage of a leg, and the time in which it was active, cut into slots. Readings are cumulative in bytes; a new
//! life of this program is a new incarnation.

use super::Machine;
use crate::fact::Fact;
use crate::heard::Used;
use tollway_model::{Direction, LegId, Slot, Timestamp};
use tollway_policy::{Reading, SlotReading};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meter {
    pub direction: Direction,
    pub was_active: bool,
    /// The last attempt that was reported as accepted.
    pub accepted_attempt: u32,
    seq: u64,
    up: u64,
    down: u64,
    /// Since when it is active and not yet told.
    active_from: Option<Timestamp>,
    untold_ms: u64,
}

impl Meter {
    pub fn new(direction: Direction) -> Meter {
        Meter {
            direction,
            was_active: false,
            accepted_attempt: 0,
            seq: 0,
            up: 0,
            down: 0,
            active_from: None,
            untold_ms: 0,
        }
    }

    /// Bytes without a direction count as sold.
    pub fn add(&mut self, used: Used) {
        let (up, down) = match self.direction {
            Direction::Up => (used.up.saturating_add(used.total), used.down),
            Direction::Down => (used.up, used.down.saturating_add(used.total)),
        };
        self.up = self.up.saturating_add(up);
        self.down = self.down.saturating_add(down);
    }

    fn start(&mut self, now: Timestamp) {
        self.was_active = true;
        self.active_from.get_or_insert(now);
    }

    fn stop(&mut self, now: Timestamp) {
        if let Some(from) = self.active_from.take() {
            self.untold_ms = self.untold_ms.saturating_add(now.ms_since(from));
        }
    }

    /// Takes what has been active and not told up to `until`.
    fn take_active(&mut self, until: Timestamp) -> u64 {
        let running = self.active_from.map_or(0, |from| until.ms_since(from));
        self.active_from = self.active_from.map(|from| from.max(until));
        std::mem::take(&mut self.untold_ms).saturating_add(running)
    }
}

impl Machine {
    /// The leg is active from now on.
    pub(super) fn start_meter(&mut self, now: Timestamp, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.meter.start(now);
        self.metered.insert(id);
        self.set_slot_timer(now);
    }

    /// The leg is not active any more; the time until now counts.
    pub(super) fn stop_meter(&mut self, now: Timestamp, id: LegId) {
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.meter.stop(now);
        }
    }

    /// Says where the meter stands.
    pub(super) fn read_meter(&mut self, now: Timestamp, id: LegId, last: bool) {
        self.read_meter_of(self.settings.slot_length.slot_of(now), now, id, last);
    }

    fn read_meter_of(&mut self, slot: Slot, now: Timestamp, id: LegId, last: bool) {
        let slot_ms = self.settings.slot_length.ms();
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let meter = &mut leg.meter;
        meter.seq += 1;
        let active_ms = meter.take_active(now).min(slot_ms);
        let reading = |bytes| Reading { bytes, packets: 0, drops: 0 };
        let (sold, reverse) = match meter.direction {
            Direction::Up => (meter.up, meter.down),
            Direction::Down => (meter.down, meter.up),
        };
        let reading = SlotReading {
            leg: id,
            attempt: leg.attempt,
            incarnation: self.settings.incarnation,
            seq: meter.seq,
            slot,
            sold: reading(sold),
            reverse: reading(reverse),
            active_ms: u32::try_from(active_ms).unwrap_or(u32::MAX),
            // A PCRF says nothing of queues.
            busy_ms: 0,
            gap_ms_max: 0,
            seen: sold > 0 || reverse > 0,
            last,
            at: now,
            unconfirmed_ms: 0,
        };
        self.fact(Fact::Usage(reading));
    }

    /// The end of a slot: every running meter is read, and one that stopped is read once more.
    pub(super) fn tick(&mut self, slot_end: Timestamp) {
        self.slot_due = None;
        let slot = self.settings.slot_length.slot_of(Timestamp(slot_end.ms().saturating_sub(1)));
        for id in self.metered.clone() {
            self.read_meter_of(slot, slot_end, id, false);
            if self.legs.get(&id).is_none_or(|leg| leg.meter.active_from.is_none()) {
                self.metered.remove(&id);
            }
        }
        self.set_slot_timer(slot_end);
    }

    pub(super) fn set_slot_timer(&mut self, now: Timestamp) {
        match (self.slot_due, self.metered.is_empty()) {
            (None, false) => {
                let slot_length = self.settings.slot_length;
                let due = slot_length.window_of(slot_length.slot_of(now)).until;
                self.timers.insert((due, super::Timer::Slot));
                self.slot_due = Some(due);
            }
            (Some(due), true) => {
                self.timers.remove(&(due, super::Timer::Slot));
                self.slot_due = None;
            }
            (None, true) | (Some(_), false) => {}
        }
    }
}
