//! Shared by the deciders: what a decision is. A decider takes `&State`, so it cannot change anything; the
//! compiler holds the rule that facts, not commands, change state.

use crate::record::Record;
use crate::refusal::{Code, Refusal};
use crate::reservation::Reservation;
use crate::state::State;
use tollway_model::{CustomerId, QuoteId, ReservationId};

/// What a decision is answered with, once its records are applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Quote(QuoteId),
    /// A refusal that is itself a fact: its counter-offers are in the quote.
    Counter(Refusal, QuoteId),
    Reservation(ReservationId),
    ToppedUp(CustomerId),
    Configured {
        changes: u32,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    pub records: Vec<Record>,
    pub answer: Answer,
}

pub(crate) type Decided = Result<Decision, Refusal>;

/// A reservation of this customer; anyone else's does not exist for it.
pub(crate) fn own(state: &State, customer: CustomerId, id: ReservationId) -> Result<&Reservation, Refusal> {
    state
        .reservations
        .get(&id)
        .filter(|r| r.customer == customer)
        .ok_or_else(|| Refusal::new(Code::NotFound, "this customer has no such reservation"))
}
