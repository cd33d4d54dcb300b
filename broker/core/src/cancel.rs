//! Cancelling: free before the tier's notice, a share of what is still held after it.

use crate::decide::{Answer, Decided, Decision, own};
use crate::record::{Ended, Record};
use crate::refusal::{Code, Refusal};
use crate::reservation::{EndReason, Promise, Reservation};
use crate::state::State;
use tollway_model::money::round_half_even;
use tollway_model::{CustomerId, Micros, ReservationId, Timestamp};

pub(crate) fn decide(state: &State, now: Timestamp, customer: CustomerId, id: ReservationId) -> Decided {
    let reservation = own(state, customer, id)?;
    if let Promise::Ended { reason, .. } = reservation.promise {
        let message = format!("the reservation has ended: {}", reason.as_str());
        return Err(Refusal::new(Code::WrongState, message));
    }
    let ended =
        Ended { reservation: id, reason: EndReason::Cancelled, fee: fee(reservation, now), detail: None };
    Ok(Decision { records: vec![Record::Ended(ended)], answer: Answer::Reservation(id) })
}

fn fee(reservation: &Reservation, now: Timestamp) -> Micros {
    let late = now.plus_ms(reservation.terms.notice_ms) >= reservation.window.from;
    if !reservation.promise.is_confirmed() || !late {
        return Micros::ZERO;
    }
    let share =
        i128::from(reservation.money.held.0) * i128::from(reservation.terms.cancel_fee_ppm.min(1_000_000));
    Micros(i64::try_from(round_half_even(share, 1_000_000)).unwrap_or(0))
}
