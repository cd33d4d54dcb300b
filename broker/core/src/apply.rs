//! Applying a record: the one place where state changes. It cannot refuse; a record that does not apply is a
//! broken invariant and aborts.

use crate::calendar::Calendar;
use crate::config::{AccessDef, Change};
use crate::entries::entries_of;
use crate::floor;
use crate::limits;
use crate::record::{Answered, Configured, Envelope, Fact, Held, Record, Reported};
use crate::reservation::{LegState, Promise, Reservation};
use crate::state::{Due, FlowKey, KeyEntry, KeyExpiry, Route, State, Taken, TierEntry, Timer};
use std::sync::Arc;
use tollway_billing::AccountId;
use tollway_model::{Direction, ReservationId, Timestamp};

pub(crate) fn apply(state: &mut State, envelope: &Envelope) {
    assert_eq!(envelope.seq, state.last_seq.next(), "records are applied in order");
    let at = envelope.at;
    state.forget_until(at);
    forget_fired(state, envelope);
    state.last_seq = envelope.seq;
    state.last_at = state.last_at.max(at);
    match &envelope.record {
        Record::MarketMade(market) => state.market = Some(market.clone()),
        Record::Configured(configured) => apply_configured(state, configured),
        Record::Quoted(quote) => {
            state.next_quote = quote.id.0;
            if let Some(old) = quote.replaces.and_then(|old| state.quotes.remove(&old)) {
                state.count_quote(old.customer, false);
            }
            state.count_quote(quote.customer, true);
            state.quotes.insert(quote.id, quote.clone());
        }
        Record::Held(held) => apply_held(state, at, held),
        Record::HoldExpired { reservation }
        | Record::Confirmed { reservation, .. }
        | Record::Started { reservation }
        | Record::FlowsBound { reservation, .. }
        | Record::Settled { reservation, .. } => fold(state, envelope, *reservation),
        Record::Ended(ended) => {
            post(state, envelope);
            fold(state, envelope, ended.reservation);
        }
        Record::LegRetried { leg, .. } => fold(state, envelope, leg.reservation),
        Record::LegsTold(told) => {
            told.legs.iter().for_each(|leg| fold(state, envelope, leg.reservation));
        }
        Record::Reported(reported) => {
            post(state, envelope);
            apply_reported(state, at, reported);
        }
        Record::ToppedUp { .. } => post(state, envelope),
        Record::Answered(answered) => apply_answered(state, envelope, answered),
    }
}

/// Drops the timers that fired before this record. One that had nothing to do leaves no record of its own,
/// so its passing is read from the next one: live and in a replay alike.
fn forget_fired(state: &mut State, envelope: &Envelope) {
    let fired = |due: Timestamp| match envelope.due {
        // Made by a timer: those due at the same instant may still be to come.
        Some(at) => due < at,
        None => due <= envelope.at,
    };
    while state.timers.first().is_some_and(|(due, _)| fired(*due)) {
        state.timers.pop_first();
    }
}

fn post(state: &mut State, envelope: &Envelope) {
    let reservations = &state.reservations;
    let payer = |id: ReservationId| reservations.get(&id).map(|r| (r.customer, r.total.currency));
    for entry in entries_of(envelope, payer) {
        state.ledger.post(&entry).expect("a record posts only what was checked");
    }
}

fn apply_held(state: &mut State, at: Timestamp, held: &Held) {
    let reservation = Reservation::open(at, held);
    let id = reservation.id;
    state.next_reservation = id.0;
    commit(state, &reservation);
    let account = AccountId::wallet(reservation.customer, reservation.total.currency);
    state
        .ledger
        .place(reservation.hold_id(), account, reservation.total.micros, Some(held.expires))
        .expect("a hold is placed only when it was checked");
    if let Some(quote) = state.quotes.remove(&held.quote) {
        state.count_quote(quote.customer, false);
    }
    let (customer, until) = (held.customer, at.plus_ms(limits::TAKEN_KEPT_MS));
    state.taken.insert(held.quote, Taken { customer, reservation: id, until });
    state.open_holds.entry(reservation.customer).or_default().insert(id);
    set_timer(state, held.expires, id, Due::HoldExpires);
    state.reservations.insert(id, reservation);
}

/// Folds a record into its reservation and mends everything that follows from its new state.
fn fold(state: &mut State, envelope: &Envelope, id: ReservationId) {
    let Some(mut reservation) = state.reservations.remove(&id) else {
        panic!("record {} names {id}, which does not exist", envelope.seq);
    };
    unindex_flows(state, &reservation);
    let until_before = state.committed_until(&reservation);
    reservation.fold(envelope.at, &envelope.record);
    let until_after = state.committed_until(&reservation);
    if until_after < until_before {
        release(state, &reservation, until_after..until_before);
    }
    if reservation.promise.is_live() {
        index_flows(state, &reservation);
    }
    follow_money(state, envelope, &reservation);
    follow_timers(state, envelope, &reservation);
    state.reservations.insert(id, reservation);
}

