//! What readers outside the driver see of the engine: committed state, refreshed after commits.

use std::sync::Arc;
use tollway_core::Engine;
use tollway_core::floor::{PortFloor, PortKey};
use tollway_core::state::{Config, PoolUse};
use tollway_model::{Seq, SlotLength, Timestamp};

/// Figures for the metrics.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub pools: Vec<PoolUse>,
    /// What everyone else was left, by the ports' meters.
    pub floors: Vec<(PortKey, PortFloor)>,
    pub open_holds: usize,
    pub quotes_open: usize,
    /// Sum of all balances; anything but zero is a bug.
    pub ledger_imbalance: i128,
    pub last_seq: Seq,
    /// Engine time of this snapshot.
    pub at: Timestamp,
    /// Wall clock minus engine clock, in milliseconds.
    pub clock_error_ms: i64,
    /// Leader epoch of this process.
    pub epoch: u64,
}

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub market: String,
    pub slot_length: SlotLength,
    pub config: Arc<Config>,
    pub gauges: Gauges,
}

impl Snapshot {
    /// Taken from the engine; to be published when `gauges.last_seq` is durable. The configuration is
    /// shared with the snapshot before when its revision is the same.
    pub(crate) fn take(
        engine: &Engine,
        before: Option<&Arc<Config>>,
        now: Timestamp,
        clock_error_ms: i64,
        epoch: u64,
    ) -> Option<Snapshot> {
        let state = engine.state();
        let market = state.market.as_ref()?;
        let config = match before {
            Some(config) if config.revision == state.config.revision => config.clone(),
            Some(_) | None => Arc::new(state.config.clone()),
        };
        let currencies: std::collections::BTreeSet<_> =
            state.ledger.balances().map(|(account, _)| account.currency).collect();
        let ledger_imbalance = currencies.into_iter().map(|c| state.ledger.imbalance(c).abs()).sum();
        Some(Snapshot {
            market: market.name.clone(),
            slot_length: market.slot_length,
            config,
            gauges: Gauges {
                pools: state.utilisation(now),
                floors: state.floors().iter().map(|(key, floor)| (key.clone(), floor.clone())).collect(),
                open_holds: state.open_holds(),
                quotes_open: state.quotes_open(),
                ledger_imbalance,
                last_seq: engine.last_seq(),
                at: now,
                clock_error_ms,
                epoch,
            },
        })
    }
}
