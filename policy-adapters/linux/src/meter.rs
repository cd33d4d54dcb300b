//! The meter of one leg: kernel counters and times in, one reading per slot out. Pure arithmetic; the time is
//! an argument.

use crate::limits::MISSED_MS_MAX;
use minicbor::{Decode, Encode};
use tollway_model::rate::L2_HEADER_BYTES;
use tollway_model::{LegId, Slot, SlotLength, Timestamp};
use tollway_netlink::tc::Stats;
use tollway_policy::{Reading, SlotReading};

/// Counters as the kernel has them, Ethernet headers included.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode, Debug, Default)]
pub struct Raw {
    #[n(0)]
    pub bytes: u64,
    #[n(1)]
    pub packets: u64,
    #[n(2)]
    pub drops: u64,
}

impl From<Stats> for Raw {
    fn from(stats: Stats) -> Raw {
        Raw { bytes: stats.bytes, packets: stats.packets, drops: stats.drops }
    }
}

impl Raw {
    /// Layer-3 counters since `base`.
    pub fn since(self, base: Raw) -> Reading {
        let packets = self.packets.saturating_sub(base.packets);
        let bytes = self.bytes.saturating_sub(base.bytes);
        Reading {
            bytes: bytes.saturating_sub(packets.saturating_mul(L2_HEADER_BYTES)),
            packets,
            drops: self.drops.saturating_sub(base.drops),
        }
    }

    /// Whether a counter can only have got from `earlier` to here by starting anew.
    pub fn is_before(self, earlier: Raw) -> bool {
        self.bytes < earlier.bytes || self.packets < earlier.packets
    }
}

/// Mixes numbers into one id that differs whenever any of them does (FNV-1a).
pub fn mix(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Everything about one leg's counters. Index 0 is the sold direction, 1 the return path.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Meter {
    /// Boot, devices, set-up nonces, class id and leg: what the counters hang on.
    #[n(0)]
    identity: u64,
    /// How many incarnations there have been.
    #[n(1)]
    life: u32,
    #[n(2)]
    incarnation: u64,
    #[n(3)]
    seq: u64,
    /// Kernel counters at the start of this incarnation.
    #[n(4)]
    base: [Raw; 2],
    /// Kernel counters at the last poll.
    #[n(5)]
    last: [Raw; 2],
    /// Packets that were counted or queued when the flow set was bound.
    #[n(6)]
    bound: [u64; 2],
    #[n(7)]
    seen: bool,
    #[n(8)]
    rebind: bool,
    /// Accounted up to here.
    #[n(9)]
    at: Timestamp,
    #[n(10)]
    slot: Slot,
    #[n(11)]
    active_ms: u32,
    #[n(12)]
    busy_ms: u32,
    #[n(13)]
    gap_ms_max: u32,
    /// The silence that is going on.
    #[n(14)]
    gap_ms: u32,
    /// In the kernel, read back, on ports that are up, when last looked at.
    #[n(15)]
    in_force: bool,
    #[n(16)]
    backlog: bool,
}

/// What one look at the kernel said.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub now: Timestamp,
    /// `None`: no such class.
    pub sides: [Option<Stats>; 2],
    /// Still in force, as read just now.
    pub still: bool,
    /// Time from here on is not active.
    pub active_until: Timestamp,
    /// The slot that the last reading belongs to, when the leg is closing.
    pub slot_last: Option<Slot>,
}

/// A reading that only lacks the leg's name.
pub struct Draft(SlotReading);

impl Draft {
    pub fn of(self, leg: LegId, attempt: u32, last: bool) -> SlotReading {
        SlotReading { leg, attempt, last, ..self.0 }
    }
}

impl Meter {
    pub fn start(identity: u64, now: Timestamp, slots: SlotLength) -> Meter {
        let mut meter = Meter {
            identity,
            life: 0,
            incarnation: 0,
            seq: 0,
            base: [Raw::default(); 2],
            last: [Raw::default(); 2],
            bound: [0; 2],
            seen: false,
            rebind: false,
            at: now,
            slot: slots.slot_of(now),
            active_ms: 0,
            busy_ms: 0,
            gap_ms_max: 0,
            gap_ms: 0,
            in_force: false,
            backlog: false,
        };
        meter.name_life();
        meter
    }

