//! The watchdog of RFC 3539 §3.4.1: is the transport's other end alive, and may new requests go there?
//!
//! Two deviations, both as freeDiameter does it. In REOPEN the next DWR follows each DWA at once instead of after
//! T_w: three answers prove the peer alive, and waiting 90 s for them would leave the customers of a rebooted
//! gateway without their rules. And what a peer in REOPEN asks is served, not thrown away; only our own requests
//! wait.

use crate::limits::REOPEN_ANSWERS;

/// Times in milliseconds, and the seed of the jitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// T_w.
    pub interval_ms: u64,
    /// Each T_w is off by at most so much in both directions.
    pub jitter_ms: u64,
    pub seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Never connected, or parted in agreement (DPR).
    Initial,
    Okay,
    /// One watchdog went unanswered: nothing new is sent there.
    Suspect,
    /// Lost.
    Down,
    /// Connected again after a loss; so many answers to go.
    Reopen {
        answers: u8,
        missed: bool,
    },
}

/// What the peer machine has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Nothing,
    SendWatchdog,
    /// Send what is pending to another peer.
    Failover,
    /// The peer may be used (again).
    Failback,
    CloseConnection,
}

#[derive(Clone, Debug)]
pub struct Watchdog {
    timing: Timing,
    state: State,
    is_pending: bool,
    due_ms: Option<u64>,
    random: u64,
}

