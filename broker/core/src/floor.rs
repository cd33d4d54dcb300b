//! Everyone else's floor, as it is measured: what a port's default class had in a slot, against what is never
//! sold there. Metered per slot like a promise.

use crate::limits;
use crate::record::{Fact, FloorFact};
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};
use tollway_model::{AccessId, BitsPerSecond, Direction, Slot, SlotLength, Timestamp};
use tollway_policy::PortReading;

/// A kernel counts rates in whole bytes a second, and each class beside the default one rounds up by one.
const ROUNDING_BPS: u64 = 8 * 64;

/// Delivered under demand, this share of the floor is as good as the floor: IP bytes lack their headers.
const KEPT_PPM: u32 = 950_000;

/// One direction of a port of an enforcement point.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortKey {
    pub enforcement_point: String,
    pub port: String,
    pub direction: Direction,
}

/// What a port's meter has said so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortFloor {
    pub latest: PortReading,
    /// Of the latest slot that was judged.
    pub judged: Option<FloorFact>,
    pub slots_kept: u64,
    pub slots_broken: u64,
}

/// Judges the port readings of one batch, each seeing the ones before it.
pub(crate) struct Judge<'a> {
    state: &'a State,
    point: &'a str,
    /// A slot that has not begun yet cannot have been read.
    slot_max: Slot,
    read: BTreeMap<(&'a str, Direction), Slot>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(state: &'a State, now: Timestamp, point: &'a str) -> Judge<'a> {
        let slot_max = state.slot_length().slot_of(now.plus_ms(limits::CLOCK_TOLERANCE_MS));
        Judge { state, point, slot_max, read: BTreeMap::new() }
    }

    /// `None` for a port that no access names, a slot that was read before, one that has not come yet.
    pub(crate) fn judge(&mut self, reading: &'a PortReading) -> Option<Fact> {
        let (port, direction) = (reading.port.as_str(), reading.direction);
        let here = accesses_at(self.state, self.point, port, direction);
        let key = PortKey { enforcement_point: self.point.to_owned(), port: port.to_owned(), direction };
        let before = self.state.floors.get(&key).map(|floor| floor.latest.slot);
        let before = self.read.get(&(port, direction)).copied().or(before);
        if here.is_empty() || reading.slot > self.slot_max || before.is_some_and(|slot| reading.slot <= slot)
        {
            return None;
        }
        self.read.insert((port, direction), reading.slot);
        let floor = floor_at(self.state, &here, direction).filter(|_| reading.up);
        let judged = floor.map(|floor| judged(reading, floor, self.state.slot_length()));
        Some(Fact::Port(reading.clone(), judged))
    }
}

/// Accesses whose traffic in this direction leaves at this port.
fn accesses_at(state: &State, point: &str, port: &str, direction: Direction) -> BTreeSet<AccessId> {
    let accesses = state.config.accesses.iter();
    let here = accesses.filter(|(_, def)| def.enforcement_point == point && def.side(direction).port == port);
    here.map(|(id, _)| *id).collect()
}

/// The floor of the narrowest pool that is used at this port, by all its accesses, and nowhere else: only
/// there does the port's default class carry everyone else of that pool.
fn floor_at(state: &State, here: &BTreeSet<AccessId>, direction: Direction) -> Option<BitsPerSecond> {
    let first = state.routes.get(here.first()?)?;
    let lies_here = |pool: &&tollway_model::PoolId| {
        let users = state.routes.iter().filter(|(_, route)| route.pools(direction).contains(pool));
        users.map(|(id, _)| *id).eq(here.iter().copied())
    };
    let pools = first.pools(direction).iter().filter(lies_here).filter_map(|id| state.config.pools.get(id));
    let narrowest = pools.min_by_key(|pool| (pool.capacity(direction), pool.on_sale(direction)))?;
    Some(narrowest.capacity(direction).saturating_sub(narrowest.on_sale(direction)))
}

fn judged(reading: &PortReading, floor: BitsPerSecond, length: SlotLength) -> FloorFact {
    let bits = u128::from(reading.delivered_bytes) * 8_000 / u128::from(length.ms());
    let delivered = BitsPerSecond(u64::try_from(bits).unwrap_or(u64::MAX));
    let is_left = reading.default_rate_min.0.saturating_add(ROUNDING_BPS) >= floor.0;
    let is_carried = delivered >= floor.share_ppm(KEPT_PPM);
    let is_full = u64::from(reading.busy_ms) >= length.ms();
    let measured = if is_full { delivered } else { delivered.max(reading.default_rate_min) };
    FloorFact { floor, measured, is_kept: is_left || is_carried }
}

/// Applies one port reading.
pub(crate) fn fold(state: &mut State, point: &str, reading: &PortReading, judged: Option<FloorFact>) {
    let key = PortKey {
        enforcement_point: point.to_owned(),
        port: reading.port.clone(),
        direction: reading.direction,
    };
    let floor = state.floors.entry(key).or_insert_with(|| PortFloor {
        latest: reading.clone(),
        judged: None,
        slots_kept: 0,
        slots_broken: 0,
    });
    floor.latest.clone_from(reading);
    if let Some(fact) = judged {
        floor.judged = Some(fact);
        floor.slots_kept += u64::from(fact.is_kept);
        floor.slots_broken += u64::from(!fact.is_kept);
    }
}

/// Forgets ports that no access names any more.
pub(crate) fn forget_unknown(state: &mut State) {
    let mut floors = std::mem::take(&mut state.floors);
    floors.retain(|key, _| !accesses_at(state, &key.enforcement_point, &key.port, key.direction).is_empty());
    state.floors = floors;
}