    /// Accounted up to here.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn set_in_force(&mut self, in_force: bool) {
        self.in_force = in_force;
    }

    /// The flow set was replaced: what is queued now does not prove that the new one matches.
    pub fn rebind(&mut self) {
        self.rebind = true;
    }

    fn name_life(&mut self) {
        self.incarnation = mix(&[&self.identity.to_ne_bytes(), &self.life.to_ne_bytes()]);
    }

    /// Takes a look into account; pushes the readings of the slots that ended.
    pub fn sample(&mut self, sample: &Sample, identity: u64, slots: SlotLength, out: &mut Vec<Draft>) {
        self.renew(sample, identity, out);
        let sold = sample.sides[0];
        let backlog = sold.is_some_and(|stats| stats.backlog_bytes > 0);
        let busy = backlog && self.backlog;
        let silent = busy && sold.is_some_and(|stats| stats.bytes == self.last[0].bytes);
        self.take(&sample.sides);
        if !silent {
            self.gap_ms = 0;
        }
        let active = self.in_force && sample.still;
        if sample.now.ms_since(self.at) > MISSED_MS_MAX {
            self.at = Timestamp(sample.now.ms().saturating_sub(MISSED_MS_MAX));
            self.slot = self.slot.max(slots.slot_of(self.at));
        }
        loop {
            let end = slots.window_of(self.slot).until;
            let rolls = sample.now >= end && sample.slot_last.is_none_or(|last| self.slot < last);
            let until = if rolls { end } else { sample.now };
            self.spend(until, active, sample.active_until, busy, silent);
            if !rolls {
                break;
            }
            out.push(self.cut(sample.now));
            self.slot = Slot(self.slot.0 + 1);
        }
        self.backlog = backlog;
    }

    /// Opens a new incarnation when the counters no longer continue the old one.
    fn renew(&mut self, sample: &Sample, identity: u64, out: &mut Vec<Draft>) {
        let fell: [bool; 2] = std::array::from_fn(|side| {
            sample.sides[side].is_some_and(|stats| Raw::from(stats).is_before(self.last[side]))
        });
        if identity == self.identity && !fell[0] && !fell[1] {
            return;
        }
        let counted = self.seq > 0 || self.last != self.base || self.active_ms > 0;
        if counted {
            out.push(self.cut(sample.now));
        }
        self.identity = identity;
        self.life = self.life.wrapping_add(1);
        self.seq = 0;
        self.backlog = false;
        for (side, fell) in fell.into_iter().enumerate() {
            if fell {
                self.last[side] = Raw::default();
                self.bound[side] = 0;
            }
            self.base[side] = self.last[side];
        }
        self.name_life();
    }

    fn take(&mut self, sides: &[Option<Stats>; 2]) {
        for (side, stats) in sides.iter().enumerate() {
            let Some(stats) = stats else { continue };
            self.last[side] = Raw::from(*stats);
            if self.rebind {
                self.bound[side] = stats.packets.saturating_add(u64::from(stats.backlog_packets));
            }
        }
        if self.rebind {
            self.rebind = false;
            self.seen = false;
        }
        self.seen |= (0..2).any(|side| self.last[side].packets > self.bound[side]);
    }

    fn spend(&mut self, until: Timestamp, active: bool, active_until: Timestamp, busy: bool, silent: bool) {
        let ms = |from: Timestamp, until: Timestamp| u32::try_from(until.ms_since(from)).unwrap_or(u32::MAX);
        if active {
            self.active_ms = self.active_ms.saturating_add(ms(self.at, until.min(active_until)));
        }
        if busy {
            self.busy_ms = self.busy_ms.saturating_add(ms(self.at, until));
        }
        if silent {
            self.gap_ms = self.gap_ms.saturating_add(ms(self.at, until));
            self.gap_ms_max = self.gap_ms_max.max(self.gap_ms);
        }
        self.at = self.at.max(until);
    }

    /// The reading of the slot so far; the next one starts from zero times and the same counters.
    fn cut(&mut self, now: Timestamp) -> Draft {
        self.seq += 1;
        let reading = SlotReading {
            leg: LegId { reservation: tollway_model::ReservationId(0), index: 0 },
            attempt: 0,
            incarnation: self.incarnation,
            seq: self.seq,
            slot: self.slot,
            sold: self.last[0].since(self.base[0]),
            reverse: self.last[1].since(self.base[1]),
            active_ms: self.active_ms,
            busy_ms: self.busy_ms,
            gap_ms_max: self.gap_ms_max,
            seen: self.seen,
            last: false,
            at: now,
            unconfirmed_ms: 0,
        };
        (self.active_ms, self.busy_ms, self.gap_ms_max) = (0, 0, 0);
        Draft(reading)
    }

    /// The last reading of all, with the final counters of the classes that were deleted.
    pub fn finish(mut self, now: Timestamp, finals: [Option<Stats>; 2]) -> Draft {
        for (side, stats) in finals.iter().enumerate() {
            if let Some(stats) = stats.filter(|stats| !Raw::from(*stats).is_before(self.last[side])) {
                self.last[side] = Raw::from(stats);
            }
        }
        self.seen |= (0..2).any(|side| self.last[side].packets > self.bound[side]);
        self.cut(now)
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
