//! One leg in a simulated device: its stage, its counters, what it truly carried.

use tollway_model::{BitsPerSecond, LegId, Slot, Timestamp};
use tollway_policy::{DesiredLeg, Reading, Report, SlotReading};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Installing {
        due: Timestamp,
    },
    /// In the kernel; to be read back.
    Accepted {
        due: Timestamp,
    },
    Installed,
    Refused {
        retry: Timestamp,
    },
    Down {
        until: Timestamp,
    },
}

pub struct Rule {
    pub desired: DesiredLeg,
    pub stage: Stage,
    pub in_kernel: bool,
    pub was_installed: bool,
    pub slot: Slot,
    demand: BitsPerSecond,
    incarnation: u64,
    seq: u64,
    sold: Reading,
    reverse: Reading,
    /// Since the last reading.
    active_ms: u64,
    counted: Timestamp,
    seen: bool,
}

impl Rule {
    pub fn new(
        desired: DesiredLeg,
        incarnation: u64,
        demand_bps: u64,
        slot: Slot,
        now: Timestamp,
        due: Timestamp,
    ) -> Rule {
        Rule {
            desired,
            stage: Stage::Installing { due },
            in_kernel: false,
            was_installed: false,
            slot,
            demand: BitsPerSecond(demand_bps),
            incarnation,
            seq: 0,
            sold: Reading::default(),
            reverse: Reading::default(),
            active_ms: 0,
            counted: now,
            seen: false,
        }
    }

    pub fn leg(&self) -> LegId {
        self.desired.leg
    }

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub fn last_seq(&self) -> u64 {
        self.seq
    }

    pub fn sold_bytes(&self) -> u64 {
        self.sold.bytes
    }

    /// Counts what went through since it was counted last; returns the bytes of the sold direction.
    pub fn carry(&mut self, now: Timestamp, own: Timestamp) -> u64 {
        let ms = now.ms_since(self.counted);
        self.counted = now;
        if !self.in_kernel || ms == 0 {
            return 0;
        }
        self.active_ms += ms;
        let before = Timestamp(own.0.saturating_sub(ms));
        let rate = self.desired.class_rate_at(self.desired.direction, before);
        if rate.0 == 0 || self.desired.flows.is_empty() {
            return 0;
        }
        let bytes = self.demand.bytes_in_ms(ms);
        self.sold.bytes += bytes;
        self.sold.packets += bytes.div_ceil(1_500);
        self.reverse.bytes += bytes / 40;
        self.seen |= bytes > 0;
        bytes
    }

    /// The reading of the slot that is over, or the last one.
    pub fn read(&mut self, own: Timestamp, last: bool) -> Report {
        self.seq += 1;
        let active_ms = u32::try_from(self.active_ms).unwrap_or(u32::MAX);
        self.active_ms = 0;
        Report::Usage(SlotReading {
            leg: self.leg(),
            attempt: self.desired.attempt,
            incarnation: self.incarnation,
            seq: self.seq,
            slot: self.slot,
            sold: self.sold,
            reverse: self.reverse,
            active_ms,
            busy_ms: if self.seen { active_ms } else { 0 },
            gap_ms_max: 0,
            seen: self.seen,
            last,
            at: own,
            unconfirmed_ms: 0,
        })
    }

    /// A new life of the counters.
    pub fn restart(&mut self, incarnation: u64, due: Timestamp) {
        self.incarnation = incarnation;
        self.seq = 0;
        self.sold = Reading::default();
        self.reverse = Reading::default();
        self.active_ms = 0;
        self.in_kernel = false;
        self.was_installed = false;
        self.stage = Stage::Installing { due };
    }
}
