//! The agent's clock. It follows the wall clock, but a jump of it does not end promises: time then goes on by
//! the boot clock until the broker's clock agrees with the new wall time.

use crate::limits::CLOCK_STEP_MS_MAX;
use std::time::{SystemTime, UNIX_EPOCH};
use tollway_model::Timestamp;

/// Wall time and time since boot, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    pub wall: Timestamp,
    pub boot_ms: u64,
}

/// What the last reading meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Steady,
    /// The wall clock jumped by so many milliseconds; it is not followed.
    Jumped(i64),
    /// The new wall time is followed from now on.
    Adopted,
}

#[derive(Debug)]
pub struct Clock {
    /// Agreed time at a boot time.
    anchor: Reading,
    /// The broker's clock minus our wall clock, when it last spoke.
    broker_offset_ms: Option<i64>,
    jumped: bool,
}

impl Clock {
    pub fn new(at: Reading) -> Clock {
        Clock { anchor: at, broker_offset_ms: None, jumped: false }
    }

    /// Time by the boot clock alone.
    fn steady(&self, at: Reading) -> Timestamp {
        self.anchor.wall.plus_ms(at.boot_ms.saturating_sub(self.anchor.boot_ms))
    }

    /// The broker's word about the time.
    pub fn broker_says(&mut self, broker: Timestamp, at: Reading) {
        self.broker_offset_ms = Some(offset(broker, at.wall));
    }

    pub fn now(&mut self, at: Reading) -> (Timestamp, Step) {
        let steady = self.steady(at);
        let jump = offset(at.wall, steady);
        if jump.unsigned_abs() <= CLOCK_STEP_MS_MAX {
            self.anchor = at;
            self.jumped = false;
            return (at.wall, Step::Steady);
        }
        let broker_agrees =
            self.broker_offset_ms.is_some_and(|offset| offset.unsigned_abs() <= CLOCK_STEP_MS_MAX);
        if self.jumped && broker_agrees {
            self.anchor = at;
            self.jumped = false;
            return (at.wall, Step::Adopted);
        }
        if !self.jumped {
            // What the broker said before the jump says nothing about the new wall time.
            self.jumped = true;
            self.broker_offset_ms = None;
            return (steady, Step::Jumped(jump));
        }
        (steady, Step::Steady)
    }
}

/// Milliseconds as seconds, for people. A difference of clocks is far below what a double holds exactly.
#[allow(clippy::cast_precision_loss)]
pub fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn offset(a: Timestamp, b: Timestamp) -> i64 {
    a.ms().cast_signed().wrapping_sub(b.ms().cast_signed())
}

/// Reads both clocks.
pub fn read() -> Reading {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Reading {
        wall: Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        boot_ms: tollway_linux::boot_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64, boot_ms: u64) -> Reading {
        Reading { wall: Timestamp(wall), boot_ms }
    }

    #[test]
    fn slow_drift_is_followed_and_a_jump_is_not() {
        let mut clock = Clock::new(at(1_000_000, 500));
        assert_eq!(clock.now(at(1_001_010, 1500)), (Timestamp(1_001_010), Step::Steady));
        assert_eq!(clock.now(at(9_000_000, 2500)), (Timestamp(1_002_010), Step::Jumped(7_997_990)));
        assert_eq!(clock.now(at(9_001_000, 3500)), (Timestamp(1_003_010), Step::Steady));
        // Back again: as if nothing had been.
        assert_eq!(clock.now(at(1_004_010, 4500)), (Timestamp(1_004_010), Step::Steady));
    }

    #[test]
    fn a_jump_that_the_broker_confirms_is_followed() {
        let mut clock = Clock::new(at(1_000, 0));
        clock.broker_says(Timestamp(1_000), at(1_000, 0));
        assert_eq!(clock.now(at(90_000, 1000)).1, Step::Jumped(88_000));
        assert_eq!(clock.now(at(91_000, 2000)).1, Step::Steady);
        clock.broker_says(Timestamp(91_900), at(92_000, 3000));
        assert_eq!(clock.now(at(92_000, 3000)), (Timestamp(92_000), Step::Adopted));
    }
}
