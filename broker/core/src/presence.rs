//! Which enforcement points have an agent connected, as this process knows it. A new process knows of none:
//! every agent connects again. No part of the state; what rests on it goes into records.

use crate::record::{LegsTold, Record};
use crate::reservation::Reach;
use crate::state::State;
use std::collections::BTreeMap;
use tollway_model::AccessId;

#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Number of the newest connection.
    connected: BTreeMap<String, u64>,
    /// Legs that were reported and that nobody wants, counted since the start.
    strays: BTreeMap<String, u64>,
}

impl Presence {
    pub fn connected(&mut self, point: &str, connection: u64) {
        self.connected.insert(point.to_owned(), connection);
    }

    /// The end of an older connection says nothing about the newer one.
    pub fn disconnected(&mut self, point: &str, connection: u64) {
        if self.connected.get(point) == Some(&connection) {
            self.connected.remove(point);
        }
    }

    pub fn is_here(&self, point: &str) -> bool {
        self.connected.contains_key(point)
    }

    /// The enforcement point of an access, when it has no agent connected.
    pub fn missing(&self, state: &State, access: AccessId) -> Option<String> {
        let access = state.config.accesses.get(&access)?;
        (!self.is_here(&access.enforcement_point)).then(|| access.enforcement_point.clone())
    }

    pub fn count_strays(&mut self, point: &str, strays: usize) {
        if strays > 0 {
            let count = self.strays.entry(point.to_owned()).or_default();
            *count = count.saturating_add(strays as u64);
        }
    }

    pub const fn strays(&self) -> &BTreeMap<String, u64> {
        &self.strays
    }
}

/// What must be durable before an enforcement point hears of legs that it surely had not heard of.
pub(crate) fn told(state: &State, point: &str) -> Option<Record> {
    let is_here = |access: AccessId| {
        state.config.accesses.get(&access).is_some_and(|access| access.enforcement_point == point)
    };
    let untold = |r: &&crate::Reservation| {
        r.promise.is_confirmed() && r.leg.reach == Reach::Untold && is_here(r.access)
    };
    let legs: Vec<_> = state.reservations.values().filter(untold).map(crate::Reservation::leg_id).collect();
    let enforcement_point = point.to_owned();
    (!legs.is_empty()).then_some(Record::LegsTold(LegsTold { enforcement_point, legs }))
}
