//! What must hold between two steps. Checked at the end of each step in debug builds while the state is
//! small, after every step in the simulation, and by tests.

use crate::reservation::Promise;
use crate::state::State;
use std::collections::BTreeMap;
use tollway_model::Micros;

pub(crate) fn check(state: &State) -> Result<(), String> {
    state.ledger.check_invariants()?;
    check_holds(state)?;
    state.learnt.check()?;
    check_money(state)?;
    check_calendars(state)
}

/// Open holds and unsettled reservations are the same set, and agree on the sum.
fn check_holds(state: &State) -> Result<(), String> {
    for (id, hold) in state.ledger.holds() {
        let reservation = state.reservations.get(&id.reservation);
        let Some(reservation) = reservation.filter(|r| !r.settled) else {
            return Err(format!("{id:?} outlives its reservation"));
        };
        if hold.open() != reservation.money.held {
            return Err(format!(
                "{} holds {:?}, its ledger hold {:?}",
                reservation.id,
                reservation.money.held,
                hold.open()
            ));
        }
    }
    for reservation in state.reservations.values().filter(|r| !r.settled) {
        if state.ledger.hold(reservation.hold_id()).is_none() {
            return Err(format!("{} is not settled and has no hold", reservation.id));
        }
        let open = state.open_holds.get(&reservation.customer);
        let is_open = open.is_some_and(|open| open.contains(&reservation.id));
        if is_open != matches!(reservation.promise, Promise::Held { .. }) {
            return Err(format!("{} is counted wrongly among the open holds", reservation.id));
        }
    }
    Ok(())
}

/// What is charged is at most what was held; the four sums add up.
fn check_money(state: &State) -> Result<(), String> {
    for reservation in state.reservations.values() {
        let money = reservation.money;
        let sum = money.held.0 + money.posted.0 + money.voided.0;
        if sum != reservation.total.micros.0 || money.held < Micros::ZERO || money.posted < Micros::ZERO {
            return Err(format!("{}: {money:?} does not add up to {:?}", reservation.id, reservation.total));
        }
        if reservation.line.posted() > reservation.total.micros {
            return Err(format!("{} is charged more than was held", reservation.id));
        }
    }
    Ok(())
}

/// Every slot's commitment is the sum of the reservations that cover it.
fn check_calendars(state: &State) -> Result<(), String> {
    let now = state.slot_length().slot_of(state.last_at).0;
    let mut sums: BTreeMap<(u32, tollway_model::Direction, u64), u64> = BTreeMap::new();
    for reservation in state.reservations.values() {
        let until = state.committed_until(reservation);
        let packet = reservation.terms.shape.packet_bytes;
        let all = state.commitments(reservation.access, reservation.direction, &reservation.schedule, packet);
        for (pool, direction, slots, bps) in all {
            for slot in slots.start.max(now)..slots.end.min(until) {
                *sums.entry((pool.0, direction, slot)).or_default() += bps;
            }
        }
    }
    for ((pool, direction, slot), sum) in &sums {
        let calendar = state.calendar(tollway_model::PoolId(*pool), *direction);
        let committed = calendar.committed(*slot);
        if committed != *sum {
            return Err(format!(
                "pool p{pool} {direction:?} slot {slot} counts {committed}, its reservations {sum}"
            ));
        }
    }
    Ok(())
}
