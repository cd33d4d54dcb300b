//! The engine's time. It runs with `CLOCK_BOOTTIME`, which nobody sets and which counts through suspend, and
//! is drawn towards the wall clock by at most 500 ppm, so that no step of NTP can expire a promise.

use tollway_model::Timestamp;

/// Most by which the engine's clock runs faster or slower than the kernel's, in parts per million.
const SLEW_PPM_MAX: i128 = 500;

/// A difference to the wall clock that is an alarm, in microseconds.
const ALARM_US: i128 = 1_000_000;

/// A difference at which nothing new is admitted until it is accepted, in microseconds.
const DISTRUST_US: i128 = 60_000_000;

/// At a start the wall clock may be so far before the last record: then it is waited for.
pub const START_WAIT_MS_MAX: u64 = 5_000;

/// Two clocks read together, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Since the machine started, suspend included.
    pub boot_us: u64,
    /// Since 1970 UTC.
    pub wall_us: u64,
}

/// How far the wall clock is from the engine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Good,
    /// More than 1 s apart: an alarm, and drawn together slowly.
    Stepped {
        error_ms: i64,
    },
    /// More than 60 s apart: nothing new is admitted until somebody accepts it.
    Distrusted {
        error_ms: i64,
    },
}

/// What a start makes of the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Ready(Discipline),
    /// It is a little before the last record: read again after this.
    Wait {
        ms: u64,
    },
    /// It is far before the last record.
    Refuse {
        behind_ms: u64,
    },
}

/// The pure part: readings in, time out. Never runs backwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discipline {
    boot_us: u64,
    /// Engine time at `boot_us`.
    value_us: i128,
    /// What was accepted as the difference between the wall clock and the engine's.
    accepted_us: i128,
    error_us: i128,
    last: Timestamp,
}

impl Discipline {
    /// Anchors at the wall clock, unless it is before the last record and nobody accepted that.
    pub fn start(reading: Reading, last_record: Timestamp, accept: bool) -> Start {
        let wall = i128::from(reading.wall_us);
        let floor = i128::from(last_record.0) * 1_000;
        let behind_ms = u64::try_from((floor - wall).max(0).div_ceil_ms()).unwrap_or(u64::MAX);
        if behind_ms > 0 && !accept {
            return if behind_ms <= START_WAIT_MS_MAX {
                Start::Wait { ms: behind_ms }
            } else {
                Start::Refuse { behind_ms }
            };
        }
        let value_us = wall.max(floor);
        Start::Ready(Discipline {
            boot_us: reading.boot_us,
            value_us,
            accepted_us: wall - value_us,
            error_us: 0,
            last: last_record,
        })
    }

    /// Engine time at a reading: at least every time it gave before.
    pub fn observe(&mut self, reading: Reading) -> Timestamp {
        let elapsed = i128::from(reading.boot_us.saturating_sub(self.boot_us));
        let estimate = self.value_us + elapsed;
        let error = i128::from(reading.wall_us) - self.accepted_us - estimate;
        let most = elapsed * SLEW_PPM_MAX / 1_000_000;
        let slew = if error.abs() > DISTRUST_US { 0 } else { error.clamp(-most, most) };
        // Slewing is only taken in steps that are whole: fractions would be lost at frequent readings.
        if most > 0 || elapsed == 0 {
            self.boot_us = self.boot_us.max(reading.boot_us);
            self.value_us = estimate + slew;
        }
        self.error_us = error;
        let now = u64::try_from((estimate + slew) / 1_000).unwrap_or(0);
        self.last = self.last.max(Timestamp(now));
        self.last
    }

    pub fn health(&self) -> Health {
        let error_ms = self.error_ms();
        match self.error_us.abs() {
            error if error > DISTRUST_US => Health::Distrusted { error_ms },
            error if error > ALARM_US => Health::Stepped { error_ms },
            _ => Health::Good,
        }
    }

    /// Wall clock minus engine clock beyond what was accepted.
    pub fn error_ms(&self) -> i64 {
        i64::try_from(self.error_us / 1_000).unwrap_or(i64::MAX)
    }
}

trait DivCeilMs {
    fn div_ceil_ms(self) -> i128;
}

impl DivCeilMs for i128 {
    fn div_ceil_ms(self) -> i128 {
        (self + 999).div_euclid(1_000)
    }
}

/// Milliseconds as seconds, for people. A difference of clocks is far below what a double holds exactly.
#[allow(clippy::cast_precision_loss)]
pub fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// Where readings come from.
pub trait Source: Send {
    fn read(&self) -> Reading;
}

/// The kernel's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Source for Kernel {
    fn read(&self) -> Reading {
        Reading { boot_us: kernel_us(libc::CLOCK_BOOTTIME), wall_us: kernel_us(libc::CLOCK_REALTIME) }
    }
}

