//! What the machine says: facts to be made durable, and messages that may leave once they are.

use crate::address::UeAddress;
use crate::profile::SubscriberRef;
use tollway_diameter::machine::RequestId;
use tollway_model::LegId;
use tollway_policy::{PolicyReport, SlotReading};

/// Numbers facts in the order in which they were made; 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mark(pub u64);

/// Names a request of a gateway until it is answered; the shell knows which of the node's it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

/// A session by its names on the wire: no socket in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SessionName {
    pub session_id: String,
    pub origin_host: String,
    pub origin_realm: String,
}

/// A *learnt access* (DESIGN §5). What is known of it after a restart is this and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Learnt {
    pub session: SessionName,
    pub apn: String,
    pub address: UeAddress,
    pub subscriber: SubscriberRef,
    /// The highest CC-Request-Number that had an effect.
    pub number: u32,
    /// Rates above 32 bits were negotiated.
    pub has_extended: bool,
    pub place: Place,
}

/// Whether the subscriber is in one of our networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Home,
    /// He moved out: his session goes on, nothing is sold on it.
    Away,
}

/// Why a session is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// CCR-T.
    Ended,
    /// A newer CCR-I for the same subscriber or address.
    Superseded,
    /// The gateway answered 5002.
    Unknown,
    /// The gateway restarted (Origin-State-Id).
    Restarted,
}

impl Closed {
    pub const fn as_str(self) -> &'static str {
        match self {
            Closed::Ended => "the session ended",
            Closed::Superseded => "a newer session replaced it",
            Closed::Unknown => "the gateway does not know the session",
            Closed::Restarted => "the gateway restarted",
        }
    }
}

/// Whether `Active` can ever come for a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certainty {
    /// The gateway reports.
    Reported,
    /// It does not: accepted is the most that will be known, and that must be said on.
    Unconfirmed,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    Learnt(Learnt),
    /// The same access with another number or place.
    Changed(Learnt),
    Closed {
        session: SessionName,
        why: Closed,
    },
    Leg {
        leg: LegId,
        attempt: u32,
        report: PolicyReport,
        certainty: Certainty,
    },
    Usage(SlotReading),
}

/// What the driver carries out, in this order. `after`: it leaves when that fact, and with it all before, is
/// durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    Fact { mark: Mark, fact: Fact },
    Answer { after: Mark, token: Token, bytes: Vec<u8> },
    Request { after: Mark, id: RequestId, bytes: Vec<u8>, timeout_ms: u64 },
}
