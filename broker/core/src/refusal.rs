//! Refusals: decided by the engine, stored under the request's key, with offers where offers help.

use crate::offer::Offer;
use minicbor::{Decode, Encode};
use tollway_model::{Amount, QuoteId, ReservationId};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Debug)]
#[cbor(index_only)]
pub enum Code {
    #[n(0)]
    CapacityExhausted,
    #[n(1)]
    DeadlineInfeasible,
    #[n(2)]
    QuoteExpired,
    #[n(3)]
    InsufficientFunds,
    #[n(4)]
    EndpointNotAllowed,
    #[n(5)]
    FlowConflict,
    /// No such reservation, quote or offer of this customer.
    #[n(6)]
    NotFound,
    /// The reservation is not in a state in which this verb means something.
    #[n(7)]
    WrongState,
    /// A bound of `limits.rs` per customer.
    #[n(8)]
    TooMany,
    /// A value that is well-formed and outside what is sold.
    #[n(9)]
    OutOfRange,
    /// The same key with another request.
    #[n(10)]
    KeyReused,
    /// A configuration that would break a promise, or was made from another revision.
    #[n(11)]
    ConfigurationRefused,
    #[n(12)]
    HoldShare,
}

impl Code {
    pub const ALL: [Code; 13] = [
        Code::CapacityExhausted,
        Code::DeadlineInfeasible,
        Code::QuoteExpired,
        Code::InsufficientFunds,
        Code::EndpointNotAllowed,
        Code::FlowConflict,
        Code::NotFound,
        Code::WrongState,
        Code::TooMany,
        Code::OutOfRange,
        Code::KeyReused,
        Code::ConfigurationRefused,
        Code::HoldShare,
    ];

    /// The code's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::CapacityExhausted => "QOS_TRANSFERS.CAPACITY_EXHAUSTED",
            Code::DeadlineInfeasible => "QOS_TRANSFERS.DEADLINE_INFEASIBLE",
            Code::QuoteExpired => "QOS_TRANSFERS.QUOTE_EXPIRED",
            Code::InsufficientFunds => "QOS_TRANSFERS.INSUFFICIENT_FUNDS",
            Code::EndpointNotAllowed => "QOS_TRANSFERS.ENDPOINT_NOT_ALLOWED",
            Code::FlowConflict => "QOS_TRANSFERS.FLOW_CONFLICT",
            Code::NotFound => "NOT_FOUND",
            Code::WrongState => "QOS_TRANSFERS.WRONG_STATE",
            Code::TooMany => "QUOTA_EXCEEDED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::KeyReused => "IDEMPOTENCY_KEY_REUSED",
            Code::ConfigurationRefused => "CONFIGURATION_REFUSED",
            Code::HoldShare => "QOS_TRANSFERS.HOLD_SHARE_EXCEEDED",
        }
    }

    /// HTTP status of the code.
    pub const fn status(self) -> u16 {
        match self {
            Code::CapacityExhausted
            | Code::DeadlineInfeasible
            | Code::QuoteExpired
            | Code::InsufficientFunds
            | Code::FlowConflict
            | Code::WrongState
            | Code::ConfigurationRefused
            | Code::HoldShare => 409,
            Code::OutOfRange | Code::KeyReused => 422,
            Code::EndpointNotAllowed => 403,
            Code::NotFound => 404,
            Code::TooMany => 429,
        }
    }

    /// Whether the answer is stored under its key: domain refusals (409, 422) are, the rest may succeed
    /// when tried again. A reused key is the answer of the key's first request, not of this one.
    pub const fn is_stored(self) -> bool {
        matches!(self.status(), 409 | 422) && !matches!(self, Code::KeyReused)
    }

    /// The way out, for `how_to_fix`.
    pub const fn how_to_fix(self) -> &'static str {
        match self {
            Code::CapacityExhausted => "take one of `offers`, or ask again for another time or a lower rate",
            Code::DeadlineInfeasible => "take one of `offers`: a later deadline or fewer bytes",
            Code::QuoteExpired => "ask for a new quote and take an offer of it within its validity",
            Code::InsufficientFunds => "have the wallet topped up, or take a cheaper offer",
            Code::EndpointNotAllowed => {
                "name an access and device addresses that the operator configured for this customer"
            }
            Code::FlowConflict => "name flows that no other live reservation covers in this window",
            Code::NotFound => "use an id that this API returned to this customer",
            Code::WrongState => "read the reservation and use a verb that fits its promise",
            Code::TooMany => "confirm, cancel or let expire what is open, then try again",
            Code::OutOfRange => "ask within the limits that `GET /tiers` shows",
            Code::KeyReused => "use a new Idempotency-Key for a new request",
            Code::ConfigurationRefused => "mend the named items and submit the configuration again",
            Code::HoldShare => "confirm or cancel earlier holds first, or hold less at once",
        }
    }

    /// As [`Code::how_to_fix`], for a refusal that carries no offers.
    pub const fn how_to_fix_without_offers(self) -> &'static str {
        match self {
            Code::CapacityExhausted => "ask again for another time, a lower rate or fewer bytes",
            Code::DeadlineInfeasible => "ask again for a later deadline or fewer bytes",
            Code::QuoteExpired
            | Code::InsufficientFunds
            | Code::EndpointNotAllowed
            | Code::FlowConflict
            | Code::NotFound
            | Code::WrongState
            | Code::TooMany
            | Code::OutOfRange
            | Code::KeyReused
            | Code::ConfigurationRefused
            | Code::HoldShare => self.how_to_fix(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Refusal {
    #[n(0)]
    pub code: Code,
    /// What is the matter, in words: which pool, when it frees, how much is missing.
    #[n(1)]
    pub message: String,
    /// The quote that `offers` belong to.
    #[n(2)]
    pub quote: Option<QuoteId>,
    /// Would be granted if taken at once.
    #[n(3)]
    pub offers: Vec<Offer>,
    /// What is missing, for `InsufficientFunds`.
    #[n(4)]
    pub missing: Option<Amount>,
    /// Where the code's own way out does not fit. Apart, since most refusals have none.
    #[n(5)]
    pub advice: Option<Box<Advice>>,
}

/// The way out of one refusal.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Debug)]
pub struct Advice {
    #[n(0)]
    pub how_to_fix: String,
    /// The reservation that it is about, where the request named none: the shell writes its public id.
    #[n(1)]
    pub reservation: Option<ReservationId>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            quote: None,
            offers: Vec::new(),
            missing: None,
            advice: None,
        }
    }

    /// With a better way out than the code's own.
    pub fn fix(self, how: impl Into<String>) -> Refusal {
        self.advise(how, None)
    }

    /// As [`Refusal::fix`], about a reservation that the request did not name.
    pub fn fix_about(self, how: impl Into<String>, reservation: ReservationId) -> Refusal {
        self.advise(how, Some(reservation))
    }

    fn advise(self, how: impl Into<String>, reservation: Option<ReservationId>) -> Refusal {
        Refusal { advice: Some(Box::new(Advice { how_to_fix: how.into(), reservation })), ..self }
    }

    /// The reservation that it is about, where the request named none.
    pub fn reservation(&self) -> Option<ReservationId> {
        self.advice.as_ref().and_then(|advice| advice.reservation)
    }

    /// The way out of this very refusal.
    pub fn way_out(&self) -> &str {
        match &self.advice {
            Some(advice) => &advice.how_to_fix,
            None if self.offers.is_empty() => self.code.how_to_fix_without_offers(),
            None => self.code.how_to_fix(),
        }
    }
}
