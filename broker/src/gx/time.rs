//! The engine's time between two messages of the engine: by the boot clock, from what it was last told.

use crate::clock::{Kernel, Source};
use tollway_model::Timestamp;

/// Never runs backwards, and is never ahead of the engine by more than the boot clock gains on it.
#[derive(Debug, Default)]
pub(super) struct EngineTime {
    boot_us: u64,
    told: Timestamp,
    last: Timestamp,
}

impl EngineTime {
    pub(super) fn told(&mut self, now: Timestamp) {
        self.told_at(now, Kernel.read().boot_us);
    }

    pub(super) fn now(&mut self) -> Timestamp {
        self.at(Kernel.read().boot_us)
    }

    fn told_at(&mut self, now: Timestamp, boot_us: u64) {
        (self.told, self.boot_us) = (now, boot_us);
    }

    fn at(&mut self, boot_us: u64) -> Timestamp {
        let elapsed_ms = boot_us.saturating_sub(self.boot_us) / 1_000;
        self.last = self.last.max(self.told.plus_ms(elapsed_ms));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_what_was_told_and_never_back() {
        let mut time = EngineTime::default();
        time.told_at(Timestamp(1_000_000), 5_000_000);
        assert_eq!(time.at(5_250_000), Timestamp(1_000_250));
        // The message lay for 100 ms.
        time.told_at(Timestamp(1_000_300), 5_400_000);
        assert_eq!(time.at(5_400_000), Timestamp(1_000_300));
        time.told_at(Timestamp(1_000_200), 5_500_000);
        assert_eq!(time.at(5_500_000), Timestamp(1_000_300));
        assert_eq!(time.at(5_700_000), Timestamp(1_000_400));
    }
}