fn kernel_us(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call, which writes nothing else.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(failed, 0, "every Linux that we support has this clock");
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// Why the broker does not start by this clock.
#[derive(Debug, thiserror::Error)]
#[error(
    "the wall clock is {} s before the last record: set the clock right, or accept it as it is with \
     --accept-clock (time then goes on from the last record)",
    seconds(i64::try_from(*behind_ms).unwrap_or(i64::MAX))
)]
pub struct Behind {
    pub behind_ms: u64,
}

/// A discipline with its source.
pub struct Clock {
    source: Box<dyn Source>,
    discipline: Discipline,
}

impl Clock {
    /// Anchors at the wall clock; waits for it when it is a little before the last record.
    ///
    /// # Errors
    /// When it is far before it and `accept` is not set.
    pub async fn start(
        source: Box<dyn Source>,
        last_record: Timestamp,
        accept: bool,
    ) -> Result<Clock, Behind> {
        loop {
            match Discipline::start(source.read(), last_record, accept) {
                Start::Ready(discipline) => return Ok(Clock { source, discipline }),
                Start::Refuse { behind_ms } => return Err(Behind { behind_ms }),
                Start::Wait { ms } => {
                    let wait_s = seconds(i64::try_from(ms).unwrap_or(i64::MAX));
                    tracing::warn!(wait_s, "the wall clock is before the last record: waiting for it");
                    tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
                }
            }
        }
    }

    pub fn now(&mut self) -> Timestamp {
        let reading = self.source.read();
        self.discipline.observe(reading)
    }

    pub fn health(&self) -> Health {
        self.discipline.health()
    }

    pub fn error_ms(&self) -> i64 {
        self.discipline.error_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn started() -> Discipline {
        let reading = Reading { boot_us: 10 * S, wall_us: 1_000 * S };
        match Discipline::start(reading, Timestamp::from_secs(900), false) {
            Start::Ready(discipline) => discipline,
            other @ (Start::Wait { .. } | Start::Refuse { .. }) => panic!("{other:?}"),
        }
    }

    fn at(boot_s: u64, wall_s: u64) -> Reading {
        Reading { boot_us: boot_s * S, wall_us: wall_s * S }
    }

    #[test]
    fn time_goes_with_the_boot_clock() {
        let mut clock = started();
        assert_eq!(clock.observe(at(10, 1_000)), Timestamp::from_secs(1_000));
        assert_eq!(clock.observe(at(70, 1_060)), Timestamp::from_secs(1_060));
        assert_eq!(clock.health(), Health::Good);
    }

    #[test]
    fn a_step_is_slewed_by_500_ppm_and_alarms() {
        let mut clock = started();
        // The wall clock is 30 s ahead after 100 s: 50 ms are made up.
        assert_eq!(clock.observe(at(110, 1_130)), Timestamp(1_100_050));
        assert_eq!(clock.health(), Health::Stepped { error_ms: 30_000 });
        // Back behind: slower, never backwards.
        let before = clock.observe(at(111, 1_131));
        let after = clock.observe(at(121, 1_081));
        assert!(after.0 > before.0 && after.0 < before.0 + 10_000, "{before:?} {after:?}");
    }

    #[test]
    fn a_jump_of_a_day_moves_nothing_and_is_distrusted() {
        let mut clock = started();
        assert_eq!(clock.observe(at(20, 1_010 + 86_400)), Timestamp::from_secs(1_010));
        assert_eq!(clock.health(), Health::Distrusted { error_ms: 86_400_000 });
        assert_eq!(clock.observe(at(30, 1_020 - 600)), Timestamp::from_secs(1_020));
        assert_eq!(clock.health(), Health::Distrusted { error_ms: -600_000 });
        assert_eq!(clock.observe(at(40, 1_030)), Timestamp::from_secs(1_030));
        assert_eq!(clock.health(), Health::Good);
    }

    #[test]
    fn frequent_readings_slew_as_far_as_rare_ones() {
        let mut often = started();
        let mut now = Timestamp::ZERO;
        for step in 1..=1_000_000u64 {
            let boot_us = 10 * S + step * 100;
            now = often.observe(Reading { boot_us, wall_us: 1_000 * S + step * 100 + 10 * S });
        }
        // 100 s at 500 ppm are 50 ms.
        assert_eq!(now, Timestamp(1_100_050));
    }

    #[test]
    fn a_start_before_the_last_record_waits_refuses_or_is_accepted() {
        let start = |wall_ms: u64, accept| {
            let reading = Reading { boot_us: 0, wall_us: wall_ms * 1_000 };
            Discipline::start(reading, Timestamp(100_000), accept)
        };
        assert_eq!(start(98_000, false), Start::Wait { ms: 2_000 });
        assert_eq!(start(95_000, false), Start::Wait { ms: 5_000 });
        assert_eq!(start(94_999, false), Start::Refuse { behind_ms: 5_001 });
        let Start::Ready(mut clock) = start(40_000, true) else { panic!("accepted") };
        // It goes on from the last record and is not drawn back to what was accepted.
        let reading = Reading { boot_us: 10 * S, wall_us: 50 * S };
        assert_eq!(clock.observe(reading), Timestamp(110_000));
        assert_eq!(clock.health(), Health::Good);
    }
}