fn follow_money(state: &mut State, envelope: &Envelope, reservation: &Reservation) {
    let open = |state: &mut State| {
        if let Some(open) = state.open_holds.get_mut(&reservation.customer) {
            open.remove(&reservation.id);
        }
    };
    match &envelope.record {
        Record::Confirmed { .. } => {
            state.ledger.keep(reservation.hold_id()).expect("a confirmed reservation has a hold");
            open(state);
        }
        Record::HoldExpired { .. } | Record::Settled { .. } => {
            let rest =
                state.ledger.release(reservation.hold_id()).expect("an unsettled reservation has a hold");
            if let Record::Settled { voided, .. } = &envelope.record {
                assert_eq!(rest, *voided, "what is given back is what was still held");
            }
            open(state);
            state.forget.push_back((envelope.at.plus_ms(limits::ENDED_KEPT_MS), reservation.id));
        }
        Record::Ended(_) => open(state),
        Record::MarketMade(_)
        | Record::Configured(_)
        | Record::Quoted(_)
        | Record::Held(_)
        | Record::FlowsBound { .. }
        | Record::Started { .. }
        | Record::LegRetried { .. }
        | Record::Reported(_)
        | Record::ToppedUp { .. }
        | Record::Answered(_)
        | Record::LegsTold(_) => {}
    }
}

fn follow_timers(state: &mut State, envelope: &Envelope, reservation: &Reservation) {
    let id = reservation.id;
    match &envelope.record {
        Record::Confirmed { .. } => {
            let first = reservation.first_in_force().max(envelope.at);
            set_timer(state, reservation.window.from, id, Due::Starts);
            set_timer(state, first.plus_ms(reservation.start_grace_ms()), id, Due::GraceEnds);
            set_timer(state, reservation.window.until, id, Due::Ends);
        }
        Record::Ended(_) => {
            let due = envelope.at.plus_ms(limits::SETTLE_MS_MAX);
            set_timer(state, due, id, Due::SettlesAnyway);
        }
        Record::MarketMade(_)
        | Record::Configured(_)
        | Record::Quoted(_)
        | Record::Held(_)
        | Record::HoldExpired { .. }
        | Record::FlowsBound { .. }
        | Record::Started { .. }
        | Record::LegRetried { .. }
        | Record::Reported(_)
        | Record::Settled { .. }
        | Record::ToppedUp { .. }
        | Record::Answered(_)
        | Record::LegsTold(_) => {}
    }
    clear_timers(state, reservation);
}

/// Removes timers that can no longer mean anything, so that the set stays as small as what is live.
fn clear_timers(state: &mut State, reservation: &Reservation) {
    let id = reservation.id;
    let mut remove = |due: Timestamp, what: Due| {
        state.timers.remove(&(due, Timer { reservation: id, what }));
    };
    match reservation.promise {
        Promise::Held { .. } => {}
        Promise::Booked | Promise::Running => {
            remove(
                reservation.created.plus_ms(limits::HOLD_LIFE_MS).min(reservation.window.until),
                Due::HoldExpires,
            );
        }
        Promise::Ended { at, .. } => {
            remove(
                reservation.created.plus_ms(limits::HOLD_LIFE_MS).min(reservation.window.until),
                Due::HoldExpires,
            );
            remove(reservation.window.from, Due::Starts);
            remove(reservation.window.until, Due::Ends);
            if reservation.settled {
                remove(at.plus_ms(limits::SETTLE_MS_MAX), Due::SettlesAnyway);
            }
        }
    }
}

fn apply_reported(state: &mut State, at: Timestamp, reported: &Reported) {
    state.batches.insert(reported.enforcement_point.clone(), reported.number);
    for fact in &reported.facts {
        let id = match fact {
            Fact::Leg { leg, .. } => leg.reservation,
            Fact::Usage(usage) => usage.reading.leg.reservation,
            Fact::Port(reading, judged) => {
                floor::fold(state, &reported.enforcement_point, reading, *judged);
                continue;
            }
            Fact::Session(session) => {
                state.learnt.fold(session);
                continue;
            }
        };
        let Some(reservation) = state.reservations.get_mut(&id) else {
            panic!("a fact names {id}, which does not exist");
        };
        let before = reservation.leg.state.clone();
        reservation.fold_fact(at, fact);
        if reservation.leg.state == LegState::Refused && before != LegState::Refused {
            let due = at.plus_ms(reservation.retry_ms());
            set_timer(state, due, id, Due::Retries);
        }
    }
}

