//! What is counted per peer: plain numbers, read by whoever shows metrics.

use crate::limits::COUNTER_KEYS_MAX;
use crate::message::Outcome;
use crate::peer::Watchdogs;
use std::collections::BTreeMap;

/// `(application, command)`.
pub type CommandKey = (u32, u32);
/// `(command, result)`; vendor 0 is Result-Code.
pub type ResultKey = (u32, Outcome);

/// A table whose keys the peer chooses, so it is bounded: what comes after the bound is counted under `other`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table<K> {
    pub by_key: BTreeMap<K, u64>,
    pub other: u64,
}

impl<K> Default for Table<K> {
    fn default() -> Table<K> {
        Table { by_key: BTreeMap::new(), other: 0 }
    }
}

impl<K: Ord> Table<K> {
    pub fn count(&mut self, key: K) {
        if let Some(count) = self.by_key.get_mut(&key) {
            *count += 1;
        } else if self.by_key.len() < COUNTER_KEYS_MAX {
            self.by_key.insert(key, 1);
        } else {
            self.other += 1;
        }
    }

    pub fn get(&self, key: &K) -> u64 {
        self.by_key.get(key).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.by_key.values().sum::<u64>() + self.other
    }
}

/// Counters of one peer since the start.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    pub requests_in: Table<CommandKey>,
    pub requests_out: Table<CommandKey>,
    /// Results of the peer's answers to us, and of ours to it.
    pub results_in: Table<ResultKey>,
    pub results_out: Table<ResultKey>,
    pub opened: u64,
    pub lost: u64,
    pub refused: u64,
    pub retransmitted: u64,
    /// Requests that came again, answered from memory or together with the first.
    pub duplicates: u64,
    pub timeouts: u64,
    /// Answers that nobody waits for: too late, or to nothing.
    pub late: u64,
    /// Messages that were refused or dropped for what they are.
    pub malformed: u64,
    pub busy: u64,
    pub watchdogs: Watchdogs,
}

/// A peer as the NOC sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    pub host: String,
    pub realm: String,
    pub state: &'static str,
    pub is_usable: bool,
    pub applications: Vec<u32>,
    /// Our requests without an answer.
    pub pending: usize,
    /// Its requests that we have not answered.
    pub incoming: usize,
    /// Frames that wait for its socket; the shell fills it in.
    pub queue: usize,
    pub counters: Counters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_does_not_grow_with_what_a_peer_sends() {
        let mut table = Table::default();
        (0..1_000).for_each(|key| table.count(key));
        table.count(0);
        assert_eq!((table.by_key.len(), table.other, table.get(&0)), (COUNTER_KEYS_MAX, 744, 2));
        assert_eq!(table.total(), 1_001);
    }
}
