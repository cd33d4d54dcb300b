//! What a configuration means for promises that stand, told with the names that people know: public ids,
//! customers, pools, times.

use crate::api::instant;
use crate::public_id::PublicIds;
use std::fmt::Write as _;
use tollway_core::configure::Broken;
use tollway_core::record::Deficit;
use tollway_core::{Reservation, State};
use tollway_model::{Direction, PoolId, ReservationId, Timestamp, Window};

/// Reservations that are named one by one; of more only the number is told.
const NAMED_MAX: usize = 8;

/// Why a configuration is refused, a line for each thing and each reservation that stands on it.
pub fn refusal(ids: &PublicIds, state: &State, broken: &[Broken]) -> String {
    let mut text = "it would break promises".to_owned();
    let mut over = Timestamp::ZERO;
    for item in broken {
        let users: Vec<&Reservation> = item.users.iter().filter_map(|id| state.reservation(*id)).collect();
        over = users.iter().map(|user| user.window.until).max().unwrap_or_default().max(over);
        push(&mut text, format_args!("\n  {}", item.what));
        for user in users.iter().take(NAMED_MAX) {
            push(&mut text, format_args!("\n    {}", told(ids, state, user)));
        }
        if let Some(more @ 1..) = users.len().checked_sub(NAMED_MAX) {
            push(&mut text, format_args!("\n    and {more} more"));
        }
    }
    let wait = match over {
        Timestamp::ZERO => String::new(),
        over => {
            format!(
                ", or wait until they are over and settled: the last window ends at {}",
                instant::format(over)
            )
        }
    };
    push(&mut text, format_args!("\n  mend: put these items back as they were{wait}. Nothing was changed."));
    text
}

fn told(ids: &PublicIds, state: &State, of: &Reservation) -> String {
    let customer = state.config.customers.get(&of.customer).map_or("?", |def| def.name.as_str());
    let state = if of.promise.is_live() { of.promise.as_str() } else { "ended, not settled yet" };
    let until = instant::format(of.window.until);
    format!("reservation {} of customer {customer}, {state}, until {until}", ids.reservation(of.id))
}

/// What was sold and is no longer there, in one line.
pub fn deficit(ids: &PublicIds, state: &State, deficit: &Deficit) -> String {
    let pool = state.config.pools.get(&deficit.pool).map_or("?", |def| def.name.as_str());
    let length = state.slot_length();
    let (direction, mut text) = (deficit.direction.as_str(), String::new());
    let most = deficit.runs.iter().map(|run| run.excess_bps).max().unwrap_or(0);
    let windows: Vec<Window> = deficit
        .runs
        .iter()
        .map(|run| Window::new(length.start_of(run.from), length.start_of(run.until)))
        .collect();
    push(&mut text, format_args!("pool={pool} direction={direction} excess_bps={most}"));
    if let (Some(first), Some(last)) = (windows.first(), windows.last()) {
        let (from, until) = (instant::format(first.from), instant::format(last.until));
        push(&mut text, format_args!(" from={from} until={until}"));
    }
    let within = sold_from(state, deficit.pool, deficit.direction, &windows);
    push(&mut text, format_args!(" reservations={}", within.len()));
    for id in within.iter().take(NAMED_MAX) {
        push(&mut text, format_args!(" {}", ids.reservation(*id)));
    }
    text
}

/// Live reservations that take something of a pool in these windows.
fn sold_from(state: &State, pool: PoolId, direction: Direction, windows: &[Window]) -> Vec<ReservationId> {
    let Some(pool) = state.config.pools.get(&pool) else { return Vec::new() };
    let uses = |of: &Reservation| {
        let access = state.config.accesses.get(&of.access);
        access.is_some_and(|access| access.side(direction).pools.contains(&pool.name))
    };
    state
        .reservations()
        .filter(|of| of.promise.is_live() && uses(of))
        .filter(|of| windows.iter().any(|window| of.window.overlaps(*window)))
        .map(|of| of.id)
        .collect()
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes every text");
}