fn apply_answered(state: &mut State, envelope: &Envelope, answered: &Answered) {
    let entry = KeyEntry { at: envelope.seq, request: answered.request };
    if state.keys.insert(answered.key, entry).is_none() {
        *state.keys_of.entry(answered.customer).or_default() += 1;
    }
    state.key_expiries.push_back(KeyExpiry {
        due: envelope.at.plus_ms(limits::KEY_LIFE_MS),
        key: answered.key,
        customer: answered.customer,
        reservation: answered.reservation,
    });
}

fn apply_configured(state: &mut State, configured: &Configured) {
    state.config.revision = configured.revision;
    for change in &configured.changes {
        apply_change(state, change);
    }
    for deficit in &configured.deficits {
        state.deficits.insert((deficit.pool, deficit.direction), deficit.runs.clone());
    }
    let routes = state.config.accesses.iter().map(|(id, access)| (*id, route(state, access))).collect();
    state.routes = routes;
    state.learnt.follow(&state.config);
    floor::forget_unknown(state);
}

fn apply_change(state: &mut State, change: &Change) {
    let slot_length = state.slot_length();
    let config = &mut state.config;
    match change {
        Change::Pool(id, def) => {
            config.next_pool = config.next_pool.max(id.0);
            config.pools.insert(*id, def.clone());
            for direction in Direction::BOTH {
                let on_sale = def.on_sale(direction).0;
                let calendar = state.calendars.entry((*id, direction));
                calendar.or_insert_with(|| Calendar::new(slot_length, on_sale)).set_on_sale(on_sale);
                state.deficits.remove(&(*id, direction));
            }
        }
        Change::PoolRemoved(id) => {
            config.pools.remove(id);
            for direction in Direction::BOTH {
                state.calendars.remove(&(*id, direction));
                state.deficits.remove(&(*id, direction));
            }
        }
        Change::Tier(id, revision, def) => {
            config.next_tier = config.next_tier.max(id.0);
            let def = Arc::new(def.clone());
            config.tier_revisions.insert((*id, *revision), Arc::clone(&def));
            config.tiers.insert(*id, TierEntry { revision: *revision, def, on_sale: true });
        }
        Change::TierWithdrawn(id) => {
            if let Some(tier) = config.tiers.get_mut(id) {
                tier.on_sale = false;
            }
        }
        Change::Access(id, def) => {
            config.next_access = config.next_access.max(id.0);
            config.accesses.insert(*id, def.clone());
        }
        Change::AccessRemoved(id) => {
            config.accesses.remove(id);
        }
        Change::Customer(id, def) => {
            config.next_customer = config.next_customer.max(id.0);
            config.customers.insert(*id, def.clone());
        }
        Change::CustomerRemoved(id) => {
            config.customers.remove(id);
        }
    }
}

fn route(state: &State, access: &AccessDef) -> Route {
    let ids = |names: &[String]| names.iter().filter_map(|name| state.config.pool_id(name)).collect();
    Route {
        up: ids(&access.up.pools),
        down: ids(&access.down.pools),
        price: state.config.pool_id(&access.price_pool).unwrap_or_default(),
    }
}

fn commit(state: &mut State, reservation: &Reservation) {
    let packet = reservation.terms.shape.packet_bytes;
    let all: Vec<_> =
        state.commitments(reservation.access, reservation.direction, &reservation.schedule, packet).collect();
    for (pool, direction, slots, bps) in all {
        let calendar = state.calendars.get_mut(&(pool, direction)).expect("a route names configured pools");
        calendar.commit(slots, bps);
    }
}

/// Gives back a reservation's commitments inside a range of slots.
fn release(state: &mut State, reservation: &Reservation, range: std::ops::Range<u64>) {
    let packet = reservation.terms.shape.packet_bytes;
    let past = state.slot_length().slot_of(state.last_at).0;
    let first_kept = past - past % state.slot_length().slots_per_day();
    let all: Vec<_> =
        state.commitments(reservation.access, reservation.direction, &reservation.schedule, packet).collect();
    for (pool, direction, slots, bps) in all {
        // Days before today are forgotten and take nothing back.
        let slots = slots.start.max(range.start).max(first_kept)..slots.end.min(range.end);
        if slots.is_empty() {
            continue;
        }
        if let Some(calendar) = state.calendars.get_mut(&(pool, direction)) {
            calendar.release(slots, bps);
        }
    }
}

fn index_flows(state: &mut State, reservation: &Reservation) {
    for flow in &reservation.flows {
        state.flows.entry(FlowKey::of(flow)).or_default().push(reservation.id);
    }
}

fn unindex_flows(state: &mut State, reservation: &Reservation) {
    for flow in &reservation.flows {
        let key = FlowKey::of(flow);
        if let Some(ids) = state.flows.get_mut(&key) {
            ids.retain(|id| *id != reservation.id);
            if ids.is_empty() {
                state.flows.remove(&key);
            }
        }
    }
}

fn set_timer(state: &mut State, due: Timestamp, reservation: ReservationId, what: Due) {
    state.timers.insert((due, Timer { reservation, what }));
}
