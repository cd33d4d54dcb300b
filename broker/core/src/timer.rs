//! What is due by itself.

use crate::limits;
use crate::record::{Ended, Record};
use crate::reservation::{EndReason, LegState, NOT_INSTALLED, Promise, Reach, Reservation};
use crate::state::{Due, State, Timer};
use tollway_model::{Micros, Timestamp};

/// Records that a due timer makes; none when its reservation has moved on.
pub(crate) fn decide(state: &State, due: Timestamp, timer: Timer) -> Vec<Record> {
    let Some(reservation) = state.reservations.get(&timer.reservation) else { return Vec::new() };
    let id = reservation.id;
    match timer.what {
        Due::HoldExpires => match reservation.promise {
            Promise::Held { .. } => vec![Record::HoldExpired { reservation: id }],
            Promise::Booked | Promise::Running | Promise::Ended { .. } => Vec::new(),
        },
        Due::Starts => match reservation.promise {
            Promise::Booked => vec![Record::Started { reservation: id }],
            Promise::Held { .. } | Promise::Running | Promise::Ended { .. } => Vec::new(),
        },
        Due::Retries => {
            // A leg may have been refused anew since this timer was set; then a later one is for it.
            let is_this_refusal = reservation.leg.since.plus_ms(reservation.retry_ms()) == due;
            let is_refused = reservation.leg.state == LegState::Refused && is_this_refusal;
            if !reservation.promise.is_confirmed() || !is_refused {
                Vec::new()
            } else if !reservation.leg.was_active() && due >= grace_surely_over(reservation) {
                vec![not_installed(state, reservation)]
            } else {
                let attempt = reservation.leg.attempt + 1;
                vec![Record::LegRetried { leg: reservation.leg_id(), attempt }]
            }
        }
        Due::GraceEnds => {
            // An enforcement point that accepted the leg follows its schedule by itself. That nothing was
            // heard of it since may be our own absence, which ends no promise.
            let is_accepted = matches!(reservation.leg.state, LegState::Accepted | LegState::Unconfirmed);
            if reservation.promise.is_confirmed() && !reservation.leg.was_active() && !is_accepted {
                vec![not_installed(state, reservation)]
            } else {
                Vec::new()
            }
        }
        Due::Ends => match reservation.promise {
            Promise::Booked | Promise::Running if reservation.leg.was_surely_never_in_force() => {
                vec![not_installed(state, reservation)]
            }
            Promise::Booked | Promise::Running => vec![completed(reservation)],
            Promise::Held { .. } => vec![Record::HoldExpired { reservation: id }],
            Promise::Ended { .. } => Vec::new(),
        },
        Due::SettlesAnyway => {
            if reservation.settled {
                Vec::new()
            } else {
                vec![Record::Settled { reservation: id, voided: reservation.money.held, timed_out: true }]
            }
        }
    }
}

/// When the grace of a start is over however late it was confirmed.
fn grace_surely_over(reservation: &Reservation) -> Timestamp {
    let confirmed_last = reservation.first_in_force().plus_ms(limits::QUOTE_LIFE_MS + limits::HOLD_LIFE_MS);
    confirmed_last.plus_ms(reservation.start_grace_ms())
}

fn completed(reservation: &Reservation) -> Record {
    let detail = reservation.leg.reason.clone();
    ended(reservation, EndReason::Completed, detail)
}

/// The end of a promise that could not be kept, with what is known of why.
fn not_installed(state: &State, reservation: &Reservation) -> Record {
    let access = state.config.accesses.get(&reservation.access);
    let point = access.map_or("of the access", |access| access.enforcement_point.as_str());
    let leg = &reservation.leg;
    let why = match leg.reach {
        Reach::Untold => format!("no agent for enforcement point {point} was connected"),
        Reach::Unheard | Reach::Accepted | Reach::Active => match (&leg.state, &leg.reason) {
            (LegState::Lost, Some(reason)) => format!("enforcement point {point} lost it: {reason}"),
            // Asked again after a refusal, that one is the last that was heard.
            (_, Some(reason)) => format!("enforcement point {point} refused: {reason}"),
            (_, None) => format!("enforcement point {point} did not answer"),
        },
    };
    ended(reservation, EndReason::Terminated, Some(format!("{NOT_INSTALLED}: {why}")))
}

fn ended(reservation: &Reservation, reason: EndReason, detail: Option<String>) -> Record {
    Record::Ended(Ended { reservation: reservation.id, reason, fee: Micros::ZERO, detail })
}