impl Watchdog {
    pub fn new(timing: Timing) -> Watchdog {
        Watchdog { timing, state: State::Initial, is_pending: false, due_ms: None, random: timing.seed }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether new requests may go there.
    pub fn is_usable(&self) -> bool {
        self.state == State::Okay
    }

    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// `SetWatchdog()`: T_w with its jitter (splitmix64, from the seed).
    fn set(&mut self, now_ms: u64) {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let off = (mixed ^ (mixed >> 31)) % (2 * self.timing.jitter_ms + 1);
        let wait = (self.timing.interval_ms + off).saturating_sub(self.timing.jitter_ms).max(1);
        self.due_ms = Some(now_ms + wait);
    }

    fn send(&mut self, now_ms: u64) -> Step {
        self.is_pending = true;
        self.set(now_ms);
        Step::SendWatchdog
    }

    /// Connection up.
    pub fn up(&mut self, now_ms: u64) -> Step {
        match self.state {
            State::Down => {
                self.state = State::Reopen { answers: 0, missed: false };
                self.send(now_ms)
            }
            State::Initial | State::Okay | State::Suspect | State::Reopen { .. } => {
                self.state = State::Okay;
                self.is_pending = false;
                self.set(now_ms);
                Step::Failback
            }
        }
    }

    /// Connection down; `is_agreed` after a DPR.
    pub fn down(&mut self, is_agreed: bool) -> Step {
        let was = self.state;
        self.state = if is_agreed { State::Initial } else { State::Down };
        self.is_pending = false;
        self.due_ms = None;
        match was {
            State::Okay | State::Suspect => Step::Failover,
            State::Initial | State::Down | State::Reopen { .. } => Step::Nothing,
        }
    }

    /// A DWA came.
    pub fn answered(&mut self, now_ms: u64) -> Step {
        self.is_pending = false;
        match self.state {
            State::Okay => {
                self.set(now_ms);
                Step::Nothing
            }
            State::Suspect => {
                self.state = State::Okay;
                self.set(now_ms);
                Step::Failback
            }
            State::Reopen { answers, missed: false } if answers + 1 >= REOPEN_ANSWERS => {
                self.state = State::Okay;
                self.set(now_ms);
                Step::Failback
            }
            // After a miss the count starts at −1 (RFC 3539 §3.4.1): this answer only makes it 0 again.
            State::Reopen { answers, missed } => {
                let answers = if missed { 0 } else { answers + 1 };
                self.state = State::Reopen { answers, missed: false };
                self.send(now_ms)
            }
            State::Initial | State::Down => Step::Nothing,
        }
    }

    /// Anything else came: the peer lives.
    pub fn traffic(&mut self, now_ms: u64) -> Step {
        match self.state {
            State::Okay => {
                self.set(now_ms);
                Step::Nothing
            }
            State::Suspect => {
                self.state = State::Okay;
                self.set(now_ms);
                Step::Failback
            }
            State::Initial | State::Down | State::Reopen { .. } => Step::Nothing,
        }
    }

    /// T_w has passed.
    pub fn expired(&mut self, now_ms: u64) -> Step {
        if self.due_ms.is_none_or(|due| due > now_ms) {
            return Step::Nothing;
        }
        match (self.state, self.is_pending) {
            (State::Okay | State::Reopen { .. }, false) => self.send(now_ms),
            (State::Okay, true) => {
                self.state = State::Suspect;
                self.set(now_ms);
                Step::Failover
            }
            (State::Reopen { missed: false, .. }, true) => {
                self.state = State::Reopen { answers: 0, missed: true };
                self.set(now_ms);
                Step::Nothing
            }
            (State::Suspect, _) | (State::Reopen { missed: true, .. }, true) => {
                self.due_ms = None;
                Step::CloseConnection
            }
            (State::Initial | State::Down, _) => {
                self.due_ms = None;
                Step::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum On {
        Up,
        Down,
        Dwa,
        Traffic,
        Timer,
    }

    fn state(state: State, is_pending: bool) -> Watchdog {
        let timing = Timing { interval_ms: 100, jitter_ms: 0, seed: 1 };
        Watchdog { state, is_pending, due_ms: Some(100), ..Watchdog::new(timing) }
    }

    /// Every row of RFC 3539 §3.4.1 that concerns an open or lost connection, with the deviations above.
    #[test]
    fn every_row_of_the_table() {
        use State::{Down, Initial, Okay, Suspect};
        let reopen = |answers, missed| State::Reopen { answers, missed };
        let rows = [
            (Okay, true, On::Dwa, Step::Nothing, Okay, false),
            (Okay, true, On::Traffic, Step::Nothing, Okay, true),
            (Suspect, true, On::Dwa, Step::Failback, Okay, false),
            (Suspect, true, On::Traffic, Step::Failback, Okay, true),
            (reopen(2, false), true, On::Dwa, Step::Failback, Okay, false),
            (reopen(1, false), true, On::Dwa, Step::SendWatchdog, reopen(2, false), true),
            (reopen(0, true), true, On::Dwa, Step::SendWatchdog, reopen(0, false), true),
            (reopen(1, false), true, On::Traffic, Step::Nothing, reopen(1, false), true),
            (Initial, false, On::Dwa, Step::Nothing, Initial, false),
            (Initial, false, On::Traffic, Step::Nothing, Initial, false),
            (Down, false, On::Dwa, Step::Nothing, Down, false),
            (Down, false, On::Traffic, Step::Nothing, Down, false),
            (Okay, false, On::Timer, Step::SendWatchdog, Okay, true),
            (Okay, true, On::Timer, Step::Failover, Suspect, true),
            (Suspect, true, On::Timer, Step::CloseConnection, Suspect, true),
            (reopen(0, false), false, On::Timer, Step::SendWatchdog, reopen(0, false), true),
            (reopen(1, false), true, On::Timer, Step::Nothing, reopen(0, true), true),
            (reopen(0, true), true, On::Timer, Step::CloseConnection, reopen(0, true), true),
            (Initial, false, On::Timer, Step::Nothing, Initial, false),
            (Down, false, On::Timer, Step::Nothing, Down, false),
            (Initial, false, On::Up, Step::Failback, Okay, false),
            (Down, false, On::Up, Step::SendWatchdog, reopen(0, false), true),
            (Okay, true, On::Down, Step::Failover, Down, false),
            (Suspect, true, On::Down, Step::Failover, Down, false),
            (reopen(1, false), true, On::Down, Step::Nothing, Down, false),
        ];
        for (from, pending, on, step, to, pending_after) in rows {
            let mut watchdog = state(from, pending);
            let got = match on {
                On::Up => watchdog.up(100),
                On::Down => watchdog.down(false),
                On::Dwa => watchdog.answered(100),
                On::Traffic => watchdog.traffic(100),
                On::Timer => watchdog.expired(100),
            };
            let after = (got, watchdog.state, watchdog.is_pending);
            assert_eq!(after, (step, to, pending_after), "{from:?}, pending {pending}, {on:?}");
        }
        let mut watchdog = state(Okay, true);
        watchdog.down(true);
        assert_eq!(watchdog.state(), Initial);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_comes_from_the_seed() {
        let timing = Timing { interval_ms: 30_000, jitter_ms: 2_000, seed: 7 };
        let mut watchdog = Watchdog::new(timing);
        let mut twin = Watchdog::new(timing);
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            watchdog.set(0);
            twin.set(0);
            assert_eq!(watchdog.due_ms, twin.due_ms);
            waits.extend(watchdog.due_ms);
        }
        assert!(waits.len() > 500);
        assert!(waits.first() >= Some(&28_000) && waits.last() <= Some(&32_000));
    }
}
