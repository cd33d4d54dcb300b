//! The configuration as the durable journal tells it.

use std::collections::BTreeMap;
use tollway_core::config::{AccessDef, Change, PoolDef};
use tollway_core::{Envelope, Record};
use tollway_model::{AccessId, Direction, PoolId};

#[derive(Default)]
pub struct Book {
    pools: BTreeMap<PoolId, PoolDef>,
    accesses: BTreeMap<AccessId, AccessDef>,
}

impl Book {
    pub fn fold(&mut self, envelope: &Envelope) {
        let Record::Configured(configured) = &envelope.record else { return };
        for change in &configured.changes {
            match change {
                Change::Pool(id, def) => {
                    self.pools.insert(*id, def.clone());
                }
                Change::PoolRemoved(id) => {
                    self.pools.remove(id);
                }
                Change::Access(id, def) => {
                    self.accesses.insert(*id, def.clone());
                }
                Change::AccessRemoved(id) => {
                    self.accesses.remove(id);
                }
                Change::Tier(..)
                | Change::TierWithdrawn(_)
                | Change::Customer(..)
                | Change::CustomerRemoved(_) => {}
            }
        }
    }

    pub fn point_of(&self, access: AccessId) -> Option<&str> {
        self.accesses.get(&access).map(|access| access.enforcement_point.as_str())
    }

    /// Pools that an access uses in a direction, with what may ever be sold of each.
    pub fn pools_of(&self, access: AccessId, direction: Direction) -> Vec<(PoolId, u64)> {
        let Some(access) = self.accesses.get(&access) else { return Vec::new() };
        let names = match direction {
            Direction::Up => &access.up.pools,
            Direction::Down => &access.down.pools,
        };
        let find = |name: &String| self.pools.iter().find(|(_, def)| def.name == *name);
        names.iter().filter_map(find).map(|(id, def)| (*id, may_sell(def, direction))).collect()
    }
}

/// Capacity × share, rounded down.
fn may_sell(def: &PoolDef, direction: Direction) -> u64 {
    let capacity = match direction {
        Direction::Up => def.up.0,
        Direction::Down => def.down.0,
    };
    u64::try_from(u128::from(capacity) * u128::from(def.sell_share_ppm) / 1_000_000).unwrap_or(u64::MAX)
}
