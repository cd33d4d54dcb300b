//! What goes into the engine and what comes out of it.

use crate::config::ConfigDef;
use crate::offer::QuoteRequest;
use crate::record::Reply;
use tollway_model::{Amount, CustomerId, Flow, OfferId, ReservationId, Seq};
use tollway_policy::{DesiredLeg, PolicyCommand, Report, Session};

/// Names a request of the shell, so that its reply finds the way back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// A key is bound to customer, operation and parsed request: the shell hashes the first two with the
/// client's text, and the request apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdempotencyKey {
    pub key: [u8; 16],
    pub request: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Quote(QuoteRequest),
    Take { offer: OfferId },
    Confirm { reservation: ReservationId, flows: Option<Vec<Flow>> },
    BindFlows { reservation: ReservationId, flows: Vec<Flow> },
    Cancel { reservation: ReservationId },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Makes the market; refused unless the journal is empty.
    MakeMarket {
        name: String,
        slot_length: tollway_model::SlotLength,
    },
    /// The whole configuration that is wanted; `base` is the revision it was made from.
    Configure {
        request: RequestId,
        base: u64,
        config: ConfigDef,
    },
    Client {
        request: RequestId,
        customer: CustomerId,
        key: Option<IdempotencyKey>,
        command: Command,
    },
    TopUp {
        request: RequestId,
        /// Kept among the customer's keys.
        key: Option<IdempotencyKey>,
        customer: CustomerId,
        amount: Amount,
        actor: String,
        reason: String,
    },
    /// An adapter (re)connected: it is answered with everything it should hold.
    AdapterConnected {
        enforcement_point: String,
        connection: u64,
    },
    /// A connection of an adapter has ended: nothing is told to it any more.
    AdapterDisconnected {
        enforcement_point: String,
        connection: u64,
    },
    /// A numbered batch of an adapter's reports.
    Reports {
        enforcement_point: String,
        number: u64,
        reports: Vec<Report>,
    },
    /// Nothing but time.
    Tick,
}

/// Every output leaves only when the record `after` is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    Reply {
        after: Seq,
        request: RequestId,
        reply: Reply,
    },
    /// The key was used before: the answer lies in the `Answered` record at `at`.
    Repeat {
        after: Seq,
        request: RequestId,
        at: Seq,
    },
    Policy {
        after: Seq,
        command: PolicyCommand,
    },
    DesiredSet {
        after: Seq,
        enforcement_point: String,
        connection: u64,
        legs: Vec<DesiredLeg>,
        /// Learnt accesses of the enforcement point that are attached.
        sessions: Vec<Session>,
        acked: u64,
    },
    /// The batch is taken and may be forgotten by the adapter.
    Ack {
        after: Seq,
        enforcement_point: String,
        number: u64,
    },
}

impl Output {
    pub const fn after(&self) -> Seq {
        match self {
            Output::Reply { after, .. }
            | Output::Repeat { after, .. }
            | Output::Policy { after, .. }
            | Output::DesiredSet { after, .. }
            | Output::Ack { after, .. } => *after,
        }
    }
}
