//! What readers outside the driver see of the engine: committed state, refreshed after commits.

use crate::telemetry::legs::LegCounts;
use std::collections::BTreeMap;
use std::sync::Arc;
use tollway_core::Engine;
use tollway_core::floor::{PortFloor, PortKey};
use tollway_core::reservation::LegState;
use tollway_core::state::{Config, PoolUse, State};
use tollway_model::{Seq, SlotLength, Timestamp};

/// How old the legs' figures may be: each leg is looked at for them, which is too much for every snapshot.
const LEGS_MS_MAX: u64 = 1_000;

/// Legs that an enforcement point holds or should, by its name and their state's word.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Legs {
    pub at: Timestamp,
    pub counts: BTreeMap<(String, &'static str), u64>,
}

impl Legs {
    fn of(state: &State, at: Timestamp) -> Legs {
        let mut counts = BTreeMap::new();
        for reservation in state.reservations().filter(|r| r.leg.state != LegState::Absent) {
            let Some(access) = state.config.accesses.get(&reservation.access) else { continue };
            let key = (access.enforcement_point.clone(), reservation.leg.state.as_str());
            *counts.entry(key).or_default() += 1;
        }
        Legs { at, counts }
    }
}

/// Figures for the metrics.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub pools: Vec<PoolUse>,
    /// What everyone else was left, by the ports' meters.
    pub floors: Vec<(PortKey, PortFloor)>,
    pub legs: Legs,
    /// Legs refused and lost since the start.
    pub leg_counts: LegCounts,
    /// Legs that were reported and that nobody wants, by enforcement point.
    pub strays: BTreeMap<String, u64>,
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
        before: Option<&Arc<Snapshot>>,
        now: Timestamp,
        clock_error_ms: i64,
        epoch: u64,
    ) -> Option<Snapshot> {
        let state = engine.state();
        let market = state.market.as_ref()?;
        let config = match before {
            Some(before) if before.config.revision == state.config.revision => before.config.clone(),
            Some(_) | None => Arc::new(state.config.clone()),
        };
        let legs = match before {
            Some(before) if now.ms_since(before.gauges.legs.at) < LEGS_MS_MAX => before.gauges.legs.clone(),
            Some(_) | None => Legs::of(state, now),
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
                legs,
                leg_counts: LegCounts::default(),
                strays: engine.strays().clone(),
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
