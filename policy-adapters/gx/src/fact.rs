//! What the machine says: facts to be made durable, and messages that may leave once they are.

use tollway_diameter::machine::RequestId;
use tollway_policy::Report;

/// Numbers facts in the order in which they were made; 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mark(pub u64);

/// Names a request of a gateway until it is answered; the shell knows which of the node's it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

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

/// What the driver carries out, in this order. `after`: it leaves when that fact, and with it all before, is
/// durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    Fact { mark: Mark, fact: Report },
    Answer { after: Mark, token: Token, bytes: Vec<u8> },
    Request { after: Mark, id: RequestId, bytes: Vec<u8>, timeout_ms: u64 },
}
