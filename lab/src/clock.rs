//! The lab's two clocks: monotonic nanoseconds for everything that is measured, wall time only to place the
//! broker's instants beside them.

use std::time::Duration;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

fn read(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec for the call to fill; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    ts.tv_sec.cast_unsigned() * SECOND + ts.tv_nsec.cast_unsigned()
}

/// `CLOCK_MONOTONIC` in nanoseconds: one clock for all namespaces.
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
pub fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Sleeps until a monotonic instant; returns at once when it has passed.
pub fn sleep_until(at_ns: u64) {
    let now = now_ns();
    if at_ns > now {
        std::thread::sleep(Duration::from_nanos(at_ns - now));
    }
}

/// Asks the kernel to wake this thread at the nanosecond instead of 50 µs around it.
pub fn wake_sharply() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

/// Monotonic instant of a wall-clock millisecond, by the offset measured now.
pub fn monotonic_of_wall_ms(wall_ms: u64) -> u64 {
    let offset = i128::from(now_ns()) - i128::from(wall_ns());
    u64::try_from(i128::from(wall_ms) * i128::from(MS) + offset).unwrap_or(0)
}

/// Wall-clock milliseconds of a monotonic instant, by the offset measured now.
pub fn wall_ms_of_monotonic(mono_ns: u64) -> u64 {
    let offset = i128::from(wall_ns()) - i128::from(now_ns());
    u64::try_from((i128::from(mono_ns) + offset) / i128::from(MS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clocks_convert_both_ways() {
        let mono = now_ns();
        let back = monotonic_of_wall_ms(wall_ms_of_monotonic(mono));
        assert!(mono.abs_diff(back) < 50 * MS);
    }
}
